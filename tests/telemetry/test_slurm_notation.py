"""Slurm's way of writing things, read as Slurm means it."""

from datetime import datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuledger.core.comments import pairs
from gpuledger.telemetry.slurm import notation


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu[1-2,5]", ["gpu1", "gpu2", "gpu5"]),
        ("gpu1", ["gpu1"]),
        ("a1,b[2-3],c", ["a1", "b2", "b3", "c"]),
        ("n[008-011]", ["n008", "n009", "n010", "n011"]),
        ("r[1-2]n[1-2]-ib", ["r1n1-ib", "r1n2-ib", "r2n1-ib", "r2n2-ib"]),
        ("None assigned", []),
        ("", []),
        ("(null)", []),
    ],
)
def test_node_lists(text: str, expected: list[str]) -> None:
    assert list(notation.nodes(text)) == expected


@pytest.mark.parametrize(
    "text", ["gpu[1-2", "gpu1-2]", "gpu[2-1]", "gpu[a-b]", "n[0-99999999]", "a[1-999]b[1-999]"]
)
def test_damaged_node_lists_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"brackets|range|nodes"):
        notation.nodes(text)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=20, unique=True), st.integers(1, 4))
def test_node_lists_say_each_node_once(numbers: list[int], width: int) -> None:
    text = f"gpu[{','.join(str(number).zfill(width) for number in numbers)}]"
    assert list(notation.nodes(text)) == [f"gpu{str(number).zfill(width)}" for number in numbers]


@given(st.data())
def test_a_spread_keeps_the_sum_and_the_limits(data: st.DataObject) -> None:
    total = data.draw(st.integers(0, 10_000))
    limits = data.draw(st.lists(st.none() | st.integers(0, 4000), min_size=1, max_size=12))
    shares = notation.spread(total, len(limits), limits)
    assert sum(shares) == total
    assert min(shares) >= 0
    known = [limit for limit in limits if limit is not None]
    if len(known) < len(limits) or sum(known) >= total:
        assert all(limit is None or share <= limit for share, limit in zip(shares, limits, strict=True))


def test_a_spread_is_even_where_it_can_be() -> None:
    assert notation.spread(16, 2) == [8, 8]
    assert notation.spread(7, 3) == [3, 2, 2]
    assert notation.spread(12, 2, [8, 4]) == [8, 4]
    assert notation.spread(12, 3, [8, 2, None]) == [5, 2, 5]
    assert notation.spread(9, 2, [1, 1]) == [5, 4]


def test_resources_are_not_added_to_their_types() -> None:
    told = notation.allocated("billing=2,cpu=2,gres/gpu:h100=16,gres/gpu=16,mem=8000M,node=2")
    assert told == {"billing": 2, "cpu": 2, "gres/gpu:h100": 16, "gres/gpu": 16, "mem": 8000, "node": 2}
    assert notation.allocated("") == {}
    assert notation.allocated("bb/cray=2K,license/x=1") == {"bb/cray": 2048, "license/x": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mem=1.50G", {"mem": 1536}),
        ("mem=0", {"mem": 0}),
        ("mem=2T,cpu=3", {"mem": 2 << 20, "cpu": 3}),
        ("cpu=", {}),
    ],
)
def test_memory_is_in_mebibytes(text: str, expected: dict[str, int]) -> None:
    assert notation.allocated(text) == expected


@pytest.mark.parametrize("text", ["cpu", "cpu=two", "=3", "mem=1Q"])
def test_damaged_resources_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no"):
        notation.allocated(text)


def test_use() -> None:
    assert notation.used("cpu=1-02:03:04,energy=0,fs/disk=29718,mem=10836K,pages=3") == (
        Decimal(93784),
        10836 * 1024,
    )
    assert notation.used("cpu=00:00:10,mem=11096064") == (Decimal(10), 11_096_064)
    assert notation.used("energy=0") == (None, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpu:h100:8(S:0-1)", {"gpu:h100": 8}),
        ("gpu:8", {"gpu": 8}),
        ("gpu:a100:4(S:0),gpu:v100:2(S:1),shard:48(S:0-1)", {"gpu:a100": 4, "gpu:v100": 2, "shard": 48}),
        ("gpu:a100_3g.20gb:2,gpu:1g.10gb:7", {"gpu:a100_3g.20gb": 2, "gpu:1g.10gb": 7}),
        ("gpu:h100:2(IDX:0-1,4)", {"gpu:h100": 2}),
        ("craynetwork:4,bandwidth:lustre:no_consume:4G", {"craynetwork": 4, "bandwidth:lustre": 4 << 30}),
        ("(null)", {}),
        ("", {}),
        (None, {}),
    ],
)
def test_generic_resources(text: str | None, expected: dict[str, int]) -> None:
    assert notation.gres(text) == expected


def test_times() -> None:
    assert notation.instant("1795533662") == 1_795_533_662
    assert [notation.instant(text) for text in ("Unknown", "None", "", "N/A")] == [None] * 4
    assert notation.instant("2026-11-24T00:32:34") == int(
        datetime.fromisoformat("2026-11-24T00:32:34Z").timestamp()
    )
    zone = ZoneInfo("America/New_York")
    assert notation.instant("2026-07-01T08:00:00", zone) == notation.instant("2026-07-01T12:00:00")
    with pytest.raises(ValueError, match="Invalid isoformat"):
        notation.instant("yesterday")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("CANCELLED by 1000", ("CANCELLED", "1000")),
        ("CANCELLED+", ("CANCELLED", None)),
        ("OUT_OF_MEMORY", ("OUT_OF_MEMORY", None)),
        (["RUNNING", "COMPLETING"], ("RUNNING", None)),
        (["PENDING", "REQUEUED"], ("REQUEUED", None)),
        ([], ("UNKNOWN", None)),
    ],
)
def test_states(words: str | list[str], expected: tuple[str, str | None]) -> None:
    assert notation.state(words) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gpuledger:team=nlp;owner=amy", {"team": "nlp", "owner": "amy"}),
        ('team=x y; k="v"', {"team": "x y", "k": "v"}),
        ("team=nlp,cost-center=42", {"team": "nlp", "cost-center": "42"}),
        ("team=nlp model=llama", {"team": "nlp", "model": "llama"}),
        ("JS1:H4sIAAAAAAAAA1WMuwrDMAxFf8Vo7mDnYcf6", {}),
        ("JS1:H4sIAAAA==", {}),
        ("just words", {}),
        ("k=", {}),
        (None, {}),
    ],
)
def test_pairs_of_comments(text: str | None, expected: dict[str, str]) -> None:
    assert pairs(text) == expected


def test_numbers_of_json() -> None:
    assert notation.number(7) == 7
    assert notation.number({"set": True, "infinite": False, "number": 7}) == 7
    assert notation.number({"set": False, "infinite": False, "number": 0}) is None
    assert notation.number({"set": True, "infinite": True, "number": 0}) is None
    assert notation.number(None) is None
