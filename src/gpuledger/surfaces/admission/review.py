"""One AdmissionReview in, one out: the decision, its patch, its warnings and its audit annotations.

Kubernetes: "Dynamic Admission Control" (admission.k8s.io/v1; v1beta1 has the same fields). Nothing here waits for a
network or a disk: `read` decides, the caller reserves what a budget has to grant, `respond` writes the answer.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from gpuledger.core.policy import (
    Budget,
    Decision,
    History,
    Policy,
    Rates,
    Reason,
    Submission,
    Surroundings,
    decide,
)
from gpuledger.core.policy.decide import Draw, Outcome, overdrawn
from gpuledger.core.policy.estimate import NO_HISTORY
from gpuledger.core.policy.manifests import submission_of
from gpuledger.core.policy.model import Mode
from gpuledger.core.policy.patches import Patch, patch_of
from gpuledger.core.workload.attribution import DIMENSIONS, REQUESTED_BY
from gpuledger.core.workload.fields import Json, annotations, at, kind, mapping, name, namespace, text
from gpuledger.core.workload.fields import uid as uid_of
from gpuledger.core.workload.owners import controller

__all__ = ["Asked", "Draw", "Memory", "NotAReview", "log_entry", "overdrawn", "read", "refused", "respond"]

VERSIONS: Final = frozenset({"admission.k8s.io/v1", "admission.k8s.io/v1beta1"})
_WARNING: Final = 250  # the API server cuts warnings at 256 characters
_CHANGES: Final = frozenset({"CREATE", "UPDATE"})
_OPERATIONS: Final = _CHANGES | {"DELETE", "CONNECT"}


class NotAReview(Exception):  # noqa: N818 - it is an answer to the caller, not a failure of ours
    """The body isn't an AdmissionReview that can be answered; the message says why."""


@dataclass(frozen=True, slots=True)
class Memory:
    """All that decisions are made from. A new one replaces it as a whole when anything changes."""

    policy: Policy
    rates: Rates
    history: History = NO_HISTORY
    registers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    namespaces: Mapping[str, Json] = field(default_factory=dict)
    left: Callable[[Budget], Decimal | None] = lambda _: None
    cluster: str | None = None

    @property
    def backstop(self) -> Policy:
        """The policy for what a controller makes out of an admitted object: sizes and budgets counted already."""
        return replace(self.policy, limit=(), budget=())


@dataclass(frozen=True, slots=True)
class Asked:
    """One request that was read, and the decision on it so far; `decision` is None for what no rule is for.

    `reserves` says that the decision is final only after its budget granted a lease; `owner` is the uid of the
    controller that made the object, whose lease the object confirms.
    """

    version: str
    request: Json
    submission: Submission | None = None
    decision: Decision | None = None
    owner: str | None = None
    problem: str | None = None

    @property
    def uid(self) -> str:
        """The request's uid, which the response repeats."""
        return str(self.request["uid"])

    @property
    def key(self) -> str:
        """The workload's uid: that of the object, which the API server gives it before admission, else the request's."""
        return uid_of(mapping(self.request.get("object"))) or self.uid

    @property
    def holder(self) -> str:
        """What a person calls the workload."""
        obj = mapping(self.request.get("object"))
        return f"{text(self.request.get('namespace')) or ''}/{kind(obj)}/{name(obj)}"

    @property
    def reserves(self) -> bool:
        """Whether a lease has to be granted first."""
        decision = self.decision
        return (
            decision is not None
            and decision.draw is not None
            and decision.draw.needs is not None
            and decision.outcome != "deny"
            and decision.mode != "off"
            and self.request.get("operation") == "CREATE"
            and not self.request.get("dryRun")
        )


def read(body: bytes, memory: Memory, now: datetime) -> Asked:
    """Read an AdmissionReview and decide from memory. Raises NotAReview for a body that is none."""
    version, request = _request(body)
    obj = request.get("object")
    if request.get("operation") not in _CHANGES or not isinstance(obj, Mapping) or request.get("subResource"):
        return Asked(version, request)
    try:
        return _decide(version, request, obj, memory, now)
    except RecursionError:
        return Asked(version, request, problem="gpuledger: the object is nested too deep to be read")


def _request(body: bytes) -> tuple[str, Json]:
    try:
        review = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise NotAReview(f"the body isn't JSON: {str(error)[:200]}") from error
    if not isinstance(review, dict) or review.get("kind") != "AdmissionReview":
        raise NotAReview("the body isn't an AdmissionReview")
    version = review.get("apiVersion")
    if version not in VERSIONS:
        raise NotAReview(
            f"apiVersion {str(version)[:80]!r} isn't known; known are {', '.join(sorted(VERSIONS))}"
        )
    request = review.get("request")
    own = request.get("uid") if isinstance(request, dict) else None
    if not isinstance(request, dict) or not isinstance(own, str) or not own:
        raise NotAReview("the AdmissionReview has no request with a uid")
    operation = request.get("operation")
    if not isinstance(operation, str) or operation not in _OPERATIONS:
        raise NotAReview(f"operation {str(operation)[:80]!r} isn't known")
    return str(version), request


def _decide(version: str, request: Json, obj: Json, memory: Memory, now: datetime) -> Asked:
    owner = controller(obj)
    space = text(request.get("namespace"))
    submission = submission_of(
        obj,
        own_namespace=memory.namespaces.get(space or ""),
        default_namespace=space,
        submitter=text(at(request, "userInfo", "username")),
        before=_before(request),
    )
    if submission is None:
        return Asked(version, request)
    submission = replace(submission, cluster=memory.cluster)
    # A store that is asked knows best what is left; what reserves nothing is told what was left a moment ago.
    asks = request.get("operation") == "CREATE" and not request.get("dryRun")
    left = _unknown if asks else memory.left
    around = Surroundings(now, memory.rates, memory.history, memory.registers, left)
    decision = decide(memory.backstop if owner else memory.policy, submission, around)
    return Asked(version, request, submission, decision, owner.uid if owner else None)


def _unknown(_: Budget) -> Decimal | None:
    return None


def _before(request: Json) -> Json | None:
    old = request.get("oldObject")
    return old if request.get("operation") == "UPDATE" and isinstance(old, Mapping) else None


def refused(asked: Asked, reason: Reason) -> Asked:
    """Return the request with one more reason, that nothing lifts: a budget that another replica emptied first."""
    assert asked.decision is not None  # noqa: S101 - only what reserves can be refused afterwards
    decision = asked.decision
    outcomes: dict[Mode, Outcome] = {"enforce": "deny", "warn": "warn"}
    outcome: Outcome = outcomes.get(decision.mode, "allow")
    if reason.only_warns and outcome == "deny":
        outcome = "warn"
    worse = "deny" if not reason.only_warns else "warn" if decision.would == "allow" else decision.would
    return replace(
        asked, decision=replace(decision, outcome=outcome, would=worse, reasons=(*decision.reasons, reason))
    )


def respond(asked: Asked, memory: Memory, *, mutate: bool) -> dict[str, Any]:
    """Return the AdmissionReview that answers a request."""
    decision, submission = asked.decision, asked.submission
    if asked.problem is not None:
        denied = memory.policy.mode == "enforce"
        return _response(asked, allowed=not denied, message=asked.problem, warnings=[asked.problem])
    if decision is None or submission is None:
        return _response(asked, allowed=True)
    allowed = decision.outcome != "deny"
    quiet = decision.mode == "off" or asked.owner is not None
    found = _response(
        asked,
        allowed=allowed,
        message=None if allowed else _message(decision),
        warnings=[] if quiet else _warnings(decision, submission),
    )
    if audit := _audit(decision):
        found["response"]["auditAnnotations"] = audit
    patch = (
        _patch(asked, submission, decision, memory.policy)
        if mutate and allowed and decision.mode != "off"
        else []
    )
    if patch:
        found["response"]["patchType"] = "JSONPatch"
        found["response"]["patch"] = base64.b64encode(json.dumps(patch).encode()).decode()
    return found


def _patch(asked: Asked, submission: Submission, decision: Decision, policy: Policy) -> Patch:
    if not submission.accelerated:
        return []
    values = {dimension: filled.value for dimension, filled in decision.filled.items()}
    known = {dimension: said.value for dimension, said in submission.said.items()} | values
    propagated: dict[str, str] = {
        rule.dimension: known[rule.dimension]
        for rule in policy.require
        if rule.propagate and rule.dimension in known
    }
    before = _before(asked.request)
    requester = text(at(asked.request, "userInfo", "username"))
    if before is not None:
        requester = annotations(before).get(REQUESTED_BY)
    if asked.owner is not None:
        requester = None
    obj = mapping(asked.request.get("object"))
    return patch_of(obj, values, propagated, requester, created=before is None)


def _response(
    asked: Asked, *, allowed: bool, message: str | None = None, warnings: Sequence[str] = ()
) -> dict[str, Any]:
    response: dict[str, Any] = {"uid": asked.uid, "allowed": allowed}
    if message is not None:
        status = {"status": "Failure", "reason": "Forbidden", "code": 403}
        response["status"] = {"message": message} | ({} if allowed else status)
    if warnings:
        response["warnings"] = [_cut(warning) for warning in warnings]
    return {"apiVersion": asked.version, "kind": "AdmissionReview", "response": response}


def _cut(warning: str) -> str:
    return warning if len(warning) <= _WARNING else f"{warning[: _WARNING - 1]}…"


def _message(decision: Decision) -> str:
    broken = [reason for reason in decision.reasons if reason.lifted_by is None]
    return "gpuledger: " + " ".join(reason.text for reason in broken)


def _warnings(decision: Decision, submission: Submission) -> list[str]:
    found = []
    if decision.outcome == "warn":  # a refusal says its reasons as its message
        found += [f"gpuledger: {reason.text}" for reason in decision.reasons if reason.lifted_by is None]
    if submission.accelerated:
        found.append(f"gpuledger: {price_line(submission, decision)}")
    return [*found, *(f"gpuledger: {note}" for note in decision.notes)]


def price_line(submission: Submission, decision: Decision) -> str:
    """Return what a workload will cost, in one line for the submitter."""
    price = decision.estimate
    gpus = submission.gpus
    many = "an unknown number of" if gpus is None else str(gpus)
    said = f"{many} × {submission.gpu_model or 'cards of an unknown model'}"
    if price.usd_per_hour is None:
        return f"{said}: cost unknown, {price.basis[0]}"
    said += f", {price.usd_per_hour} USD an hour"
    if price.cost_p90 is None:
        said += f", {price.basis[-1]}"
    elif price.cost_p50 == price.cost_p90:
        said += f", {price.cost_p90} USD by its deadline"
    else:
        said += f", {price.cost_p50} USD expected, 9 of 10 below {price.cost_p90} USD"
    if decision.draw is not None and decision.draw.left is not None:
        said += f"; budget {decision.draw.budget.name} had {decision.draw.left} USD left"
    return said


def _audit(decision: Decision) -> dict[str, str]:
    """Annotations of the audit log: what was decided and why, without anything of the object."""
    price = decision.estimate
    found = {
        "decision": decision.outcome,
        "would": decision.would,
        "mode": decision.mode,
        "scope": decision.scope,
        "rules": ",".join(sorted({reason.rule for reason in decision.reasons if reason.lifted_by is None})),
        "exemptions": ",".join(sorted({reason.lifted_by for reason in decision.reasons if reason.lifted_by})),
        "cost-p90-usd": "" if price.cost_p90 is None else str(price.cost_p90),
        "usd-per-hour": "" if price.usd_per_hour is None else str(price.usd_per_hour),
        "budget": decision.draw.budget.name if decision.draw else "",
    }
    return {key: value for key, value in found.items() if value}


def log_entry(asked: Asked, response: Json, now: datetime, seconds: float) -> dict[str, Any]:
    """Return the line of the decision log: who asked for what kind of thing, and the answer; nothing of its contents."""
    request, decision, submission = asked.request, asked.decision, asked.submission
    obj = mapping(request.get("object"))
    return {
        "time": now.isoformat().replace("+00:00", "Z"),
        "uid": asked.uid,
        "key": asked.key,
        "operation": request.get("operation"),
        "kind": kind(obj),
        "namespace": text(request.get("namespace")) or namespace(obj),
        "name": text(request.get("name")) or name(obj),
        "user": text(at(request, "userInfo", "username")),
        "dry_run": bool(request.get("dryRun")),
        "backstop": asked.owner is not None,
        "allowed": at(response, "response", "allowed"),
        **(_audit(decision) if decision else {"decision": "allow"}),
        "missing": sorted({reason.rule for reason in decision.reasons if reason.rule in DIMENSIONS})
        if decision
        else [],
        "gpus": None if submission is None or submission.gpus is None else str(submission.gpus),
        "problem": asked.problem,
        "milliseconds": round(seconds * 1000, 3),
    }
