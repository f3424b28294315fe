"""How evidence becomes a candidate: laws of the confidence, how creators are read, and the gates that were passed."""

import random
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuledger.core.forensics import (
    CAP,
    FAMILIES,
    FLOOR,
    HIGH,
    MEDIUM,
    RULES,
    Directory,
    Evidence,
    Owner,
    Rule,
    Tagged,
    best,
    rank,
    support,
    word,
)
from gpuledger.core.identities import address, identity, words
from gpuledger.core.unowned import Circumstances, path

VISION, LLM, RAG = (Owner("team", name) for name in ("vision", "llm", "rag"))
signs = st.builds(
    Evidence,
    rule=st.sampled_from(sorted(RULES)),
    owner=st.sampled_from([VISION, LLM, RAG]),
    value=st.sampled_from(["a", "b", "c"]),
    share=st.floats(0, 1),
    support=st.one_of(st.none(), st.integers(0, 10_000)),
)


def confidence(evidence: list[Evidence], owner: Owner) -> float:
    return next((found.confidence for found in rank(evidence) if found.owner == owner), 0.0)


@given(st.lists(signs, max_size=12))
def test_confidence_is_between_zero_and_the_cap(evidence: list[Evidence]) -> None:
    for found in rank(evidence):
        assert 0 <= found.support <= CAP < 1
        assert 0 <= found.confidence <= found.support


@given(st.lists(signs, max_size=10), signs)
def test_more_agreeing_evidence_never_lowers(evidence: list[Evidence], more: Evidence) -> None:
    assert confidence([*evidence, more], more.owner) >= confidence(evidence, more.owner)


@given(st.lists(signs, max_size=10), signs)
def test_evidence_for_another_never_raises(evidence: list[Evidence], other: Evidence) -> None:
    for owner in {VISION, LLM, RAG} - {other.owner}:
        assert confidence([*evidence, other], owner) <= confidence(evidence, owner)


@given(st.lists(signs, max_size=10), st.integers())
def test_order_and_repetition_mean_nothing(evidence: list[Evidence], seed: int) -> None:
    shuffled = evidence * 2
    random.Random(seed).shuffle(shuffled)
    assert [(f.owner, f.confidence, f.support) for f in rank(shuffled)] == [
        (f.owner, f.confidence, f.support) for f in rank(evidence)
    ]


@given(st.lists(signs, max_size=10))
def test_a_family_counts_up_to_its_cap(evidence: list[Evidence]) -> None:
    for family, cap in FAMILIES.items():
        assert support(sign for sign in evidence if RULES[sign.rule].family == family) <= min(cap, CAP)


@given(st.lists(signs, max_size=10))
def test_who_is_named_is_ahead_and_above_the_floor(evidence: list[Evidence]) -> None:
    ranked = rank(evidence)
    chosen = best(ranked)
    if chosen is None:
        level = len(ranked) > 1 and ranked[0].confidence == ranked[1].confidence
        assert not ranked or ranked[0].confidence < FLOOR or level
    else:
        assert chosen.confidence >= FLOOR
        assert all(chosen.confidence > other.confidence for other in ranked[1:])


def test_the_formula_by_hand() -> None:
    evidence = [
        Evidence("creator", LLM, "marie", 1.0, 7),  # 0.80 × 7/8 = 0.7
        Evidence("account", VISION, "research", 1.0, 3),  # 0.40 × 3/4 = 0.3
        Evidence("account_named_after", VISION, "research", 1.0, None),  # 0.3: together 1 − 0.7 × 0.7 = 0.51
    ]
    first, second = rank(evidence)
    assert (first.owner, first.support, first.confidence) == (LLM, 0.7, round(0.7 * (1 - 0.51 / 2), 4))
    assert (second.owner, second.support, second.confidence) == (VISION, 0.51, round(0.51 * 0.65, 4))
    assert second.evidence[0].rule in {"account", "account_named_after"}


def test_nobody_is_named_when_nothing_points_or_all_point_alike() -> None:
    assert rank([]) == []
    assert best([]) is None
    level = [Evidence("creator", owner, "ci", 0.5, 4) for owner in (VISION, LLM)]
    assert best(rank(level)) is None
    assert best(rank([*level, Evidence("naming", LLM, "w", 1.0, 5)])) is not None
    assert best(rank([Evidence("account", VISION, "shared", 0.1, 1)])) is None


def test_the_page_states_the_weights_that_count() -> None:
    page = (Path(__file__).parents[2] / "docs" / "unattributed.md").read_text("utf-8")
    told = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\d.]+) \| ([^|]+) \|", page, re.MULTILINE)
    assert [Rule(name, family, float(weight), meaning) for name, family, weight, meaning in told] == list(
        RULES.values()
    )
    assert all(f"{family} {cap:.2f}" in page for family, cap in FAMILIES.items())
    assert f"count at most {CAP}" in page
    assert f"{HIGH:.2f} and more" in page
    assert f"below {MEDIUM:.2f}" in page
    assert f"below {FLOOR}" in page


def test_words_for_confidence() -> None:
    found = [word(value) for value in (None, 0.0, MEDIUM - 0.01, MEDIUM, HIGH - 0.01, HIGH, CAP)]
    assert found == ["none", "low", "low", "medium", "medium", "high", "high"]


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        # The examples of AWS's documentation, and what IAM Identity Center makes of a session.
        ("Root:1234567890", "root", "root of 1234567890"),
        ("Root: 111122223333 :exampleUser", "root", "root of 111122223333"),
        ("IAMUser: AIDACKCEVSQ6C2EXAMPLE :exampleUser", "user", "exampleUser"),
        ("AssumedRole: AKIAIOSFODNN7EXAMPLE :exampleRole", "role", "exampleRole"),
        ("FederatedUser:1234567890:exampleUser", "user", "exampleUser"),
        ("AssumedRole:AROASYNTHETIC0000001:Ada@Example.com", "person", "ada@example.com"),
        ("AssumedRole:AROASYNTHETIC0000001:i-0123456789abcdef0", "role", "AROASYNTHETIC0000001"),
        ("AssumedRole:AROASYNTHETIC0000001:botocore-session-1730000000", "role", "AROASYNTHETIC0000001"),
        ("arn:aws:iam::111122223333:user/people/grace", "user", "grace"),
        ("arn:aws:iam::111122223333:role/service-role/etl", "role", "etl"),
        ("arn:aws:iam::111122223333:root", "root", "root of 111122223333"),
        ("arn:aws:sts::111122223333:assumed-role/AWSReservedSSO_Ml/ada@example.com", "person", "ada@example.com"),
        ("arn:aws:sts::111122223333:assumed-role/agents/session", "role", "agents"),
        ("system:serviceaccount:team-a:trainer", "service", "team-a/trainer"),
        ("trainer@example-ml.iam.gserviceaccount.com", "service", "trainer@example-ml.iam.gserviceaccount.com"),
        ("ada_at_example_com", "person", "ada@example.com"),
        ("Ada Lovelace", "user", "Ada Lovelace"),
    ],
)  # fmt: skip
def test_creators_are_read(text: str, kind: str, name: str) -> None:
    who = identity(text)
    assert who is not None
    assert (who.kind, who.name) == (kind, name)


def test_spellings_of_one_creator_have_one_key() -> None:
    spellings = (
        "AssumedRole:ASIAFIRST:ada@example.com",
        "AssumedRole:ASIASECOND:Ada@example.com",
        "arn:aws:sts::111122223333:assumed-role/Admin/ada@example.com",
        "ada_at_example_com",
        "ada@example.com",
    )
    assert {who.key for text in spellings if (who := identity(text))} == {"person:ada@example.com"}
    assert identity(" ") is None


@given(st.text(max_size=60))
def test_any_text_can_be_read(text: str) -> None:
    who = identity(text)
    assert (who is None) == (not text.strip())
    assert address(text) is None or "@" in (address(text) or "")


def test_words_leave_out_types_numbers_and_common_words() -> None:
    assert words("p4d-0", "p4d.24xlarge") == set()
    assert words("prod-rag-eu-12.worker", None) == {"rag"}
    assert words("nc24-4", "Standard_NC24ads_A100_v4") == set()
    assert words("deadbeefcafe-sweep", None) == {"sweep"}
    assert words(None) == set()


def test_directory_joins_spellings_people_and_cost_centres() -> None:
    known = Directory(
        [
            Tagged("vision-research", "CC-4300", "edsger@example.com", None, 10),
            Tagged("Vision_Research", "cc-4300", "edsger_at_example_com", "saturn", 2),
            Tagged("recsys", "CC-4400", None, None, 1),
            Tagged("rag", "CC-9", None, None, 1),
            Tagged("nlp", "CC-9", None, None, 1),
        ]
    )
    vision = Owner("team", "visionresearch")
    assert known.label(vision) == "vision-research"
    assert known.contact(vision) == "edsger@example.com"
    assert known.cost_center(vision) == "CC-4300"
    assert known.people("Edsger@example.com") == {vision}
    assert known.people("edsger") == {vision}
    assert known.people("marie@example.com") == set()
    assert known.owner(Tagged(None, "cc 4300", None, None)) == vision
    assert known.owner(Tagged(None, None, "edsger@example.com", None)) == vision
    assert known.owner(Tagged(None, None, None, "Saturn")) == vision
    # Two teams share a cost centre: it names neither.
    assert known.owner(Tagged(None, "CC-9", None, None)) == Owner("cost_center", "cc9")
    assert known.owner(Tagged(None, None, None, None)) is None
    assert known.named({"research", "other"}) == {"research": [vision], "other": []}


def test_gates_say_only_what_the_data_shows() -> None:
    bare = Circumstances(resources=2)
    assert [(gate.gate, gate.state) for gate in path(bare)] == [
        ("creator", "unknown"),
        ("tags", "passed"),
        ("account_default", "passed"),
        ("cluster", "unknown"),
    ]
    maker = identity("arn:aws:iam::1:user/x")
    assert maker is not None
    seen = Circumstances(
        resources=200, keys={"aws:created_by": 200}, creators=[maker], created=200, account="research",
        account_owned=Decimal("0.687"), telemetry=True, first_seen=datetime(2026, 10, 10, 2, tzinfo=UTC), grain=timedelta(hours=1),
    )  # fmt: skip
    details = {gate.gate: gate.detail for gate in path(seen)}
    assert "Saturday 2026-10-10 02:00 UTC, outside" in details["launch"]
    assert "all 200 of them: IAM user x" in details["creator"]
    assert "none of the 200 resources" in details["tags"]
    assert "69 % of the other spend of research" in details["tag_policy"]
    assert "in no cluster" in details["cluster"]


def test_a_daily_bill_says_no_hour_and_a_tagged_resource_says_its_keys() -> None:
    moment = datetime(2026, 10, 10, tzinfo=UTC)
    daily = Circumstances(
        resources=1, keys={"env": 1}, first_seen=moment, grain=timedelta(days=1), account_owned=Decimal(0)
    )
    details = {gate.gate: gate.detail for gate in path(daily)}
    assert details["launch"] == "it began on Saturday 2026-10-10"
    assert "(env)" in details["tags"]
    assert details["tag_policy"].startswith("nothing else")
    early = Circumstances(resources=1, first_seen=moment, at_the_beginning=True)
    assert path(early)[0].state == "unknown"
