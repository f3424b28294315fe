"""`gpuledger savings` on a small bill: the agreed keys, exact money, exit codes, filters, words for a person."""

import csv
import io
from decimal import Decimal
from pathlib import Path

import pytest
from tests.surfaces.shell import bill, gpuledger

KEYS = {"rule", "scope", "owner", "saving_low", "saving_high", "confidence", "evidence", "action"}
HEADER = (
    "BilledCost,EffectiveCost,ContractedCost,BillingAccountId,BillingCurrency,BillingPeriodStart,ChargePeriodStart,ChargePeriodEnd,"
    "ChargeCategory,ServiceName,ServiceProviderName,CommitmentDiscountId,CommitmentDiscountStatus,CommitmentDiscountType,Tags"
)
DAY = "1,USD,2026-10-01T00:00:00Z,2026-10-05T00:00:00Z,2026-10-06T00:00:00Z,Usage,Compute,Cloud"
# Synthetic: a commitment that was used for a quarter, and one of another team of which hardly anything stayed idle.
ROWS = (
    f'0,30.000000000000000001,40,{DAY},cd-1,Used,Savings Plan,"{{""team"": ""nlp""}}"',
    f'0,90.000000000000000003,0,{DAY},cd-1,Unused,Savings Plan,"{{""team"": ""nlp""}}"',
    f'0,0.5,0,{DAY},cd-2,Unused,Reservation,"{{""team"": ""vision""}}"',
)


@pytest.fixture
def stranded(tmp_path: Path) -> Path:
    path = bill(tmp_path / "bill.csv", *ROWS, header=HEADER)
    done = gpuledger("ingest", "--type", "focus", path, "--no-validate")
    assert done.code == 0, done.err
    return tmp_path


@pytest.mark.usefixtures("stranded")
def test_a_finding_has_the_agreed_keys_and_all_digits() -> None:
    done = gpuledger("--format", "json", "savings")
    assert done.code == 1
    document = done.document
    assert document["command"] == "savings"
    (row,) = document["rows"]
    assert set(row) >= KEYS
    assert (row["rule"], row["scope"], row["owner"]) == ("stranded-commitment", "commitment cd-1", "nlp")
    assert (row["saving_low"], row["saving_high"]) == ("0", "90.000000000000000003")
    assert row["evidence"] == "25 % of the Savings Plan was used, it pays off from 75 %"
    assert document["totals"]["saving_high"] == "90.000000000000000003"
    assert document["totals"]["spend"] == "120.500000000000000004"
    assert Decimal(row["touched_cost"]) >= Decimal(row["saving_high"])


@pytest.mark.usefixtures("stranded")
def test_small_findings_and_those_of_others_can_be_left_out() -> None:
    assert len(gpuledger("savings", "--min-saving", "0").document["rows"]) == 2
    none = gpuledger("savings", "--min-saving", "100")
    assert (none.code, none.document["rows"]) == (0, [])
    (row,) = gpuledger("savings", "--min-saving", "0", "--owner", "Vision").document["rows"]
    assert row["scope"] == "commitment cd-2"
    assert gpuledger("savings", "--owner", "nobody").code == 0
    assert gpuledger("savings", "--rule", "idle-notebook").document["rows"] == []
    assert gpuledger("savings", "--window", "2026-09").document["rows"] == []


@pytest.mark.usefixtures("stranded")
def test_what_is_not_shown_is_told_on_request() -> None:
    rows = gpuledger("savings", "--all").document["rows"]
    states = {row["rule"]: row["status"] for row in rows if row["rule"] != "stranded-commitment"}
    assert states["zombie-gpu"] == "unmeasured"
    assert states["batch-api"] == "nothing of the kind"
    assert [row["status"] for row in rows if row["rule"] == "stranded-commitment"] == ["open", "small"]
    assert {tuple(row) for row in rows} == {tuple(rows[0])}


@pytest.mark.usefixtures("stranded")
def test_csv_and_a_table_for_people() -> None:
    told = csv.DictReader(io.StringIO(gpuledger("--format", "csv", "savings").out))
    assert [row["saving_high"] for row in told] == ["90.000000000000000003"]
    shown = gpuledger("--format", "table", "savings", "--all").out
    assert "commitment cd-1: 0.00 to 90.00" in shown
    assert "+ 25 % of the Savings Plan was used" in shown
    assert "zombie-gpu (unmeasured): Cards that do nothing: nobody tells how busy cards are" in shown
    assert "None" not in shown
    assert "can't be measured" in gpuledger("--format", "table", "savings").out


@pytest.mark.usefixtures("stranded")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rule", "zombies"), "no savings rule of type 'zombies'"),
        (("--min-saving", "much"), "can't read the amount 'much'"),
        (("--min-saving", "-1"), "can't read the amount '-1'"),
        (("--min-saving", "nan"), "can't read the amount 'nan'"),
        (("--window", "soon"), "can't read the window 'soon'"),
    ],
)
def test_what_can_not_be_understood_is_refused(words: tuple[str, ...], said: str) -> None:
    done = gpuledger("savings", *words)
    assert done.code == 2
    assert said in done.err
    assert "Hint:" in done.err


def test_no_ledger_is_a_failure_with_a_hint() -> None:
    done = gpuledger("savings")
    assert done.code == 3
    assert "Hint:" in done.err
