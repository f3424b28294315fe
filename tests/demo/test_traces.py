"""Traces of real clusters through `gpuledger demo --trace`: a tiny hand-made one always, the published ones where they are.

Expected figures of the published traces were computed from their files alone, with other queries.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.surfaces.shell import Outcome, gpuledger

from gpuledger.demo import traces
from gpuledger.demo.trace_placement import CARD, Node, Pod, place
from gpuledger.errors import SourceError, UsageError
from gpuledger.pipeline.ledger import Ledger

SHARED = Path(os.environ.get("GPULEDGER_SHARED", "../shared")) / "data" / "traces"
PODS = """name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time
half-a,4000,8192,1,500,,LS,Running,0,7200,0
half-b,4000,8192,1,500,,LS,Succeeded,10,3610,10
whole,8000,16384,2,1000,V100,Guaranteed,Failed,1800,5400,1800
elsewhere,8000,16384,1,250,T4|P100,BE,Running,86000,90000,86200
cpu,2500,1024,0,0,,BE,Running,0,36000,0
never,8000,16384,8,1000,,BE,Pending,100,50000,
"""
NODES = """sn,cpu_milli,memory_mib,gpu,model
plain,16000,65536,0,
two-v,32000,131072,2,V100
four-v,64000,262144,4,V100
one-t,16000,65536,1,T4
"""
INSTANCES = """instance_sn,role,app_name,cpu_request,gpu_request,memory_request,creation_time,scheduled_time,deletion_time
a,HN,app_1,8,1,40,,,
b,HN,app_1,8,1,40.5,3600,3660.5,10860.5
c,CN,app_1,64,0,320,7200,,
d,CN,app_2,96,0,480,,,86400
e,HN,app_2,8,1,40,900,900,900
"""


@dataclass
class Loaded:
    """A trace in a ledger: the command's answer with --stats, and further commands."""

    ledger: Path
    done: Outcome
    seconds: float

    @property
    def document(self) -> Any:  # noqa: ANN401  # JSON
        return self.done.document

    def figure(self, section: str, series: str, measure: str) -> Any:  # noqa: ANN401  # a number
        (row,) = (
            row for row in self.document["rows"]
            if (row["section"], row["series"], row["measure"]) == (section, series, measure)
        )  # fmt: skip
        return row["value"]

    def run(self, *words: object) -> Any:  # noqa: ANN401  # JSON
        done = gpuledger("--ledger", self.ledger, "--format", "json", *words)
        assert done.code == 0, done.err
        return done.document

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        found: list[tuple[Any, ...]] = Ledger(str(self.ledger)).connect().execute(sql).fetchall()
        return found


def load(path: Path, folder: Path, *words: object) -> Loaded:
    ledger, began = folder / "ledger", perf_counter()
    command = ("demo", "--trace", path, "--out", folder / "out", "--stats", *words)
    done = gpuledger("--ledger", ledger, "--format", "json", *command)
    assert done.code == 0, done.err
    return Loaded(ledger, done, perf_counter() - began)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "openb_pod_list_tiny.csv").write_text(PODS)
    (folder / "openb_node_list_tiny.csv").write_text(NODES)
    return load(folder, folder, "--usd-per-gpu-hour", "3", "--usd-per-core-hour", "0.05")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("services")
    (folder / "disaggregated_DLRM_trace.csv").write_text(INSTANCES)
    return load(folder, folder, "--window", "2026-06-01")


def test_a_tiny_trace_by_hand(tiny: Loaded) -> None:
    pods = {"pods": 6, "gpu_pods": 5, "never_scheduled": 1, "fractional_gpu_pods": 3, "multi_gpu_pods": 2, "with_gpu_spec": 2}  # fmt: skip
    assert {name: tiny.figure("pods", "all", name) for name in pods} == pods
    late = 3800 / 3600
    assert tiny.figure("phase", "Running", "gpu_hours") == pytest.approx(0.5 * 2 + 0.25 * late)
    assert tiny.figure("phase", "Succeeded", "gpu_hours") == pytest.approx(0.5)
    assert tiny.figure("phase", "Failed", "gpu_hours") == pytest.approx(2)
    assert tiny.figure("phase", "ALL", "core_hours") == pytest.approx(4 * 2 + 4 + 8 + 8 * late + 2.5 * 10)
    assert tiny.figure("qos", "LS", "median_gpu_run_s") == pytest.approx(5400)
    assert tiny.figure("rounding", "pods with GPUs", "whole_card_gpu_hours") == pytest.approx(5 + late)
    gpus = "GPUs of pods with GPUs"
    assert tiny.figure("demand", gpus, "windows") == 25
    assert tiny.figure("demand", gpus, "peak") == pytest.approx(0.5 + 0.5 * 3590 / 3600 + 2 * 0.5)
    assert tiny.figure("demand", "cores of pods without GPUs", "mean") == pytest.approx(2.5 * 10 / 25)
    assert tiny.figure("off-hours", gpus, "off_share") == pytest.approx(1), (
        "all of it is on Monday before 08 or after 20"
    )
    assert tiny.figure("arrivals", "pods with GPUs", "gaps") == 4
    assert tiny.figure("arrivals", "pods with GPUs", "mean_gap_s") == pytest.approx(86000 / 4)


def test_pods_share_cards_and_nodes(tiny: Loaded) -> None:
    held = tiny.query(
        """SELECT pod, node, device, sharing, share_numerator, share_denominator, requested
        FROM usage_interval WHERE resource = 'gpu' AND "end" <= '2026-06-02' ORDER BY pod"""
    )
    assert held == [
        ("elsewhere", "one-t", "one-t/gpu0", "hami", 1, 4, Decimal("0.25")),
        ("half-a", "two-v", "two-v/gpu0", "hami", 1, 2, Decimal("0.5")),
        ("half-b", "two-v", "two-v/gpu0", "hami", 1, 2, Decimal("0.5")),
        ("whole", "four-v", None, "whole", None, None, Decimal(2)),
    ]
    jobs = {row["name"]: row for row in tiny.run("jobs")["rows"]}
    assert (jobs["never"]["state"], jobs["never"]["gpu_hours"], jobs["never"]["start"]) == (
        "Pending",
        "0",
        None,
    )
    assert jobs["half-b"]["start"] == "2026-06-01T00:00:10Z"
    assert jobs["half-b"]["end"] == "2026-06-01T01:00:10Z"


def test_machines_are_billed_by_the_hour_while_held(tiny: Loaded) -> None:
    rows = tiny.query(
        "SELECT ResourceId, sum(ConsumedQuantity), sum(BilledCost), count(*) FROM cost_and_usage GROUP BY 1 ORDER BY 1"
    )
    assert rows == [
        ("four-v", Decimal(2), 2 * 4 * Decimal(3), 1),
        ("one-t", Decimal(2), 2 * Decimal(3), 2),
        ("plain", Decimal(10), 10 * 16 * Decimal("0.05"), 1),
        ("two-v", Decimal(2), 2 * 2 * Decimal(3), 1),
    ]
    text = tiny.query("SELECT DISTINCT ChargeDescription, BillingAccountName FROM cost_and_usage")
    assert all("ynthetic price" in description + account for description, account in text)


def test_the_bill_of_a_trace_goes_to_its_pods(tiny: Loaded) -> None:
    assert gpuledger("--ledger", tiny.ledger, "--format", "json", "build").code == 0
    cost = {row["x_AllocationState"]: Decimal(row["cost"]) for row in
            tiny.run("costs", "--allocated", "--group-by", "x_AllocationState")["rows"]}  # fmt: skip
    assert set(cost) == {"running", "idle"}
    assert sum(cost.values()) == Decimal(tiny.run("costs")["totals"]["cost"]) == 24 + 6 + 8 + 12
    state = {
        row["state"]: Decimal(row["gpu_hours"]) for row in tiny.run("jobs", "--group-by", "state")["rows"]
    }
    assert state["Failed"] == 2
    assert state["Pending"] == 0


def test_services_by_hand(services: Loaded) -> None:
    month = 2678400 / 3600
    assert services.figure("role", "HN", "instances") == 2
    assert services.figure("role", "HN", "gpu_hours") == pytest.approx(month + 2)
    assert services.figure("role", "CN", "apps") == 2
    assert services.figure("role", "CN", "core_hours") == pytest.approx(64 * (month - 2) + 96 * 24)
    assert services.figure("service", "app_1", "share") == 1
    assert services.figure("demand", "GPUs of pods with GPUs", "windows") == 24
    assert services.figure("demand", "GPUs of pods with GPUs", "mean") == pytest.approx(1 + 2 / 24)
    assert services.figure("demand", "cores of pods without GPUs", "minimum") == 96
    (row,) = (row for row in services.document["rows"] if row["measure"] == "off_share")
    assert row["window"] == "2026-06-01T00:00:00Z/2026-06-02T00:00:00Z"
    assert "Monday by decree" in row["definition"]
    totals = services.document["totals"]
    assert (totals["trace"], totals["second_0"]) == ("dlrm", "2026-06-01T00:00:00Z")
    assert "prices" in totals["synthetic"]


def test_the_same_trace_is_not_loaded_twice(services: Loaded, tmp_path: Path) -> None:
    path = services.ledger.parent
    words = ("demo", "--trace", path, "--out", tmp_path / "again")
    done = gpuledger("--ledger", services.ledger, "--format", "json", *words)
    assert {row["action"] for row in done.document["rows"]} == {"unchanged"}


def test_what_is_no_trace_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no known trace"):
        traces.convert(tmp_path, tmp_path / "out")
    with pytest.raises(SourceError, match="nothing here"):
        traces.convert(tmp_path / "missing", tmp_path / "out")
    (tmp_path / "instances.csv").write_text("instance_sn,role\na,HN\n")
    with pytest.raises(SourceError, match="no column app_name, cpu_request"):
        traces.convert(tmp_path, tmp_path / "out")
    (tmp_path / "instances.csv").write_text(INSTANCES.replace("3660.5", "soon"))
    with pytest.raises(SourceError, match=r"can't be read: .*soon"):
        traces.convert(tmp_path, tmp_path / "out")
    (tmp_path / "instances-2.csv").write_text(INSTANCES)
    with pytest.raises(SourceError, match="several files of instances"):
        traces.convert(tmp_path, tmp_path / "out")
    assert traces.convert(tmp_path / "instances-2.csv", tmp_path / "out").rows["job"] == 2
    with pytest.raises(UsageError, match="not a price"):
        traces.convert(tmp_path / "instances-2.csv", tmp_path / "out", usd_per_gpu_hour=Decimal("0.00001"))
    (tmp_path / "mine" / "dlrm").mkdir(parents=True)
    (tmp_path / "mine" / "dlrm" / "keep.txt").write_text("keep")
    with pytest.raises(UsageError, match="SYNTHETIC marker"):
        traces.convert(tmp_path / "instances-2.csv", tmp_path / "mine")


@pytest.mark.parametrize(
    "words",
    [
        ("demo", "--stats"),
        ("demo", "--window", "7d"),
        ("demo", "--trace", "x", "--usd-per-gpu-hour", "cheap"),
    ],
)
def test_options_that_mean_nothing_are_refused(words: tuple[str, ...], tmp_path: Path) -> None:
    done = gpuledger("--ledger", tmp_path / "ledger", *words)
    assert done.code == 2
    assert "Hint:" in done.err


def test_a_pod_that_fits_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "pods.csv").write_text(PODS + "huge,900000,1024,0,0,,BE,Running,0,3600,0\n")
    (tmp_path / "nodes.csv").write_text(NODES)
    found = traces.convert(tmp_path, tmp_path / "out")
    (told,) = found.diagnostics
    assert (told.code, told.severity) == ("trace-unplaced", "warning")
    assert "huge" in told.message


requests = st.lists(
    st.tuples(
        st.integers(1, 40), st.integers(0, 40), st.sampled_from([(0, 0), (1, 300), (1, 500), (1, 1000), (3, 1000)]),
        st.sampled_from([None, "V", "V|T", "X"]), st.integers(0, 20), st.integers(1, 9),
    ),
    max_size=25,
)  # fmt: skip


@given(requests)
def test_placement_never_overfills(
    asked: list[tuple[int, int, tuple[int, int], str | None, int, int]],
) -> None:
    pods = [
        Pod(f"p{number}", cpu, memory, cards, milli, spec, start, start + length)
        for number, (cpu, memory, (cards, milli), spec, start, length) in enumerate(asked)
    ]
    nodes = [Node("c", 50, 50, None), Node("v", 60, 60, "V", [CARD] * 4), Node("t", 60, 60, "T", [CARD])]
    placed, lost = place(pods, nodes)
    assert sorted([*(found.name for found in placed), *lost]) == sorted(pod.name for pod in pods)
    by_name = {pod.name: pod for pod in pods}
    for moment in range(30):
        for node, cpu, cards in (("c", 50, 0), ("v", 60, 4), ("t", 60, 1)):
            here = [by_name[found.name] for found in placed if found.node == node]
            now = [pod for pod in here if pod.start <= moment < pod.end]
            assert sum(pod.cpu for pod in now) <= cpu
            assert sum(pod.cards * pod.milli for pod in now) <= cards * CARD
    for found in placed:
        pod = by_name[found.name]
        assert (found.card is not None) == (pod.cards == 1)
        if pod.cards and pod.spec:
            assert found.node[0].upper() in pod.spec.split("|")


# The published traces.


def published(name: str) -> Path:
    path = SHARED / name
    if not path.is_dir():
        pytest.skip(f"no {path}: set GPULEDGER_SHARED to the folder of sample data")
    return path


@pytest.fixture(scope="module")
def openb(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    path = published("openb")
    return load(path, tmp_path_factory.mktemp("openb"), "--window", "2026-09-29..2026-10-13")


@pytest.fixture(scope="module")
def dlrm(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    path = published("dlrm")
    return load(path, tmp_path_factory.mktemp("dlrm"), "--window", "2026-06-01..2026-07-01")


def check(loaded: Loaded, section: str, header: str, table: Iterable[tuple[Any, ...]]) -> None:
    """Counts exactly, everything else to a ten thousandth."""
    for series, *values in table:
        for measure, value in zip(header.split(), values, strict=True):
            found = loaded.figure(section, series, measure)
            if isinstance(value, int):
                assert found == value, (section, series, measure)
            else:
                assert found == pytest.approx(value, rel=1e-4, abs=1e-6), (section, series, measure)


@pytest.mark.shared
def test_openb_pods(openb: Loaded) -> None:  # A1
    header = "pods gpu_pods never_scheduled fractional_gpu_pods multi_gpu_pods with_gpu_spec"
    check(openb, "pods", header, [("all", 4383, 3738, 402, 1634, 41, 1239)])


@pytest.mark.shared
def test_openb_hours_by_phase_and_qos(openb: Loaded) -> None:  # A2, A3
    check(openb, "phase", "pods gpu_hours core_hours", [
        ("ALL", 3981, 43574.4, 615180.32),
        ("Failed", 1256, 605.199, 5087.86),
        ("Running", 2622, 39461.4, 572857.43),
        ("Succeeded", 103, 3507.83, 37235.0),
    ])  # fmt: skip
    check(openb, "qos", "pods gpu_hours median_gpu_run_s p95_gpu_run_s", [
        ("BE", 1915, 803.083, 226.0, 14634.2),
        ("Burstable", 51, 4129.1, 3659.0, 235327.50),
        ("Guaranteed", 5, 1284.9, 1141460.0, 2333192.5),
        ("LS", 2010, 37357.3, 1595.0, 20801.0),
    ])  # fmt: skip
    jobs = {row["state"]: row for row in openb.run("jobs", "--group-by", "state")["rows"]}
    assert {state: row["jobs"] for state, row in jobs.items()} == {
        "Running": 2622, "Failed": 1256, "Succeeded": 103, "Pending": 402,
    }  # fmt: skip
    for state, hours in (("Failed", 605.199), ("Running", 39461.4), ("Succeeded", 3507.83), ("Pending", 0)):
        assert float(jobs[state]["gpu_hours"]) == pytest.approx(hours, rel=1e-4)


@pytest.mark.shared
def test_openb_whole_cards_overstate(openb: Loaded) -> None:  # A4
    check(
        openb,
        "rounding",
        "whole_card_gpu_hours gpu_hours ratio",
        [("pods with GPUs", 51157.1, 43574.4, 0.851776)],
    )


@pytest.mark.shared
def test_openb_demand(openb: Loaded) -> None:  # A5, A8
    check(openb, "demand", "windows mean peak peak_to_mean p99_to_mean cv", [
        ("GPUs of pods with GPUs", 360, 31.7408, 45.8657, 1.44501, 1.34578, 0.144659),
        ("cores of pods without GPUs", 360, 85.1452, 158.745, 1.8644, 1.65411, 0.210977),
    ])  # fmt: skip
    check(openb, "off-hours", "off_share weekend_share off_hours_lift", [
        ("GPUs of pods with GPUs", 0.626856, 0.243867, 0.626856 / (108 / 168)),
    ])  # fmt: skip


@pytest.mark.shared
def test_openb_arrivals(openb: Loaded) -> None:  # A6, A7
    check(openb, "arrivals", "mean fano_1h peak_to_mean gaps mean_gap_s goh_barabasi", [
        ("pods with GPUs", 8.05556, 3.68031, 3.84828, 2899, 446.78, 0.153069),
        ("pods without GPUs", 1.49167, 2.82677, 7.3743, 536, 2412.47, 0.301185),
    ])  # fmt: skip


@pytest.mark.shared
def test_openb_stays_spans_and_is_quick(openb: Loaded) -> None:
    ((rows, pods),) = openb.query(
        "SELECT count(*), count(DISTINCT pod) FROM usage_interval WHERE resource = 'cpu'"
    )
    assert pods == 3981
    assert rows < 3 * pods, "spans are cut at midnight, not exploded"
    assert openb.seconds < 20


@pytest.mark.shared
def test_openb_bill_goes_to_its_pods_exactly(openb: Loaded) -> None:
    assert gpuledger("--ledger", openb.ledger, "--format", "json", "build").code == 0
    rows = openb.run("costs", "--allocated", "--group-by", "x_AllocationState")["rows"]
    assert {row["x_AllocationState"] for row in rows} == {"running", "idle"}
    assert sum(Decimal(row["cost"]) for row in rows) == Decimal(openb.run("costs")["totals"]["cost"])


@pytest.mark.shared
def test_dlrm_totals(dlrm: Loaded) -> None:  # B1
    check(dlrm, "role", "instances apps gpu_hours core_hours", [
        ("CN", 8172, 86, 0.0, 123155935.82),
        ("HN", 4183, 86, 1284990.19, 10252912.19),
    ])  # fmt: skip


@pytest.mark.shared
def test_dlrm_demand(dlrm: Loaded) -> None:  # B2
    check(dlrm, "demand", "windows mean minimum peak peak_to_mean cv", [
        ("GPUs of pods with GPUs", 744, 1727.14, 1649.71, 1818.84, 1.0531, 0.0250381),
        ("cores of pods without GPUs", 744, 165532.17, 143534.72, 195865.19, 1.18325, 0.104093),
    ])  # fmt: skip


@pytest.mark.shared
def test_dlrm_commitments(dlrm: Loaded) -> None:  # B3, B4
    gpus = "GPUs of pods with GPUs"
    check(dlrm, "commitment", "size utilization coverage stranded spill", [
        (f"{gpus}, 25% of the peak", 455, 1.0, 0.263442, 0.0, 946470.19),
        (f"{gpus}, 50% of the peak", 909, 1.0, 0.526304, 0.0, 608694.19),
        (f"{gpus}, 75% of the peak", 1364, 1.0, 0.789746, 0.0, 270174.19),
        (f"{gpus}, 90% of the peak", 1637, 1.0, 0.947811, 0.0, 67062.2),
        (f"{gpus}, 100% of the peak", 1819, 0.949498, 1.0, 68345.8, 0.0),
        (f"{gpus}, 125% of the peak", 2274, 0.759515, 1.0, 406865.81, 0.0),
        (f"{gpus}, 160% of the peak", 2910, 0.593518, 1.0, 880049.81, 0.0),
    ])  # fmt: skip
    check(dlrm, "commitment", "best_size best_cost of_on_demand", [
        (f"{gpus}, discount 20%", 1671, 1037236.44, 0.807194),
        (f"{gpus}, discount 40%", 1709, 783996.80, 0.610119),
        (f"{gpus}, discount 60%", 1742, 526885.22, 0.410031),
    ])  # fmt: skip


@pytest.mark.shared
def test_dlrm_arrivals(dlrm: Loaded) -> None:  # B6
    check(dlrm, "arrivals", "mean fano_1h peak_to_mean goh_barabasi", [
        ("CN", 8.36962, 24.0966, 27.2414, 0.360059),
        ("HN", 3.33333, 17.0723, 27.0, 0.467464),
    ])  # fmt: skip


@pytest.mark.shared
def test_dlrm_largest_services(dlrm: Loaded) -> None:  # B5
    expected = [
        ("app_62", 96933.1, 0.0754349), ("app_23", 92901.9, 0.0722977), ("app_54", 82482.5, 0.0641892),
        ("app_22", 78447.2, 0.0610489), ("app_26", 78155.1, 0.0608216),
    ]  # fmt: skip
    check(dlrm, "service", "gpu_hours share", expected)
    rows = dlrm.run("jobs", "--group-by", "name")["rows"]
    rows.sort(key=lambda row: -Decimal(row["gpu_hours"]))
    assert [row["name"] for row in rows[:5]] == [name for name, _, _ in expected]
    for row, (_, hours, _) in zip(rows, expected, strict=False):
        assert float(row["gpu_hours"]) == pytest.approx(hours, rel=1e-4)
    assert dlrm.seconds < 60
