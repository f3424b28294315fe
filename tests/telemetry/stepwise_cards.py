"""Cards step by step, one value after the other: the plain way to tell what `core.metric_devices` tells in columns.

Tests compare both on the same series. Which part of a card a holder has (`part_of`) is asked of the code under test.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from operator import itemgetter
from typing import Any, NamedTuple

from gpuledger.core.card_facts import Holder, holder, own, slice_of
from gpuledger.core.metric_devices import Device as Card
from gpuledger.core.metric_devices import decimal, part_of, rounded
from gpuledger.core.metric_names import resource_name
from gpuledger.core.metric_series import Series
from gpuledger.core.usage import HoldState, Resource, Sharing
from gpuledger.core.workload.devices import UNKNOWN_CARDS, DeviceRequest, container_devices
from gpuledger.core.workload.nodes import NodeShape

Interval = tuple[datetime, datetime]
NODE_LABELS = ("node", "kubernetes_node", "nodename", "Hostname", "hostname")
TURNS = frozenset({"time-slicing", "mps"})
ALONE = frozenset({"whole", "mig", "dra"})


@dataclass(frozen=True, slots=True)
class Window:
    """What was asked for [start, end): `series` by the name of the question. `cluster` names what all of it is about."""

    cluster: str
    start: datetime
    end: datetime
    step: timedelta
    series: Mapping[str, Sequence[Series]] = field(default_factory=dict)

    @property
    def steps(self) -> list[datetime]:
        """Starts of the steps."""
        count = (self.end - self.start) // self.step
        return [self.start + self.step * place for place in range(count)]

    def of(self, *names: str) -> Iterator[tuple[dict[str, str], Series]]:
        """Yield the series of these questions with the labels that they had at the exporter."""
        for name in names:
            for series in self.series.get(name, ()):
                yield own(series.labels), series


def merged(
    found: Iterable[Series], join: Callable[[Decimal, Decimal], Decimal] | None = None
) -> dict[datetime, Decimal]:
    """Make one of several series about the same thing; where two have a step, the first counts, or `join` of both.

    Their order is that of their labels, so that the same scrapes give the same result every time.
    """
    several = list(found)
    if len(several) == 1:
        return dict(several[0].values)
    values: dict[datetime, Decimal] = {}
    for series in sorted(several, key=lambda one: sorted(one.labels.items())):
        for when, value in series.values.items():
            if when not in values:
                values[when] = value
            elif join is not None:
                values[when] = join(values[when], value)
    return values


def spans(steps: Iterable[datetime], step: timedelta) -> list[Interval]:
    """Join steps that follow each other to intervals."""
    found: list[Interval] = []
    for when in sorted(steps):
        if found and found[-1][1] == when:
            found[-1] = (found[-1][0], when + step)
        else:
            found.append((when, when + step))
    return found


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

    def node(self, known: Mapping[str, object]) -> str | None:
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
        if any(series.labels.get(label) for label in ("exported_pod", "exported_namespace"))
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
                node for label in NODE_LABELS if (node := told.get(label)) and node not in device.nodes
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
            card = Card(self.device.uuid, self.device.slice_id, self.device.profile, self.device.model_name)
            share, sharing = part_of(card, self.by, request, sharers)
            self._part = (share, sharing, None if share is None else decimal(share))
            self._known = (sharers, request)
        share, sharing, size = self._part
        busy = self.busy.get(when)
        alone = sharers == 1 and sharing in ALONE
        used = None if busy is None or size is None or not alone else rounded(busy * size)
        return Hold(self.device.uuid, size, used, sharing, share)


def holds(held: Sequence[Seat], asked: Sequence[DeviceRequest], when: datetime) -> Iterator[Hold]:
    """Yield what a container had in a step, from the cards that it was seen on and what it asked for."""
    request = asked[0] if asked else None
    for seat in held:
        yield seat.hold(request, when)
    seen = Decimal(len(held))
    for one in asked:
        if held and one.sharing in TURNS:
            continue  # several turns at one card are one device: its share has them all
        found = Decimal(0) if one.count is None else min(seen, one.count)
        seen -= found
        # Exporters lose labels at times: what was asked for and not seen was held nevertheless.
        if one.count is None or found < one.count:
            yield Hold(None, None if one.count is None else one.count - found, None, one.sharing, one.share)


# Node, job, pod, container, namespace and uid of the pod.
Owner = tuple[str, str, str | None, str | None, str | None, str | None]
# Resource, device, requested, used, sharing, share, attempt, state.
What = tuple[
    Resource, str | None, Decimal | None, Decimal | None, Sharing | None, Fraction | None, int, HoldState
]
Piece = tuple[datetime, datetime, What]


class Cards:
    """The cards that one container held, step by step."""

    def __init__(
        self,
        shapes: Mapping[datetime, NodeShape],
        seen: Iterable[tuple[Device, Holder]],
        container: str,
        uid: str | None,
    ) -> None:
        self.shapes, self.container = shapes, container
        self.seats = [
            Seat(device, at)
            for device, at in seen
            if at.container in {None, container} and (at.pod_uid is None or uid is None or at.pod_uid == uid)
        ]
        places = {(seat.device.uuid, seat.device.slice_id) for seat in self.seats}
        self.distinct = len(places) == len(self.seats)
        self.known: tuple[object, object] | None = None
        self.requests: list[DeviceRequest] = []

    def at(self, when: datetime, asked: Mapping[str, Decimal | None]) -> Iterable[Hold]:
        """Return what it held in a step."""
        held = [seat for seat in self.seats if when in seat.steps]
        if not self.distinct:
            held = list({(seat.device.uuid, seat.device.slice_id): seat for seat in held}.values())
        shape = self.shapes.get(when)
        if self.known is None or self.known[0] is not shape or self.known[1] != asked:
            self.known = (shape, asked)
            sizes = {
                resource_name(name): format(size, "f") for name, size in asked.items() if size is not None
            }
            self.requests, _ = container_devices(
                {"requests": sizes}, self.container, shape.cards if shape else UNKNOWN_CARDS
            )
        return holds(held, self.requests, when) if held or self.requests else ()


def joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Join pieces that follow each other in time and say the same, in order of resource, device and start.

    Pieces of the same device come in order of time. Two alike at the same time stay two.
    """
    last: dict[tuple[str, str], list[list[Any]]] = {}
    found: dict[tuple[str, str], list[list[Any]]] = defaultdict(list)
    for start, end, what in pieces:
        key = (what[0], what[1] or "")
        before = last.get(key, ())
        for one in before:
            if one[1] == start and one[2] == what:
                one[1] = end
                break
        else:
            new = [start, end, what]
            found[key].append(new)
            last[key] = [*(one for one in before if one[1] >= start), new]
    for _, pieces_of in sorted(found.items(), key=itemgetter(0)):
        for one in sorted(pieces_of, key=itemgetter(0)):
            yield one[0], one[1], one[2]
