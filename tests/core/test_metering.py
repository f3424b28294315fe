"""Prices of what runs: whose word counts, what is never guessed, and hours cut exactly."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from gpuledger.core.metering import (
    Account,
    BilledDay,
    CustomPrice,
    PriceBook,
    Shape,
    UnitPrice,
    clock_hours,
    cost,
    learn,
    quantity,
)

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DAY = NOON.date()
P5 = Shape("p5.48xlarge", "H100", Decimal(8), "us-east-1", spot=False, cloud="aws")
H100 = CustomPrice(Decimal("2.123456789012345678"), gpu_model="H100")
BIN = CustomPrice(Decimal("2.49"), instance_type="P5.48xlarge")


def minutes(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


def billed(
    cost_sum: str, ran: str, day: date = date(2026, 11, 19), *, gpus: int = 8, **others: object
) -> BilledDay:
    """A day of p5.48xlarge on a bill."""
    amount = Decimal(cost_sum)
    told: dict[str, object] = {
        "instance_type": "p5.48xlarge", "region": "us-east-1", "spot": False, "counted": True, "day": day,
        "currency": "USD", "effective": amount, "billed": amount, "contracted": amount, "listed": amount,
        "gpu_hours": Decimal(ran) * gpus, "gpu_count": Decimal(gpus),
    }  # fmt: skip
    return BilledDay(**told | others)  # type: ignore[arg-type]


def effective(book: PriceBook, shape: Shape, moment: datetime = NOON) -> Decimal | None:
    price = book.at(shape, moment)
    return None if price is None else price.effective


def test_a_full_hour_costs_its_price() -> None:
    assert quantity(NOON, minutes(60)) == 1
    assert cost(Decimal("98.319999999999999999"), NOON, minutes(60)) == Decimal("98.319999999999999999")


def test_a_third_of_an_hour_is_rounded_once_and_the_rest_gets_what_is_left() -> None:
    parts = [(NOON, minutes(20)), (minutes(20), minutes(40)), (minutes(40), minutes(60))]
    assert [quantity(*part) for part in parts] == [
        Decimal("0.33333333333333"), Decimal("0.33333333333334"), Decimal("0.33333333333333"),
    ]  # fmt: skip
    price = Decimal("10.000000000000000001")
    assert sum(cost(price, *part) for part in parts) == price


def test_hours_are_cut_at_the_clock() -> None:
    assert list(clock_hours(minutes(-30), minutes(70))) == [
        (minutes(-30), NOON),
        (NOON, minutes(60)),
        (minutes(60), minutes(70)),
    ]
    assert list(clock_hours(NOON, NOON)) == []


def test_a_custom_price_comes_out_as_entered() -> None:
    price = PriceBook([BIN]).at(P5, NOON)
    assert price is not None
    assert (price.source, price.effective, price.billed, price.contracted) == (
        "custom",
        *[Decimal("2.49")] * 3,
    )
    assert price.listed == Decimal("55.04")  # what anyone would pay: ListCost isn't ours to enter


def test_a_price_per_card_is_multiplied_by_the_cards() -> None:
    assert effective(PriceBook([H100]), P5) == Decimal("16.987654312098765424")
    bare = Shape(gpu_model="NVIDIA H100 80GB HBM3", gpu_count=Decimal(2))
    assert effective(PriceBook([H100]), bare) == Decimal("4.246913578024691356")


def test_a_card_price_needs_the_number_of_cards() -> None:
    assert effective(PriceBook([H100]), Shape(gpu_model="H100")) is None
    assert effective(PriceBook([H100]), Shape(gpu_model="A100", gpu_count=Decimal(8))) is None


def test_the_more_specific_custom_price_wins_whatever_the_order() -> None:
    there = CustomPrice(Decimal(3), instance_type="p5.48xlarge", region="us-east-1")
    elsewhere = CustomPrice(Decimal(4), instance_type="p5.48xlarge", region="eu-west-1")
    spot = CustomPrice(Decimal(1), instance_type="p5.48xlarge", region="us-east-1", spot=True)
    for entered in ([H100, BIN, there, elsewhere, spot], [spot, elsewhere, there, BIN, H100]):
        assert effective(PriceBook(entered), P5) == 3
        assert effective(PriceBook(entered), Shape("p5.48xlarge", region="us-east-1", spot=True)) == 1
        assert effective(PriceBook(entered), Shape("p5.48xlarge", region="eu-west-1")) == 4
        assert effective(PriceBook(entered), Shape("p5.48xlarge")) == Decimal("2.49")


def test_a_price_holds_from_its_moment_on() -> None:
    dated = [
        CustomPrice(Decimal(1), instance_type="x"),
        CustomPrice(Decimal(2), instance_type="x", valid_from=NOON),
        CustomPrice(Decimal(3), instance_type="x", valid_from=minutes(20)),
    ]
    pieces = PriceBook(dated).over(Shape("x"), minutes(-60), minutes(60))
    assert [(p.start, p.end, p.price and str(p.price.effective)) for p in pieces] == [
        (minutes(-60), NOON, "1"),
        (NOON, minutes(20), "2"),
        (minutes(20), minutes(60), "3"),
    ]


def test_before_the_first_dated_price_none_is_known() -> None:
    late = CustomPrice(Decimal(2), instance_type="x", valid_from=NOON)
    pieces = PriceBook([late]).over(Shape("x"), minutes(-60), minutes(60))
    assert [(p.end, p.price is None) for p in pieces] == [(NOON, True), (minutes(60), False)]


def test_list_prices_are_dated_and_of_their_region() -> None:
    price = PriceBook().at(P5, NOON)
    assert price is not None
    assert (price.source, price.effective, price.listed) == ("list", Decimal("55.04"), Decimal("55.04"))
    assert PriceBook().at(P5, datetime(2020, 1, 1, tzinfo=UTC)) is None
    assert PriceBook().at(Shape("p5.48xlarge", region="eu-west-1"), NOON) is None


def test_on_demand_prices_say_nothing_of_spot() -> None:
    assert PriceBook().at(Shape("p5.48xlarge", region="us-east-1", spot=True), NOON) is None


def test_a_list_price_for_spot_is_known_where_the_cloud_has_one() -> None:
    tpu = Shape("tpu-v6e-8", region="us-east1", spot=True, cloud="gcp")
    price = PriceBook().at(tpu, datetime(2026, 11, 25, tzinfo=UTC))
    assert price is not None
    assert (price.effective, price.listed) == (Decimal("4.35368"), Decimal("21.6"))


def test_rates_are_sums_over_sums() -> None:
    rates = learn([billed("10", "1"), billed("90", "3"), billed("0", "6")], DAY, 30)
    price = rates["p5.48xlarge", "us-east-1", False]
    assert price.source == "effective"
    assert price.effective == 10
    assert price.basis == "bills of 2026-10-21 to 2026-11-19"


def test_usage_under_commitments_and_without_is_blended_into_one_rate() -> None:
    covered = billed("30", "1", billed=Decimal(0), listed=Decimal(98))
    price = learn([covered, billed("98", "1")], DAY, 30)["p5.48xlarge", "us-east-1", False]
    assert [price.effective, price.billed, price.listed] == [Decimal(64), Decimal(49), Decimal(98)]


def test_spot_has_a_rate_of_its_own() -> None:
    rates = learn([billed("98", "1"), billed("20", "1", spot=True)], DAY, 30)
    assert effective(PriceBook(learnt=rates), P5) == 98
    assert effective(PriceBook(learnt=rates), Shape("p5.48xlarge", region="us-east-1", spot=True)) == 20


def test_a_day_learns_only_from_days_before_it_and_not_from_long_ago() -> None:
    days = [
        billed("1", "1", DAY),
        billed("2", "1", DAY - timedelta(days=31)),
        billed("3", "1", DAY - timedelta(days=30)),
    ]
    assert learn(days, DAY, 30)["p5.48xlarge", "us-east-1", False].effective == 3
    assert learn(days[:2], DAY, 30) == {}


def test_the_customer_s_own_rate_comes_first_unless_the_configuration_says_otherwise() -> None:
    rates = learn([billed("40", "1")], DAY, 30)
    assert effective(PriceBook([BIN], rates), P5) == 40
    assert effective(PriceBook([BIN], rates, prefer_custom=True), P5) == Decimal("2.49")
    assert effective(PriceBook([BIN], rates), Shape("p5.48xlarge", region="eu-west-1")) == Decimal("2.49")


def test_another_region_s_rate_is_never_borrowed() -> None:
    rates = learn([billed("40", "1", region="eu-west-1")], DAY, 30)
    assert effective(PriceBook(learnt=rates), P5) == Decimal("55.04")  # the list price
    nowhere = learn([billed("40", "1", region=None)], DAY, 30)
    assert effective(PriceBook(learnt=nowhere), P5) == 40  # a bill that has no regions


def test_where_cards_are_billed_apart_the_whole_machine_s_cost_counts() -> None:
    kind = "a3-highgpu-8g"
    cards = billed("80", "1", instance_type=kind)
    memory = billed("8", "0", instance_type=kind, counted=False, gpu_hours=None)
    rates = learn([cards, memory], DAY, 30)
    assert rates[kind, "us-east-1", False].effective == 88
    # On AWS a row that only names the type is something else.
    assert (
        learn([billed("80", "1"), billed("8", "0", counted=False)], DAY, 30)[
            "p5.48xlarge", "us-east-1", False
        ].effective
        == 80
    )


def test_machines_without_cards_are_counted_by_their_hours() -> None:
    told = billed("1.92", "0", instance_type="m7i.8xlarge", gpu_hours=None, gpu_count=None, hours=Decimal(2))
    assert learn([told], DAY, 30)["m7i.8xlarge", "us-east-1", False].effective == Decimal("0.96")


def test_unknown_costs_make_no_rate() -> None:
    assert learn([billed("10", "1"), billed("0", "1", effective=None)], DAY, 30) == {}
    assert learn([billed("10", "0")], DAY, 30) == {}
    assert learn([billed("-10", "1")], DAY, 30) == {}
    partly = learn([billed("10", "1", listed=None)], DAY, 30)
    assert partly["p5.48xlarge", "us-east-1", False].listed is None


def test_a_rate_has_the_currency_of_most_hours() -> None:
    rates = learn([billed("10", "1"), billed("9", "2", currency="EUR")], DAY, 30)
    price = rates["p5.48xlarge", "us-east-1", False]
    assert (price.currency, price.effective) == ("EUR", Decimal("4.5"))
    filled = PriceBook(
        learnt={
            ("p5.48xlarge", "us-east-1", False): UnitPrice(
                "effective", "", Decimal(1), Decimal(1), Decimal(1), None, "EUR"
            )
        }
    )
    price_now = filled.at(P5, NOON)
    assert price_now is not None
    assert price_now.listed is None  # a list price in USD is none in EUR


@pytest.mark.parametrize(("names", "expected"), [(("a", "a"), "a"), (("a", "b"), None)])
def test_the_account_is_told_where_it_is_one(names: tuple[str, str], expected: str | None) -> None:
    rates = learn([billed("10", "1", account=Account(name)) for name in names], DAY, 30)
    assert rates["p5.48xlarge", "us-east-1", False].account.id == expected
