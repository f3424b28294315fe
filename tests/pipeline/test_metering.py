"""Metering a ledger: estimates from telemetry until the bill comes, and how good they were."""

import csv
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gpuledger.config import Config
from gpuledger.core.usage import NodeInterval
from gpuledger.errors import UsageError
from gpuledger.pipeline.compare import compare
from gpuledger.pipeline.costs import Question
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.metering import Meter
from gpuledger.pipeline.telemetry import store_records

DAY = datetime(2026, 11, 20, tzinfo=UTC)
TODAY = DAY.date()
NOW = DAY + timedelta(hours=12)
LATER = DAY + timedelta(days=10)
P5: Any = {"instance_type": "p5.48xlarge", "region": "us-east-1", "cloud": "aws", "spot": False}
LIST = Decimal("55.04")
FIELDS = (
    "BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "BillingAccountId", "BillingCurrency",
    "BillingPeriodStart", "ChargePeriodStart", "ChargePeriodEnd", "ChargeCategory", "ServiceCategory", "ServiceName",
    "ServiceProviderName", "PricingCategory", "PricingQuantity", "PricingUnit", "ConsumedQuantity", "ConsumedUnit",
    "RegionId", "ResourceId", "SkuPriceDetails", "Tags",
)  # fmt: skip


def at(hour: float) -> datetime:
    return DAY + timedelta(hours=hour)


def node(name: str, start: float, end: float, **facts: Any) -> NodeInterval:  # noqa: ANN401
    return NodeInterval("c", name, at(start), at(end), **{"provider_id": f"i-{name}", **P5, **facts})


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "ledger"))


def configured(ledger: Ledger, **prices: object) -> Ledger:
    return Ledger(ledger.location, Config.model_validate({"prices": prices}))


def tell(ledger: Ledger, nodes: Iterable[NodeInterval], day: date = TODAY, delivery: str = "1") -> None:
    order = ledger.store.order("node_interval", "k8s", day.isoformat()) or 0
    store_records(ledger.store, "k8s", day, nodes, delivery_id=delivery, order=order + 1)


def charge(name: str, start: float, cost: str, **others: object) -> dict[str, object]:
    """An hour of a p5.48xlarge as a FOCUS bill has it."""
    return {
        **dict.fromkeys(("BilledCost", "EffectiveCost", "ContractedCost"), cost), "ListCost": LIST,
        "BillingAccountId": "42", "BillingCurrency": "USD", "BillingPeriodStart": DAY.replace(day=1).isoformat(),
        "ChargePeriodStart": at(start).isoformat(), "ChargePeriodEnd": at(start + 1).isoformat(),
        "ChargeCategory": "Usage", "ServiceCategory": "Compute", "ServiceName": "Amazon Elastic Compute Cloud",
        "ServiceProviderName": "AWS", "PricingCategory": "Standard", "PricingQuantity": 1, "PricingUnit": "Hours",
        "ConsumedQuantity": 1, "ConsumedUnit": "Hours", "RegionId": "us-east-1", "ResourceId": f"i-{name}",
        "SkuPriceDetails": json.dumps({"InstanceType": "p5.48xlarge"}), "Tags": '{"team": "vision"}',
    } | others  # fmt: skip


def ingest(ledger: Ledger, tmp_path: Path, rows: Sequence[dict[str, object]]) -> None:
    path = tmp_path / "bill.csv"
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, FIELDS)
        writer.writeheader()
        writer.writerows(rows)
    report = ledger.ingest("focus", str(path), source="aws")
    assert [row.action for row in report.rows] in (["loaded"], ["replaced"]), report.diagnostics


def spent(ledger: Ledger, status: str) -> Decimal | None:
    return ledger.costs(where=[f"x_CostStatus={status}"]).total


def test_what_runs_is_priced_and_told(ledger: Ledger) -> None:
    tell(ledger, [node("a", 0, 12, labels={"team": "vision"}), node("b", 10.5, 12), node("c", 1, 2)])
    report = Meter(ledger).run(NOW)
    assert report.diagnostics == []
    (day,) = report.days
    assert (day.rows, day.machines, day.unpriced, day.cost) == (15, 3, 0, {"USD": LIST * Decimal("14.5")})
    tick = report.tick
    assert tick is not None
    assert (tick.as_of, tick.nodes, tick.unpriced_nodes, tick.currency) == (NOW, 2, 0, "USD")
    assert (tick.usd_per_hour, tick.spent_today) == (2 * LIST, LIST * Decimal("14.5"))
    answer = ledger.costs(["x_Team", "x_CostStatus"])
    assert {(row["x_Team"], row["x_CostStatus"]): row["cost"] for row in answer.rows} == {
        ("vision", "Estimated"): 12 * LIST,
        (None, "Estimated"): LIST * Decimal("2.5"),
    }


def test_the_first_priced_row_of_a_machine_says_how_late_it_was_seen(ledger: Ledger) -> None:
    start = datetime.now(UTC) - timedelta(seconds=40)
    day = start.date()
    if day != datetime.now(UTC).date():
        pytest.skip("at midnight")
    old = NodeInterval("c", "old", start - timedelta(seconds=1), start, provider_id="i-old", **P5)
    new = NodeInterval("c", "new", start, start + timedelta(seconds=30), provider_id="i-new", **P5)
    meter = Meter(ledger)
    tell(ledger, [old], day)
    first = meter.run().tick
    tell(ledger, [old, new], day, "2")
    second, third, other = meter.run().tick, meter.run().tick, Meter(ledger).run().tick
    assert first
    assert second
    assert third
    assert other
    assert (first.new_nodes, second.new_nodes, third.new_nodes, other.new_nodes) == (1, 1, 0, 0)
    assert second.visibility_lag_seconds is not None
    assert 40 <= second.visibility_lag_seconds < 60
    assert third.visibility_lag_seconds is None


def test_a_machine_without_a_price_stays_and_is_counted(ledger: Ledger) -> None:
    tell(
        ledger,
        [node("a", 0, 12), node("b", 6, 12, instance_type="p9.huge"), node("d", 0, 12, provider_id=None)],
    )
    report = Meter(ledger).run(NOW)
    assert [(one.code, one.severity) for one in report.diagnostics] == [
        ("node-unpriced", "warning"),
        ("node-without-resource-id", "info"),
    ]
    assert "p9.huge" in report.diagnostics[0].message
    assert "6 hours" in report.diagnostics[0].message
    assert report.tick is not None
    assert (report.tick.nodes, report.tick.unpriced_nodes) == (3, 1)
    assert report.tick.spent_today == 24 * LIST
    count = (
        ledger.connect().execute("SELECT count(*) FROM cost_and_usage WHERE EffectiveCost IS NULL").fetchone()
    )
    assert count == (6,)


def test_a_custom_price_comes_out_as_entered(ledger: Ledger) -> None:
    tell(ledger, [node("a", 0, 1, instance_type="onprem.8x")])
    ours = configured(
        ledger, custom=[{"instance_type": "onprem.8x", "usd_per_hour": "12.345678901234567891"}]
    )
    Meter(ours).run(NOW)
    assert spent(ours, "Estimated") == Decimal("12.345678901234567891")


def test_metering_again_writes_only_what_changed(ledger: Ledger) -> None:
    tell(ledger, [node("a", 0, 12)])
    Meter(ledger).run(NOW)
    again = Meter(ledger).run(NOW + timedelta(minutes=1))
    assert [day.written for day in again.days] == [False]
    assert Meter(ledger).run(LATER).days == []
    tell(ledger, [node("a", 0, 13)], delivery="2")
    assert [day.written for day in Meter(ledger).run(LATER).days] == [True]
    assert spent(ledger, "Estimated") == 13 * LIST
    assert len(ledger.store.units("estimated_cost")) == 1


def test_a_day_whose_telemetry_went_away_is_emptied(ledger: Ledger) -> None:
    tell(ledger, [node("a", 0, 12)])
    Meter(ledger).run(NOW)
    job = NodeInterval("c", "later", at(20), at(21), **P5)
    tell(ledger, [job], delivery="2")
    report = Meter(ledger).run(at(15))
    assert [(day.rows, day.written) for day in report.days] == [(0, True)]
    assert spent(ledger, "Estimated") is None


def test_the_future_is_not_metered(ledger: Ledger) -> None:
    tell(ledger, [node("a", 11, 20)])
    Meter(ledger).run(NOW)
    assert spent(ledger, "Estimated") == LIST
    tell(ledger, [], TODAY + timedelta(days=1), "2")
    assert [day.day for day in Meter(ledger).run(NOW).days] == [TODAY]


def test_rates_learnt_from_the_bill_price_open_days_and_leave_past_ones(
    ledger: Ledger, tmp_path: Path
) -> None:
    yesterday = TODAY - timedelta(days=3)
    tell(ledger, [node("a", -72, -71)], yesterday)
    tell(ledger, [node("a", 0, 2)])
    Meter(ledger).run(NOW)
    assert spent(ledger, "Estimated") == 3 * LIST
    ingest(ledger, tmp_path, [charge("z", -48, "30", PricingCategory="Committed"), charge("z", -47, "50")])
    report = Meter(ledger).run(NOW)
    assert [day.day for day in report.days] == [TODAY]
    assert spent(ledger, "Estimated") == LIST + 2 * 40
    con = ledger.connect()
    query = "SELECT DISTINCT SkuPriceDetails ->> '$.x_PriceSource' FROM cost_and_usage WHERE ChargePeriodStart >= ? AND x_CostStatus = 'Estimated'"
    assert con.execute(query, [DAY]).fetchall() == [("effective",)]
    # With the day over, its own bill doesn't change what was estimated.
    ingest(ledger, tmp_path, [charge("z", -48, "30"), charge("y", 0, "1"), charge("y", 1, "1")])
    assert Meter(ledger).run(LATER).days == []


def test_the_configuration_may_come_before_the_bill(ledger: Ledger, tmp_path: Path) -> None:
    tell(ledger, [node("a", 0, 1)])
    ingest(ledger, tmp_path, [charge("z", -48, "30")])
    custom = [{"instance_type": "p5.48xlarge", "usd_per_hour": "11"}]
    for section, cost in (
        ({"custom": custom}, 30),
        ({"custom": custom, "prefer_custom": True}, 11),
        ({"learn_days": 0}, LIST),
    ):
        ours = configured(ledger, **section)
        Meter(ours).run(NOW)
        assert spent(ours, "Estimated") == cost


def test_the_bill_replaces_what_it_reaches(ledger: Ledger, tmp_path: Path) -> None:
    tell(ledger, [node("a", 0, 12)])
    Meter(ledger).run(NOW)
    ingest(ledger, tmp_path, [charge("a", hour, "40") for hour in range(6)])
    assert [spent(ledger, "Final"), spent(ledger, "Estimated")] == [Decimal(240), 6 * LIST]


def test_estimate_beside_the_bill(ledger: Ledger, tmp_path: Path) -> None:
    tell(ledger, [node("a", 0, 12), node("b", 0, 12), node("e", 0, 3), node("late", 11, 12)])
    tell(ledger, [node("a", 24, 48)], TODAY + timedelta(days=1))
    Meter(ledger).run(LATER)
    ingest(
        ledger,
        tmp_path,
        [
            *(charge("a", hour, "40", PricingCategory="Committed") for hour in range(12)),
            *(charge("b", hour, "60", ListCost=60) for hour in range(12)),
            *(charge("a", hour, str(LIST)) for hour in range(24, 42)),
            charge("f", 0, "9"),
        ],
    )
    found = compare(ledger, Question())
    rows = {row["ResourceId"]: row for row in found.rows}
    assert {name: row["classification"] for name, row in rows.items()} == {
        "i-a": "late_row", "i-b": "price_error", "i-e": "over_metered", "i-late": "over_metered", "i-f": "unmetered",
    }  # fmt: skip
    assert (rows["i-a"]["discount"], rows["i-a"]["late_row"]) == (12 * (40 - LIST), -6 * LIST)
    assert (rows["i-b"]["estimated_hours"], rows["i-b"]["final_hours"], rows["i-b"]["price_error"]) == (
        12,
        12,
        12 * (60 - LIST),
    )
    assert rows["i-f"]["estimated"] is None
    assert rows["i-e"]["final"] is None
    assert found.totals["difference"] == found.totals["final"] - found.totals["estimated"]
    # Settled: the bill reaches 42:00, less a day: the first 12 hours of a and b, and what it passed over.
    settled = 12 * LIST + 12 * LIST + 3 * LIST + LIST
    assert found.error == round(abs(settled - 1200) / 1200, 6)


def test_compare_by_other_columns_in_a_window(ledger: Ledger, tmp_path: Path) -> None:
    tell(ledger, [node("a", 0, 2, labels={"team": "other"}), node("b", 0, 2)])
    Meter(ledger).run(NOW)
    ingest(ledger, tmp_path, [charge("a", 0, "40"), charge("a", 1, "40"), charge("b", 0, "50")])
    by_team = compare(ledger, Question(["team"]))
    assert [(row["team"], row["final"], row["estimated"]) for row in by_team.rows] == [
        (None, None, LIST),
        ("vision", 130, 3 * LIST),
    ]
    one = compare(ledger, Question(["day"], where=["ResourceId=i-b"]))
    assert [(row["day"], row["difference"]) for row in one.rows] == [("2026-11-20", 50 - 2 * LIST)]
    assert compare(ledger, Question(limit=1)).rows[0]["ResourceId"] == "i-b"


def test_compare_never_adds_currencies_up(ledger: Ledger, tmp_path: Path) -> None:
    tell(ledger, [node("a", 0, 1)])
    Meter(ledger).run(NOW)
    ingest(ledger, tmp_path, [charge("a", 0, "40", BillingCurrency="EUR")])
    with pytest.raises(UsageError, match="several currencies"):
        compare(ledger, Question())
    apart = compare(ledger, Question(["BillingCurrency"]))
    assert {row["BillingCurrency"]: row["difference"] for row in apart.rows} == {"EUR": 40, "USD": -LIST}
    assert apart.totals == {}


def test_without_telemetry_there_is_nothing_to_meter(ledger: Ledger) -> None:
    report = Meter(ledger).run(NOW)
    assert (report.days, report.diagnostics) == ([], [])
    assert report.tick is not None
    assert (report.tick.nodes, report.tick.usd_per_hour, report.tick.as_of) == (0, None, None)


def test_old_telemetry_is_told(ledger: Ledger) -> None:
    tell(ledger, [node("a", 0, 1)])
    assert [one.code for one in Meter(ledger).run(NOW).diagnostics] == ["telemetry-stale"]


def test_machines_in_several_currencies_have_no_sum(ledger: Ledger, tmp_path: Path) -> None:
    ingest(ledger, tmp_path, [charge("z", -48, "30", BillingCurrency="EUR")])
    custom = [{"instance_type": "x", "usd_per_hour": 1}]
    tell(ledger, [node("a", 0, 12), node("b", 0, 12, instance_type="x")])
    report = Meter(configured(ledger, custom=custom)).run(NOW)
    assert [one.code for one in report.diagnostics] == ["several-currencies"]
    assert report.tick is not None
    assert (report.tick.spent_today, report.tick.usd_per_hour, report.tick.currency) == (None, None, None)
    assert report.days[0].cost == {"EUR": 360, "USD": 12}
