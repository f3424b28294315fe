"""Idle and shared cost: nothing is lost, nobody pays for another pool, and who can't be shared with keeps it."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from gpuledger.core.money import total
from gpuledger.core.opencost.sharing import (
    Group,
    Kind,
    Split,
    merged,
    share_idle,
    share_shared,
    shares,
)

MONEY = st.decimals(min_value=-1000, max_value=10**6, places=18)
PARTS = st.dictionaries(st.sampled_from(["gpu", "cpu", "ram", "external"]), MONEY, max_size=4)
GROUPS = st.lists(
    st.builds(
        Group,
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["holder", "idle", "unknown", "overhead"]),
        st.sampled_from(["east", "west"]),
        st.sampled_from([None, None, "kube-system"]),
        st.just(True),  # noqa: FBT003  # a strategy's value
        PARTS,
    ),
    max_size=8,
)
SPLITS = st.sampled_from(["weighted", "even"])


def group(name: str, kind: Kind = "holder", pool: str = "", shared: str | None = None, **parts: str) -> Group:
    return Group(name, kind, pool, shared, parts={part: Decimal(text) for part, text in parts.items()})


@given(GROUPS, SPLITS)
def test_sharing_keeps_the_sum(groups: list[Group], split: Split) -> None:
    before = total(one.cost for one in groups)
    after = share_shared(share_idle(groups, split), split)
    assert total(one.cost for one in after) == before
    assert total(one.cost for one in merged(after).values()) == before


@given(MONEY, st.lists(MONEY, min_size=1, max_size=9), SPLITS)
def test_shares_add_up_to_the_last_digit(amount: Decimal, weights: list[Decimal], split: Split) -> None:
    found = shares(amount, weights, split)
    if found is None:
        assert split == "weighted"
        assert all(weight <= 0 for weight in weights)
    else:
        assert total(found) == amount
        assert len(found) == len(weights)


def test_idle_goes_to_its_own_pool_by_resource() -> None:
    found = merged(
        share_idle(
            [
                group("a", pool="east", gpu="3", cpu="1"),
                group("b", pool="east", gpu="1", cpu="1"),
                group("c", pool="west", gpu="9"),
                group("__idle__", "idle", "east", gpu="4", cpu="1"),
                group("__idle__", "idle", "north", gpu="7"),
            ],
            "weighted",
        )
    )
    assert found["a"].parts == {"gpu": Decimal(6), "cpu": Decimal("1.5")}
    assert found["a"].idle == {"gpu": Decimal(3), "cpu": Decimal("0.5")}
    assert found["b"].parts == {"gpu": Decimal(2), "cpu": Decimal("1.5")}
    assert found["c"].parts == {"gpu": Decimal(9)}
    assert found["__idle__"].parts == {"gpu": Decimal(7)}


def test_idle_cards_beside_jobs_without_cards_go_by_whole_cost() -> None:
    found = merged(
        share_idle([group("a", cpu="1"), group("b", cpu="3"), group("i", "idle", gpu="8")], "weighted")
    )
    assert found["a"].parts["gpu"] == 2
    assert found["b"].parts["gpu"] == 6


def test_shared_cost_is_broken_down_by_what_it_was() -> None:
    found = merged(
        share_shared(
            [
                group("a", cpu="1"),
                group("b", cpu="3"),
                group("kube-system", shared="kube-system", cpu="2", gpu="2"),
                group("?", "unknown", cpu="5"),
            ],
            "weighted",
            {"shareCost": Decimal(4)},
        )
    )
    assert set(found) == {"a", "b", "?"}
    assert found["a"].parts["shared"] == 2
    assert found["b"].parts["shared"] == 6
    assert found["?"].parts == {"cpu": Decimal(5)}
    assert found["a"].breakdown == {
        "shareCost": {"external": Decimal(1)},
        "kube-system": {"cpu": Decimal("0.5"), "gpu": Decimal("0.5")},
    }


def test_with_nobody_to_share_with_the_cost_stays() -> None:
    lonely = [group("kube-system", shared="kube-system", cpu="2")]
    assert [one.cost for one in share_shared(lonely, "weighted")] == [Decimal(2)]
