"""Cards as a monitoring system knows them: who held which card in which step, and how busy it was.

A card that two exporters (or two scrape jobs) tell of is one card. Sharers of a card each repeat the card's own
value, so what one of several used can't be told. Traps and labels: see `core.card_facts`.
"""

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

from gpuledger.core.card_facts import Holder, canonical, holder, own, slice_of, slice_part
from gpuledger.core.metric_series import Series, Window, merged
from gpuledger.core.sharing import claim_share
from gpuledger.core.usage import Sharing
from gpuledger.core.workload.devices import DeviceRequest

_SCALE: Final = Decimal(1).scaleb(-14)
_NODE_LABELS: Final = ("node", "kubernetes_node", "nodename", "Hostname", "hostname")
_TURNS: Final = frozenset({"time-slicing", "mps"})
_ALONE: Final = frozenset({"whole", "mig", "dra"})
_EXPORTED: Final = ("exported_pod", "exported_namespace")


@dataclass(slots=True, eq=False)
class Device:
    """A card, or a MIG slice of the card `uuid`.

    `held` has the steps in which each holder was seen on it. `busy` is from 0 to 1, by holder and step: in a step in
    which a card changes hands, each of both has the mean over its own time. Holder None stands for nobody.
    """

    uuid: str
    slice_id: str | None = None
    profile: str | None = None
    model_name: str | None = None
    nodes: list[str] = field(default_factory=list)
    busy: dict[Holder | None, Mapping[datetime, Decimal]] = field(default_factory=dict)
    held: dict[Holder, set[datetime]] = field(default_factory=lambda: defaultdict(set))
    # Computed once per holder, when `held` is complete.
    _beside: dict[Holder, list[set[datetime]]] = field(default_factory=dict)

    def node(self, known: Container[str]) -> str | None:
        """Return the node that the card is in: a label that names a known node, else the exporter's first word."""
        return next((node for node in self.nodes if node in known), self.nodes[0] if self.nodes else None)

    def sharers(self, one: Holder, when: datetime) -> int:
        """Count who was on it together with `one` in a step. Who was seen with it in that step only took over from it."""
        return 1 + sum(when in steps for steps in self.beside(one))

    def beside(self, one: Holder) -> list[set[datetime]]:
        """Return the steps of those who were on it together with `one`."""
        if one not in self._beside:
            own_steps = self.held[one]
            others = [steps for other, steps in self.held.items() if other != one]
            self._beside[one] = [
                steps for steps in others if len(steps & own_steps) > 1 or steps == own_steps
            ]
        return self._beside[one]


class Hold(NamedTuple):
    """What a container held of cards in one step: with a device a share of it, without one a number of devices."""

    device: str | None
    requested: Decimal | None
    used: Decimal | None
    sharing: Sharing | None
    share: Fraction | None


@lru_cache(1024)
def decimal(share: Fraction) -> Decimal:
    """Return a share with the decimals that quantities have."""
    return rounded(Decimal(share.numerator) / share.denominator)


def rounded(number: Decimal) -> Decimal:
    """Return a quantity with the decimals that the ledger keeps, without idle zeros."""
    kept = number.quantize(_SCALE, ROUND_HALF_EVEN).normalize()
    if -10 < kept < 10:  # noqa: PLR2004 - one digit before the point: no zero there is idle
        return kept
    return kept.quantize(Decimal(1)) if kept.as_tuple().exponent > 0 else kept  # type: ignore[operator]


def devices(window: Window) -> list[Device]:
    """Return the cards and slices that DCGM or HAMi tell of, sorted."""
    found: dict[tuple[str, str | None], Device] = {}
    values: dict[tuple[str, str | None], dict[tuple[Holder | None, str], list[Series]]] = defaultdict(
        lambda: defaultdict(list)
    )
    exported = {
        series.labels.get("job")
        for name in ("gpu_util", "gpu_engine")
        for series in window.series.get(name, ())
        if any(series.labels.get(label) for label in _EXPORTED)
    }
    for name in ("gpu_util", "gpu_engine", "hami"):
        for series in window.series.get(name, ()):
            told = own(series.labels)
            uuid = told.get("UUID") or told.get("deviceuuid") or told.get("device_uuid")
            if uuid is None:
                continue
            slice_id, profile = slice_of(told)
            device = found.setdefault(
                (uuid, slice_id), Device(uuid, slice_id, profile, told.get("modelName"))
            )
            device.nodes += [
                node for label in _NODE_LABELS if (node := told.get(label)) and node not in device.nodes
            ]
            held_by = (
                _hami(told)
                if name == "hami"
                else holder(series.labels, exported=series.labels.get("job") in exported)
            )
            if held_by is not None:
                device.held[held_by].update(series.values)
            values[uuid, slice_id][held_by, name].append(series)
    sliced = {uuid for uuid, slice_id in found if slice_id is not None}
    for (uuid, slice_id), device in found.items():
        said = values[uuid, slice_id]
        for held_by in {one for one, _ in said}:
            engine = _ratios(said[held_by, "gpu_engine"], 1)
            # GPU_UTIL is 0 on a card in MIG mode, whatever runs.
            blind = slice_id is not None or uuid in sliced
            util = {} if blind else _ratios(said[held_by, "gpu_util"], 100)
            device.busy[held_by] = {**engine, **util}
    return [found[key] for key in sorted(found, key=lambda key: (key[0], key[1] or ""))]


def _ratios(series: Sequence[Series], scale: int) -> dict[datetime, Decimal]:
    return {when: value / scale for when, value in merged(series).items() if 0 <= value <= scale}


def _hami(told: Mapping[str, str]) -> Holder | None:
    pod = told.get("podname") or told.get("pod")
    space, container = (
        told.get("podnamespace") or told.get("namespace"),
        told.get("ctrname") or told.get("container"),
    )
    return Holder(space, pod, container) if pod else None


@dataclass(slots=True, eq=False)
class Seat:
    """A holder's place on a device, with what is asked of it step by step at hand."""

    device: Device
    by: Holder
    steps: set[datetime] = field(init=False)
    busy: Mapping[datetime, Decimal] = field(init=False)
    beside: list[set[datetime]] = field(init=False)
    _known: tuple[object, ...] | None = field(init=False, default=None)
    _part: tuple[Fraction | None, Sharing | None, Decimal | None] = field(
        init=False, default=(None, None, None)
    )

    def __post_init__(self) -> None:
        self.steps, self.busy = self.device.held[self.by], self.device.busy.get(self.by, {})
        self.beside = self.device.beside(self.by)

    def hold(self, request: DeviceRequest | None, when: datetime) -> Hold:
        """Return what it is in a step. The part changes with the sharers and the request only."""
        sharers = 1 + (sum(when in steps for steps in self.beside) if self.beside else 0)
        if self._known is None or self._known[0] != sharers or self._known[1] is not request:
            share, sharing = part_of(self.device, self.by, request, when)
            self._part = (share, sharing, None if share is None else decimal(share))
            self._known = (sharers, request)
        share, sharing, size = self._part
        busy = self.busy.get(when)
        alone = sharers == 1 and sharing in _ALONE
        used = None if busy is None or size is None or not alone else rounded(busy * size)
        return Hold(self.device.uuid, size, used, sharing, share)


def holds(held: Sequence[Seat], asked: Sequence[DeviceRequest], when: datetime) -> Iterator[Hold]:
    """Yield what a container had in a step, from the cards that it was seen on and what it asked for."""
    request = asked[0] if asked else None
    for seat in held:
        yield seat.hold(request, when)
    seen = Decimal(len(held))
    for one in asked:
        if held and one.sharing in _TURNS:
            continue  # several turns at one card are one device: its share has them all
        found = Decimal(0) if one.count is None else min(seen, one.count)
        seen -= found
        # Exporters lose labels at times: what was asked for and not seen was held nevertheless.
        if one.count is None or found < one.count:
            yield Hold(None, None if one.count is None else one.count - found, None, one.sharing, one.share)


def part_of(
    device: Device, one: Holder, request: DeviceRequest | None, when: datetime
) -> tuple[Fraction | None, Sharing | None]:
    """Tell which part of the card behind a device a holder has, and how it is shared."""
    sharers = device.sharers(one, when)
    part = (
        Fraction(1) if device.slice_id is None else slice_part(device.profile, canonical(device.model_name))
    )
    if one.claim is not None:
        return (None if part is None else claim_share(sharers, part)), "dra"
    if device.slice_id is not None:
        turns = request.share if request is not None and request.sharing != "mig" else None
        return (part if turns is None or part is None or turns == 1 else min(part, turns)), "mig"
    if request is not None and (request.sharing != "whole" or sharers == 1):
        # Turns at one card that one container took are one device.
        share = request.share
        if share is not None and share < 1 and request.count is not None and request.sharing in _TURNS:
            share = min(Fraction(1), share * Fraction(request.count))
        return share, request.sharing
    # Several on a card that each asked for one: turns, whose number no label tells.
    return (Fraction(1), "whole") if sharers == 1 else (None, "time-slicing")
