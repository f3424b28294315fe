"""Golden cases of allocation, each beside what must come out; then sharing of cards, and requests of pods."""

import json
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from tests.core.allocation_cases import (
    AN_HOUR,
    BUSY,
    CLAIM,
    CLUSTERS,
    CROWDED,
    DATED,
    HAMI,
    HOUR,
    INIT,
    JOBSET,
    LAST_DIGIT,
    LATER,
    MIG_MIXED,
    MIG_SINGLE,
    MONTH,
    PARTLY_SEEN,
    PARTS,
    PRICED,
    RAY,
    RESTART,
    SECOND_UNKNOWN,
    SHORT_LIFE,
    SPOT,
    T0,
    TIES,
    TIME_SLICED,
    UNKNOWN_SLICE,
    WAITING,
    WHOLE,
    card,
    charge,
    costs,
    node,
    pod,
)  # fmt: skip

from gpuledger.core.allocation import UnitPrice, allocate, apportion, efficiency, share_out
from gpuledger.core.sharing import (
    CARD_UNITS,
    card_units,
    claim_share,
    effective_request,
    hami_share,
    held_units,
    mig_share,
    mig_slices,
    replica_share,
)  # fmt: skip
from gpuledger.core.usage import UsageInterval


def test_a_whole_machine_costs_its_holder_everything() -> None:
    rows = WHOLE.rows()
    assert costs(rows) == {"train": Decimal("98.32")}
    assert rows[0].amounts["x_GpuHours"] == 8
    assert rows[0].details == '{"Elements":[{"AllocatedRatio":1,"UsageUnit":"GPU-Hours","UsageQuantity":8}]}'


def test_seven_slices_of_a_card_cost_one_card() -> None:
    rows = MIG_SINGLE.rows()
    assert costs(rows) == {f"t{i}": Decimal("0.30") for i in range(7)}
    hours = [row.amounts["x_GpuHours"] for row in rows]
    assert sum(hour for hour in hours if hour is not None) == 1
    # 1/7 has no end: the remainder goes to the first, and all ratios sum to 1 as written.
    ratios = [json.loads(row.details, parse_float=Decimal)["Elements"][0]["AllocatedRatio"] for row in rows]
    assert sum(ratios) == 1
    assert sorted(set(ratios)) == [Decimal("0.142857142857142857"), Decimal("0.142857142857142858")]


def test_mixed_slices_of_a_card_cost_one_card() -> None:
    assert costs(MIG_MIXED.rows()) == {
        "a": Decimal("0.90"),
        "b": Decimal("0.60"),
        "c": Decimal("0.30"),
        "d": Decimal("0.30"),
    }


def test_four_quarters_of_a_card_are_one_gpu_hour() -> None:
    rows = HAMI.rows()
    assert costs(rows) == {f"p{i}": Decimal("0.75") for i in range(4)}
    assert [row.amounts["x_GpuHours"] for row in rows] == [Decimal("0.25")] * 4
    assert [row.held for row in rows] == [250_000_000] * 4


def test_replicas_of_a_time_sliced_card_share_it_whoever_holds_which() -> None:
    assert costs(TIME_SLICED.rows()) == {f"r{i}": Decimal("0.25") for i in range(4)}
    three = replace(TIME_SLICED, usage=TIME_SLICED.usage[:3])
    assert costs(three.rows())["idle"] == Decimal("0.25")


def test_two_pods_share_one_claim() -> None:
    assert costs(CLAIM.rows()) == {"a": Decimal("0.50"), "b": Decimal("0.50")}


def test_a_gang_on_two_machines_is_one_job_with_a_row_per_pod() -> None:
    rows = JOBSET.rows()
    assert {row.holder.job_id for row in rows if row.holder} == {"east/jobset"}
    assert costs(rows) == {"worker-0": Decimal(80), "worker-1": Decimal(80)}
    hours = [row.amounts["x_GpuHours"] for row in rows]
    assert sum(hour for hour in hours if hour is not None) == 16


def test_a_ray_job_has_the_pods_of_its_cluster() -> None:
    rows = RAY.rows()
    assert {row.holder.job_id for row in rows if row.holder} == {"east/RayJob/tune"}
    shape = 2 * Decimal("0.03") + 4 * Decimal("0.004")
    assert costs(rows) == {
        "tune-x-head": shape,
        "tune-x-worker-a": 4 * Decimal("2.50") + shape,
        "tune-x-worker-b": (2 * Decimal("2.50") + shape) / 2,
        "idle": AN_HOUR - Decimal("12.5") - shape * 5 / 2,
    }


def test_a_month_long_charge_goes_to_who_held_the_machine_in_the_month() -> None:
    rows = MONTH.rows()
    assert costs(rows) == {
        "long": Decimal(240 * 8),
        "short": Decimal(120 * 2),
        "idle": Decimal(744 * 8 - 240 * 8 - 120 * 2),
    }
    # As the same month in 744 charges of an hour.
    hours = tuple(charge("8", f"h{hour}", hour) for hour in range(744))
    assert costs(replace(MONTH, charges=hours).rows()) == costs(rows)


def test_attempts_are_told_apart_and_the_gap_between_them_is_idle() -> None:
    rows = RESTART.rows()
    assert [(row.holder and row.holder.attempt, row.amounts["BilledCost"]) for row in rows] == [
        (2, Decimal(40)), (1, Decimal(20)), (None, Decimal(20)),
    ]  # fmt: skip
    assert rows[-1].state == "idle"


def test_a_custom_price_comes_out_as_entered() -> None:
    found = costs(PRICED.rows())
    held = 2 * Decimal("2.50") + 24 * Decimal("0.03") + 256 * Decimal("0.004")
    assert found == {"train": held, "idle": AN_HOUR - held}
    # Whatever the machine cost, the ratios of the prices stay.
    twice = replace(PRICED, charges=(charge(2 * AN_HOUR),))
    assert costs(twice.rows()) == {"train": 2 * held, "idle": 2 * (AN_HOUR - held)}


def test_an_hour_has_the_price_of_that_hour() -> None:
    assert costs(SPOT.rows()) == {"train": Decimal(5 + 16 + 2), "idle": Decimal(5 + 0 + 2)}


def test_one_namespace_in_two_clusters_is_two() -> None:
    rows = CLUSTERS.rows()
    assert {row.holder.resource_id("east" if row.charge_id == "c" else "west") for row in rows if row.holder} == {
        "east/default/api", "west/default/api",
    }  # fmt: skip
    paid = [(row.charge_id, row.amounts["BilledCost"]) for row in rows]
    assert paid == [("c", Decimal(10)), ("w", Decimal(15)), ("w", Decimal(15))]


def test_cpu_and_memory_go_by_the_larger_of_request_and_usage() -> None:
    prices = (UnitPrice(gpu=Decimal(0), cpu=Decimal(1), memory=Decimal(1)),)
    asked = pod("a", resource="cpu", requested=Decimal(24), used=Decimal(12))
    used = pod("b", resource="cpu", requested=Decimal(1), used=Decimal(48))
    memory = pod("a", resource="memory", requested=None, used=Decimal(512))
    rows = allocate([charge("1120")], [node()], [asked, used, memory], prices)
    assert costs(rows) == {"a": Decimal(24 + 512), "b": Decimal(48), "idle": Decimal(24 + 512)}


def test_request_and_usage_are_compared_over_the_period_not_moment_by_moment() -> None:
    prices = (UnitPrice(gpu=Decimal(0), cpu=Decimal(1), memory=Decimal(0)),)
    halves = [
        pod("a", (0, 0.5), resource="cpu", requested=Decimal(4), used=Decimal(8)),
        pod("a", (0.5, 1), resource="cpu", requested=Decimal(4), used=Decimal(0)),
    ]
    assert costs(allocate([charge("96")], [node()], halves, prices))["a"] == 4


def test_an_init_container_reserves_for_the_whole_pod() -> None:
    sidecar = (Decimal("0.5"), True)
    assert effective_request([Decimal(2), Decimal(1)], [(Decimal(8), False)]) == 8
    assert effective_request([Decimal(2), Decimal(1)], [sidecar, (Decimal(8), False)]) == Decimal("8.5")
    assert effective_request([Decimal(2), Decimal(1)], [(Decimal(3), False), sidecar]) == Decimal("3.5")
    assert effective_request([Decimal(1)], [sidecar, sidecar], overhead=Decimal("0.25")) == Decimal("2.25")
    assert effective_request([]) == 0
    assert costs(INIT.rows()) == {"a": Decimal("8.5"), "idle": Decimal("87.5")}


def test_eight_busy_cards_are_fully_used() -> None:
    row = BUSY.rows()[0]
    assert row.used is not None
    assert row.measured is not None
    assert (row.held, row.measured, row.used) == (8 * 10**9,) * 3
    assert efficiency(row.used, row.measured) == 1
    # Four cards, two of them half busy: a quarter, not 1/16.
    halves = tuple(card("train", device, used=Decimal("0.5") * (device < 2)) for device in range(4))
    row = replace(WHOLE, usage=halves).rows()[0]
    assert efficiency(row.used or 0, row.measured or 0) == Fraction(1, 4)


def test_efficiency_counts_only_time_with_a_measurement() -> None:
    measured, silent = card("train", used=Decimal("0.5"), hours=(0, 0.5)), card("train", hours=(0.5, 1))
    row = replace(WHOLE, usage=(measured, silent)).rows()[0]
    assert (row.held, row.measured, row.used) == (10**9, 5 * 10**8, 25 * 10**7)
    unmeasured = replace(WHOLE, usage=(silent,)).rows()[0]
    assert (unmeasured.measured, unmeasured.used) == (None, None)
    assert efficiency(0, 0) is None


def test_claims_beyond_a_card_are_scaled_down_and_said() -> None:
    rows = CROWDED.rows()
    assert costs(rows) == {"a": Decimal("0.50"), "b": Decimal("0.50")}
    assert all(row.over_capacity for row in rows)
    asked = tuple(pod(name, requested=Decimal(cards), pod_uid=name) for name, cards in (("a", 12), ("b", 4)))
    rows = replace(WHOLE, charges=(charge("80"),), usage=asked).rows()
    assert costs(rows) == {"a": Decimal(60), "b": Decimal(20)}
    assert all(row.over_capacity for row in rows)
    assert not any(row.over_capacity for row in WHOLE.rows())


def test_two_sources_of_one_pod_are_not_added() -> None:
    named = tuple(card("train", device) for device in range(8))
    asked = pod("train", requested=Decimal(8))
    rows = replace(WHOLE, usage=(*named, asked)).rows()
    assert costs(rows) == {"train": Decimal("98.32")}
    assert not rows[0].over_capacity


def test_two_sources_of_one_machine_complete_each_other() -> None:
    cards = node(cpu_cores=None, memory_gib=None)
    shape = node(None, start=T0 - HOUR)
    assert replace(PRICED, nodes=(cards, shape)).rows() == PRICED.rows()


def test_what_nobody_can_tell_is_unknown_not_idle() -> None:
    assert costs(UNKNOWN_SLICE.rows()) == {"a": Decimal("0.525"), "unknown": Decimal("1.575")}


def test_a_machine_that_telemetry_did_not_see_is_unknown_not_idle() -> None:
    assert costs(replace(WHOLE, nodes=()).rows()) == {"unknown": Decimal("98.32")}
    assert costs(replace(WHOLE, usage=()).rows()) == {"idle": Decimal("98.32")}


def test_paid_time_without_telemetry_is_unknown() -> None:
    assert costs(PARTLY_SEEN.rows()) == {"a": Decimal(5), "unknown": Decimal(5)}


def test_a_machine_that_lived_half_an_hour_costs_that_half_hours_holders() -> None:
    assert costs(SHORT_LIFE.rows()) == {"a": Decimal(5), "idle": Decimal(5)}


def test_a_waiting_gang_costs_and_is_told_apart() -> None:
    rows = WAITING.rows()
    assert [(row.state, row.amounts["BilledCost"]) for row in rows] == [("held", Decimal(80))]


def test_a_charge_for_one_resource_goes_to_its_holders() -> None:
    paid = {(row.charge_id, row.state): row.amounts["BilledCost"] for row in PARTS.rows()}
    assert paid == {
        ("c", "running"): Decimal(2), ("c", "idle"): Decimal(6),
        ("cpu", "running"): Decimal("2.4"), ("cpu", "idle"): Decimal("7.2"),
        ("memory", "running"): Decimal("1.024"), ("memory", "idle"): Decimal("3.072"),
    }  # fmt: skip


def test_dated_prices_hold_from_their_day() -> None:
    paid = [
        (row.charge_id, row.holder and row.holder.pod) for row in DATED.rows() if row.amounts["BilledCost"]
    ]
    assert paid == [("h0", "b"), ("h1", "a")]
    early = replace(DATED, prices=(LATER,))
    assert costs(early.rows()) == {"unknown": Decimal(10), "a": Decimal(10)}


def test_equal_remainders_go_to_cards_first_and_to_the_first_holder() -> None:
    paid = {
        (row.charge_id, row.holder.pod if row.holder else row.state): row.amounts["BilledCost"]
        for row in TIES.rows()
        if row.amounts["BilledCost"]
    }
    assert paid == {
        ("1-3600", "a"): LAST_DIGIT,
        ("1-7200", "a"): LAST_DIGIT,
        ("2-3600", "a"): LAST_DIGIT,
        ("2-3600", "idle"): LAST_DIGIT,
        ("2-7200", "a"): LAST_DIGIT,
        ("2-7200", "unknown"): LAST_DIGIT,
        ("3-3600", "a"): LAST_DIGIT,
        ("3-3600", "idle"): 2 * LAST_DIGIT,
        ("3-7200", "a"): LAST_DIGIT,
        ("3-7200", "idle"): LAST_DIGIT,
        ("3-7200", "unknown"): LAST_DIGIT,
    }


def test_a_slice_of_unknown_size_concerns_its_own_hour() -> None:
    paid = [(row.charge_id, row.state, row.amounts["BilledCost"]) for row in SECOND_UNKNOWN.rows()]
    assert paid == [
        ("h0", "running", Decimal(1)),
        ("h0", "idle", Decimal(7)),
        ("h1", "running", Decimal(1)),
        ("h1", "unknown", Decimal(7)),
    ]


def test_the_best_matching_price_counts_before_the_newest() -> None:
    general = UnitPrice(gpu=Decimal(1), cpu=Decimal(0), memory=Decimal(0), valid_from=T0)
    own = UnitPrice(gpu=Decimal(0), cpu=Decimal(1), memory=Decimal(0), instance_type="P5.48xlarge")
    case = replace(WHOLE, nodes=(node(instance_type="p5.48xlarge"),), prices=(general, own))
    assert costs(case.rows()) == {"train": Decimal(0), "idle": Decimal("98.32")}


def test_a_credit_is_split_like_the_charge() -> None:
    credit = charge("-10.00", "credit")
    rows = replace(RESTART, charges=(*RESTART.charges, credit)).rows()
    assert [row.amounts["BilledCost"] for row in rows if row.charge_id == "credit"] == [
        -5,
        Decimal("-2.5"),
        Decimal("-2.5"),
    ]


def test_an_unknown_cost_stays_unknown_and_a_zero_stays_zero() -> None:
    made = charge("10")
    rows = replace(
        RESTART,
        charges=(replace(made, amounts={**made.amounts, "ListCost": None, "BilledCost": Decimal(0)}),),
    ).rows()
    assert {row.amounts["ListCost"] for row in rows} == {None}
    assert {row.amounts["BilledCost"] for row in rows} == {Decimal(0)}
    assert {row.amounts["PricingQuantity"] for row in rows} == {None}


def test_apportion_gives_leftovers_to_the_largest_remainders_then_to_the_first() -> None:
    assert apportion(10, [1, 1, 1]) == [4, 3, 3]
    assert apportion(100, [1, 2, 3]) == [17, 33, 50]
    assert apportion(7, [0, 5]) == [0, 7]
    assert apportion(0, [0, 0]) == [0, 0]
    with pytest.raises(ValueError, match="nothing to apportion by"):
        apportion(1, [0])


def test_overhead_is_shared_exactly_and_stays_where_nobody_takes_it() -> None:
    amounts = {
        "BilledCost": Decimal("1.00"),
        "EffectiveCost": Decimal("-0.000000000000000001"),
        "ListCost": None,
    }
    shared = share_out(amounts, {"b": 1, "a": 1, "c": 1, "none": 0})
    assert shared == {
        "a": {
            "BilledCost": Decimal("0.333333333333333334"),
            "EffectiveCost": Decimal("-1E-18"),
            "ListCost": None,
        },
        "b": {"BilledCost": Decimal("0.333333333333333333"), "EffectiveCost": Decimal(0), "ListCost": None},
        "c": {"BilledCost": Decimal("0.333333333333333333"), "EffectiveCost": Decimal(0), "ListCost": None},
    }
    assert share_out(amounts, {"a": 0}) == {}


@pytest.mark.parametrize(
    ("profile", "model", "memory", "policy", "share"),
    [
        ("1g.10gb", "H100", None, "compute", Fraction(1, 7)),
        ("mig-3g.40gb", "H100", None, "compute", Fraction(3, 7)),
        ("nvidia.com/mig-1g.10gb.me", "H100", None, "compute", Fraction(1, 7)),
        ("1g.10gb+me", "H100", None, "compute", Fraction(1, 7)),
        ("7g.80gb", "A100", Decimal(80), "max", Fraction(1)),
        ("1g.20gb", "H100", Decimal(80), "memory", Fraction(1, 4)),
        ("1g.20gb", "H100", Decimal(80), "max", Fraction(1, 4)),
        ("3g.71gb", "H200", Decimal(141), "memory", Fraction(1, 2)),
        ("1g.23gb", "B200", Decimal(180), "memory", Fraction(1, 8)),
        ("1g.6gb", "A30", None, "compute", Fraction(1, 4)),
        ("2g.48gb", "RTX PRO 6000", Decimal(96), "memory", Fraction(1, 2)),
        ("1c.3g.40gb", "H100", None, "compute", Fraction(1, 7)),
        ("1c.3g.40gb", "H100", Decimal(80), "memory", Fraction(1, 6)),
        ("1g.20gb", "H100", None, "memory", None),
        ("9g.10gb", "H100", None, "compute", None),
        ("1g.10gb", "T4", None, "compute", None),
        ("gpu", "H100", None, "compute", None),
    ],
)
def test_mig_shares(
    profile: str, model: str, memory: Decimal | None, policy: str, share: Fraction | None
) -> None:
    assert mig_share(profile, model, memory, policy) == share  # type: ignore[arg-type]


def test_shares_of_other_kinds() -> None:
    assert mig_slices(None) is None
    assert replica_share(4) == Fraction(1, 4)
    assert replica_share(4, requested=2) == Fraction(1, 2)
    assert replica_share(None) is replica_share(0) is None
    assert hami_share(
        cores_percent=Decimal(30), memory_mib=Decimal(40960), card_memory_mib=Decimal(81920)
    ) == Fraction(1, 2)
    assert hami_share(cores_percent=Decimal(30), memory_percent=Decimal(10)) == Fraction(3, 10)
    assert hami_share(cores_percent=Decimal(30), memory_percent=Decimal(10), policy="memory") == Fraction(
        1, 10
    )
    assert hami_share(cores_percent=Decimal(30), memory_percent=Decimal(90), policy="cores") == Fraction(
        3, 10
    )
    assert hami_share() == 1
    assert hami_share(cores_percent=Decimal(150)) == 1
    assert hami_share(memory_mib=Decimal(1024)) is None
    assert claim_share(2, Fraction(3, 7)) == Fraction(3, 14)
    assert claim_share(0) is None


@pytest.mark.parametrize(
    ("row", "held"),
    [
        (card("a"), Fraction(1)),
        (pod("a", device="GPU-0"), Fraction(1)),
        (pod("a", device="GPU-0", sharing="mig"), None),
        (pod("a", device="GPU-0", sharing="mig", share=Fraction(2, 7), requested=Decimal(1)), Fraction(2, 7)),
        (pod("a", requested=Decimal(8)), Fraction(8)),
        (pod("a", requested=Decimal(8), share=Fraction(1), sharing="whole"), Fraction(8)),
        (pod("a", requested=Decimal(2), share=Fraction(1, 7), sharing="mig"), Fraction(2, 7)),
        (pod("a", requested=Decimal("0.25"), share=Fraction(1, 4), sharing="hami"), Fraction(1, 4)),
        (
            pod("a", requested=Decimal("0.28571428571429"), share=Fraction(2, 7), sharing="mig"),
            Fraction(2, 7),
        ),
        (pod("a", requested=Decimal("0.5"), sharing="hami"), Fraction(1, 2)),
        (pod("a", share=Fraction(1, 4), sharing="hami"), Fraction(1, 4)),
        (pod("a", requested=Decimal(1), sharing="mig"), None),
        (pod("a", requested=Decimal(-1)), None),
        (pod("a"), None),
    ],
)
def test_what_a_row_holds_of_cards(row: UsageInterval, held: Fraction | None) -> None:
    assert held_units(row) == (None if held is None else held * CARD_UNITS)


def test_units_are_exact_for_the_shares_that_cards_are_cut_into() -> None:
    for parts in (
        2,
        3,
        4,
        5,
        6,
        7,
        8,
        9,
        10,
        12,
        14,
        16,
        24,
        32,
        48,
        63,
        64,
        100,
        128,
        256,
        512,
        1000,
        10**9,
    ):
        assert card_units(Fraction(1, parts)) * parts == CARD_UNITS
