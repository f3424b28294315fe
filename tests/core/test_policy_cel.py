"""Pieces of the rendered CEL: patterns mean what Python means by them, and what is filled in is what the webhook fills in."""

import itertools
import json
import re
from datetime import date
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.cel_engine import Request
from tests.core.test_policy_agreement import CARDS, KINDS, LABELS, NOW, REGISTERS, SPACES, case
from tests.surfaces.admission_world import applied, patch_in

from gpuledger.core.policy.model import Exemption, Policy, Require, When
from gpuledger.core.policy.render import Setting, render
from gpuledger.core.policy.render.cel import glob, is_re2, quoted
from gpuledger.core.policy.render.cel_objects import accelerated
from gpuledger.core.workload.attribution import REQUESTED_BY
from gpuledger.surfaces.admission.review import Memory, read, respond

Json = dict[str, Any]
FILLING = Policy(
    mode="enforce",
    require=(
        Require(
            dimension="cost_center", register="centers", default_from=("namespace", "queue"), default="CC-2"
        ),
        Require(dimension="team", default="nlp"),
        Require(dimension="owner", default_from=("submitter",), propagate=False),
    ),
)
PATTERNS = st.text(alphabet="ab*?[]!-.x", max_size=8)


@given(PATTERNS, st.text(alphabet="ab!-.x[]", max_size=6))
def test_shell_patterns_match_what_they_match_in_python(pattern: str, value: str) -> None:
    try:
        found = re.fullmatch(f"(?s:{glob(pattern)})", value) is not None
    except re.error:  # such as [b-a], which matches nothing in the shell
        found = False
        assert "[" in pattern
    assert found == fnmatchcase(value, pattern)


@pytest.mark.parametrize(
    "pattern", ["[a-z]+", r"CC-\d{4}", "a|b", r"(?:x)y*?", r"\w+@example\.com", "(?P<n>a)"]
)
def test_patterns_that_re2_has_are_kept(pattern: str) -> None:
    assert is_re2(pattern)


@pytest.mark.parametrize(
    "pattern", ["a(?=b)", "(?!a)b", "(?<=a)b", r"(a)\1", "a++", r"a\Z", "(?>a)", "a{1001}"]
)
def test_patterns_that_re2_lacks_are_told_apart(pattern: str) -> None:
    assert not is_re2(pattern)


@given(st.text(max_size=12))
def test_texts_survive_as_literals(text: str) -> None:
    literal = quoted(text)
    if not any(0xD800 <= ord(sign) <= 0xDFFF for sign in text):
        assert json.loads(literal) == text


@pytest.mark.parametrize("kind", KINDS)
def test_the_webhook_is_asked_about_whatever_might_ask_for_a_card(kind: str) -> None:
    for cards, expected in ((CARDS[0], False), (CARDS[1], True), (("-1", 1), True)):
        engine = Request([], object=case(kind, {}, "ml", cards, 0))
        assert bool(engine.evaluate(accelerated("object"))) is expected


def first(target: str, policy: Policy, setting: Setting) -> Json:
    (documents,) = render(target, policy, setting).files.values()
    assert not isinstance(documents, str)
    return dict(documents[0])


def filled_by_cel(policy: Policy, obj: Json, before: Json | None, space: Json) -> Json:
    """Run a MutatingAdmissionPolicy: mutations one after the other, each on what the last one left.

    celpy knows no JSONPatch type: it is written as a map here.
    """
    found = first("map", policy, Setting(now=NOW, registers=REGISTERS))
    for mutation in found["spec"]["mutations"]:
        engine = Request(
            found["spec"]["variables"], object=obj, oldObject=before, namespaceObject=space,
            request={"operation": "UPDATE" if before else "CREATE", "namespace": "ml", "userInfo": {"username": "ada"}},
        )  # fmt: skip
        text = mutation["jsonPatch"]["expression"].replace("JSONPatch{op:", '{"op":')
        text = text.replace(", path:", ', "path":').replace(", value:", ', "value":')
        obj = applied(obj, json.loads(json.dumps(engine.evaluate(text))))
    return obj


def filled_by_webhook(policy: Policy, obj: Json, before: Json | None, space: Json) -> Json | None:
    request = {
        "uid": "1", "operation": "UPDATE" if before else "CREATE", "object": obj, "oldObject": before,
        "namespace": "ml", "userInfo": {"username": "ada"},
    }  # fmt: skip
    review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    memory = Memory(policy, lambda _: None, registers=REGISTERS, namespaces={"ml": space})
    answer = respond(read(json.dumps(review).encode(), memory, NOW), memory, mutate=True)
    return applied(obj, patch_in(answer["response"])) if answer["response"]["allowed"] else None


def test_the_mutating_policy_fills_in_what_the_webhook_fills_in() -> None:
    compared = 0
    combinations = itertools.product(
        ("Pod", "Job", "CronJob", "Deployment"), LABELS[:4], SPACES[:2], (False, True)
    )
    for number, (kind, labels, (_, marks), updated) in enumerate(combinations):
        if number % 3:
            continue
        obj = case(kind, labels, "ml", (1, 1), 0)
        before = case(kind, labels, "ml", (1, 1), 0) if updated else None
        if before:
            before["metadata"]["annotations"] = {REQUESTED_BY: "bob"}
        space = {"metadata": {"name": "ml", "labels": marks}}
        expected = filled_by_webhook(FILLING, obj, before, space)
        if expected is None:
            continue
        compared += 1
        assert filled_by_cel(FILLING, obj, before, space) == expected
    assert compared > 12


def test_an_exemption_holds_for_what_is_made_until_its_day() -> None:
    policy = Policy(
        mode="enforce",
        require=(Require(dimension="team"),),
        exemption=(
            Exemption(name="e", when=When(), reason="r", approved_by="a", expires=date(2026, 11, 24)),
        ),
    )
    found = first("vap", policy, Setting(now=NOW))
    outcomes = {}
    for stamp in ("2026-11-24T23:59:59Z", "2026-11-25T00:00:00Z", None):
        obj = case("Job", {}, "ml", (1, 1), 0)
        obj["metadata"]["creationTimestamp"] = stamp
        engine = Request(
            found["spec"]["variables"], object=obj, oldObject=None, namespaceObject={"metadata": {}},
            request={"operation": "CREATE", "namespace": "ml", "userInfo": {"username": "ada"}},
        )  # fmt: skip
        passes = all(bool(engine.evaluate(one["expression"])) for one in found["spec"]["validations"])
        outcomes[stamp] = (
            passes,
            str(engine.evaluate(found["spec"]["auditAnnotations"][0]["valueExpression"])),
        )
    assert outcomes == {
        "2026-11-24T23:59:59Z": (True, "e"),
        "2026-11-25T00:00:00Z": (False, ""),
        None: (False, ""),
    }
