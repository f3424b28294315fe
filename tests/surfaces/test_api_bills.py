"""Assets, cloud costs, external costs and autocomplete: every charge once, in the forms that clients read."""

from collections.abc import Iterator
from decimal import Decimal

import pytest
from fastapi.testclient import TestClient
from tests.surfaces.api_world import CLUSTERS, DAY, ask, client, refused, world

# All machines' bills (i-1 is billed until midnight), the bucket; and the vendor of tokens.
CLOUD = CLUSTERS + 4 * 40 + Decimal("3.125")
VENDOR = Decimal("7.25")


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client(world(tmp_path_factory.mktemp("api"))) as found:
        yield found


def test_every_charge_is_a_cloud_cost_or_an_external_one(http: TestClient) -> None:
    cloud = ask(http, "/cloudCost/view/totals", window=DAY, costMetric="invoicedCost")
    external = ask(http, "/customCost/total", window=DAY)
    assert Decimal(cloud["combined"]["gpuledger"]["cost"]) == CLOUD
    assert Decimal(external["gpuledger"]["totalCost"]) == VENDOR


@pytest.mark.parametrize(
    "aggregate", ["", "service", "category,service", "provider", "accountID", "item", "label:x"]
)
def test_cloud_costs_add_up_by_any_property(http: TestClient, aggregate: str) -> None:
    found = ask(http, "/cloudCost", window=DAY, aggregate=aggregate, accumulate="all")
    (only,) = found["sets"]
    costs = [Decimal(row["gpuledger"]["EffectiveCost"]) for row in only["cloudCosts"].values()]
    assert sum(costs) == CLOUD


def test_the_share_of_clusters(http: TestClient) -> None:
    (only,) = ask(http, "/cloudCost", window=DAY, aggregate="service")["sets"]
    machines, bucket = only["cloudCosts"]["Compute"], only["cloudCosts"]["AmazonS3"]
    clustered = CLUSTERS - Decimal("2.4")  # the volume is another service
    whole = clustered + 160
    assert machines["amortizedNetCost"]["kubernetesPercent"] == pytest.approx(float(clustered / whole))
    assert bucket["listCost"] == {"cost": 3.125, "kubernetesPercent": 0}
    assert bucket["properties"] == {"service": "AmazonS3"}
    assert only["window"]["start"] == "2026-10-05T00:00:00Z"


def test_cloud_costs_are_daily_unless_told_otherwise(http: TestClient) -> None:
    window = "2026-10-04,2026-10-07"
    assert len(ask(http, "/cloudCost", window=window)["sets"]) == 3
    assert len(ask(http, "/cloudCost", window=window, accumulate="week")["sets"]) == 1
    assert len(ask(http, "/cloudCost", window=window, accumulate="hour")["sets"]) == 72


def test_views(http: TestClient) -> None:
    rows = ask(http, "/cloudCost/view/table", window=DAY, aggregate="providerID", sortBy="cost")
    assert [row["name"] for row in rows] == ["i-1", "i-2", "i-3", "bucket", "vol-1"]
    page = ask(http, "/cloudCost/view/table", window=DAY, aggregate="providerID", limit=1, offset=1, sortBy="name",
               sortByOrder="asc")  # fmt: skip
    assert [row["name"] for row in page] == ["i-1"]
    (only,) = ask(http, "/cloudCost/view/graph", window=DAY, aggregate="service", costMetric="ListCost")
    assert only["items"][1] == {"name": "AmazonS3", "value": 3.125}
    filtered = ask(
        http, "/cloudCost/view/totals", window=DAY, aggregate="service", filter='service:"AmazonS3"'
    )
    assert (filtered["numResults"], filtered["combined"]["cost"]) == (1, 3.125)
    assert ask(http, "/cloudCost/view/graph", window="2020-01-01,2020-01-02") == []
    text = http.get(
        "/cloudCost/view/table", params={"window": DAY, "aggregate": "service", "format": "csv"}
    ).text
    assert text.splitlines()[0] == "Name,K8s Utilization,Total,Window"
    assert {status["key"] for status in ask(http, "/cloudCost/status")} == {"cloud", "outside"}


def test_a_long_graph_has_ten_items_and_loses_nothing(http: TestClient) -> None:
    found = ask(http, "/cloudCost/view/graph", window=DAY, aggregate="providerID", accumulate="hour")
    assert sum(item["value"] for one in found for item in one["items"]) == pytest.approx(float(CLOUD))


def test_external_costs(http: TestClient) -> None:
    found = ask(http, "/customCost/timeseries", window=DAY, aggregate="domain", accumulate="hour")
    costs = [one["customCosts"] for one in found["timeseries"] if one["customCosts"]]
    (((only,)),) = costs
    assert (only["domain"], only["cost"], only["cost_type"]) == ("anthropic", 7.25, "billed")
    assert len(found["timeseries"]) == 24
    assert ask(http, "/customCost/total", window=DAY, filter='domain:"openai"')["customCosts"] == []
    assert (
        ask(http, "/customCost/total", window=DAY, costType="list", sortDirection="asc")["totalCost"] == 7.25
    )


def test_assets(http: TestClient) -> None:
    found = ask(http, "/assets", window=DAY)
    nodes = {asset["properties"]["name"]: asset for asset in found.values()}
    assert set(nodes) == {"n1", "n2", "n9", "w1", "vol-1"}
    assert (nodes["vol-1"]["type"], nodes["vol-1"]["totalCost"]) == ("Disk", 2.4)
    costs = [Decimal(asset["gpuledger"]["totalCost"] or 0) for asset in nodes.values()]
    assert sum(costs) == CLUSTERS
    first = nodes["n1"]
    assert first["type"] == "Node"
    assert (first["cpuCores"], first["ramBytes"], first["gpuCount"]) == (96, 1024 * 2**30, 8)
    assert (first["cpuCoreHours"], first["GPUHours"], first["minutes"]) == (20 * 96, 160, 1200)
    assert first["properties"]["providerID"] == "i-1"
    assert 0 < first["cpuBreakdown"]["idle"] < 1
    unpriced = nodes["n9"]  # known, and without a charge: unknown is not nothing
    assert (unpriced["totalCost"], unpriced["cpuCost"], unpriced["preemptible"]) == (None, None, 1)


def test_assets_by_filter_and_form(http: TestClient) -> None:
    west = ask(http, "/assets", window=DAY, filter='cluster:"west"')
    assert [asset["properties"]["name"] for asset in west.values()] == ["w1"]
    (listed,) = ask(http, "/assets", window=DAY, filterTypes="Node", accumulate="true")
    assert len(listed) == 4
    (disks,) = ask(http, "/assets", window=DAY, filterTypes="Disk")
    assert [asset["properties"]["name"] for asset in disks.values()] == ["vol-1"]
    assert ask(http, "/assets", window=DAY, filterTypes="LoadBalancer") == [{}]
    assert refused(http, "/assets", window=DAY, form="tree")["parameter"] == "form"


@pytest.mark.parametrize(
    ("path", "parameters", "values"),
    [
        ("/allocation", {"field": "namespace"}, ["ml", "web"]),
        ("/allocation", {"field": "controllerName", "search": "TRA"}, ["train"]),
        ("/allocation", {"field": "cluster", "limit": "1"}, ["east"]),
        ("/allocation", {"field": "label:tier"}, ["gold", "silver"]),
        (
            "/allocation",
            {"field": "label", "search": "kube"},
            ["app.kubernetes.io/name", "app_kubernetes_io_name"],
        ),
        ("/allocation", {"field": "pod", "filter": 'namespace:"web"'}, ["serve"]),
        ("/allocation", {"field": "namespacelabel:x"}, []),
        ("/cloudCost", {"field": "service"}, ["AmazonS3", "Compute", "Disks"]),
        ("/cloudCost", {"field": "category", "filter": 'service:"AmazonS3"'}, ["Storage"]),
        ("/assets", {"field": "type"}, ["Disk", "Node"]),
        ("/assets", {"field": "cluster"}, ["east", "west"]),
    ],
)
def test_suggestions(http: TestClient, path: str, parameters: dict[str, str], values: list[str]) -> None:
    assert ask(http, f"{path}/autocomplete", window=DAY, **parameters) == {"data": values}


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("/cloudCost", {"window": "x"}),
        ("/cloudCost", {"aggregate": "colour"}),
        ("/cloudCost", {"accumulate": "x"}),
        ("/cloudCost", {"filter": 'pod:"x"'}),
        ("/cloudCost/view/table", {"costMetric": "netto"}),
        ("/cloudCost/view/table", {"sortBy": "size"}),
        ("/cloudCost/view/table", {"sortByOrder": "up"}),
        ("/cloudCost/view/graph", {"limit": "x"}),
        ("/customCost/total", {"aggregate": "label:x"}),
        ("/customCost/total", {"costType": "guess"}),
        ("/customCost/timeseries", {"sortBy": "x"}),
        ("/customCost/timeseries", {"sortDirection": "x"}),
        ("/assets", {"filter": 'namespace:"x"'}),
        ("/allocation/autocomplete", {"field": "colour"}),
        ("/allocation/autocomplete", {"field": ""}),
        ("/cloudCost/autocomplete", {"field": "pod"}),
        ("/assets/autocomplete", {"window": ""}),
    ],
)
def test_bad_parameters_are_named(http: TestClient, path: str, parameters: dict[str, str]) -> None:
    told = refused(http, path, **{"window": DAY, "field": "cluster", **parameters})
    assert told["parameter"] == next(iter(parameters))


def test_about_the_server(http: TestClient) -> None:
    assert ask(http, "/healthz") == "ok"
    assert ask(http, "/model/clusterInfo")["clusters"] == ["east", "west"]
    assert set(ask(http, "/clusterInfoMap")) == {"east", "west"}
    assert ask(http, "/model/getConfigs") == {"currencyCode": "USD"}
    assert ask(http, "/installInfo")["version"]
