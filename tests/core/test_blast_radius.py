"""Losses that can be checked by hand, draws against known distributions, calendars, and the arithmetic as text."""

import math
import statistics
from datetime import date

import numpy as np
import pytest

from gpuledger.core import draws
from gpuledger.core.blast_lines import lines, money, price
from gpuledger.core.blast_radius import Guardrail, Pool, Quantiles, assess, quantiles
from gpuledger.core.calendar import WorkingHours, holidays, time_zone, unattended
from gpuledger.core.draws import Dist, Unit, fixed, parse
from gpuledger.errors import UsageError

USD = 1_000_000
HOUR = 3600


def pool(
    name: str = "weekend", *, per_unit: int = 1, idle: int = 0, lease: int | None = None, **inputs: str
) -> Pool:
    units: dict[str, Unit] = {
        "price": "usd", "storage_usd": "usd", "egress_usd": "usd", "storage_usd_per_hour": "usd", "egress_usd_per_hour": "usd", "max_hours": "hours", "detect": "duration",
        "respond": "duration", "look": "duration",
    }  # fmt: skip
    read = {key: parse(text, units.get(key, "count"), key) for key, text in inputs.items()}
    return Pool(name, read, "gpu", per_unit, idle, lease)


def same(value: int) -> Quantiles:
    return Quantiles(value, value, value)


STORY = pool(per_unit=8, gpus="1600", price="32.4", max_hours="11", detect="24h", respond="0")


def test_the_weekend_of_the_story() -> None:
    found = assess([STORY])
    assert (found.same, found.independent, found.worst) == (
        same(71_280 * USD),
        same(71_280 * USD),
        71_280 * USD,
    )
    assert (found.pools[0].gpus, found.pools[0].seconds, found.pools[0].usd_per_hour) == (
        1600,
        11 * HOUR,
        6480 * USD,
    )


@pytest.mark.parametrize(
    ("minutes", "loss"), [(12, 1296), (25, 2700), (60, 6480), (11 * 60, 71_280), (24 * 60, 71_280)]
)
def test_the_loss_by_how_soon_it_is_stopped(minutes: int, loss: int) -> None:
    """At 6,480 dollars an hour, 108 a minute, and a job limit of 11 hours."""
    stopped = pool(per_unit=8, gpus="1600", price="32.4", max_hours="11", detect=f"{minutes}m")
    assert assess([stopped]).same == same(loss * USD)


@pytest.mark.parametrize(
    ("given", "loss"),
    [
        (pool(gpus="100", quota="40", autoscaler_max="30", obtainable="20", lease_cap="10", price="2", look="1h"), 20 * USD),
        (pool(gpus="100", quota="0", price="2", look="1h"), 0),
        (pool(gpus="100", idle=30, price="2", look="1h"), 140 * USD),
        (pool(gpus="100", idle=300, price="2", look="1h"), 0),
        (pool(gpus="31", per_unit=8, price="10", look="1h"), 30 * USD),  # three whole instances
        (pool(gpus="32", per_unit=8, idle=15, price="10", look="1h"), 30 * USD),  # one whole instance is paid for
        (pool(gpus="10", price="2", max_hours="5", detect="1h", respond="30m", look="3h"), 30 * USD),
        (pool(gpus="10", price="2", max_hours="5", lease=7 * USD, storage_usd="1.5", egress_usd="0.25"), 8_750_000),
        (pool(gpus="1", price="0.000001", max_hours="90m"), 2),  # 1.5 millionths, rounded half up
        # The lease ends the GPUs at 7; storage 0.5 and egress 0.25 an hour for 5 h, and 1 once: 7 + 2.50 + 1.25 + 1.
        (pool(gpus="10", price="2", max_hours="5", lease=7 * USD, storage_usd_per_hour="0.5", egress_usd_per_hour="0.25", egress_usd="1"), 11_750_000),
        (pool(gpus="1", price="1", max_hours="90m", storage_usd_per_hour="0.000001"), 1_500_002),  # each rounded by itself
    ],
)  # fmt: skip
def test_each_limit_limits(given: Pool, loss: int) -> None:
    assert assess([given]).same == same(loss)


def test_guardrails_are_ranked_by_what_they_take_off_and_do_not_add_up() -> None:
    rails = [
        Guardrail("alert", detect=900), Guardrail("quota", quota_percent=50), Guardrail("hours", max_hours=4 * HOUR),
        Guardrail("lease", lease_usd=5000 * USD), Guardrail("cap", lease_cap=64), Guardrail("none", look=99 * HOUR),
    ]  # fmt: skip
    found = assess([STORY], rails)
    assert [(one.guardrail.name, one.removes_p99) for one in found.guardrails] == [
        ("alert", 69_660 * USD), ("cap", 68_428_800_000), ("lease", 66_280 * USD), ("hours", 45_360 * USD),
        ("quota", 35_640 * USD), ("none", 0),
    ]  # fmt: skip
    assert found.together is not None
    assert found.together.left == same(64_800_000)  # 8 instances for 15 minutes


def test_a_typed_quota_beyond_reach_is_not_worth_halving() -> None:
    given = pool(gpus="1600", quota="4000", price="4.05", max_hours="11")
    assert assess([given], [Guardrail("quota", quota_percent=50)]).guardrails[0].removes_p99 == 0


def test_one_mistake_in_two_pools_has_one_luck_and_two_mistakes_have_two() -> None:
    twins = [pool(name, gpus="10", price="1", detect="1h..9h") for name in "ab"]
    found = assess(twins)
    assert found.same.p99 == 2 * found.pools[0].loss.p99
    assert found.pools[0].loss == found.pools[1].loss
    assert found.independent.p99 < found.same.p99


@pytest.mark.parametrize(
    ("pools", "message"),
    [
        ([], "no pool given"),
        ([pool(gpus="1", price="1")], "nothing ends"),
        ([STORY, STORY], "two pools of this name"),
        ([pool(gpus="1000000", price="99999", max_hours="8784")], "5 billion"),
        (
            [pool(gpus="1000000", price="99999", max_hours="1s")],
            "what an hour of it costs, is above 5 billion",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(pools: list[Pool], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        assess(pools)


def test_the_arithmetic_is_told_line_by_line() -> None:
    given = pool(
        per_unit=8, gpus="1600", quota="4000", idle=20, price="32.4", max_hours="11", detect="24h", respond="90s",
        storage_usd="10",
    )  # fmt: skip
    assert lines(assess([given])) == [
        "P50, P99, worst case:",
        "  weekend: GPUs = min(asked for 1,600; quota 4,000) = 1,600",
        "  weekend: instances = 1,600 GPUs ÷ 8 = 200, rounded down",
        "  weekend: 200 instances − 2 that are paid for anyway = 198, not below 0",
        "  weekend: time = min(job limit 11 h; detect 24 h + respond 1 min 30 s = 24 h 1 min 30 s) = 11 h",
        "  weekend: loss = 198 instances × $32.40 an hour × 11 h = $70,567.20",
        "  weekend: loss = $70,567.20 + storage $10.00 = $70,577.20",
    ]


def test_what_costs_by_the_hour_is_told_line_by_line() -> None:
    given = pool(
        gpus="2",
        price="3",
        max_hours="90m",
        storage_usd_per_hour="0.5",
        storage_usd="10",
        egress_usd_per_hour="4",
        egress_usd="0",
    )
    assert lines(assess([given]))[2:] == [
        "  weekend: time: job limit 1 h 30 min",
        "  weekend: loss = 2 GPUs × $3.00 an hour × 1 h 30 min = $9.00",
        "  weekend: storage = $0.50 an hour × 1 h 30 min = $0.75",
        "  weekend: egress = $4.00 an hour × 1 h 30 min = $6.00",
        "  weekend: loss = $9.00 + storage $0.75 + storage once $10.00 + egress $6.00 = $25.75",
    ]  # fmt: skip


def test_money_is_rounded_to_the_cent_and_prices_are_not() -> None:
    assert (money(1_234_567_895_000), money(4_999), money(5_000)) == ("$1,234,567.90", "$0.00", "$0.01")
    assert (price(21_957_642), price(4_000_000), price(4_050_000)) == ("$21.957642", "$4.00", "$4.05")


def test_a_quantile_is_the_draw_of_that_rank() -> None:
    assert quantiles(np.arange(1, 101)) == Quantiles(50, 90, 99)
    assert quantiles(np.array([7])) == same(7)


def test_logarithm_exponential_and_normal_quantile() -> None:
    normal = statistics.NormalDist()
    for x in (1e-10, 0.1, 0.75, 1.0, 1.5, 3.0, 1e9):
        assert math.isclose(draws.ln(x), math.log(x), abs_tol=1e-14, rel_tol=1e-14)
    for x in (-20.0, -1.0, 0.0, 0.3, 30.0):
        assert math.isclose(draws.exp(x), math.exp(x), rel_tol=1e-14)
    for share in (1e-9, 0.02, 0.03, 0.5, 0.9, 0.999):
        assert math.isclose(draws.normal_quantile(np.array([share]))[0], normal.inv_cdf(share), abs_tol=1e-8)


def test_draws_have_the_distribution_that_was_asked_for() -> None:
    count = 40_000
    uniform = sorted(draws.draws(Dist("uniform", (0, 1_000_000)), "u", count))
    assert all(abs(uniform[count * part // 10] - part * 100_000) < 8_000 for part in range(1, 10))
    triangular = draws.draws(Dist("triangular", (0, 300_000, 1_000_000)), "t", count).tolist()
    assert statistics.mean(triangular) == pytest.approx(433_333, rel=0.01)
    assert statistics.pstdev(triangular) == pytest.approx(209_500, rel=0.02)
    lognormal = sorted(draws.draws(parse("lognormal(20m,3h)", "duration", "l"), "l", count))
    assert lognormal[count // 2] == pytest.approx(1200, rel=0.05)
    assert lognormal[count * 9 // 10] == pytest.approx(10_800, rel=0.05)
    assert lognormal[-1] <= parse("lognormal(20m,3h)", "duration", "l").highest


def test_streams_are_told_apart_by_name() -> None:
    one, other = (draws.shares(name, 20_000).tolist() for name in ("1/detect", "2/detect"))
    assert abs(statistics.correlation(one, other)) < 0.03
    assert abs(statistics.correlation(one[:-1], one[1:])) < 0.03


@pytest.mark.parametrize(
    ("text", "unit", "dist"),
    [
        ("1h30m", "duration", fixed(5400)),
        ("0", "duration", fixed(0)),
        ("11", "hours", fixed(39_600)),
        ("1.5", "hours", fixed(5400)),
        ("90m", "hours", fixed(5400)),
        ("4.05", "usd", fixed(4_050_000)),
        ("5m..1h", "duration", Dist("uniform", (300, 3600))),
        ("5m..15m..1h", "duration", Dist("triangular", (300, 900, 3600))),
        ("Triangular( 5m, 15m, 1h )", "duration", Dist("triangular", (300, 900, 3600))),
        ("lognormal(p50=20m,p90=3h)", "duration", Dist("lognormal", (1200, 10_800))),
        ("fixed(3)", "count", fixed(3)),
    ],
)
def test_distributions_are_read_and_written(text: str, unit: Unit, dist: Dist) -> None:
    assert parse(text, unit, "x") == dist
    assert parse(draws.write(dist, unit), unit, "x") == dist


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("nan", "count"), ("inf", "usd"), ("-1", "count"), ("1.5", "count"), ("1e3", "count"), ("", "count"), ("٣", "count"),
        ("24", "duration"), ("5x", "duration"), ("1.2.3h", "duration"), ("400d", "duration"), ("1.0000001", "usd"),
        ("3..1", "count"), ("1..2..3..4", "count"), ("triangular(1,2)", "count"), ("normal(1,2)", "count"),
        ("lognormal(0,3)", "count"), ("lognormal(1,1000000)", "count"), ("1000001", "count"), ("9000", "hours"),
        ("1.5", "tokens"), ("1000000000001", "tokens"), ("-3", "tokens"),
    ],
)  # fmt: skip
def test_what_is_no_distribution_is_refused_with_a_hint(text: str, unit: Unit) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, unit, "pool w, gpus")
    assert caught.value.where == "pool w, gpus"
    assert caught.value.hint


OFF = WorkingHours(holidays=holidays(["2026-12-25,2027-01-01"]))


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("weekend", 60), ("night", 12),
        ("2026-10-10T02:00", 54),  # Saturday 02:00 to Monday 08:00
        ("2026-10-12T09:30", 0),  # a Monday, at work
        ("2026-10-12T20:00", 12),
        ("2026-11-26", 36),  # one Thursday off
        ("2026-12-24..2027-01-01", 276),  # Wednesday 20:00 to the Monday after New Year
        ("2026-12-24", 108),  # Christmas Day and the weekend adjoin
    ],
)  # fmt: skip
def test_how_long_nobody_looks(text: str, hours: int) -> None:
    assert unattended(text, OFF).seconds == hours * HOUR


@pytest.mark.parametrize(
    ("text", "zone", "hours"),
    [
        ("2026-10-24..2026-10-25", "Europe/Berlin", 61),  # the clock goes back on Sunday
        ("2026-03-28..2026-03-29", "Europe/Berlin", 59),  # and forth
        ("2026-10-24..2026-10-25", "America/New_York", 60),  # a week later there
        ("2026-11-01T00:00", "America/New_York", 33),  # Sunday 00:00 to Monday 08:00, one hour twice
        ("2026-10-10T00:00+00:00", "Europe/Berlin", 54),  # Saturday 02:00 there
    ],
)
def test_a_change_of_the_clock_makes_a_weekend_longer_or_shorter(text: str, zone: str, hours: int) -> None:
    assert unattended(text, WorkingHours(zone=time_zone(zone))).seconds == hours * HOUR


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../etc/passwd", "Europe"])
def test_what_is_no_time_zone_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="no time zone"):
        time_zone(name)


@pytest.mark.parametrize(
    "text", ["", "someday", "2026-13-01", "2026-10-12..2026-10-10", "2026-01-01..2029-01-01"]
)
def test_what_is_no_calendar_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        unattended(text, OFF)


def test_holidays_are_days() -> None:
    assert OFF.holidays == {date(2026, 12, 25), date(2027, 1, 1)}
    with pytest.raises(UsageError, match="holidays"):
        holidays(["christmas"])
