"""The example company's idle savings plan through the commands, and the published figures of a real trace's demand.

What could be recovered is in truth.json, reckoned by the generator from the machines that it made up. The trace is
Alibaba's of inference services (744 hours); the expected figures were computed from its files with other code.
"""

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.surfaces.shell import gpuledger

SHARED = Path(os.environ.get("GPULEDGER_SHARED", Path(__file__).parents[3] / "shared"))
DLRM = SHARED / "data" / "traces" / "dlrm"

pytestmark = pytest.mark.slow


class Company:
    """The example in a ledger, and its truth."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for words in (["demo", "--out", folder / "bills"], ["build"]):
            done = self.run(*words)
            assert done.code == 0, done.err
        self.truth = json.loads((folder / "bills" / "truth.json").read_text("utf-8"))["commitments"]

    def run(self, *words: object) -> Any:  # noqa: ANN401  # an outcome
        return gpuledger("--ledger", self.folder / "ledger", "--format", "json", *words)

    def asked(self, *words: object) -> Any:  # noqa: ANN401  # JSON
        done = self.run("commitments", *words, "--window", "2026-10")
        assert done.code in {0, 1}, done.err
        return done.document


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Company:
    return Company(tmp_path_factory.mktemp("company"))


def test_the_idle_plan_is_found_and_its_dollars_match(company: Company) -> None:
    document = company.asked("utilization")
    found = {row["commitment_id"].casefold(): row for row in document["rows"]}
    for name, told in company.truth.items():
        row = found[name.casefold()]
        assert (row["utilization"], row["break_even"]) == (
            str(Decimal(told["utilization"]).normalize()), str(Decimal(told["break_even_utilization"]).normalize()),
        )  # fmt: skip
        assert Decimal(row["stranded_cost"]) == Decimal(told["stranded"])
        assert Decimal(row["cost"]) == Decimal(told["committed"])
    (below,) = [row for row in document["rows"] if row["below_threshold"]]
    assert (below["utilization"], below["kind"]) == ("0.610047", "AWS EC2 Instance Savings Plan")
    # At 61 % of 72 %: the used part would have cost 143,892.1728 / 0.72 on demand.
    assert Decimal(below["net_loss"]) == Decimal("235870.6176") - Decimal("143892.1728") / Decimal("0.72")
    assert below["expires"] == "2027-07-20T00:00:00Z"
    assert Decimal(document["totals"]["stranded_cost"]) == sum(
        Decimal(told["stranded"]) for told in company.truth.values()
    )


def test_hours_add_up_to_the_month(company: Company) -> None:
    rows = company.asked("utilization", "--by", "hour")["rows"]
    for name, told in company.truth.items():
        mine = [row for row in rows if row["commitment_id"].casefold() == name.casefold()]
        assert len(mine) == 744
        assert sum(Decimal(row["stranded_cost"]) for row in mine) == Decimal(told["stranded"])
        assert all(Decimal(row["used"]) + Decimal(row["unused"]) == Decimal(row["committed"]) for row in mine)


def test_rebalancing_recovers_what_the_truth_says_is_recoverable(company: Company) -> None:
    (told,) = [one["recoverable"] for one in company.truth.values() if "recoverable" in one]
    document = company.asked("rebalance", "--all")
    totals = document["totals"]
    whole = Decimal(told["saving"])
    assert whole > 50_000
    assert Decimal("0.9") * whole <= Decimal(totals["saved"]) <= whole + 1
    for way in ("sharing", "moving", "waiting"):
        assert Decimal(totals[f"saved_by_{way}"]) == pytest.approx(
            Decimal(told[f"by_{way}"]), abs=Decimal("0.01")
        )
    assert Decimal(totals["gap"]) <= Decimal("0.01")
    blockers = {row["name"]: row["blocker"] for row in document["rows"]}
    assert blockers["dino-p5"] == "account"
    assert blockers["rag-records"] == "bound to its region"
    assert blockers["mix-ablation-0"] == "region"
    moved = [row for row in document["rows"] if Decimal(row["saved"]) > 0]
    assert all(row["action"] and row["commitment_id"] for row in moved)
    assert all(Decimal(row["saved"]) <= Decimal(row["on_demand_cost"]) for row in moved)
    assert Decimal(totals["stranded_used"]) <= Decimal(totals["stranded_cost"])


def test_the_plan_buys_nothing_that_idle_commitments_cover(company: Company) -> None:
    document = company.asked("plan", "--term", "1yr=28%")
    rows = [row for row in document["rows"] if row["method"] == "quantile"]
    p5 = [row for row in rows if row["family"] == "p5" and row["region"] == "us-east-1"]
    assert sum(Decimal(row["size"]) for row in p5) == 0
    (vision,) = [row for row in rows if row["family"] == "a3"]
    # One machine all month at 89.249 dollars an hour, another now and then: commit to the one.
    assert vision["size"] == "89.25"
    assert vision["backtest"]["best"] == "quantile"
    assert Decimal(vision["saving_p10"]) <= Decimal(vision["saving_p50"]) <= Decimal(vision["saving_p90"])


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not DLRM.is_dir():
        pytest.skip(f"no trace in {DLRM}: set GPULEDGER_SHARED")
    folder = tmp_path_factory.mktemp("trace")
    done = gpuledger(
        "--ledger", folder / "ledger", "--format", "json", "demo", "--trace", DLRM, "--out", folder / "trace"
    )
    assert done.code == 0, done.err
    return folder / "ledger"


# GPUs committed: utilisation, coverage, stranded GPU-hours, GPU-hours on demand beyond it.
EXPECTED = {
    455: (1, 0.263442, 0, 946470.19), 909: (1, 0.526304, 0, 608694.19), 1364: (1, 0.789746, 0, 270174.19),
    1637: (1, 0.947811, 0, 67062.2), 1819: (0.949498, 1, 68345.8, 0), 2274: (0.759515, 1, 406865.81, 0),
    2910: (0.593518, 1, 880049.81, 0),
}  # fmt: skip
# Discount: the size that costs least, its cost at an on-demand price of 1, and its share of all on demand.
CHEAPEST = {
    "20%": (1671, 1037236.44, 0.807194),
    "40%": (1709, 783996.80, 0.610119),
    "60%": (1742, 526885.22, 0.410031),
}


@pytest.mark.shared
def test_what_if_we_had_committed_on_a_real_trace(trace: Path) -> None:
    words = [word for size in EXPECTED for word in ("--assume-committed", size)]
    words += [word for discount in CHEAPEST for word in ("--term", f"{discount}={discount}")]
    done = gpuledger(
        "--ledger", trace, "--format", "json", "commitments", "plan", "--demand", "cards",
        "--window", "2026-06-01..2026-07-01", *words,
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = done.document["rows"]
    assert {row["hours"] for row in rows} == {744}
    found = {
        int(row["size"]): tuple(float(row[name]) for name in ("utilization", "coverage", "stranded", "spill"))
        for row in rows if row["method"] == "assumed"
    }  # fmt: skip
    assert found == {size: pytest.approx(values, rel=1e-4) for size, values in EXPECTED.items()}
    best = {
        row["term"]: (int(row["size"]), float(row["relative_cost"]), float(row["of_on_demand"]))
        for row in rows if row["method"] == "quantile"
    }  # fmt: skip
    assert {name: values[0] for name, values in best.items()} == {
        name: one[0] for name, one in CHEAPEST.items()
    }
    assert best == {name: pytest.approx(one, rel=1e-4) for name, one in CHEAPEST.items()}
