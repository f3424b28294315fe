"""The example company's own load on its own hardware, and how bursty it is: as its truth file and docs/burst.md say."""

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.surfaces.shell import gpuledger

from gpuledger.demo.serving import SERVICES
from gpuledger.pipeline.ledger import Ledger

ROOT = Path(__file__).parents[2]
HOURS = 744

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("company")
    done = gpuledger("--ledger", folder / "ledger", "--format", "json", "demo", "--out", folder / "bills")
    assert done.code == 0, done.err
    return folder


def ask(folder: Path, *words: object) -> Any:  # noqa: ANN401  # JSON
    done = gpuledger("--ledger", folder / "ledger", "--format", "json", *words)
    assert done.code == 0, done.err
    return done.document


def test_hardware_of_the_companys_own_telemetry(folder: Path) -> None:
    """Replicas do what the generator lets them do in their busy hours; demand and prices are sums of its own figures."""
    words = ("--window", "2026-10", "--slo-rank", "mean", "--slo-ttft", 2, "--slo-tpot", 0.1)
    document = ask(folder, "compare-hardware", "--model", "llama-70b", "--demand-from-ledger", *words)
    rows = {row["hardware"]: row for row in document["rows"]}
    assert set(rows) == {"4x L40S", "8x H100"}
    truth = json.loads((folder / "bills" / "truth.json").read_text("utf-8"))["notes"]["unit_economics"]
    made = sum(Decimal(one["output_tokens"]) for one in truth["deployments"] if one["model"] == "llama-70b")
    demand = Decimal(document["totals"]["demand_tok_s"])
    assert demand == pytest.approx(made / (HOURS * 3600), abs=Decimal("1e-6"))
    services = {service.cluster: service for service in SERVICES if service.model == "llama-70b"}
    for cluster, name in (("eks-prod-us", "4x L40S"), ("gke-vision", "8x H100")):
        service, row = services[cluster], rows[name]
        assert row["capacity_tok_s"] == pytest.approx(service.capacity * float(service.load[0]), rel=0.02)
        assert "may be able to do more" in row["note"]
        assert Decimal(row["cost_per_mtok"]) == pytest.approx(
            Decimal(row["cost_usd_per_hour"]) / (demand * 3600 / 10**6), abs=Decimal("1e-6")
        )
    con = Ledger(str(folder / "ledger")).connect()
    for model, name in (("L40S", "4x L40S"), ("H100", "8x H100")):
        (cost, hours) = con.execute(
            """SELECT sum(EffectiveCost), sum(x_GpuHours) FROM cost_and_usage
            WHERE x_GpuModel = ? AND x_GpuHours > 0 AND CommitmentDiscountStatus IS DISTINCT FROM 'Unused'""", [model],
        ).fetchone() or (None, None)  # fmt: skip
        assert Decimal(rows[name]["usd_per_gpu_hour"]) == pytest.approx(cost / hours, abs=Decimal("1e-6"))
    unmet = ask(folder, "compare-hardware", "--model", "llama-70b", "--demand-from-ledger", "--slo-tpot", 0.1)
    assert {row["note"] for row in unmet["rows"]} == {"not comparable: no p95 of TPOT was measured"}


def test_one_weekend_makes_the_burst_index_and_the_interval_says_so(folder: Path) -> None:
    document = ask(folder, "burst")
    (row,) = (one for one in document["rows"] if (one["measure"], one["window"]) == ("burst_index", "1 h"))
    page = (ROOT / "docs" / "burst.md").read_text("utf-8")
    shown = re.search(r"makes it ([\d.]+) by the hour, with an interval\s+from ([\d.]+) to ([\d.]+)", page)
    assert shown
    assert [round(row[key], 1) for key in ("value", "low", "high")] == [
        float(text) for text in shown.groups()
    ]
    # p99 of 744 hours is the eighth dearest; the weekend run lasted eleven.
    levels = Ledger(str(folder / "ledger")).connect().execute(
        """SELECT date_trunc('hour', ChargePeriodStart), sum(EffectiveCost)::DOUBLE AS cost FROM cost_and_usage
        WHERE ChargeCategory = 'Usage' AND CommitmentDiscountStatus IS DISTINCT FROM 'Unused' AND x_GpuHours IS NOT NULL
            AND ChargePeriodEnd - ChargePeriodStart <= INTERVAL 1 HOUR AND ChargePeriodStart >= '2026-10-01' AND ChargePeriodStart < '2026-11-01'
        GROUP BY 1 ORDER BY cost DESC LIMIT 8"""
    ).fetchall()  # fmt: skip
    assert {moment.weekday() for moment, _ in levels} <= {5, 6}
