"""`budgets` and `policy snapshot`: from an admission to what it cost in the end, over a ledger of jobs."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from tests.surfaces.shell import gpuledger

from gpuledger.pipeline.leases import Leases
from gpuledger.pipeline.policy_files import load

POLICY = '[[budget]]\nname = "b"\nowner = "grace"\namount_usd = 200\nmatch = { cost_center = "CC-1" }\n'
URL = "sqlite:///leases.sqlite"
NOW = datetime.now(UTC).replace(microsecond=0)
# Wholly in the past, and in this month, however young it is.
START = max(NOW - timedelta(hours=30), NOW.replace(day=1, hour=0, minute=0, second=0))
END = START + (NOW - START) / 2


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger of two machines' bill and telemetry: job u-1 ended, u-2 runs."""
    monkeypatch.chdir(tmp_path)
    Path("gpuledger-policy.toml").write_text(POLICY, "utf-8")
    month, end = (
        START.strftime("%Y-%m-01T00:00:00Z"),
        (START.replace(day=1) + timedelta(days=40)).strftime("%Y-%m-01T00:00:00Z"),
    )
    rows = [
        f"{cost},{cost},{cost},{cost},1,USD,{month},{end},{START:%Y-%m-%dT%H:%M:%SZ},{END:%Y-%m-%dT%H:%M:%SZ},Usage,EC2,Compute,{resource}"
        for resource, cost in (("i-1", "12.5"), ("i-2", "30"))
    ]
    head = (
        "BilledCost,EffectiveCost,ListCost,ContractedCost,BillingAccountId,BillingCurrency,BillingPeriodStart,BillingPeriodEnd,"
        "ChargePeriodStart,ChargePeriodEnd,ChargeCategory,ServiceName,ServiceCategory,ResourceId"
    )
    Path("bill.csv").write_text("\n".join([head, *rows]) + "\n", "utf-8")
    records = Path("records")
    records.mkdir()
    jobs, nodes, usage = [], [], []
    for number, ended in ((1, END), (2, None)):
        job = {
            "job_id": f"c/u-{number}",
            "cluster": "c",
            "kind": "Job",
            "name": "train",
            "namespace": "ml",
            "started": START.isoformat(),
        }
        jobs.append(job | ({"ended": ended.isoformat()} if ended else {}))
        span = {"cluster": "c", "node": f"n-{number}", "start": START.isoformat(), "end": END.isoformat()}
        nodes.append(
            span
            | {
                "provider_id": f"i-{number}",
                "gpu_model": "H100",
                "gpu_count": 8,
                "cpu_cores": 8,
                "memory_gib": 64,
            }
        )
        usage.append(
            span | {"job_id": f"c/u-{number}", "namespace": "ml", "pod": "p", "pod_uid": f"p-{number}", "resource": "gpu",
                    "requested": 8, "state": "running"}
        )  # fmt: skip
    for name, found in (("job", jobs), ("node_interval", nodes), ("usage_interval", usage)):
        (records / f"{name}.jsonl").write_text("".join(json.dumps(one) + "\n" for one in found), "utf-8")
    assert gpuledger("ingest", "--type", "focus", "bill.csv").code == 0
    done = gpuledger("ingest", "--type", "records", "records")
    assert done.code == 0, done.err
    assert gpuledger("build").code == 0


def test_leases_are_settled_at_what_the_ledger_says_and_live_ones_confirmed() -> None:
    policy = load(Path("gpuledger-policy.toml")).policy
    leases = Leases(URL)
    for number in (1, 2, 3):
        assert leases.reserve(f"u-{number}", "ml/train", policy.budget[0], Decimal(50), NOW).granted
    leases.close()
    done = gpuledger("budgets", "--leases", URL)
    assert done.code == 0, done.err
    (row,) = done.document["rows"]
    assert [row[key] for key in ("budget", "owner", "amount", "reserved", "spent", "left", "workloads")] == [
        "b", "grace", "200", "150", "0", "50", 3,
    ]  # fmt: skip
    done = gpuledger("budgets", "--leases", URL, "--settle")
    (row,) = done.document["rows"]
    cost = Decimal(row["spent"])
    assert 0 < cost <= Decimal("12.5")  # the machine's cost, cores and memory that nobody asked for left out
    assert Decimal(row["left"]) == 200 - 100 - cost
    assert {key: done.document["totals"][key] for key in ("settled", "confirmed", "unknown")} == {
        "settled": 1, "confirmed": 1, "unknown": 1,
    }  # fmt: skip


def test_without_a_policy_or_a_store_it_says_so() -> None:
    done = gpuledger("budgets", "--leases", "sqlite:////none/such/folder/x.sqlite")
    assert done.code == 3
    assert "Hint:" in done.err
    Path("gpuledger-policy.toml").unlink()
    assert gpuledger("budgets").code == 2


def test_a_snapshot_holds_earlier_runs_and_is_read_by_the_webhook() -> None:
    from gpuledger.surfaces.admission.state import read_snapshot

    done = gpuledger("policy", "snapshot", "s.json")
    assert done.code == 0, done.err
    assert done.document["totals"] == {"file": "s.json", "jobs": 1}
    _, history = read_snapshot(Path("s.json"))
    seconds = (END - START).total_seconds()
    assert history.hours[("Job", "ml", "train")] == [
        (Decimal(int(seconds)) / 3600).quantize(Decimal("0.0001"))
    ]


def test_the_schema_is_printed() -> None:
    done = gpuledger("policy", "schema")
    assert json.loads(done.out)["title"] == "gpuledger policy"
