"""Estimates give way to the bill: per machine and charge period, whatever the bill's granularity and its way to write ids."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import duckdb
import pytest

from gpuledger.focus.schema import LEDGER_COST_AND_USAGE, create_columns
from gpuledger.models.metering import current, unreplaced

DAY = datetime(2026, 11, 20, tzinfo=UTC)
NODE = "i-0abc"
Row = dict[str, object]


def connect(final: Iterable[Row], estimated: Iterable[Row]) -> duckdb.DuckDBPyConnection:
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    for table, rows in (("final", final), ("estimated", estimated)):
        con.execute(f"CREATE TABLE {table} ({create_columns(LEDGER_COST_AND_USAGE)})")
        for row in rows:
            marks = ", ".join("?" * len(row))
            con.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({marks})", list(row.values()))
    return con


def row(start: float, end: float, cost: str = "1", resource: str | None = NODE, **others: object) -> Row:
    """A charge from and to hours of the day."""
    return {
        "ResourceId": resource,
        "ChargePeriodStart": DAY + timedelta(hours=start),
        "ChargePeriodEnd": DAY + timedelta(hours=end),
        "EffectiveCost": Decimal(cost),
        "ChargeCategory": "Usage",
        "ServiceCategory": "Compute",
        "x_CostStatus": "Final",
        **others,
    }


def hours(first: int, last: int, resource: str | None = NODE) -> list[Row]:
    """Estimates of the hours [first, last)."""
    return [row(hour, hour + 1, resource=resource, x_CostStatus="Estimated") for hour in range(first, last)]


def left(final: Sequence[Row], estimated: Sequence[Row]) -> list[int]:
    """The hours of the day whose estimates stand."""
    query = unreplaced("final", "estimated")
    starts = connect(final, estimated).execute(f"SELECT ChargePeriodStart FROM ({query}) ORDER BY 1")
    return [int((start - DAY) / timedelta(hours=1)) for (start,) in starts.fetchall()]


def test_without_a_bill_all_estimates_stand() -> None:
    assert left([], hours(0, 24)) == list(range(24))


def test_an_hourly_bill_of_half_the_day_leaves_the_other_half() -> None:
    assert left([row(hour, hour + 1) for hour in range(12)], hours(0, 24)) == list(range(12, 24))


def test_a_gap_in_an_hourly_bill_keeps_its_estimates() -> None:
    assert left([row(0, 1), row(3, 4)], hours(0, 4)) == [1, 2]


def test_a_daily_bill_replaces_its_day_and_no_other() -> None:
    assert left([row(0, 24)], hours(-2, 26)) == [-2, -1, 24, 25]


def test_a_monthly_bill_replaces_its_month() -> None:
    assert left([row(-19 * 24, 11 * 24)], hours(-2, 26)) == []


def test_a_long_charge_that_began_before_short_ones_still_counts() -> None:
    assert left([row(0, 24), row(1, 2), row(2, 3)], hours(5, 6)) == []


def test_periods_that_only_touch_do_not_overlap() -> None:
    assert left([row(0, 1), row(2, 3)], hours(1, 2)) == [1]


def test_any_overlap_replaces_the_whole_row() -> None:
    assert left([row(0.5, 0.75)], hours(0, 2)) == [1]


def test_a_charge_without_a_period_of_its_own_covers_its_billing_period() -> None:
    bill = row(0, 1) | {
        "ChargePeriodStart": None,
        "ChargePeriodEnd": None,
        "BillingPeriodStart": DAY.replace(day=1),
        "BillingPeriodEnd": DAY.replace(month=12, day=1),
    }
    assert left([bill], hours(0, 2)) == []


@pytest.mark.parametrize(
    ("metered", "billed"),
    [
        (NODE, "arn:aws:ec2:us-east-1:123456789012:instance/i-0abc"),
        ("gce://shop/us-central1-a/gpu-7", "projects/shop/zones/us-central1-a/instances/gpu-7"),
        ("/subscriptions/S/resourceGroups/r/providers/Microsoft.Compute/virtualMachines/VM1",
         "/subscriptions/s/resourcegroups/R/providers/microsoft.compute/virtualmachines/vm1"),
        ("/subscriptions/s/resourceGroups/r/providers/Microsoft.Compute/virtualMachineScaleSets/pool/virtualMachines/3",
         "/subscriptions/s/resourcegroups/r/providers/microsoft.compute/virtualmachinescalesets/pool"),
        ("ocid1.instance.oc1.iad.aaa", "ocid1.instance.oc1.iad.aaa"),
        ("slurm/gpu1", "gpu1"),
    ],
)  # fmt: skip
def test_one_machine_has_many_spellings(metered: str, billed: str) -> None:
    assert left([row(0, 1, resource=billed)], hours(0, 2, metered)) == [1]


@pytest.mark.parametrize(
    ("metered", "billed"),
    [
        (NODE, "i-0abcd"),
        ("/subscriptions/s/providers/Microsoft.Compute/virtualMachineScaleSets/a/virtualMachines/0",
         "/subscriptions/s/providers/Microsoft.Compute/virtualMachineScaleSets/b/virtualMachines/0"),
        (NODE, None),
        (None, NODE),
    ],
)  # fmt: skip
def test_other_machines_stay(metered: str | None, billed: str | None) -> None:
    assert left([row(0, 1, resource=billed)], hours(0, 1, metered)) == [0]


@pytest.mark.parametrize(
    "other",
    [
        {"ChargeCategory": "Credit"},
        {"ChargeCategory": "Purchase"},
        {"ServiceCategory": "Networking"},
        {"ServiceCategory": "Storage"},
        {"x_CostStatus": "Estimated"},
    ],
)
def test_only_the_machine_s_own_bill_counts(other: Row) -> None:
    assert left([row(0, 1) | other], hours(0, 1)) == [0]


def test_google_bills_numbers_where_nodes_have_names() -> None:
    number = "//compute.googleapis.com/projects/1/zones/us-central1-a/instances/6587"
    bill = row(0, 1, resource=number, ResourceName="projects/1/instances/gpu-7")
    assert left([bill], hours(0, 2, "gce://shop/us-central1-a/gpu-7")) == [1]


def test_an_unknown_service_category_counts() -> None:
    assert left([row(0, 1, ServiceCategory=None)], hours(0, 1)) == []


def test_current_is_the_bill_and_what_it_has_not_reached() -> None:
    bill = [
        row(0, 1, "3.000000000000000001"),
        row(0, 1, "-1", ChargeCategory="Credit"),
        row(5, 6, "9", "vol-1"),
    ]
    con = connect(bill, [*hours(0, 2), *hours(0, 1, "i-0other")])
    found = con.execute(
        f"""SELECT x_CostStatus, count(*), sum(EffectiveCost) FROM ({current("final", "estimated")})
            GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    assert found == [
        ("Estimated", 2, Decimal(2)),
        ("Final", 3, Decimal("11.000000000000000001")),
    ]


def test_the_columns_are_the_ledger_s() -> None:
    con = connect([], [])
    names = [told[0] for told in con.execute(f"SELECT * FROM ({current('final', 'estimated')})").description]
    assert names == [column.name for column in LEDGER_COST_AND_USAGE]
