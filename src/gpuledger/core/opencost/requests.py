"""Requests for allocations, as values: every parameter read, checked and given its meaning.

Parameters that clients send and that change nothing here are known (`IGNORED`), so that the rest can be told to the
client as not understood instead of being passed over in silence.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Final

from gpuledger.core.opencost import BadParameterError
from gpuledger.core.opencost.filters import (
    Comparison,
    Everything,
    Filter,
    Vocabulary,
    both,
    parse,
    parse_v1,
)
from gpuledger.core.opencost.properties import V1, VOCABULARY, parse_aggregate
from gpuledger.core.opencost.sharing import Split
from gpuledger.core.opencost.windows import (
    Accumulate,
    Span,
    parse_accumulate,
    parse_bool,
    parse_step,
    parse_window,
    sets,
)

IGNORED: Final = frozenset({
    "resolution", "metrics", "sharelb", "reconcile", "reconcileNetwork", "external", "costUnit", "rate", "tenantId",
    "shareTenancyCosts", "disableAdjustments", "_",
})  # fmt: skip
ALLOCATION: Final = frozenset({
    "window", "aggregate", "step", "accumulate", "accumulateBy", "includeIdle", "idle", "idleByNode", "splitIdle",
    "shareIdle", "shareNamespaces", "shareLabels", "shareCost", "shareSplit", "includeSharedCostBreakdown",
    "includeProportionalAssetResourceCosts", "includeAggregatedMetadata", "filter", "limit", "offset", "exact",
    "currency", *V1, *IGNORED,
})  # fmt: skip
_HOURS_PER_MONTH: Final = 730


@dataclass(frozen=True, slots=True)
class AllocationRequest:
    """What somebody wants to know of allocations.

    `shared` picks what is shared among the rest, by the name of the shared thing; `share_cost` is an amount a month.
    `limit` None: all.
    """

    span: Span
    sets: tuple[Span, ...]
    aggregate: tuple[str, ...]
    filter: Filter
    include_idle: bool
    idle_by_node: bool
    split_idle: bool
    share_idle: Split | None
    shared: Mapping[str, Filter]
    share_cost: Decimal | None
    share_split: Split
    breakdown: bool
    proportional: bool
    metadata: bool
    exact: bool
    currency: str | None
    limit: int | None
    offset: int

    def monthly_share(self, span: Span) -> Decimal:
        """Return the part of `share_cost` that a set of this length has, at 730 hours a month."""
        seconds = int((span.end - span.start).total_seconds())
        amount = (self.share_cost or Decimal(0)) * seconds / (_HOURS_PER_MONTH * 3600)
        return amount.quantize(Decimal("1e-18"))


def allocation(given: Mapping[str, str], now: datetime) -> AllocationRequest:
    """Read the parameters of /allocation and its kin. Raises BadParameterError that names the first bad one."""
    span = parse_window(given.get("window", ""), now)
    idle = "idle" if "idle" in given and "includeIdle" not in given else "includeIdle"
    include_idle = parse_bool(given.get(idle), idle)
    proportional = parse_bool(
        given.get("includeProportionalAssetResourceCosts"), "includeProportionalAssetResourceCosts"
    )
    if proportional and not include_idle:
        raise BadParameterError(
            "includeProportionalAssetResourceCosts",
            "shares of whole machines need their idle cost",
            hint="Add includeIdle=true.",
        )
    parse_step(given.get("resolution"), "resolution")
    return AllocationRequest(
        span=span,
        sets=tuple(
            sets(span, parse_step(given.get("step")), _accumulate(given)),
        ),
        aggregate=parse_aggregate(given.get("aggregate")),
        filter=filters(given, VOCABULARY, V1),
        include_idle=include_idle,
        idle_by_node=parse_bool(given.get("idleByNode"), "idleByNode"),
        split_idle=parse_bool(given.get("splitIdle"), "splitIdle"),
        share_idle=_share_idle(given.get("shareIdle")),
        shared={**_namespaces(given.get("shareNamespaces")), **_labels(given.get("shareLabels"))},
        share_cost=_money(given.get("shareCost"), "shareCost"),
        share_split=_split(given.get("shareSplit") or "weighted", "shareSplit"),
        breakdown=parse_bool(given.get("includeSharedCostBreakdown"), "includeSharedCostBreakdown"),
        proportional=proportional,
        metadata=parse_bool(given.get("includeAggregatedMetadata"), "includeAggregatedMetadata"),
        exact=parse_bool(given.get("exact"), "exact"),
        currency=given.get("currency", "").strip().upper() or None,
        limit=parse_count(given.get("limit"), "limit") or None,
        offset=parse_count(given.get("offset"), "offset"),
    )


def _accumulate(given: Mapping[str, str]) -> Accumulate:
    by = parse_accumulate(given.get("accumulateBy"), "accumulateBy")
    return by or parse_accumulate(given.get("accumulate"))


def filters(given: Mapping[str, str], vocabulary: Vocabulary, v1: Mapping[str, str]) -> Filter:
    """Read the v2 filter and the v1 filters of a request; both must hold."""
    old = {name: given[name] for name in v1 if given.get(name)}
    return both(parse(given.get("filter"), vocabulary), parse_v1(old, v1) if old else Everything)


def parse_count(text: str | None, parameter: str) -> int:
    """Read a number that isn't negative; 0 when there is none."""
    text = (text or "").strip()
    if not text:
        return 0
    if not text.isascii() or not text.isdigit() or len(text) > 9:  # noqa: PLR2004  # a billion rows is no page
        raise BadParameterError(parameter, f"{text!r} is no count", hint="Use 0 or a whole number above.")
    return int(text)


def parse_choice(text: str | None, choices: Mapping[str, str], parameter: str, default: str) -> str:
    """Read one of some words, in any case; `choices` maps lower-case words to what they mean."""
    word = (text or "").strip() or default
    found = choices.get(word.lower())
    if found is None:
        raise BadParameterError(parameter, f"no {word!r}", hint=f"Use {', '.join(choices.values())}.")
    return found


def not_understood(given: Mapping[str, str], known: frozenset[str]) -> str | None:
    """Return what to tell the client of parameters that nobody here knows."""
    strange = sorted(set(given) - known)
    return f"parameters that change nothing here: {', '.join(strange)}" if strange else None


def _share_idle(text: str | None) -> Split | None:
    word = (text or "").strip().strip("_").lower()
    if word in {"weighted", "even"}:
        return _split(word, "shareIdle")
    if word == "none":
        return None
    return "weighted" if parse_bool(text, "shareIdle") else None


def _split(text: str, parameter: str) -> Split:
    word = text.strip().strip("_").lower()
    if word == "weighted":
        return "weighted"
    if word == "even":
        return "even"
    raise BadParameterError(parameter, f"can't split by {text!r}", hint="Use weighted or even.")


def _namespaces(text: str | None) -> dict[str, Filter]:
    names = [part.strip() for part in (text or "").split(",") if part.strip()]
    return {name: Comparison("namespace", "equals", name) for name in names}


def _labels(text: str | None) -> dict[str, Filter]:
    found: dict[str, Filter] = {}
    for pair in (part.strip() for part in (text or "").split(",") if part.strip()):
        name, colon, value = pair.partition(":")
        if not colon:
            raise BadParameterError("shareLabels", f"{pair!r} is no name:value pair")
        found[pair] = Comparison("label", "equals", value.strip(), name.strip())
    return found


def _money(text: str | None, parameter: str) -> Decimal | None:
    if not (text or "").strip():
        return None
    try:
        amount = Decimal(text or "")
    except InvalidOperation as error:
        raise BadParameterError(parameter, f"{text!r} is no amount", hint="Write 30.42.") from error
    if not amount.is_finite() or abs(amount) > Decimal(10) ** 15:
        raise BadParameterError(parameter, f"{text!r} is no amount", hint="Write 30.42.")
    return amount or None
