"""/metrics: what promtool says of it, the figures, and that old or unknown figures are left out."""

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal

import pytest
from fastapi.testclient import TestClient
from tests.pipeline.allocation_world import World, hour
from tests.surfaces.api_world import NOW, client, world

from gpuledger.core.exposition import Sample
from gpuledger.core.exposition import parse as read
from gpuledger.core.metrics_text import Family, text
from gpuledger.surfaces.api.app import create_app

RATE_OF_N1 = 40


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def body(made: World) -> Iterator[str]:
    with client(made) as http:
        assert http.get("/allocation", params={"window": "x"}).status_code == 400
        answer = http.get("/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert http.get("/model/metrics").status_code == 200
        yield answer.text


def samples(body: str, name: str) -> Sequence[Sample]:
    return [sample for sample in read(body, "metrics").samples if sample.name == name]


def value(body: str, name: str, **labels: str) -> float:
    (found,) = [one for one in samples(body, name) if labels.items() <= one.labels.items()]
    assert found.value is not None
    return float(found.value)


def test_promtool_has_nothing_to_say(body: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("no promtool: apt-get install prometheus, or a release of Prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=body, capture_output=True, text=True, check=False
    )
    # OpenCost's name, which we keep: whoever asks for it must find it.
    known = 'node_gpu_count non-histogram and non-summary metrics should not have "_count" suffix'
    assert done.stdout + done.stderr == f"{known}\n", (done.returncode, body)


def test_cost_of_jobs_and_nodes(body: str) -> None:
    train = value(body, "gpuledger_job_cost_usd_per_hour", job_id="east/train")
    assert train == pytest.approx(40 * (16 + 0.5 + 0.3) / 39.872 + 0.1)  # and the volume
    (labels,) = [
        one.labels
        for one in samples(body, "gpuledger_job_cost_usd_per_hour")
        if one.labels["job_id"] == "east/train"
    ]
    assert labels == {
        "job_id": "east/train", "job_name": "train", "cluster": "east", "namespace": "ml", "kind": "Job", "team": "vision",
    }  # fmt: skip
    assert value(body, "gpuledger_node_cost_usd_per_hour", node="n1", pool="gpus") == pytest.approx(
        RATE_OF_N1
    )
    assert train + value(body, "gpuledger_idle_cost_usd_per_hour", node="n1") == pytest.approx(
        RATE_OF_N1 + 0.1
    )
    assert value(body, "gpuledger_cost_hour_timestamp_seconds", cluster="east") == hour(19).timestamp()
    assert not [
        one for one in samples(body, "gpuledger_node_cost_usd_per_hour") if one.labels["node"] == "n9"
    ]


def test_opencosts_names(body: str) -> None:
    assert value(body, "node_total_hourly_cost", node="n1") == pytest.approx(RATE_OF_N1)
    assert value(body, "node_gpu_hourly_cost", node="n1") == pytest.approx(40 * 4 / 39.872)
    assert value(body, "node_cpu_hourly_cost", node="n1") == pytest.approx(40 * 0.05 / 39.872)
    assert value(body, "node_ram_hourly_cost", node="n1") == pytest.approx(40 * 0.003 / 39.872)
    assert value(body, "node_gpu_count", node="n1") == 8
    assert value(body, "pv_hourly_cost", persistentvolume="vol-1") == pytest.approx(2.4 / 24 / 100)
    assert value(body, "container_cpu_allocation", pod="train", cluster="east") == 10
    assert value(body, "container_gpu_allocation", pod="train", cluster="east") == 4
    assert value(body, "container_memory_allocation_bytes", pod="train") == 100 * 2**30


def test_money_without_an_owner(body: str) -> None:
    found = {
        (one.labels.get("cluster"), one.labels["state"]): one.value
        for one in samples(body, "gpuledger_unattributed_cost_usd")
    }
    assert found[None, "charge"] == Decimal("170.375")  # the unclaimed hours of i-1, the bucket, the vendor
    assert found["east", "unknown"] == 4
    assert ("east", "idle") in found
    assert ("west", "job") in found  # nobody says whose it is
    assert sum(one for one in found.values() if one) < 830.4 + 170.375


def test_age_and_state(body: str) -> None:
    assert value(body, "gpuledger_source_lag_seconds", source="cloud", kind="bill") == 6.5 * 3600
    assert value(body, "gpuledger_source_lag_seconds", source="k8s", kind="telemetry") == 6.5 * 3600
    assert value(body, "gpuledger_build_info") == 1
    assert value(body, "gpuledger_http_requests_total", route="/allocation", code="400") == 1


def test_an_old_rate_is_no_rate(made: World) -> None:
    app = create_app(made.ledger, None, lambda: NOW + timedelta(days=3))
    with TestClient(app) as http:
        body = http.get("/metrics").text
    assert not samples(body, "gpuledger_job_cost_usd_per_hour")
    assert not samples(body, "node_total_hourly_cost")
    assert samples(body, "gpuledger_source_lag_seconds")


def test_text_is_escaped_and_unknown_values_are_left_out() -> None:
    family = Family("x_total", "counter", 'back\\slash\nand "quotes"')
    family.add(Decimal("1E+3"), path='a\\b\n"c"', none=None, empty="")
    family.add(None, path="unknown")
    family.add(0.1)
    assert text([family, Family("y", "gauge", "nothing known")]) == (
        '# HELP x_total back\\\\slash\\nand "quotes"\n# TYPE x_total counter\n'
        'x_total{path="a\\\\b\\n\\"c\\""} 1000\nx_total 0.1\n'
    )
    (one, _) = read(text([family]), "text").samples
    assert one.labels == {"path": 'a\\b\n"c"'}
