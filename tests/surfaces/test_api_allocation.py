"""/allocation over a small ledger: sums to the last digit, names, parameters, idle and shared cost, the form itself."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.pipeline.allocation_world import charge
from tests.surfaces.api_world import CLUSTERS, DAY, NOW, ask, client, exact, refused, world

from gpuledger.core.opencost import requests
from gpuledger.engines.duckdb import EngineError
from gpuledger.surfaces.api import allocation, snapshot
from gpuledger.surfaces.api.tables import LOAD_USAGE

GROUPINGS = (
    "cluster", "node", "namespace", "controllerKind", "controller", "service", "pod", "container", "label:tier",
    "annotation:tier", "cluster,namespace,pod", "deployment", "job", "team", "owner", "providerID", "jobID", "all", "",
)  # fmt: skip


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client(world(tmp_path_factory.mktemp("api"))) as found:
        yield found


@pytest.mark.parametrize("aggregate", GROUPINGS)
@pytest.mark.parametrize("prefix", ["", "/model"])
def test_every_grouping_adds_up_exactly(http: TestClient, aggregate: str, prefix: str) -> None:
    (items,) = ask(http, f"{prefix}/allocation", window=DAY, aggregate=aggregate, includeIdle="true")
    assert exact(items) == CLUSTERS


@pytest.mark.parametrize(
    "options",
    [
        {"step": "1h"},
        {"step": "5h"},
        {"accumulate": "hour"},
        {"accumulate": "day"},
        {"accumulate": "true"},
        {"shareIdle": "true"},
        {"shareIdle": "even", "idleByNode": "true"},
        {"shareNamespaces": "web"},
        {"shareLabels": "tier:silver", "shareSplit": "even"},
        {"shareIdle": "true", "shareNamespaces": "web", "step": "4h"},
        {"splitIdle": "true", "idleByNode": "true"},
    ],
)
def test_sets_and_shares_add_up_exactly(http: TestClient, options: dict[str, str]) -> None:
    found = ask(
        http,
        "/allocation/compute",
        window=DAY,
        aggregate="cluster,namespace",
        **{"includeIdle": "true", **options},
    )
    assert sum((exact(items) for items in found), Decimal(0)) == CLUSTERS
    assert all(name == item["name"] for items in found for name, item in items.items())


def test_the_same_namespace_in_two_clusters_is_two_rows_or_one(http: TestClient) -> None:
    (apart,) = ask(http, "/allocation", window=DAY, aggregate="cluster,namespace")
    (together,) = ask(http, "/allocation", window=DAY, aggregate="namespace")
    assert {"east/ml", "west/ml", "east/web", "east/__unknown__"} == set(apart)
    assert set(together) == {"ml", "web", "__unknown__"}
    assert apart["west/ml"]["totalCost"] == pytest.approx(20 * 32 / 39.872)  # the cards' part of the machine
    assert exact({"ml": together["ml"]}) == exact({key: apart[key] for key in ("east/ml", "west/ml")})
    assert apart["west/ml"]["properties"] == {
        "cluster": "west", "node": "w1", "controller": "train", "controllerKind": "rayjob", "namespace": "ml",
        "pod": "train", "providerID": "i-2", "jobID": "west/train",
    }  # fmt: skip
    assert "cluster" not in together["ml"]["properties"]


def test_figures_of_a_job(http: TestClient) -> None:
    (items,) = ask(http, "/allocation", window=DAY, aggregate="namespace", filter='node:"n1"', exact="true")
    train = items["ml"]
    # Four of eight cards at 4, of a machine whose list is 8×4 + 96×0.05 + 1024×0.003 = 39.872 and costs 40.
    assert train["gpuCost"] == pytest.approx(20 * 40 * 16 / 39.872)
    assert (train["gpuHours"], train["gpuCount"], train["gpuRequestAverage"], train["gpuUsageAverage"]) == (
        80,
        4,
        4,
        4,
    )
    assert train["gpuEfficiency"] == 1  # all cards busy are 100 %, however many they are
    assert train["cpuCost"] == pytest.approx(20 * 40 * 10 * 0.05 / 39.872)
    assert (train["cpuCoreHours"], train["cpuCoreRequestAverage"], train["cpuCoreUsageAverage"]) == (
        200,
        10,
        5,
    )
    assert train["cpuEfficiency"] == 0.5
    assert train["ramByteHours"] == 2000 * 2**30
    assert train["ramByteUsageAverage"] is None  # nobody measured it
    assert train["ramEfficiency"] is None
    assert train["gpuledger"]["partial"] == ["ramByteUsageAverage"]
    assert (train["minutes"], train["start"]) == (1200, "2026-10-05T00:00:00Z")
    parts = [train["gpuledger"][f"{part}Cost"] for part in ("gpu", "cpu", "ram", "external", "shared")]
    assert sum(Decimal(part) for part in parts) == Decimal(train["gpuledger"]["totalCost"])
    assert train["gpuledger"]["currency"] == "USD"
    assert train["networkCost"] is None
    assert train["loadBalancerCost"] is None
    assert items["web"]["gpuEfficiency"] == 0.5


def test_volumes_of_a_job(http: TestClient) -> None:
    (items,) = ask(http, "/allocation", window=DAY, aggregate="cluster,namespace")
    assert (items["east/ml"]["pvCost"], items["west/ml"]["pvCost"]) == (2.4, None)
    assert items["east/ml"]["pvByteHours"] == 24 * 100 * 2**30
    (pods,) = ask(http, "/allocation", window=DAY, aggregate="node,pod")
    assert pods["__unallocated__/train"]["pvBytes"] == 100 * 2**30  # a volume is on no machine


def test_money_nobody_can_account_for_has_a_name_of_its_own(http: TestClient) -> None:
    (items,) = ask(http, "/allocation", window=DAY, aggregate="namespace")
    assert items["__unknown__"]["totalCost"] == 4
    (by_cluster,) = ask(http, "/allocation", window=DAY, aggregate="cluster", includeIdle="true")
    assert set(by_cluster) == {"east", "west", "__idle__"}


def test_idle_by_option(http: TestClient) -> None:
    (without,) = ask(http, "/allocation", window=DAY, aggregate="namespace")
    assert "__idle__" not in without
    (alias,) = ask(http, "/allocation", window=DAY, aggregate="namespace", idle="true")
    assert alias["__idle__"]["totalCost"] > 0
    (split,) = ask(
        http,
        "/allocation",
        window=DAY,
        aggregate="namespace",
        idle="true",
        splitIdle="true",
        idleByNode="true",
    )
    assert "east/n1/__idle__" in split
    (shared,) = ask(http, "/allocation", window=DAY, aggregate="namespace", shareIdle="true", exact="true")
    assert "__idle__" not in shared
    assert shared["ml"]["gpuCostIdle"] > 0
    gained = Decimal(shared["ml"]["gpuledger"]["gpuCost"]) - Decimal(str(without["ml"]["gpuCost"]))
    assert float(gained) == pytest.approx(shared["ml"]["gpuCostIdle"])
    (filtered,) = ask(
        http, "/allocation", window=DAY, aggregate="namespace", shareIdle="true", filter='namespace:"web"'
    )
    assert filtered["web"] == {**shared["web"], "gpuledger": filtered["web"]["gpuledger"]}


def test_shared_namespaces_and_amounts(http: TestClient) -> None:
    (items,) = ask(
        http, "/allocation", window=DAY, aggregate="namespace", shareNamespaces="web", shareCost="730",
        includeSharedCostBreakdown="true", filter='cluster:"east"',
    )  # fmt: skip
    assert set(items) == {"ml", "__unknown__"}
    ml = items["ml"]
    (plain,) = ask(http, "/allocation", window=DAY, aggregate="cluster,namespace")
    weight = plain["east/ml"]["totalCost"] / (plain["east/ml"]["totalCost"] + plain["west/ml"]["totalCost"])
    assert ml["sharedCost"] == pytest.approx((plain["east/web"]["totalCost"] + 24) * weight)
    assert ml["sharedCostBreakdown"]["shareCost"]["totalCost"] == pytest.approx(24 * weight)
    assert set(ml["sharedCostBreakdown"]) == {"web", "shareCost"}
    assert items["__unknown__"]["sharedCost"] == 0


def test_parts_of_whole_machines(http: TestClient) -> None:
    (items,) = ask(
        http, "/allocation", window=DAY, aggregate="namespace", includeIdle="true", idleByNode="true",
        includeProportionalAssetResourceCosts="true",
    )  # fmt: skip
    shares = [item["proportionalAssetResourceCosts"].get("east,n1", {}) for item in items.values()]
    assert sum(share.get("gpuPercentage", 0) for share in shares) == pytest.approx(1)
    assert items["ml"]["proportionalAssetResourceCosts"]["west,w1"]["gpuPercentage"] == 1
    told = refused(http, "/allocation", window=DAY, includeProportionalAssetResourceCosts="true")
    assert told["parameter"] == "includeProportionalAssetResourceCosts"


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"filter": 'namespace:"web"'}, {"web"}),
        ({"filter": 'namespace!:"web"+cluster:"east"'}, {"ml", "__unknown__"}),
        ({"filter": 'label[tier]:"gold"|namespace:"web"'}, {"ml", "web"}),
        ({"filter": 'label[app_kubernetes_io_name]:"trainer"'}, {"ml"}),
        ({"filter": 'label:tier:"silver"'}, {"web"}),
        ({"filter": 'controllerKind:"RayJob","deployment"'}, {"ml", "web"}),
        ({"filter": 'team:"vision"'}, {"ml"}),
        ({"filterNamespaces": "web,nothing"}, {"web"}),
        ({"filterNamespaces": "w*", "filterClusters": "east"}, {"web"}),
        ({"filter": 'namespace:"none"'}, set()),
    ],
)
def test_filters(http: TestClient, parameters: dict[str, str], names: set[str]) -> None:
    (items,) = ask(http, "/allocation", window=DAY, aggregate="namespace", **parameters)
    assert set(items) == names


def test_labels_and_missing_values(http: TestClient) -> None:
    (items,) = ask(http, "/allocation", window=DAY, aggregate="label:app_kubernetes_io_name")
    assert set(items) == {"trainer", "__unallocated__", "__unknown__"}
    (kinds,) = ask(http, "/allocation", window=DAY, aggregate="controller")
    assert {"job:train", "rayjob:train", "deployment:serve"} <= set(kinds)
    (deployments,) = ask(http, "/allocation", window=DAY, aggregate="deployment", filter='cluster:"east"')
    assert set(deployments) == {"serve", "__unallocated__", "__unknown__"}


def test_pages(http: TestClient) -> None:
    (all_items,) = ask(http, "/allocation", window=DAY, aggregate="cluster,namespace")
    (page,) = ask(http, "/allocation", window=DAY, aggregate="cluster,namespace", limit=2, offset=1)
    assert list(page) == list(all_items)[1:3]
    costs = [item["totalCost"] for item in all_items.values()]
    assert costs == sorted(costs, reverse=True)


def test_summaries(http: TestClient) -> None:
    found = ask(http, "/allocation/summary", window=DAY, aggregate="namespace", step="12h")
    assert found["step"] == 12 * 3600 * 10**9
    assert [one["window"]["start"] for one in found["sets"]] == [
        "2026-10-05T00:00:00Z",
        "2026-10-05T12:00:00Z",
    ]
    full = ask(http, "/allocation", window=DAY, aggregate="namespace", step="12h")
    first = found["sets"][0]["allocations"]["ml"]
    assert "minutes" not in first
    assert first["totalCost"] == full[0]["ml"]["totalCost"]
    assert "web" not in full[1]
    assert ask(http, "/allocation/compute/summary", window=DAY)["sets"]


def test_an_empty_window_has_its_sets(http: TestClient) -> None:
    assert ask(http, "/allocation", window="2020-01-01,2020-01-03", step="1d") == [{}, {}]
    assert ask(http, "/allocation/compute", window="1h", aggregate="namespace") == [{}]


@pytest.mark.parametrize(
    "parameters",
    [
        {"window": ""},
        {"window": "soon"},
        {"aggregate": "colour"},
        {"step": "1s"},
        {"resolution": "x"},
        {"accumulate": "year"},
        {"filter": "namespace:web"},
        {"filterLabels": "tier"},
        {"includeIdle": "perhaps"},
        {"shareSplit": "half"},
        {"shareCost": "NaN"},
        {"shareLabels": "tier"},
        {"limit": "-1"},
        {"offset": "x"},
    ],
)
def test_bad_parameters_are_named(http: TestClient, parameters: dict[str, str]) -> None:
    told = refused(http, "/allocation", **{"window": DAY, **parameters})
    (name,) = parameters
    assert told["status"] == "error"
    assert told["parameter"] == name
    assert told["message"].startswith(name)
    assert told["data"] is None


def test_a_parameter_nobody_knows_is_told(http: TestClient) -> None:
    body = http.get("/allocation", params={"window": DAY, "filterNamespace": "web", "metrics": "x"}).json()
    assert body["warning"] == "parameters that change nothing here: filterNamespace"
    assert "warning" not in http.get("/allocation", params={"window": DAY}).json()
    told = http.get(f"/allocation?window={DAY}&window=7d").json()
    assert (told["code"], told["parameter"]) == (400, "window")


def test_currencies_are_not_added_up(tmp_path: Path) -> None:
    made = world(tmp_path)
    made.bill(charge("5", "i-9", (0, 1), BillingCurrency="EUR"), source="euros")
    made.build()
    with client(made) as http:
        told = refused(http, "/allocation", window=DAY)
        assert (told["parameter"], "EUR" in told["message"]) == ("currency", True)
        (items,) = ask(http, "/allocation", window=DAY, aggregate="node", currency="eur", includeIdle="true")
        assert exact(items) == 5


def test_a_new_state_of_the_ledger_is_seen_by_the_next_request(tmp_path: Path) -> None:
    made = world(tmp_path)
    with client(made) as http:
        (before,) = ask(http, "/allocation", window=DAY, aggregate="cluster", includeIdle="true")
        made.bill(*[charge("1", "i-1", (n, n + 1)) for n in range(24)])
        made.build()
        (after,) = ask(http, "/allocation", window=DAY, aggregate="cluster", includeIdle="true")
    assert exact(before) == CLUSTERS
    assert exact(after) == 20


def test_many_at_once_while_days_are_loaded_and_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "_MOST_ROWS", 0)  # every request for another day drops the days before
    snapshots = snapshot.Snapshots(world(tmp_path).ledger)
    day = {"window": DAY, "aggregate": "namespace", "includeIdle": "true"}

    def asked(number: int) -> Decimal:
        empty = {"window": f"2020-01-{number % 27 + 1:02},2020-02-01"}
        wanted = requests.allocation(day if number % 2 else {**day, **empty}, NOW)
        with snapshots.cursor(wanted.span) as con:
            (items,) = allocation.answer(con, wanted)
        return exact(items)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(asked, range(1, 60, 2))) == {CLUSTERS}
        assert list(pool.map(asked, range(40))) == [Decimal(0), CLUSTERS] * 20


def test_a_load_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshots = snapshot.Snapshots(world(tmp_path).ledger)
    wanted = requests.allocation({"window": DAY, "aggregate": "namespace", "includeIdle": "true"}, NOW)
    with monkeypatch.context() as broken:
        broken.setattr(snapshot, "LOAD_USAGE", (*LOAD_USAGE[:-1], "SELECT * FROM nowhere"))
        with pytest.raises(EngineError), snapshots.cursor(wanted.span):
            pass
    with snapshots.cursor(wanted.span) as con:
        (items,) = allocation.answer(con, wanted)
    assert exact(items) == CLUSTERS
