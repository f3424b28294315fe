"""Laws of unit economics: figures follow sums alone, changes add up, and every dollar is somewhere once."""

from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.pipeline.allocation_world import World, charge, hour, job, node, pod

from gpuledger.core.break_even import ApiPrice, Mix, break_even
from gpuledger.core.money import total
from gpuledger.core.token_usage import TokenInterval, TrainingInterval
from gpuledger.core.unit_change import Cell, decompose
from gpuledger.core.unit_economics import COST_BASES, TOKEN_BASES, Basis, Sums, cost, figures, tokens
from gpuledger.pipeline import unit_facts
from gpuledger.pipeline.unit_economics import SERVED, grouped

FEW = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
counts = st.integers(0, 10**13).map(Decimal)
money = st.decimals(0, 10**8, places=18)


@st.composite
def sums(draw: st.DrawFn) -> Sums:
    given_, out = draw(counts), draw(counts)
    requests = draw(st.integers(1, 10**7))
    good = draw(st.integers(0, requests))
    return Sums(
        given_, Decimal(draw(st.integers(0, int(given_)))), out, Decimal(requests), Decimal(0), Decimal(requests), Decimal(good),
        out, Decimal(draw(st.integers(0, int(out)))), draw(money), draw(money), draw(money), draw(money), None,
        draw(counts), draw(counts), draw(counts),
    )  # fmt: skip


bases = st.builds(Basis, st.sampled_from(TOKEN_BASES), st.sampled_from(COST_BASES))


@given(sums(), bases, st.integers(1, 10**6))
def test_a_ratio_stays_when_tokens_and_dollars_scale_alike(one: Sums, basis: Basis, factor: int) -> None:
    def scaled(value: Decimal | None) -> Decimal | None:
        return None if value is None else Decimal(int(value.scaleb(18)) * factor).scaleb(-18)

    many = Sums(*(scaled(getattr(one, name)) for name in one.__dataclass_fields__))
    before, after = figures(one, 24, basis), figures(many, 24, basis)
    for name in ("tps_per_dollar", "cost_per_mtok", "cost_per_inference", "cost_per_gpu_hour", "slo_met_share", "slo_tps_per_dollar"):  # fmt: skip
        assert before[name] == after[name], name


@given(st.lists(sums(), min_size=1, max_size=5), bases)
def test_merging_groups_is_summing_them(many: list[Sums], basis: Basis) -> None:
    merged = reduce(Sums.__add__, many)
    made = sum((Fraction(tokens(one, basis.tokens, basis.weights) or 0) for one in many), Fraction(0))
    spent = sum((Fraction(cost(one, basis.cost) or 0) for one in many), Fraction(0))
    found = figures(merged, 1, basis)["tps_per_dollar"]
    if spent:
        assert abs(Fraction(found) - made / (3600 * spent)) <= Fraction(1, 2 * 10**12)
    else:
        assert found is None


@given(st.permutations(range(4)), st.lists(sums(), min_size=4, max_size=4))
def test_the_order_of_merging_does_not_matter(order: list[int], many: list[Sums]) -> None:
    assert reduce(Sums.__add__, many) == reduce(Sums.__add__, (many[place] for place in order))


@given(sums())
def test_loaded_is_never_less_and_tps_of_good_output_never_more(one: Sums) -> None:
    assert (cost(one, "fully_loaded") or 0) >= (cost(one, "effective") or 0)
    found = figures(one, 1, Basis())
    if found["tps_per_dollar"] is not None:
        assert found["slo_tps_per_dollar"] <= found["tps_per_dollar"]


cells = st.dictionaries(
    st.sampled_from("abcd"),
    st.builds(
        Cell, st.integers(1, 10**6).map(Decimal), counts, money, st.just(Decimal(0)) | money, st.just(Decimal(0)) | money
    ),
    min_size=1,
)  # fmt: skip


@given(cells, cells, st.sampled_from(["cost_per_mtok", "cost"]))
def test_parts_add_up_to_the_change(before: dict[str, Cell], after: dict[str, Cell], of: str) -> None:
    found = decompose(before, after, of)  # type: ignore[arg-type]
    some = [any(cell.tokens for cell in side.values()) for side in (before, after)]
    assert (found is not None) == all(some)
    if found is not None:
        assert total(found.parts.values()) == total((found.after, found.before.copy_negate())) == found.change
        for side, figure in ((before, found.before), (after, found.after)):
            spent = sum(
                (Fraction(one.cost) + Fraction(one.idle) + Fraction(one.stranded) for one in side.values()),
                Fraction(0),
            )
            made = sum((Fraction(one.tokens) for one in side.values()), Fraction(0))
            exact = spent if of == "cost" else 10**6 * spent / made
            assert abs(Fraction(figure) - exact) <= Fraction(1, 10**12)


@given(cells, cells)
def test_going_back_undoes_each_part(before: dict[str, Cell], after: dict[str, Cell]) -> None:
    there, back = decompose(before, after), decompose(after, before)
    if there is not None and back is not None:
        for name, amount in there.parts.items():
            assert abs(amount + back.parts[name]) <= Decimal("0.00000000001")


@given(cells, st.integers(2, 50))
def test_nothing_but_volume_has_an_effect_when_all_grows_alike(side: dict[str, Cell], factor: int) -> None:
    grown = {
        name: Cell(*(Decimal(int(getattr(one, field).scaleb(18)) * factor).scaleb(-18) for field in one.__dataclass_fields__))
        for name, one in side.items()
    }  # fmt: skip
    if (found := decompose(side, grown)) is not None:
        assert all(abs(amount) <= Decimal("0.00000000001") for amount in found.parts.values())


@given(
    st.fractions(Fraction(1, 100), 1000), st.fractions(1, 10**5), st.integers(1, 10**9), st.integers(0, 10**9), st.integers(1, 10**6)
)  # fmt: skip
def test_above_the_load_that_always_pays_every_load_pays(
    rate: Fraction, peak: Fraction, output: int, given_: int, price: int
) -> None:
    api = ApiPrice(Decimal(price).scaleb(-9), None, Decimal(5 * price).scaleb(-9))
    mix = Mix(Decimal(given_), Decimal(0), Decimal(output))
    found = break_even(rate, mix, api, peak)
    assert found is not None
    per_token = (
        Fraction(mix.input) * Fraction(api.input) + Fraction(mix.output) * Fraction(api.output)
    ) / Fraction(mix.output)
    one = rate / (3600 * per_token)
    assert abs(Fraction(found.one) - one) <= Fraction(1, 10**12)
    if found.replicas is not None:
        for extra in (0, 1, 7):
            number = found.replicas + extra
            assert number * peak >= (number + 1) * one  # the next replica pays before this one is full
        if found.replicas > 1:
            assert (found.replicas - 1) * peak < found.replicas * one


prices = st.decimals(Decimal("0.01"), 500, places=9)


@st.composite
def worlds(draw: st.DrawFn, world: World) -> World:
    """A bill of two machines and a commitment, jobs that serve or train on them, and what telemetry tells of it."""
    lines = []
    for number in range(draw(st.integers(1, 4))):
        resource = draw(st.sampled_from(["i-1", "i-2"]))
        first, length = draw(st.integers(0, 20)), draw(st.sampled_from([1, 1, 2, 3]))
        line = charge(
            str(draw(prices)), resource, (first, first + length), x_GpuModel="H100", x_GpuHours=8 * length
        )
        if draw(st.booleans()):
            line |= {"CommitmentDiscountId": "sp-1", "CommitmentDiscountStatus": "Used"}
        lines.append(line | {"SkuId": f"sku-{number}", "ListCost": draw(st.none() | prices)})
    unused = {
        "CommitmentDiscountId": draw(st.sampled_from(["sp-1", "sp-2"])),
        "CommitmentDiscountStatus": "Unused",
    }
    lines.append(charge(str(draw(prices)), "sp", (draw(st.integers(0, 23)), 24), **unused))
    api = {
        "x_AiModel": "gpt",
        "x_TokenType": "output",
        "ConsumedQuantity": 1000,
        "ConsumedUnit": "Tokens",
        "ResourceName": "org",
    }
    lines.append(charge(str(draw(prices)), "org", (0, 5), **api))
    world.bill(*lines)
    records: list[object] = [node(), node("n2", "i-2"), job("a"), job("b")]
    for name in ("a", "b"):
        for place in ("n1", "n2"):
            start = draw(st.integers(0, 20))
            records.append(
                pod(
                    f"{name}",
                    (start, start + draw(st.integers(1, 4))),
                    str(draw(st.integers(1, 4))),
                    node=place,
                )
            )
    for _ in range(draw(st.integers(0, 5))):
        begun = hour(draw(st.integers(0, 20)))
        records.append(
            TokenInterval(
                "vllm", begun, begun + timedelta(minutes=30), draw(st.sampled_from(["m1", "m2"])), "east", "ml",
                draw(st.sampled_from(["x", "y", None])), draw(st.sampled_from(["east/a", "east/b", None])),
                draw(st.sampled_from(["a", "b", None])), output_tokens=Decimal(draw(st.integers(0, 9999))),
            )
        )  # fmt: skip
    for _ in range(draw(st.integers(0, 2))):
        first = draw(st.integers(0, 20))
        records.append(
            TrainingInterval(
                draw(st.sampled_from(["r1", "r2"])), hour(first), hour(first + 2.5), "east", draw(st.sampled_from(["east/b", None])),
                tokens=Decimal(draw(st.integers(0, 9999))),
            )
        )  # fmt: skip
    world.telemetry(*records)  # type: ignore[arg-type]
    return world


@FEW
@given(st.data())
def test_every_dollar_is_in_the_facts_once(data: st.DataObject) -> None:
    with TemporaryDirectory() as folder:
        world = World(Path(folder), idle=data.draw(st.sampled_from(["none", "none", "proportional"])))
        data.draw(worlds(world))
        world.build()
        whole = world.ask(
            """SELECT coalesce(sum(EffectiveCost), 0) FROM allocated
               WHERE x_AllocationState IS NOT NULL OR CommitmentDiscountStatus = 'Unused' OR x_AiModel IS NOT NULL"""
        )[0][0]
        con = unit_facts.load(world.ledger)
        shares = con.execute("SELECT sum(effective), sum(idle), sum(stranded) FROM unit_fact").fetchall()[0]
        assert sum((share or Decimal(0) for share in shares), Decimal(0)) == whole
        by_hour = sum(
            ((one[1].effective or Decimal(0)) for one in grouped(con, SERVED, ["strftime(hour, '%H')"])),
            Decimal(0),
        )
        assert by_hour == (next(iter(grouped(con, SERVED, [])))[1].effective or Decimal(0))
        made = con.execute(
            "SELECT coalesce(sum(output_tokens), 0) FROM unit_fact WHERE kind <> 'api'"
        ).fetchall()[0][0]
        assert made <= world.ask("SELECT coalesce(sum(output_tokens), 0) FROM token_interval")[0][0]
        con.close()
