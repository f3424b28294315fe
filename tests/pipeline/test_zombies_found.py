"""What nobody named is found: the cluster's Prometheus behind the API server; model servers' pages; the ledger's rates."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from tests.telemetry.fake_api_server import FakeApiServer
from tests.telemetry.prometheus_server import Samples, at, serve

from gpuledger.core.zombies import Holding, Observation, Progress, judge
from gpuledger.errors import GpuledgerError, LedgerError
from gpuledger.pipeline import zombie_find, zombie_metrics
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.zombie_find import detect, prometheus_of_cluster
from gpuledger.pipeline.zombie_holders import Machine
from gpuledger.pipeline.zombie_prices import card_price
from gpuledger.pipeline.zombie_rates import Rates, is_there, rates_of
from gpuledger.pipeline.zombie_serving import Earlier, Page, applied, read
from gpuledger.pipeline.zombies import Inputs, Settings, scan

NOW = at(180)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    scene = Samples("found")
    said = {
        "UUID": "GPU-1", "gpu": "0", "Hostname": "n1", "modelName": "NVIDIA A100-SXM4-80GB",
        "namespace": "ml", "pod": "train-0",
    }  # fmt: skip
    scene.add("DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0, range(180), **said)
    with serve(tmp_path_factory.mktemp("found"), [scene]) as url:
        yield url


def config(path: Path, server: str, **user: str) -> dict[str, str]:
    content = {
        "apiVersion": "v1",
        "current-context": "dev",
        "contexts": [{"name": "dev", "context": {"cluster": "c", "user": "me"}}],
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": user}],
    }
    path.write_text(json.dumps(content))
    return {"KUBECONFIG": str(path)}


def service(server: FakeApiServer, space: str, name: str, port: str, number: int, **labels: str) -> None:
    meta = {"name": name, "namespace": space, "uid": f"{space}-{name}", "labels": labels}
    server.put("services", {"metadata": meta, "spec": {"ports": [{"name": port, "port": number}]}})


@pytest.mark.server
@pytest.mark.parametrize("listed", [True, False])
def test_the_clusters_prometheus_is_asked_through_the_api_server(
    prometheus: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, listed: bool
) -> None:
    forbidden = frozenset[str]() if listed else frozenset({"services"})
    with FakeApiServer(token="hush", forbidden=forbidden).running() as server:  # noqa: S106 - a test's
        space, name = ("metrics", "prom") if listed else ("monitoring", "prometheus-server")
        port = 9090 if listed else 80
        service(server, "default", "web", "http", 80)
        service(server, space, name, "web", port, **{"app.kubernetes.io/name": "prometheus"})
        path = f"/api/v1/namespaces/{space}/services/{name}:{port}/proxy"
        server.proxied[path] = prometheus
        for key, value in config(tmp_path / "config", server.url, token="hush").items():  # noqa: S106 - a test's
            monkeypatch.setenv(key, value)
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        settings = Settings(at=NOW, look_back=timedelta(hours=3), show_all=True, environ={})
        found = scan(Inputs(kube=True), settings)
    told = next(one for one in found.diagnostics if one.code == "zombies-found-prometheus")
    assert path in told.message
    assert [(row["gpu"], row["idle_seconds"] > 10_000) for row in found.rows] == [("GPU-1", True)]
    assert "hush" not in str(found.diagnostics)


def test_inside_a_cluster_the_usual_names_are_tried(prometheus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    real = zombie_metrics.opened

    def opened(url: str, environ: dict[str, str], **more: Any) -> Any:  # noqa: ANN401 - as the real one
        tried.append(url)
        there = url == "http://prometheus-server.monitoring.svc:80"
        return real(prometheus if there else "http://127.0.0.1:1", environ, **more)

    monkeypatch.setattr(zombie_find, "opened", opened)
    with prometheus_of_cluster({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}) as client:
        assert client is not None
        assert client.clock()
    assert tried[0] == "http://prometheus-k8s.monitoring.svc:9090"
    assert tried[-1] == "http://prometheus-server.monitoring.svc:80"


@pytest.mark.server
def test_that_there_is_none_is_said_and_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeApiServer().running() as server:
        for key, value in config(tmp_path / "config", server.url).items():
            monkeypatch.setenv(key, value)
        with prometheus_of_cluster({}) as client:
            assert client is None
        found = scan(Inputs(kube=True), Settings(environ={}))
    told = next(one for one in found.diagnostics if one.code == "zombies-found-prometheus")
    assert "no Prometheus found" in told.message
    assert not found.failed


@pytest.mark.server
def test_a_login_that_has_expired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeApiServer(token="new").running() as server:  # noqa: S106 - a test's
        for key, value in config(tmp_path / "config", server.url, token="old").items():  # noqa: S106 - a test's
            monkeypatch.setenv(key, value)
        found = scan(Inputs(kube=True), Settings(environ={}))
    assert (found.failed, found.seen, found.totals["zombies"]) == (True, False, None)
    told = [one for one in found.diagnostics if one.severity == "error"]
    assert [("401" in one.message, "expired" in one.hint) for one in told] == [(True, True)]


def test_what_was_looked_for_is_said(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text("[default]\naws_access_key_id=x\naws_secret_access_key=y\n")
    inputs, (told,) = detect({"HOME": str(tmp_path), "PATH": "/nonexistent"})
    assert inputs.aws == ("",)
    assert "found AWS keys; did not find nvidia-smi" in told.message


PAGE = """\
# TYPE vllm:request_success_total counter
vllm:request_success_total{{finished_reason="stop",model_name="m"}} {stop}
vllm:request_success_total{{finished_reason="length",model_name="m"}} 2.0
vllm:num_requests_running{{model_name="m"}} {running}
vllm:generation_tokens_total{{model_name="m"}} {tokens}
"""


def page(folder: Path, stop: float = 0, running: float = 0, tokens: float = 0) -> str:
    path = folder / "page"
    path.write_text(PAGE.format(stop=stop, running=running, tokens=tokens))
    return str(path)


CARD = Observation(
    "GPU-1", NOW, node="n1", activity=Decimal(0), memory_used_mib=Decimal(60_000), holders_known=True,
    holdings=(Holding(namespace="ml", pod="serve-0", live=True),),
)  # fmt: skip


def test_a_servers_page(tmp_path: Path) -> None:
    assert read(page(tmp_path, 40, 1, 900)) == Page(Decimal(42), Decimal(1), Decimal(900))
    (tmp_path / "other").write_text("node_load1 3\n")
    with pytest.raises(GpuledgerError, match="no metric of a model server"):
        read(str(tmp_path / "other"))
    with pytest.raises(GpuledgerError, match="can't be read"):
        read(str(tmp_path / "nothing"))


def test_an_address_that_fails(httpserver: HTTPServer) -> None:
    httpserver.expect_request("/metrics").respond_with_data("", 503)
    with pytest.raises(GpuledgerError, match="answered 503"):
        read(httpserver.url_for("/metrics"))
    with pytest.raises(GpuledgerError, match="can't be reached"):
        read("http://127.0.0.1:1/metrics")


def test_what_served_since_its_start_is_warm() -> None:
    served = Page(Decimal(42), Decimal(0), Decimal(9))
    (one,), placed = applied([CARD], "ml/serve-0", served, NOW, None)
    assert placed
    (found,) = judge([one])
    assert (found.candidate, found.guard) == (False, "warm replica: 42 requests in the time looked back on")
    (one,), _ = applied([CARD], "", replace(served, served=Decimal(0)), NOW, None)
    (found,) = judge([one])
    assert (found.candidate, found.guard, "no request served" in found.evidence) == (True, None, True)


def test_looked_at_again_only_new_requests_count() -> None:
    earlier, served = Earlier(), Page(Decimal(42), Decimal(0), Decimal(9))
    later = NOW + timedelta(minutes=20)
    applied([CARD], "serve-0", served, NOW, earlier)
    (one,), _ = applied([CARD], "serve-0", served, later, earlier)
    assert (one.holdings[0].requests, one.holdings[0].progress) == (
        Decimal(0), Progress("its tokens", timedelta(minutes=20)),
    )  # fmt: skip
    (one,), _ = applied([CARD], "serve-0", replace(served, served=Decimal(45)), later, earlier)
    assert one.holdings[0].requests == 3


def test_whose_page_it_is_has_to_be_known() -> None:
    served = Page(Decimal(42), None, None)
    assert applied([CARD], "other-0", served, NOW, None) == ([CARD], False)
    two = [CARD, replace(CARD, gpu="GPU-2", node="n2")]
    assert applied(two, "", served, NOW, None) == (two, False)


DAY = "2026-11-{:02}T00:00:00Z"


def bill(path: Path) -> str:
    """Write a small synthetic FOCUS bill: ten days of an H100 machine at $4 a card, of another at $2, one in euros."""
    names = (
        *("BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "BillingCurrency", "BillingPeriodStart"),
        *("BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd", "ChargeCategory", "ChargeDescription"),
        *("ProviderName", "PublisherName", "InvoiceIssuerName", "ServiceName", "ServiceCategory", "BillingAccountId"),
        *("ResourceId", "RegionId", "SkuPriceDetails", "ConsumedQuantity", "ConsumedUnit", "PricingQuantity"),
        *("PricingUnit", "PricingCategory", "ChargeFrequency"),
    )  # fmt: skip
    lines = [",".join(names)]
    for day in range(1, 11):
        for resource, cost, currency in (
            ("i-one", 32 * 24, "USD"),
            ("i-two", 16 * 24, "USD"),
            ("i-euro", 1, "EUR"),
        ):
            details = '"{""InstanceType"":""p5.48xlarge""}"'
            cells = [
                str(cost), str(cost), "1000", "1000", currency, DAY.format(1), "2026-12-01T00:00:00Z", DAY.format(day),
                DAY.format(day + 1), "Usage", "p5.48xlarge", "AWS", "AWS", "AWS", "Amazon EC2", "Compute", "1",
                resource, "us-east-1", details, "24", "Hours", "24", "Hours", "Standard", "Usage-Based",
            ]  # fmt: skip
            lines.append(",".join(cells))
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def rates(tmp_path_factory: pytest.TempPathFactory) -> Rates:
    folder = tmp_path_factory.mktemp("rates")
    ledger = Ledger(str(folder / "ledger"))
    ledger.ingest("focus", bill(folder / "bill.csv"), validate=False)
    assert is_there(str(folder / "ledger"))
    found, notes = rates_of(ledger)
    assert notes == []
    assert found is not None
    return found


H100 = Observation("GPU-1", NOW, gpu_model="H100", model_name="NVIDIA H100 80GB HBM3")


@pytest.mark.parametrize(
    ("machine", "price", "source"),
    [
        (
            Machine(instance_type="p5.48xlarge", region="us-east-1", resource="aws:///us-east-1a/i-one"),
            "4",
            "ledger",
        ),
        (Machine(instance_type="p5.48xlarge", region="us-east-1", resource="i-two"), "2", "ledger"),
        (Machine(instance_type="p5.48xlarge", region="us-east-1", resource="i-new"), "3", "ledger"),
        (Machine(instance_type="p5.48xlarge", region="us-east-1", spot=False), "3", "ledger"),
        (Machine(instance_type="p5.4xlarge", region="us-east-1"), None, "list"),
        (Machine(instance_type="something.new", region="us-east-1"), None, "lowest list"),
        (None, "3", "ledger"),
    ],
)
def test_the_customers_own_rates_come_before_list_prices(
    rates: Rates, machine: Machine | None, price: str | None, source: str
) -> None:
    found = card_price(H100, machine, None, NOW.date(), rates)
    assert found.source == source
    if price is not None:
        assert found.usd_per_hour == Decimal(price)
        assert "your bills, 2026-11-01 to 2026-11-10" in (found.basis or "")
    assert card_price(H100, machine, Decimal(9), NOW.date(), rates)[:2] == (Decimal(9), "typed")


def test_a_slice_costs_its_share(rates: Rates) -> None:
    from fractions import Fraction

    slice_ = replace(H100, share=Fraction(1, 4))
    assert card_price(slice_, None, None, NOW.date(), rates).usd_per_hour == Decimal("0.75")


def test_a_ledger_that_can_not_be_read_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_there(str(tmp_path))
    ledger = Ledger(str(tmp_path / "ledger"))
    assert rates_of(ledger) == (None, [])

    def broken(*_: Any, **__: Any) -> None:  # noqa: ANN401 - any arguments
        raise LedgerError("broken", where="ledger")

    monkeypatch.setattr(ledger, "connect", broken)
    found, (told,) = rates_of(ledger)
    assert (found, told.code) == (None, "zombies-no-rates")


def test_days_are_the_newest_thirty() -> None:
    found = Rates({}, (datetime(2026, 11, 1, tzinfo=UTC).date(), datetime(2026, 11, 30, tzinfo=UTC).date()))
    assert found.rate(None, "H100") is None
