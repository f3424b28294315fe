"""The SQL engine: the golden cases to the last digit, what its rows look like, and what it says about its input."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from tests.core.allocation_cases import (
    CLUSTERS,
    CROWDED,
    GOLDEN,
    HOUR,
    PARTLY_SEEN,
    PRICED,
    RESTART,
    T0,
    UNKNOWN_SLICE,
    WHOLE,
    Case,
    card,
    charge,
    node,
    pod,
)
from tests.models.allocation_rows import by_reference, by_sql, connect, load

from gpuledger.core.allocation import COSTS, UnitPrice, allocate, share_out
from gpuledger.core.usage import NodeInterval
from gpuledger.errors import LedgerError, UsageError
from gpuledger.focus.schema import LEDGER_COST_AND_USAGE, select_list
from gpuledger.models.allocation import (
    DEFAULT,
    Allocation,
    Inputs,
    allocate_overhead,
    engine,
    focus_rows,
    list_price_ratios,
    share_idle,
    write_prices,
)
from gpuledger.models.allocation.overhead import Method


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect() as made:
        yield made


def inputs(con: duckdb.DuckDBPyConnection, case: Case) -> Inputs:
    return load(con, case.charges, case.nodes, case.usage, case.prices)


def run(con: duckdb.DuckDBPyConnection, case: Case) -> Allocation:
    """Allocate a case of one batch into `allocated`."""
    work = Allocation(con, inputs(con, case))
    (batch,) = work.batches()
    work.run(batch)
    return work


def ask(con: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    return con.execute(query).fetchall()


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_cases_equal_the_reference(con: duckdb.DuckDBPyConnection, name: str) -> None:
    case = GOLDEN[name]
    clusters = {one.charge_id: one.cluster for one in case.charges}
    assert by_sql(con, inputs(con, case)) == by_reference(case.rows(), clusters)


def test_a_charge_of_any_period_equals_the_reference(con: duckdb.DuckDBPyConnection) -> None:
    """An hour, a day, a month, an odd minute and an odd microsecond, over one usage that spans days."""
    periods = {
        "hour": (T0 + HOUR, T0 + 2 * HOUR),
        "day": (T0, T0 + 24 * HOUR),
        "month": (T0, T0 + 31 * 24 * HOUR),
        "minutes": (T0 + timedelta(minutes=7), T0 + timedelta(minutes=64)),
        "micro": (T0 + timedelta(microseconds=1), T0 + timedelta(days=2, microseconds=999_999)),
    }
    charges = tuple(
        replace(charge("98.32", name), start=start, end=end) for name, (start, end) in periods.items()
    )
    usage = (
        pod("long", (0.1234, 700), requested=Decimal(3)),
        *(
            pod("short", (hour, hour + 1 / 12), requested=Decimal(1), used=Decimal("0.5"))
            for hour in range(48)
        ),
        pod("cores", (1.5, 90), resource="cpu", requested=Decimal("7.5"), used=Decimal("3.123456789")),
    )
    case = Case(charges, (node(end=T0 + timedelta(days=31)),), usage, (DEFAULT,))
    assert by_sql(con, inputs(con, case)) == by_reference(case.rows(), dict.fromkeys(periods, "east"))


def test_large_weights_take_the_long_way_and_stay_exact(con: duckdb.DuckDBPyConnection) -> None:
    """A month of 72 cards, cut at odd microseconds, with shares that nothing divides: weights beyond 64 bits."""
    odd = timedelta(microseconds=7)
    month = replace(charge("123456789.123456789123456789"), start=T0 + odd, end=T0 + timedelta(days=31) - odd)
    usage = tuple(pod(f"p{i}", (0.1 * i, 700 + 0.001 * i), requested=Decimal(i) / 7) for i in range(1, 30))
    case = Case(
        (month,), (node(72, end=T0 + timedelta(days=31), memory_gib=Decimal("17280.3")),), usage, (DEFAULT,)
    )
    assert by_sql(con, inputs(con, case)) == by_reference(case.rows(), {"c": "east"})


def test_rows_with_one_hash_are_told_apart(
    con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = by_sql(con, inputs(con, RESTART))
    monkeypatch.setattr(engine, "_SAMENESS", ("hash(resource)", engine._SAMENESS[1]))
    assert by_sql(con, inputs(con, RESTART)) == expected
    monkeypatch.setattr(engine, "_SAMENESS", ("hash(resource)",))
    with pytest.raises(LedgerError, match="two different rows have one digest"):
        by_sql(con, inputs(con, RESTART))


def test_batches_have_every_charge_once_and_small_ones_give_the_same(con: duckdb.DuckDBPyConnection) -> None:
    charges = tuple(charge("10", f"h{hour}", hour) for hour in range(24))
    empty = replace(charge("5", "fee"), end=T0)
    case = Case((*charges, empty), (node(),), (pod("a", (0.5, 23.25), requested=Decimal(4)),))
    whole = inputs(con, case)
    work = Allocation(con, whole)
    assert sum(batch.charges for batch in work.batches()) == 25
    assert len(work.batches(limit=1)) == 25
    rows = by_sql(con, whole)
    assert (
        by_sql(con, whole, limit=5)
        == rows
        == by_reference(case.rows(), {c.charge_id: "east" for c in case.charges})
    )
    assert [row[0] for row in rows if row[0][0] == "fee"] == [("fee", "unknown", None)]


def test_a_key_that_is_none_is_refused(con: duckdb.DuckDBPyConnection) -> None:
    twice = replace(WHOLE, charges=(WHOLE.charges[0], WHOLE.charges[0]))
    with pytest.raises(LedgerError, match="two charges have the id c") as raised:
        Allocation(con, inputs(con, twice)).batches()
    assert "charge_id must be a key" in str(raised.value)


def test_a_missing_column_is_named(con: duckdb.DuckDBPyConnection) -> None:
    given = inputs(con, WHOLE)
    con.execute("ALTER TABLE node_interval DROP COLUMN node")
    with pytest.raises(LedgerError, match="node_interval: no column node"):
        Allocation(con, given)


def test_shares_may_be_a_struct_and_unneeded_columns_absent(con: duckdb.DuckDBPyConnection) -> None:
    case = GOLDEN["mig-single"]
    given = inputs(con, case)
    expected = by_sql(con, given)
    con.execute(
        """CREATE TABLE packed AS SELECT cluster, node, job_id, pod, pod_uid, namespace, attempt, state, resource, device,
           sharing, struct_pack(numerator := share_numerator, denominator := share_denominator) AS share, "start", "end"
           FROM usage_interval"""
    )
    assert by_sql(con, replace(given, usage="packed")) == expected


def test_findings_say_what_is_wrong_with_the_input(con: duckdb.DuckDBPyConnection) -> None:
    def codes(case: Case) -> list[str]:
        return [found.code for found in run(con, case).diagnostics()]

    assert codes(WHOLE) == []
    assert codes(CROWDED) == ["allocation.over-capacity"]
    assert codes(UNKNOWN_SLICE) == ["allocation.claim-unknown"]
    assert codes(replace(WHOLE, nodes=())) == ["allocation.not-seen"]
    assert codes(replace(WHOLE, prices=())) == ["allocation.no-ratio"]
    assert codes(replace(WHOLE, nodes=(node(None),))) == ["allocation.shape-unknown"]
    found = run(con, replace(WHOLE, nodes=())).diagnostics()[0]
    assert (found.severity, found.source) == ("warning", "east/n1 at 2026-10-01 00:00:00+00")
    assert found.message.startswith("1 charges: no telemetry of their machine")
    assert found.hint


def test_tags_and_names_of_jobs(con: duckdb.DuckDBPyConnection) -> None:
    given = inputs(con, replace(WHOLE, usage=(pod("train", requested=Decimal(8), pod=None, pod_uid=None),)))
    con.execute("ALTER TABLE charges ADD COLUMN Tags MAP(VARCHAR, VARCHAR)")
    con.execute("UPDATE charges SET Tags = MAP {'team': 'ml', 'env': 'prod'}")
    con.execute(
        "CREATE TABLE job AS SELECT 'east/train' AS job_id, 'nightly' AS name, MAP {'team': 'ml', 'env': 'dev', 'run': '7'} AS tags"
    )
    work = Allocation(con, replace(given, jobs="job"))
    work.run(work.batches()[0])
    # What the resource's tags already say isn't repeated.
    assert ask(con, "SELECT AllocatedResourceId, AllocatedResourceName, AllocatedTags FROM allocated") == [
        ("east/train", "nightly", {"env": "dev", "run": "7"})
    ]


def test_rows_say_what_pays_for_which_resource(con: duckdb.DuckDBPyConnection) -> None:
    """Of EffectiveCost, for one that equals BilledCost and one that doesn't, with the sign of a credit."""
    credit = {"BilledCost": Decimal(0), "EffectiveCost": Decimal("-26.976")}
    charges = (*PRICED.charges, replace(PRICED.charges[0], charge_id="credit", amounts=credit))
    work = Allocation(con, inputs(con, replace(PRICED, charges=charges)), by_resource=True)
    work.run(work.batches()[0])
    train = (Decimal(5), Decimal("0.72"), Decimal("1.024"))
    assert ask(
        con,
        """SELECT x_OriginChargeId, x_AllocationState, x_GpuCost, x_CpuCost, x_MemoryCost,
               EffectiveCost - x_GpuCost - x_CpuCost - x_MemoryCost FROM allocated ORDER BY 1, 2""",
    ) == [
        ("c", "idle", Decimal(15), Decimal("2.16"), Decimal("3.072"), 0),
        ("c", "running", *train, 0),
        ("credit", "idle", Decimal(-15), Decimal("-2.16"), Decimal("-3.072"), 0),
        ("credit", "running", *(-part for part in train), 0),
    ]


def test_focus_rows_keep_all_that_is_the_origins(con: duckdb.DuckDBPyConnection) -> None:
    run(con, RESTART)
    given = {
        "x_OriginChargeId": "'c'", "BilledCost": "80", "EffectiveCost": "80", "ResourceId": "'i-1'", "BillingCurrency": "'USD'",
        "Tags": "MAP {'team': 'ml'}", "ListUnitPrice": "98.32", "ChargePeriodStart": "TIMESTAMPTZ '2026-10-01 00:00:00+00'",
    }  # fmt: skip
    con.execute(f"CREATE TABLE ledger AS SELECT {select_list(LEDGER_COST_AND_USAGE, given)}")
    con.execute(f"CREATE TABLE focus AS {focus_rows(con, 'ledger')}")
    assert ask(con, "SELECT DISTINCT ResourceId, BillingCurrency, Tags, ListUnitPrice FROM focus") == [
        ("i-1", "USD", {"team": "ml"}, Decimal("98.32"))
    ]
    assert ask(
        con,
        "SELECT sum(BilledCost), count(*), count(AllocatedMethodId), count(AllocatedResourceId) FROM focus",
    ) == [(Decimal(80), 3, 3, 2)]
    assert ask(
        con, "SELECT x_JobId, x_AllocationState, BilledCost FROM focus ORDER BY BilledCost DESC, 1 LIMIT 1"
    ) == [("east/train", "running", Decimal(40))]


def test_what_a_provider_split_already_is_summed_back_and_counts_once(con: duckdb.DuckDBPyConnection) -> None:
    """As docs/allocation.md says: shares of one origin become one charge, others stay as they are."""
    parts = (
        charge("60", "pod-a"),
        charge("20", "pod-b"),
        charge("18.32", "unused"),
        charge("98.32", "other", 1),
    )
    given = inputs(con, replace(WHOLE, charges=parts))
    con.execute("ALTER TABLE charges ADD COLUMN origin VARCHAR")
    con.execute("UPDATE charges SET origin = 'host' WHERE charge_id <> 'other'")
    sums = ", ".join(f"sum({name}) AS {name}" for name in COSTS)
    con.execute(
        f"""CREATE VIEW whole AS SELECT coalesce(origin, charge_id) AS charge_id, cluster, node, ChargePeriodStart,
            ChargePeriodEnd, {sums} FROM charges GROUP BY ALL"""
    )
    rows = by_sql(con, replace(given, charges="whole"))
    assert [(row[0], row[1][0]) for row in rows] == [
        (("host", "running", "east/uid-train"), Decimal("98.32")),
        (("other", "idle", None), Decimal("98.32")),
    ]


@pytest.mark.parametrize(
    ("method", "shares"),
    [
        ("even", {"east/a": Decimal(4), "east/b": Decimal(4)}),
        ("proportional", {"east/a": Decimal(6), "east/b": Decimal(2)}),
        ("fixed", {"research": Decimal("5.333333333333333333"), "web": Decimal("2.666666666666666667")}),
    ],
)
def test_idle_is_shared_exactly(
    con: duckdb.DuckDBPyConnection, method: Method, shares: dict[str, Decimal]
) -> None:
    usage = (
        *(pod(f"a-{i}", job_id="east/a", requested=Decimal(1)) for i in range(3)), pod("b", requested=Decimal(1)),
    )  # fmt: skip
    run(con, replace(WHOLE, charges=(charge("16"),), usage=usage))
    held = ask(con, "SELECT sum(BilledCost) FROM allocated WHERE x_AllocationState = 'running'")
    share_idle(con, method, {"research": Decimal(2), "web": Decimal(1)})
    idle = "SELECT AllocatedResourceId, BilledCost FROM allocated WHERE x_AllocationState = 'idle' ORDER BY 1"
    assert dict(ask(con, idle)) == shares
    assert ask(con, "SELECT sum(BilledCost) FROM allocated WHERE x_AllocationState = 'running'") == held
    assert ask(con, "SELECT sum(BilledCost), sum(x_GpuHours) FROM allocated") == [(Decimal(16), Decimal(8))]
    details = [
        json.loads(text, parse_float=Decimal)
        for (text,) in ask(con, "SELECT AllocatedMethodDetails FROM allocated")
    ]
    assert sum(element["AllocatedRatio"] for one in details for element in one["Elements"]) == 1
    expected = share_out({name: Decimal(8) for name in COSTS}, _weights(method))
    assert {target: values["BilledCost"] for target, values in expected.items()} == shares


def _weights(method: str) -> dict[str, int]:
    return {
        "even": {"east/a": 1, "east/b": 1}, "proportional": {"east/a": 3, "east/b": 1}, "fixed": {"research": 2, "web": 1},
    }[method]  # fmt: skip


def test_idle_that_nobody_shares_and_unknown_stay(con: duckdb.DuckDBPyConnection) -> None:
    run(con, replace(WHOLE, usage=()))
    share_idle(con, "proportional")
    assert ask(con, "SELECT AllocatedResourceId, x_AllocationState, BilledCost FROM allocated") == [
        (None, "idle", Decimal("98.32"))
    ]
    run(con, PARTLY_SEEN)
    before = ask(con, "SELECT * FROM allocated ORDER BY ALL")
    share_idle(con, "even")
    assert ask(con, "SELECT * FROM allocated ORDER BY ALL") == before
    run(con, RESTART)
    before = ask(con, "SELECT * FROM allocated ORDER BY ALL")
    share_idle(con, "none")
    assert ask(con, "SELECT * FROM allocated ORDER BY ALL") == before


def test_idle_cards_that_cost_nothing_keep_their_hours(con: duckdb.DuckDBPyConnection) -> None:
    """Where cores alone have a price and are all held, the idle row has accelerator hours and no cost."""
    usage = (pod("a", resource="cpu", requested=Decimal(72)), pod("b", resource="cpu", requested=Decimal(24)))
    prices = (UnitPrice(gpu=Decimal(0), cpu=Decimal(1), memory=Decimal(0)),)
    run(con, replace(WHOLE, usage=usage, prices=prices))
    share_idle(con, "proportional")
    found = "SELECT AllocatedResourceId, x_GpuHours, BilledCost, AllocatedMethodDetails FROM allocated WHERE x_AllocationState = 'idle'"
    nothing = '{"Elements":[{"AllocatedRatio":0}]}'
    assert ask(con, f"{found} ORDER BY 1") == [
        ("east/a", Decimal(6), Decimal(0), nothing), ("east/b", Decimal(2), Decimal(0), nothing),
    ]  # fmt: skip
    assert ask(con, "SELECT sum(BilledCost), sum(x_GpuHours) FROM allocated") == [
        (Decimal("98.32"), Decimal(8))
    ]


def test_charges_of_no_machine_are_shared_by_cluster(con: duckdb.DuckDBPyConnection) -> None:
    plane = replace(charge("0.10", "plane"), node="")
    credit = replace(charge("-0.05", "credit"), node="")
    empty = replace(charge("7", "lonely"), cluster="north")
    load(con, (plane, credit, empty), (), (), ())
    con.execute(
        """CREATE TABLE cost AS SELECT * FROM (VALUES
               ('east', 'east/a', TIMESTAMPTZ '2026-10-01 00:00:00+00', TIMESTAMPTZ '2026-10-01 01:00:00+00', 3.0),
               ('east', 'east/b', TIMESTAMPTZ '2026-10-01 00:00:00+00', TIMESTAMPTZ '2026-10-01 02:00:00+00', 12.0),
               ('east', 'east/late', TIMESTAMPTZ '2026-10-01 01:00:00+00', TIMESTAMPTZ '2026-10-01 02:00:00+00', 99.0),
               ('east', 'east/credited', TIMESTAMPTZ '2026-10-01 00:00:00+00', TIMESTAMPTZ '2026-10-01 02:00:00+00', -5.0),
               ('west', 'west/c', TIMESTAMPTZ '2026-10-01 00:00:00+00', TIMESTAMPTZ '2026-10-01 01:00:00+00', 50.0)
           ) AS rows(cluster, job_id, "start", "end", weight)"""
    )
    found = "SELECT x_OriginChargeId, AllocatedResourceId, x_AllocationState, BilledCost FROM allocated ORDER BY 1, 2"
    allocate_overhead(con, "charges", "cost", "proportional")
    third = Decimal("0.033333333333333333")
    assert ask(con, found) == [
        ("credit", "east/a", "overhead", Decimal("-0.016666666666666667")),
        ("credit", "east/b", "overhead", -third),
        ("lonely", None, "overhead", Decimal(7)),
        ("plane", "east/a", "overhead", third),
        ("plane", "east/b", "overhead", Decimal("0.066666666666666667")),
    ]
    allocate_overhead(con, "charges", "cost", "even")
    assert ask(con, f"SELECT * FROM ({found}) WHERE x_OriginChargeId = 'plane'") == [
        ("plane", "east/a", "overhead", Decimal("0.05")),
        ("plane", "east/b", "overhead", Decimal("0.05")),
    ]
    allocate_overhead(con, "charges", "cost", "none")
    assert {row[1] for row in ask(con, found)} == {None}
    allocate_overhead(con, "charges", "cost", "fixed", {"it's": Decimal("0.5"), "other": Decimal("0.5")})
    assert {row[1] for row in ask(con, found)} == {"it's", "other"}
    assert ask(con, "SELECT sum(BilledCost) FROM allocated") == [(Decimal("7.05"),)]


@pytest.mark.parametrize("fixed", [None, {}, {"a": Decimal(0)}, {"a": Decimal(-1), "b": Decimal(2)}])
def test_fixed_shares_without_weights_are_refused(
    con: duckdb.DuckDBPyConnection, fixed: dict[str, Decimal] | None
) -> None:
    load(con, (charge("1"),), (), (), ())
    con.execute(
        'CREATE TABLE cost AS SELECT NULL AS cluster, NULL AS job_id, NULL AS "start", NULL AS "end", 0 AS weight LIMIT 0'
    )
    with pytest.raises(UsageError, match="fixed shares need weights"):
        allocate_overhead(con, "charges", "cost", "fixed", fixed)


def test_list_prices_give_gpus_what_cores_and_memory_leave(con: duckdb.DuckDBPyConnection) -> None:
    shape = NodeInterval(
        "east", "n1", T0, T0 + HOUR, instance_type="g4dn.xlarge", region="us-east-1",
        cpu_cores=Decimal(4), memory_gib=Decimal(16), gpu_count=Decimal(1),
    )  # fmt: skip
    load(con, (), (shape, replace(shape, instance_type="no-such.type")), (), ())
    prices = list_price_ratios(con, "node_interval")
    assert {price.instance_type for price in prices} == {"g4dn.xlarge"}
    here = next(price for price in prices if price.region == "us-east-1")
    rest = 4 * Decimal("0.031611") + 16 * Decimal("0.004237")
    assert here.gpu == Decimal("0.526") - rest
    assert here.valid_from is None
    assert write_prices(con, [*prices, DEFAULT]) == "unit_price"
    assert ask(con, "SELECT count(*) FROM unit_price") == [(len(prices) + 1,)]
    rows = allocate([charge("0.526")], [shape], [card("a")], [*prices, DEFAULT])
    assert {row.state: row.amounts["BilledCost"] for row in rows} == {"running": here.gpu, "idle": rest}


def test_a_namespace_in_two_clusters_keeps_its_ids_apart(con: duckdb.DuckDBPyConnection) -> None:
    run(con, CLUSTERS)
    assert ask(
        con,
        "SELECT x_Cluster, AllocatedResourceId, AllocatedResourceName FROM allocated WHERE x_JobId IS NOT NULL ORDER BY 1",
    ) == [
        ("east", "east/default/api", "default/api"),
        ("west", "west/default/api", "default/api"),
    ]


def test_no_price_at_all_is_unknown(con: duckdb.DuckDBPyConnection) -> None:
    case = replace(WHOLE, prices=(UnitPrice(None, None, None),))
    assert by_sql(con, inputs(con, case)) == by_reference(case.rows(), {"c": "east"})
    assert {row.state for row in case.rows() if row.amounts["BilledCost"]} == {"unknown"}
