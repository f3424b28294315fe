"""What one pod held of its node in a window, as usage intervals: cards, cores and memory, requested and not measured."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Final

from gpuledger.core.sharing import claim_share
from gpuledger.core.usage import HoldState, UsageInterval
from gpuledger.core.workload.claims import UNKNOWN, Claims, claim_key
from gpuledger.core.workload.devices import UNKNOWN_CARDS, Cards, DeviceRequest
from gpuledger.core.workload.fields import Json, annotations, items, labels, mapping, text
from gpuledger.core.workload.lifetimes import Interval, PodLife
from gpuledger.core.workload.nodes import NodeShape
from gpuledger.core.workload.pods import PodRequest, pod_request

# Pods by which KAI and Run:ai keep a card for the pods that share it: those are its holders.
_RESERVING: Final = frozenset({"kai-resource-reservation", "runai-reservation"})
_RESERVED: Final = "run.ai/reserve_for_gpu_index"
_GPU_GROUP: Final = "runai-gpu-group"
_SCALE: Final = Decimal(1).scaleb(-14)


@dataclass(slots=True)
class Cluster:
    """What the pods of a cluster have in common while records are made.

    `shapes` are nodes by name, `ended` the lives of nodes that are gone: their pods held nothing afterwards, even if
    another node took the name. `problems` is filled with what isn't known.
    """

    name: str
    shapes: dict[str, list[tuple[datetime, NodeShape]]]
    claims: Claims
    lives: list[PodLife]
    ended: dict[str, list[Interval]]
    problems: dict[str, str] = field(default_factory=dict)
    _classes: dict[str, str] | None = None
    _claimants: dict[str, list[PodLife]] | None = None
    _groups: dict[str, str] | None = None

    def cards(self, node: str | None, when: datetime) -> Cards:
        """Return the cards of a node at a moment; what it showed first holds for the time before."""
        shapes = self.shapes.get(node or "", [])
        before = [shape for since, shape in shapes if since <= when] or [shape for _, shape in shapes[:1]]
        return before[-1].cards if before else UNKNOWN_CARDS

    def until(self, life: PodLife, until: datetime) -> datetime:
        """Return the end of the time in which a pod can have held anything."""
        bound = life.scheduled or life.created
        return min(
            (ended for came, ended in self.ended.get(life.node or "", []) if came <= bound < ended),
            default=until,
        )

    def request(self, pod: Json, cards: Cards) -> PodRequest:
        """Return what a pod asks for on a node with such cards."""
        if self._classes is None:
            self._classes = self.claims.classes()
        return pod_request(pod, self.claims, cards if cards != UNKNOWN_CARDS else None, self._classes)

    def claimants(self, claim: str) -> list[PodLife]:
        """Return the pods that use a claim by name."""
        if self._claimants is None:
            self._claimants = {}
            for life in self.lives:
                for entry in items(mapping(life.pod.get("spec")).get("resourceClaims")):
                    if called := text(entry.get("resourceClaimName")):
                        self._claimants.setdefault(claim_key(life.namespace, called), []).append(life)
        return self._claimants.get(claim, [])

    def reserved_card(self, group: str | None) -> str | None:
        """Return the uuid of the card that a reservation pod keeps for a group of sharing pods."""
        if self._groups is None:
            self._groups = {}
            for life in self.lives:
                if life.namespace in _RESERVING and (card := annotations(life.pod).get(_RESERVED)):
                    self._groups[labels(life.pod).get(_GPU_GROUP, "")] = card
        return self._groups.get(group) if group else None


def usages(
    view: Cluster, life: PodLife, job_id: str, window: Interval, tries: int, waits: Sequence[Interval]
) -> Iterator[UsageInterval]:
    """Yield what a pod held in the window.

    `tries` counts the attempts of its job before it; in `waits` its gang waited for others, so that it was held.
    """
    start, until = window[0], min(window[1], view.until(life, window[1]))
    holds = [
        hold
        for claim in sorted(set(_shared_claims(life)))
        for other in view.claimants(claim)
        if (hold := other.hold(until)) is not None
    ]
    edges = {
        start,
        *(edge for one in (*waits, *holds) for edge in one),
        *(since for since, _ in life.versions[1:]),
    }
    edges |= {since for since, _ in view.shapes.get(life.node or "", [])[1:]}
    spans: list[tuple[Interval, _State]] = []
    for segment in life.segments(until):
        cuts = sorted(
            edge for edge in {segment.start, segment.end, *edges} if segment.start <= edge <= segment.end
        )
        for first, last in pairwise(cut for cut in cuts if cut >= start):
            held = not segment.running or any(one[0] <= first < one[1] for one in waits)
            state = _State(
                pod=(
                    [version for since, version in life.versions if since <= first] or [life.versions[0][1]]
                )[-1],
                cards=view.cards(life.node, first),
                attempt=tries + segment.restart + 1,
                state="held" if held else "running",
                holders=sum(1 for hold in holds if hold[0] <= first < hold[1]),
            )
            if spans and spans[-1][0][1] == first and spans[-1][1] == state:
                spans[-1] = ((spans[-1][0][0], last), state)
            else:
                spans.append(((first, last), state))
    for when, state in spans:
        yield from _rows(view, life, job_id, when, state)


@dataclass(frozen=True, slots=True)
class _State:
    """All that decides what a pod holds: neighbours in time that agree in it are one interval."""

    pod: Json
    cards: Cards
    attempt: int
    state: HoldState
    holders: int


def _rows(
    view: Cluster, life: PodLife, job_id: str, when: Interval, state: _State
) -> Iterator[UsageInterval]:
    request = view.request(state.pod, state.cards)
    if request.problems:
        view.problems[f"{life.namespace}/{life.name}"] = "; ".join(request.problems)
    row = UsageInterval(
        cluster=view.name,
        node=life.node or "",
        job_id=job_id,
        resource="cpu",
        start=when[0],
        end=when[1],
        requested=_scaled(request.cpu_cores),
        namespace=life.namespace,
        pod=life.name,
        pod_uid=life.uid,
        attempt=state.attempt,
        state=state.state,
    )
    yield row
    yield replace(row, resource="memory", requested=_scaled(request.memory_gib))
    if life.namespace in _RESERVING:
        return
    for device in request.devices:
        if not device.resource.startswith(UNKNOWN):
            yield _gpu(view, life, row, device)


def _gpu(view: Cluster, life: PodLife, row: UsageInterval, request: DeviceRequest) -> UsageInterval:
    """Return the row of one request: with a device its share, without one a number of devices of that share."""
    share, device = request.share, request.device
    if request.claim is not None:
        holds = [hold for other in view.claimants(request.claim) if (hold := other.hold(row.end)) is not None]
        holders = sum(1 for hold in holds if hold[0] <= row.start < hold[1])
        share = None if share is None else claim_share(holders, share)
    if device is None and request.resource in {"gpu-fraction", "gpu-memory"} and request.count == 1:
        device = view.reserved_card(labels(life.pod).get(_GPU_GROUP))
    requested = request.count if device is None else None if share is None else _decimal(share)
    return replace(
        row,
        resource="gpu",
        requested=requested,
        container=request.container,
        device=device,
        sharing=request.sharing,
        share=share,
    )


def _shared_claims(life: PodLife) -> list[str]:
    return [
        claim_key(life.namespace, called)
        for entry in items(mapping(life.pod.get("spec")).get("resourceClaims"))
        if (called := text(entry.get("resourceClaimName")))
    ]


def _decimal(share: Fraction) -> Decimal:
    return _scaled(Decimal(share.numerator) / Decimal(share.denominator))


def _scaled(amount: Decimal) -> Decimal:
    """Cut an amount to the decimals of the ledger's tables."""
    return amount if amount == amount.to_integral_value() else amount.quantize(_SCALE, ROUND_HALF_EVEN)
