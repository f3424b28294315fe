"""Laws of the ledger, held by generated bills: nothing lost, nothing doubled, whatever the order."""

import csv
import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuledger.pipeline.ledger import Ledger

MONTHS = ("2026-08", "2026-09", "2026-10")
FIELDS = (
    "BilledCost", "EffectiveCost", "BillingAccountId", "BillingCurrency", "BillingPeriodStart", "BillingPeriodEnd",
    "ChargePeriodStart", "ChargePeriodEnd", "ChargeCategory", "ServiceName", "RegionId", "Tags",
)  # fmt: skip
costs = st.decimals(min_value="-1e9", max_value="1e9", places=18, allow_nan=False, allow_infinity=False)
Row = dict[str, str]


@st.composite
def bills(draw: st.DrawFn, months: Sequence[str] = MONTHS) -> list[Row]:
    """Rows of one FOCUS bill with exact costs of either sign and awkward text."""
    text = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        month = datetime.strptime(draw(st.sampled_from(months)), "%Y-%m").replace(tzinfo=UTC)
        start = month + timedelta(hours=draw(st.integers(0, 600)))
        rows.append(
            {
                "BilledCost": format(draw(costs), "f"),
                "EffectiveCost": format(draw(costs), "f"),
                "BillingAccountId": "0042",
                "BillingCurrency": "USD",
                "BillingPeriodStart": month.isoformat(),
                "BillingPeriodEnd": (month + timedelta(days=32)).replace(day=1).isoformat(),
                "ChargePeriodStart": start.isoformat(),
                "ChargePeriodEnd": (start + timedelta(hours=1)).isoformat(),
                "ChargeCategory": draw(st.sampled_from(["Usage", "Tax", "Credit"])),
                "ServiceName": draw(text),
                "RegionId": draw(st.sampled_from(["", "us-east-1", "eu-west-1"])),
                "Tags": json.dumps({"team": draw(text), "note": draw(text)}),
            }
        )
    return rows


def write(path: Path, rows: Sequence[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    return path


def total(rows: Sequence[Row], column: str = "BilledCost") -> Decimal:
    return sum((Decimal(row[column]) for row in rows), Decimal(0))


def state(ledger: Ledger) -> dict[str, tuple[int, Decimal]]:
    """Return rows and billed cost of every billing period."""
    con = ledger.connect()
    found = con.execute(
        "SELECT x_BillingPeriod, count(*), sum(BilledCost) FROM cost_and_usage GROUP BY 1"
    ).fetchall()
    return {period: (count, cost) for period, count, cost in found}


quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(bills())
def test_ingesting_twice_equals_once(rows: list[Row]) -> None:
    with TemporaryDirectory() as folder:
        ledger, bill = Ledger(f"{folder}/ledger"), write(Path(folder, "bill.csv"), rows)
        first = ledger.ingest("focus", str(bill))
        before = state(ledger)
        again = ledger.ingest("focus", str(bill))
        assert {row.action for row in first.rows} == {"loaded"}
        assert {row.action for row in again.rows} == {"unchanged"}
        assert state(ledger) == before
        assert [(r.rows, r.billed_cost) for r in again.rows] == [(r.rows, r.billed_cost) for r in first.rows]


@quick
@given(bills())
def test_every_grouping_sums_to_the_bill(rows: list[Row]) -> None:
    with TemporaryDirectory() as folder:
        ledger = Ledger(f"{folder}/ledger")
        ledger.ingest("focus", str(write(Path(folder, "bill.csv"), rows)))
        for metric, column in (("billed", "BilledCost"), ("effective", "EffectiveCost")):
            for group in ("ServiceName", "RegionId", "team", "day", "Tags.note", "ChargeCategory", "month"):
                answer = ledger.costs([group], metric=metric)
                assert answer.total == total(rows, column)
                assert sum((row["cost"] for row in answer.rows), Decimal(0)) == total(rows, column)


@settings(quick, max_examples=8)
@given(st.lists(bills(), min_size=2, max_size=3))
def test_order_of_deliveries_does_not_matter(deliveries: list[list[Row]]) -> None:
    """Each delivery restates the periods that it has; the newest statement of a period stands, in any order of arrival."""
    expected: dict[str, tuple[int, Decimal]] = {}
    for rows in deliveries:
        by_month: Mapping[str, list[Row]] = {
            month: [row for row in rows if row["BillingPeriodStart"].startswith(month)] for month in MONTHS
        }
        expected |= {month: (len(part), total(part)) for month, part in by_month.items() if part}
    for order in itertools.permutations(range(len(deliveries))):
        with TemporaryDirectory() as folder:
            ledger = Ledger(f"{folder}/ledger")
            for number in order:
                ledger.ingest("focus", str(export(Path(folder, str(number)), deliveries[number], number)))
            assert state(ledger) == expected


def export(folder: Path, rows: Sequence[Row], number: int) -> Path:
    """Lay out an AWS Data Export whose execution folder tells its moment."""
    execution = f"2026-11-0{number + 1}T03:00:00.000Z-0000"
    data = write(folder / "data" / execution / "costs-00001.csv", rows)
    manifest = {"executionId": execution, "dataFiles": [f"s3://bucket/costs/data/{execution}/{data.name}"]}
    path = folder / "metadata" / execution / "costs-Manifest.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(manifest), "utf-8")
    return folder
