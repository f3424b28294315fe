"""Clients that others wrote, against a running `gpuledger serve`.

`ct-kubecost-mcp-server` is the published program itself, driven over MCP's stdio. OpenCost's page (opencost-ui at
5babf86) and kubectl-cost (at 3f74536) are not run: their requests, and what they do with the answers, are
reconstructed from their source.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.surfaces.api_world import CLUSTERS, DAY, world
from tests.surfaces.shell import program

TOKEN = "correct-horse"  # noqa: S105  # made up
CLIENT = os.environ.get("KUBECOST_CLIENT", ".venv-kubecost-client/bin/ct-kubecost-mcp-server")
RANGE = ",".join(day.replace("Z", ".000Z") for day in DAY.split(","))  # JavaScript's toISOString
Item = dict[str, Any]

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    world(folder)
    return folder / "ledger"


@contextmanager
def serving(ledger: Path, environ: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run `gpuledger serve` on a free port; give its address."""
    command = [program(), "--ledger", str(ledger), "serve", "--port", "0"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environ or {})}
    )
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        match = re.search(r"http://\S+", line)
        assert match, line + process.stderr.read()
        yield match[0]
    finally:
        process.terminate()
        process.wait(10)
        process.stderr.close()


@pytest.fixture(scope="module")
def address(ledger: Path) -> Iterator[str]:
    with serving(ledger) as found:
        yield found


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{address}/model", timeout=30) as http:
        yield http


class McpClient:
    """A program that speaks the Model Context Protocol over its standard streams, one JSON-RPC message a line."""

    def __init__(self, address: str, **environ: str) -> None:
        self.process = subprocess.Popen(
            [CLIENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "KUBECOST_URL": address, "FASTMCP_CHECK_FOR_UPDATES": "off", **environ},
        )
        self.number = 0

    def send(self, method: str, parameters: Item, *, answered: bool = True) -> Any:  # noqa: ANN401  # JSON
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        message: Item = {"jsonrpc": "2.0", "method": method, "params": parameters}
        if answered:
            self.number += 1
            message["id"] = self.number
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()
        while answered:
            line = self.process.stdout.readline()
            if not line:
                assert self.process.stderr is not None
                raise AssertionError(self.process.stderr.read())
            told = json.loads(line)
            if told.get("id") == self.number:
                assert "error" not in told, told
                return told["result"]
        return None

    def start(self) -> None:
        self.send(
            "initialize",
            {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "test", "version": "1"},
            },
        )
        self.send("notifications/initialized", {}, answered=False)

    def call(self, tool: str, **arguments: object) -> Any:  # noqa: ANN401  # JSON
        result = self.send("tools/call", {"name": tool, "arguments": arguments})
        assert not result.get("isError"), result
        text = "".join(part["text"] for part in result["content"])
        return json.loads(text)

    def close(self) -> None:
        streams = (self.process.stdin, self.process.stdout, self.process.stderr)
        self.process.terminate()
        self.process.wait(10)
        for stream in streams:
            if stream is not None:
                stream.close()


@contextmanager
def published_client(address: str, **environ: str) -> Iterator[McpClient]:
    if not Path(CLIENT).is_file():
        pytest.skip("no ct-kubecost-mcp-server: make servers, or KUBECOST_CLIENT=PATH")
    found = McpClient(address, **environ)
    try:
        found.start()
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module", params=["/model", ""])
def mcp(request: pytest.FixtureRequest, address: str) -> Iterator[McpClient]:
    with published_client(address, KUBECOST_API_PREFIX=request.param) as found:
        yield found


def test_the_published_client_is_healthy(mcp: McpClient) -> None:
    assert mcp.call("health") == {
        "reachable": True, "status_code": 200, "ok": True, "has_allocation_data": True,
    }  # fmt: skip


def test_the_published_client_reads_allocations(mcp: McpClient) -> None:
    (items,) = mcp.call("get_allocation", window=DAY, aggregate="namespace", include_idle=True)
    assert set(items) == {"ml", "web", "__idle__", "__unknown__"}
    assert sum(item["totalCost"] for item in items.values()) == pytest.approx(float(CLUSTERS))
    (shared,) = mcp.call("get_allocation", window=DAY, aggregate="namespace", share_idle=True)
    assert set(shared) == {"ml", "web", "__unknown__"} | ({"__idle__"} & set(shared))
    assert shared["ml"]["totalCost"] > items["ml"]["totalCost"]
    steps = mcp.call("get_allocation", window=DAY, aggregate="label:tier", accumulate=False, step="12h")
    assert len(steps) == 2
    assert "silver" in steps[0]


def test_the_published_client_reads_efficiency(mcp: McpClient) -> None:
    found = mcp.call("get_efficiency", window=DAY, aggregate="node,namespace")
    rows = {row["name"]: row for row in found["items"]}
    assert rows["n1/ml"]["cpuEfficiency"] == 0.5
    assert rows["n1/ml"]["recommendedCpuRequestCores"] == 6  # five used, and a fifth more
    assert rows["w1/ml"]["totalEfficiency"] == 1
    assert rows["w1/ml"]["estimatedWastedCost"] == 0


def test_the_published_client_reads_assets_and_bills(mcp: McpClient) -> None:
    assets = mcp.call("get_assets", window=DAY)
    assert {asset["properties"]["name"] for asset in assets.values()} == {"n1", "n2", "n9", "w1", "vol-1"}
    bills = mcp.call("get_cloud_cost", window=DAY, aggregate="service", accumulate="all")
    assert set(bills["sets"][0]["cloudCosts"]) == {"Compute", "Disks", "AmazonS3"}
    some = mcp.call("get_cloud_cost", window=DAY, filter='service:"AmazonS3"')
    assert set(some["sets"][0]["cloudCosts"]) == {"AmazonS3"}


def test_the_published_client_sends_a_token(ledger: Path) -> None:
    with serving(ledger, {"GPULEDGER_API_TOKEN": TOKEN}) as guarded:
        with published_client(guarded, KUBECOST_AUTH_TYPE="bearer", KUBECOST_TOKEN=TOKEN) as good:
            assert good.call("health")["ok"] is True
        with pytest.raises(AssertionError, match="401"), published_client(guarded):
            pass


def data(http: httpx.Client, path: str, **parameters: object) -> Any:  # noqa: ANN401  # JSON
    answer = http.get(path, params={name: str(value) for name, value in parameters.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


@pytest.mark.parametrize("accumulate", ["day", "hour", "week", "weeknow", "month", "quarter", "all"])
def test_the_pages_allocation_report(page: httpx.Client, accumulate: str) -> None:
    """opencost-ui, services/allocation.ts and services/report-query.ts: sets added up by name in the browser."""
    sets = data(page, "/allocation/compute", window=RANGE, aggregate="namespace", includeIdle="true",
                metrics="totalCost,gpuCost", accumulate=accumulate)  # fmt: skip
    total = sum(item["totalCost"] or 0 for one in sets for item in one.values())
    assert total == pytest.approx(float(CLUSTERS))
    for one in sets:
        for item in one.values():
            assert isinstance(item["minutes"], float)
            assert item["window"]["start"].endswith("Z")


@pytest.mark.parametrize(
    ("drill", "aggregate", "filters", "names"),
    [
        ("namespace", "controllerKind", 'namespace:"ml"', {"job", "rayjob"}),
        ("controllerKind", "controller", 'namespace:"ml"+controllerKind:"job"', {"job:train"}),
        ("controllerName", "pod", 'namespace:"web"+controllerName:"serve"', {"serve"}),
        ("label", "namespace", 'label:tier:"gold"', {"ml"}),
    ],
)
def test_the_pages_drill_down(
    page: httpx.Client, drill: str, aggregate: str, filters: str, names: set[str]
) -> None:
    """opencost-ui, lib/legacy-util.ts parseFilters: `property:"value"` joined by `+`."""
    (items,) = data(page, "/allocation/compute", window=RANGE, aggregate=aggregate, includeIdle="false",
                    accumulate="true", filter=filters)  # fmt: skip
    assert set(items) == names, drill


def test_the_pages_assets(page: httpx.Client) -> None:
    """opencost-ui, lib/assets-api.ts parseAssetsResponse."""
    found = data(
        page, "/assets", window=RANGE, aggregate="assetType", includeIdle="true", accumulate="true", step="1d"
    )
    rows = [asset for asset in found.values() if "totalCost" in asset and "type" in asset]
    assert len(rows) == 5
    assert all(asset["end"] and asset["properties"]["cluster"] for asset in rows)
    assert sum(asset["totalCost"] or 0 for asset in rows) == pytest.approx(float(CLUSTERS))


def test_the_pages_cloud_costs(page: httpx.Client) -> None:
    """opencost-ui, services/cloud-cost.ts: four requests at once; and the item view."""
    asks = {"window": RANGE, "aggregate": "service", "costMetric": "AmortizedNetCost", "accumulate": "day",
            "filter": "", "limit": 1000}  # fmt: skip
    rows = data(page, "/cloudCost/view/table", **asks)
    combined = data(page, "/cloudCost/view/totals", **asks)["combined"]
    assert sum(row["cost"] for row in rows) == pytest.approx(combined["cost"])
    assert data(page, "/cloudCost/view/graph", **asks)[0]["items"]
    assert len(data(page, "/cloudCost/status")) == 2
    items = data(page, "/cloudCost", window=RANGE, costMetric="AmortizedNetCost", filter="")
    costs = [one["amortizedNetCost"]["cost"] for cut in items["sets"] for one in cut["cloudCosts"].values()]
    assert sum(costs) == pytest.approx(combined["cost"])


def test_the_pages_external_costs_and_suggestions(page: httpx.Client) -> None:
    """opencost-ui, services/external-costs.ts and services/report-filter-autocomplete.ts."""
    asks = {"window": RANGE, "aggregate": "domain", "costType": "blended", "filter": "", "sortBy": "cost",
            "sortDirection": "desc"}  # fmt: skip
    assert (
        data(page, "/customCost/timeseries", **asks)["timeseries"][0]["customCosts"][0]["domain"]
        == "anthropic"
    )
    assert data(page, "/customCost/total", **asks)["totalCost"] == 7.25
    found = data(page, "/allocation/autocomplete", window=RANGE, field="namespace", limit=25, search="m")
    assert found["data"] == ["ml"]


@pytest.mark.parametrize("aggregation", [["cluster", "namespace"], ["cluster", "namespace", "controller"],
                                         ["cluster", "label:tier"], ["cluster", "namespace", "deployment"]])  # fmt: skip
@pytest.mark.parametrize("path", ["/allocation/compute", "/model/allocation"])
def test_kubectl_cost_tables(address: str, path: str, aggregation: list[str]) -> None:
    """kubectl-cost, pkg/cmd/aggregatedcommandbuilder.go and pkg/cmd/display/output.go.

    It takes names apart at `/` and stops when there are more or fewer parts than it asked for, and adds the total up
    from the parts itself; null is 0 to it.
    """
    with httpx.Client(base_url=address, timeout=30) as http:
        sets = data(http, path, window=DAY, aggregate=",".join(aggregation), accumulate="true", includeIdle="true",
                    idle="true", filterNamespaces="")  # fmt: skip
    parts = ("cpu", "gpu", "ram", "pv", "network", "loadBalancer", "shared", "external")
    for item in sets[0].values():
        if item["name"] != "__idle__":
            assert len(item["name"].split("/")) == len(aggregation)
        assert sum(item[f"{part}Cost"] or 0 for part in parts) == pytest.approx(item["totalCost"])


def test_kubectl_cost_nodes(address: str) -> None:
    """kubectl-cost, pkg/query/assetsapi.go: a list of maps, and the currency of getConfigs."""
    with httpx.Client(base_url=address, timeout=30) as http:
        nodes = data(http, "/model/assets", window=DAY, accumulate="true", filterTypes="Node")[0]
        assert {node["type"] for node in nodes.values()} == {"Node"}
        assert data(http, "/model/getConfigs")["currencyCode"] == "USD"
        assert data(http, "/model/clusterInfo")["id"] == "east"


def test_a_port_that_is_taken(ledger: Path, address: str) -> None:
    port = address.rsplit(":", 1)[1]
    command = [program(), "--ledger", str(ledger), "serve", "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "Hint: Choose another with --port" in done.stderr
