"""The job ledger: cards held, cost, what idled or was wasted, and who owns it; also as the command prints it."""

import json
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.allocation_world import T0, World, charge, hour, job, node, owned, pod
from tests.surfaces.shell import gpuledger

from gpuledger.errors import UsageError
from gpuledger.pipeline.jobs import Jobs, jobs

KEYS = [
    "job_id", "kind", "name", "cluster", "namespace", "cost_center", "team", "owner", "workload_type", "model", "start", "end",
    "gpu_hours", "gpu_model", "cost", "idle_cost", "attempts", "attribution_evidence",
]  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def by_name(found: Jobs) -> dict[str | None, dict[str, Any]]:
    return {row["name"]: row for row in found.rows}


def company(world: World) -> None:
    """A machine for two hours at 80: training with all cards, then a service with two of them."""
    world.bill(charge("80"), charge("80", hours=(1, 2)), charge("4", "i-9"))
    world.telemetry(
        node(),
        node("n2", None),
        job("train", dimensions=owned(team="ml", cost_center="cc-1"), ended=hour(1), state="Succeeded"),
        job("api", kind="Deployment", dimensions=owned(workload_type="inference")),
        job("never", started=None, attempts=0, state="Pending"),
        job("dark"),
        pod("train", (0, 1), "8", used=Decimal(6)),
        pod("api", (1, 2), "2"),
        pod("dark", (0, 3), "1", node="n2"),
    )
    world.build()


def test_what_each_job_held_and_cost(world: World) -> None:
    company(world)
    found = jobs(world.ledger)
    assert [row["name"] for row in found.rows] == ["train", "api", "never", "dark"]
    assert set(KEYS) <= set(found.rows[0])
    row = by_name(found)
    figures = ("gpu_hours", "used_gpu_hours", "cost", "idle_cost", "waste")
    assert {name: tuple(one[key] for key in figures) for name, one in row.items()} == {
        "train": (8, 6, 80, 20, 0),
        "api": (2, None, 20, None, None),  # not measured; restarts of a service waste nothing
        "never": (0, None, 0, None, 0),  # never scheduled: costs nothing
        "dark": (3, None, None, None, 0),  # on a machine that no charge is known for: unknown
    }
    assert (row["train"]["start"], row["train"]["end"], row["train"]["gpu_model"]) == (T0, hour(1), "H100")
    assert row["train"]["attribution_evidence"]["team"] == {"source": "label", "rank": 0, "inferred": False}
    assert {key: found.totals[key] for key in ("cost", "idle", "unknown", "unowned", "jobs", "unpriced_jobs")} == {
        "cost": 100, "idle": 60, "unknown": 0, "unowned": 20, "jobs": 4, "unpriced_jobs": 1,
    }  # fmt: skip
    assert found.totals["currency"] == "USD"
    assert found.diagnostics == []


def test_groups_conditions_limits_and_windows(world: World) -> None:
    company(world)
    rows = jobs(world.ledger, group_by=["team", "workload-type"]).rows
    assert [(row["team"], row["workload_type"], row["jobs"], row["cost"]) for row in rows] == [
        ("ml", None, 1, 80), (None, "inference", 1, 20), (None, None, 2, 0),
    ]  # fmt: skip
    assert rows[2]["unpriced_jobs"] == 1
    assert set(by_name(jobs(world.ledger, where=["team=ml"]))) == {"train"}
    assert set(by_name(jobs(world.ledger, where=["team=", "kind!=Deployment"]))) == {"never", "dark"}
    limited = jobs(world.ledger, limit=1)
    assert set(by_name(limited)) == {"train"}
    assert limited.totals["jobs"] == 4
    assert jobs(world.ledger, where=["team=ml"]).totals["idle"] is None
    assert jobs(world.ledger, window="2026-10").totals["cost"] == 100
    assert jobs(world.ledger, window="2026-09").rows == []
    day = jobs(world.ledger, window="2026-10-05")
    assert (day.totals["cost"], day.totals["gpu_hours"]) == (100, 13)
    assert jobs(world.ledger, window="2026-10-06").totals["cost"] is None


def test_what_no_job_has_is_refused(world: World) -> None:
    company(world)
    with pytest.raises(UsageError, match="jobs have no 'temas'") as raised:
        jobs(world.ledger, group_by=["temas"])
    assert raised.value.hint == "Did you mean team?"
    with pytest.raises(UsageError, match="can't read the condition"):
        jobs(world.ledger, where=["team"])


def test_attempts_that_failed_are_waste(world: World) -> None:
    world.bill(charge("80"), charge("80", hours=(1, 2)))
    world.telemetry(
        node(),
        job("retried", attempts=2, state="Succeeded"),
        job("lost", attempts=1, state="Failed"),
        pod("retried", (0, 1), "4"),
        pod("retried", (1, 2), "4", attempt=2, pod_uid="again"),
        pod("lost", (0, 1), "2"),
    )
    world.build()
    row = by_name(jobs(world.ledger))
    assert {name: (one["cost"], one["waste"]) for name, one in row.items()} == {
        "retried": (80, 40), "lost": (20, 20),
    }  # fmt: skip


def test_a_waiting_gang_is_told_apart(world: World) -> None:
    world.bill(charge("80"))
    world.telemetry(node(), job("gang"), pod("gang", (0, 0.5), "8", state="held"), pod("gang", (0.5, 1), "8"))
    world.build()
    (row,) = jobs(world.ledger).rows
    assert [row[key] for key in ("gpu_hours", "waiting_gpu_hours", "cost", "waiting_cost")] == [8, 4, 80, 40]


def test_shares_of_cards_and_devices_count_once(world: World) -> None:
    """A pod that asks for two cards and is seen on both of them holds two; seven slices are one card."""
    world.bill(charge("8"))
    world.telemetry(
        node(),
        pod("two", (0, 1), "2"),
        *(pod("two", (0, 1), device=f"GPU-{i}", share=Fraction(1), sharing="whole") for i in range(2)),
        *(
            pod("slices", device="GPU-7", share=Fraction(1, 7), sharing="mig", pod=f"s{i}", pod_uid=f"s{i}")
            for i in range(7)
        ),
        pod("odd", device="GPU-6", share=None, sharing="mig"),
    )
    world.build()
    hours = {row["job_id"]: row["gpu_hours"] for row in jobs(world.ledger).rows}
    assert hours == {
        "east/two": 2,
        "east/slices": 1,
        "east/odd": None,
    }  # no job records: known by what they held


def test_idle_that_was_shared_is_part_of_the_cost_and_told(world: World) -> None:
    world.settings(idle="even")
    world.bill(charge("80"))
    world.telemetry(node(), job("a"), pod("a", gpus="6"))
    world.build()
    (row,) = jobs(world.ledger).rows
    assert (row["cost"], row["shared_cost"]) == (80, 20)
    assert jobs(world.ledger).totals["idle"] == 0


def test_several_currencies_are_kept_apart(world: World) -> None:
    world.bill(charge("80"), charge("70", "i-2", BillingCurrency="EUR"))
    world.telemetry(node(), node("n2", "i-2"), pod("a", gpus="8"), pod("b", gpus="8", node="n2"))
    world.build()
    with pytest.raises(UsageError, match="EUR, USD"):
        jobs(world.ledger)
    found = jobs(world.ledger, where=["BillingCurrency=EUR"])
    assert (found.totals["cost"], found.totals["currency"]) == (70, "EUR")


def test_jobs_of_telemetry_alone(world: World) -> None:
    world.telemetry(node(), job("a"), pod("a", gpus="8"))
    (row,) = jobs(world.ledger).rows
    assert (row["gpu_hours"], row["cost"], row["cost_status"]) == (8, None, None)


def test_the_job_tables_carry_what_the_ledger_does(world: World) -> None:
    """Job by job, the model that `build` writes has the cost of the allocated charges."""
    company(world)
    query = (Path(__file__).parents[2] / "src/gpuledger/models/job_cost.sql").read_text("utf-8")
    assert world.ask(f"SELECT x_JobId, sum(EffectiveCost), sum(x_IdleGpuCost) FROM ({query}) GROUP BY 1 ORDER BY 1") == [
        ("east/api", Decimal(20), None), ("east/train", Decimal(80), Decimal(20)),
    ]  # fmt: skip


def test_the_commands(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    company(world)
    monkeypatch.chdir(world.folder)
    printed = gpuledger("--ledger", world.ledger.location, "--format", "json", "jobs", "--window", "2026-10")
    assert printed.code == 0, printed.err
    document = json.loads(printed.out)
    assert document["command"] == "jobs"
    first = document["rows"][0]
    assert (first["cost"], first["gpu_hours"], first["idle_cost"], first["start"]) == (
        "80",
        "8",
        "20",
        "2026-10-05T00:00:00Z",
    )
    # The settings of the file differ from those of the last build: the command says so, and build mends it.
    assert [told["code"] for told in document["diagnostics"]] == ["allocation-stale"]
    built = gpuledger("--ledger", world.ledger.location, "--format", "json", "build")
    assert built.code == 0, built.err
    names = {row["name"]: row["state"] for row in built.document["rows"]}
    assert names["allocation_ties"] == "ok"
    assert {"allocated_cost cloud 2026-10", "job_cost"} <= set(names)
    table = gpuledger("--ledger", world.ledger.location, "--format", "table", "jobs", "--group-by", "team")
    assert "ml" in table.out
    costs = gpuledger(
        "--ledger", world.ledger.location, "costs", "--allocated", "--group-by", "job,namespace"
    )
    assert {(row["job"], row["namespace"]) for row in costs.document["rows"]} == {
        ("train", "ml"), ("api", "ml"), (None, None),
    }  # fmt: skip
    assert costs.document["diagnostics"] == []


def test_a_job_told_by_monitor_and_scheduler_is_one(world: World) -> None:
    """Prometheus knows owners by name only; the pods say which job of the scheduler that is."""
    world.bill(charge("80"))
    world.telemetry(node(), job("uid-1"), pod("uid-1", (0, 1), "8", pod_uid="p1"))
    named = replace(job("x"), job_id="east/ml/Job/train")
    seen = replace(
        pod("uid-1", (0, 1), device="GPU-1", share=Fraction(1), pod_uid="p1"),
        job_id="east/ml/Job/train",
        used=Decimal("0.5"),
    )
    world.telemetry(named, node(), seen, source="prom")
    world.build()
    (row,) = jobs(world.ledger).rows
    assert (row["job_id"], row["gpu_hours"], row["cost"]) == ("east/uid-1", 8, 80)


def test_the_report_gives_no_sums_of_jobs_that_nothing_is_allocated_to(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not yet known is not 0: before the first build the report says what to do instead."""
    world.bill(charge("80"))
    world.telemetry(node(), job("train", dimensions=owned(team="ml")), pod("train", (0, 1), "8"))
    monkeypatch.chdir(world.folder)
    place = ("--ledger", world.ledger.location)
    shown = gpuledger(*place, "--format", "table", "report")
    assert "All jobs together" not in shown.out
    assert "allocation-stale" in shown.err
    document = gpuledger(*place, "--format", "json", "report").document
    assert [told["code"] for told in document["diagnostics"]] == ["allocation-stale"]
    assert gpuledger(*place, "build").code == 0
    shown = gpuledger(*place, "--format", "table", "report")
    cost = Decimal(gpuledger(*place, "jobs").document["totals"]["cost"])
    assert 0 < cost <= 80
    assert f"All jobs together: {cost:,.2f}." in shown.out
    assert "allocation-stale" not in shown.err
