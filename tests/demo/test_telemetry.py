"""The example's telemetry is of the machines on its bills, holds no more than they have, and ties to truth.json."""

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.demo.conftest import Company

from gpuledger import demo
from gpuledger.demo.company import Month, busy
from gpuledger.demo.telemetry_machines import Span, _when, common, joined, without
from gpuledger.demo.telemetry_plan import shifts
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.telemetry import ingest_records

Row = Mapping[str, Any]
Spans = tuple[Span, ...]
LATE_HOURS_OF_SEPTEMBER = 6 * 8  # on Google's bill: telemetry begins with the month


def rows(root: Path, table: str) -> list[Row]:
    text = gzip.decompress((root / "telemetry" / f"{table}.jsonl.gz").read_bytes()).decode("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def seconds(row: Row) -> int:
    start, end = (datetime.fromisoformat(row[name]) for name in ("start", "end"))
    assert start < end
    return int((end - start) / timedelta(seconds=1))


def cards(row: Row) -> Fraction:
    """Cards that a usage row holds."""
    if "share_numerator" in row:
        return Fraction(row["share_numerator"], row["share_denominator"])
    return Fraction(row["requested"])


def hours(card_seconds: Fraction | int) -> float:
    return float(Fraction(card_seconds) / 3600)


def gpu_hours(found: Iterable[Row]) -> float:
    return hours(sum((cards(row) * seconds(row) for row in found), Fraction(0)))


@pytest.fixture(scope="module")
def told(company: Company) -> Row:
    found: Row = company.truth["notes"]["telemetry"]
    return found


@pytest.fixture(scope="module")
def machines(company: Company) -> list[Row]:
    return rows(company.root, "node_interval")


@pytest.fixture(scope="module")
def usage(company: Company) -> list[Row]:
    return rows(company.root, "usage_interval")


@pytest.fixture(scope="module")
def jobs(company: Company) -> list[Row]:
    return rows(company.root, "job")


def test_machines_ran_as_long_as_the_bills_say(company: Company, told: Row, machines: list[Row]) -> None:
    seen: dict[str, float] = defaultdict(float)
    for row in machines:
        if "gpu_model" in row:
            seen[row["gpu_model"]] += hours(int(row["gpu_count"]) * seconds(row))
    billed = {model: float(amount) for model, amount in company.truth["gpu_hours"]["total"].items()}
    billed["A100"] -= 17600  # the weekend run
    billed["H100"] -= LATE_HOURS_OF_SEPTEMBER
    unseen = float(told["clusters"]["aks-llm"]["unseen_gpu_hours"])
    assert unseen == pytest.approx((3 * 8 + 6) * (6 + 1 / 3))
    assert sum(seen.values()) == pytest.approx(sum(billed.values()) - unseen)
    assert seen["L40S"] == pytest.approx(billed["L40S"])
    assert sum(billed.values()) == pytest.approx(float(told["total"]["gpu_hours"]))


def test_every_machine_is_on_a_bill(company: Company, machines: list[Row]) -> None:
    billed = {row["line_item_resource_id"] for row in company.aws_rows()}
    billed |= {row["ResourceId"] for row in company.azure_rows("synthetic-actual-cost")}
    billed |= {row["resource"]["global_name"] for row in company.gcp_rows() if row.get("resource")}
    billed |= {row["node"] for row in company.neocloud_rows()}
    assert {row["provider_id"] for row in machines} <= billed
    nodes = {(row["cluster"], row["node"]): row["provider_id"] for row in machines}
    assert len(set(nodes.values())) == len(nodes)
    names = [node for _, node in nodes]
    assert len(set(names)) < len(names), "two clusters have a node of the same name"


def test_no_telemetry_sees_the_weekend_run(company: Company, machines: list[Row]) -> None:
    hours_of: dict[str, float] = defaultdict(float)
    for row in company.aws_rows():
        if row["product_instance_type"] == "p4d.24xlarge":
            hours_of[row["line_item_resource_id"]] += float(row["line_item_usage_amount"])
    weekend = {resource for resource, ran in hours_of.items() if ran == 11}
    assert len(weekend) == 200
    assert not weekend & {row["provider_id"] for row in machines}


@pytest.mark.parametrize("resource", ["gpu", "cpu", "memory"])
def test_nobody_holds_more_than_a_machine_has(machines: list[Row], usage: list[Row], resource: str) -> None:
    column = {"gpu": "gpu_count", "cpu": "cpu_cores", "memory": "memory_gib"}[resource]
    size = {(row["cluster"], row["node"]): Fraction(row[column]) for row in machines}
    changes: dict[tuple[str, str], dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
    for row in usage:
        if row["resource"] == resource:
            held = cards(row) if resource == "gpu" else Fraction(row["requested"])
            changes[row["cluster"], row["node"]][row["start"]] += held
            changes[row["cluster"], row["node"]][row["end"]] -= held
    assert changes
    for machine, steps in changes.items():
        level = Fraction(0)
        for moment in sorted(steps):
            level += steps[moment]
            assert 0 <= level <= size[machine], (machine, moment)


def test_pods_hold_machines_only_while_these_run(machines: list[Row], usage: list[Row]) -> None:
    ran: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in machines:
        ran[row["cluster"], row["node"]].append(row)
    for row in usage:
        if row["resource"] != "storage":
            assert any(
                one["start"] <= row["start"] and row["end"] <= one["end"]
                for one in ran[row["cluster"], row["node"]]
            ), row


def test_truth_states_each_jobs_gpu_hours(told: Row, jobs: list[Row], usage: list[Row]) -> None:
    held: dict[str, list[Row]] = defaultdict(list)
    for row in usage:
        if row["resource"] == "gpu":
            held[row["job_id"]].append(row)
    assert set(told["jobs"]) == {job["job_id"] for job in jobs}
    for job_id, truth in told["jobs"].items():
        assert float(truth["gpu_hours"]) == pytest.approx(gpu_hours(held[job_id]), abs=1e-6)
        used = [Fraction(row["used"]) * seconds(row) for row in held[job_id] if "used" in row]
        if used:
            assert float(truth["used_gpu_hours"]) == pytest.approx(hours(sum(used)), abs=1e-6)
        else:
            assert truth["used_gpu_hours"] is None
    total = told["total"]
    everything = [row for some in held.values() for row in some]
    assert float(total["held_gpu_hours"]) == pytest.approx(gpu_hours(everything))
    assert float(total["gpu_hours"]) == pytest.approx(
        sum(float(total[name]) for name in ("held_gpu_hours", "idle_gpu_hours", "unseen_gpu_hours"))
    )
    for name in ("gpu_hours", "held_gpu_hours", "idle_gpu_hours", "unowned_gpu_hours", "jobs"):
        parts = sum(float(cluster[name]) for cluster in told["clusters"].values())
        assert float(total[name]) == pytest.approx(parts)


def test_some_hours_of_one_cluster_are_unknown(told: Row, machines: list[Row], usage: list[Row]) -> None:
    ((cluster, gaps),) = told["gaps"].items()
    (start, end) = (text.replace("+00:00", "Z") for text in gaps[0])
    for row in (*machines, *usage):
        if row["cluster"] == cluster:
            assert row["end"] <= start or row["start"] >= end
    assert any(row["cluster"] == cluster and row["end"] == start for row in usage)
    assert any(row["cluster"] == cluster and row["start"] == end for row in usage)


def test_the_story_has_all_its_parts(told: Row, jobs: list[Row], usage: list[Row]) -> None:
    kinds = {job["kind"] for job in jobs}
    assert kinds >= {
        "JobSet", "PyTorchJob", "RayJob", "Deployment", "StatefulSet", "CronJob", "SlurmJob", "Job", "Pod", "Workflow",
    }  # fmt: skip
    types = {job.get("workload_type") for job in jobs}
    assert types >= {
        "training",
        "fine-tuning",
        "inference",
        "evaluation",
        "notebook",
        "agent",
        "batch-inference",
    }
    assert {row.get("sharing") for row in usage if row["resource"] == "gpu"} == {
        "whole",
        "mig",
        "time-slicing",
    }
    gpus = [row for row in usage if row["resource"] == "gpu"]
    waiting = [row for row in gpus if row["state"] == "held"]
    assert {row["cluster"] for row in waiting} == {"aks-llm", "cks-us-east-04"}
    never = [job for job in jobs if "started" not in job]
    assert sorted(job["state"] for job in never) == ["Failed", "Pending"]
    assert not {job["job_id"] for job in never} & {row["job_id"] for row in usage}
    again = {job["job_id"] for job in jobs if job.get("attempts", 0) > 1}
    assert {row["job_id"] for row in usage if row["attempt"] > 1} == again
    ratio = {Fraction(row["used"]) / cards(row) for row in gpus if "used" in row}
    assert Fraction(12, 100) in ratio
    assert min(ratio) == 0
    assert {row["cluster"] for row in gpus if "used" not in row} == {"eks-prod-eu"}
    spaces = defaultdict(set)
    for job in jobs:
        spaces[job["namespace"]].add(job["cluster"])
    assert spaces["rag-serving"] == {"eks-prod-us", "eks-prod-eu"}
    share = float(told["total"]["unowned_gpu_hours"]) / float(told["total"]["held_gpu_hours"])
    assert 0.13 < share < 0.17


def test_dimensions_carry_their_evidence(jobs: list[Row]) -> None:
    sources: dict[int, int] = defaultdict(int)
    for job in jobs:
        evidence = json.loads(job.get("evidence", "{}"))
        if "team" in job:
            sources[evidence["team"]["rank"]] += 1
        else:
            assert not {"cost_center", "owner"} & set(job)
    assert {1, 2, 4} <= set(sources), "by label, by Slurm's account, by the namespace's default"


def test_volumes_waste_space_of_disks_on_the_bill(company: Company, usage: list[Row]) -> None:
    disks = {row["device"]: row for row in usage if row["resource"] == "storage"}
    billed = {row["line_item_resource_id"] for row in company.aws_rows()} | {
        row["node"] for row in company.neocloud_rows()
    }
    assert set(disks) <= billed
    assert len(disks) == 17
    assert sum(row["node"] == "__unmounted__" for row in disks.values()) == 9
    wasted = sum(float(row["requested"]) - float(row["used"]) for row in disks.values())
    assert wasted > 0.5 * sum(float(row["requested"]) for row in disks.values())


def test_the_ledger_holds_what_truth_says(company: Company, told: Row, tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "ledger"))
    report = ingest_records(ledger, str(company.root / demo.TELEMETRY), source="demo-telemetry")
    assert not report.diagnostics
    assert len(report.rows) == 31
    con = ledger.connect()
    found = dict(
        con.execute(
            """SELECT job_id, sum((epoch_us("end") - epoch_us(start)) / 3.6e9
                * coalesce(share_numerator / share_denominator, requested::DOUBLE))
            FROM usage_interval WHERE resource = 'gpu' GROUP BY 1"""
        ).fetchall()
    )
    assert found == pytest.approx(
        {job: float(one["gpu_hours"]) for job, one in told["jobs"].items() if float(one["gpu_hours"])},
        abs=1e-5,
    )
    assert con.execute("SELECT count(*) FROM jobs").fetchone() == (len(told["jobs"]),)


@pytest.mark.parametrize(("month", "seed"), [("2026-02", 1), ("2027-06", 42)])
def test_other_months_and_seeds_tell_the_same_story(month: str, seed: int, tmp_path: Path) -> None:
    written = demo.write(tmp_path / "x", month=month, seed=seed)
    told = json.loads(written.truth.read_text("utf-8"))["notes"]["telemetry"]
    total = {name: float(value) for name, value in told["total"].items()}
    assert 0.12 < total["unowned_gpu_hours"] / total["held_gpu_hours"] < 0.18
    assert total["idle_gpu_hours"] > 0.05 * total["gpu_hours"]
    assert total["held_waiting_gpu_hours"] > 100
    assert all(float(cluster["idle_gpu_hours"]) >= 0 for cluster in told["clusters"].values())


DAY = datetime(2026, 10, 5, tzinfo=UTC)
spans = st.lists(st.integers(0, 400), unique=True, max_size=12).map(
    lambda edges: joined(
        (DAY + timedelta(hours=a), DAY + timedelta(hours=b))
        for a, b in zip(sorted(edges)[::2], sorted(edges)[1::2], strict=False)
    )
)


def length(found: Iterable[Span]) -> timedelta:
    return sum((end - start for start, end in found), timedelta())


@given(spans, spans)
def test_common_and_rest_are_the_whole(first: Spans, second: Spans) -> None:
    both, rest = common(first, second), without(first, second)
    assert length(both) + length(rest) == length(first)
    assert not common(both, rest)
    assert common(first, second) == common(second, first)


@given(spans)
def test_shifts_cut_time_where_work_begins_and_ends(found: Spans) -> None:
    for span in found:
        parts = list(shifts(span))
        assert [part[0] for part in parts] == [
            (start, end)
            for start, end in zip(
                [span[0], *(end for (_, end), _ in parts[:-1])], [end for (_, end), _ in parts], strict=True
            )
        ]
        assert parts[-1][0][1] == span[1]
        for (start, end), at_work in parts:
            assert busy(start) == at_work
            assert busy(end - timedelta(minutes=1)) == at_work


def test_hours_charged_in_part_ran_at_their_end_or_beginning() -> None:
    hour = Month.parse("2026-10").hour
    rows_of_bill = [(hour(8), 1800, 3600), (hour(9), 600, 3600), (hour(11), 3600, 3600)]
    ran = joined(_when(rows_of_bill))
    assert ran == (
        (hour(8) + timedelta(minutes=30), hour(9) + timedelta(minutes=10)),
        (hour(11), hour(12)),
    )
    days = [(hour(0), 20 * 3600, 86400), (hour(24), 5 * 3600, 86400), (hour(48), 86400, 86400)]
    assert joined(_when(days)) == (
        (hour(0), hour(3)), (hour(7), hour(24)), (hour(34), hour(39)), (hour(48), hour(72)),
    )  # fmt: skip
