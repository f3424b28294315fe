"""Cards as a monitoring system knows them: who held which card in which step, and how busy it was.

A card that two exporters (or two scrape jobs) tell of is one card. Sharers of a card each repeat the card's own
value, so what one of several used can't be told. Traps and labels: see `core.card_facts`.
"""

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from gpuledger.core.card_facts import Holder, canonical, holder, slice_of, slice_part
from gpuledger.core.metric_grid import Flags, Grid, Ints, Labels, Values, Window, first_of, in_units, masks
from gpuledger.core.sharing import claim_share
from gpuledger.core.usage import Sharing
from gpuledger.core.workload.devices import DeviceRequest

_SCALE: Final = Decimal(1).scaleb(-14)
_NODE_LABELS: Final = ("node", "kubernetes_node", "nodename", "Hostname", "hostname")
_TURNS: Final = frozenset({"time-slicing", "mps"})
_ALONE: Final = frozenset({"whole", "mig", "dra"})
_EXPORTED: Final = ("exported_pod", "exported_namespace")
# Question -> a ratio is the value over 10 to this power.
_RATIOS: Final = {"gpu_util": 2, "gpu_engine": 0}
_QUESTIONS: Final = (*_RATIOS, "hami")

# Uuid of the card, and the id of its slice or None.
Place = tuple[str, str | None]


@dataclass(slots=True, eq=False)
class Device:
    """A card, or a MIG slice of the card `uuid`. `held` has its holders' rows in `Devices`."""

    uuid: str
    slice_id: str | None = None
    profile: str | None = None
    model_name: str | None = None
    nodes: list[str] = field(default_factory=list)
    held: dict[Holder, int] = field(default_factory=dict)

    def node(self, known: Container[str]) -> str | None:
        """Return the node that the card is in: a label that names a known node, else the exporter's first word."""
        return next((node for node in self.nodes if node in known), self.nodes[0] if self.nodes else None)


@dataclass(slots=True, eq=False)
class Seat:
    """A holder's place on a device. `steps` has a bit for each step in which it was seen there.

    `beside` are the steps of those who were on it together with this holder. Who was seen with it in a single step
    only took over from it.
    """

    device: Device
    by: Holder
    row: int
    steps: int
    beside: tuple[int, ...] = ()

    def sharers(self, step: int) -> int:
        """Count who was on it in a step, this one included."""
        return 1 + sum(steps >> step & 1 for steps in self.beside)


@dataclass(slots=True, eq=False)
class Devices:
    """The cards and slices that DCGM or HAMi tell of, sorted, and a row for each holder of each.

    `busy` is from 0 to 1: in a step in which a card changes hands, each of both has the mean over its own time.
    """

    listed: list[Device]
    seats: list[Seat]
    busy: Values
    units: Ints


class Hold(NamedTuple):
    """What a container held of cards: with a device a share of it, without one a number of devices.

    `row` is the row of `Devices` whose use was this holder's alone, None when what it used can't be told.
    """

    device: str | None
    requested: Decimal | None
    sharing: Sharing | None
    share: Fraction | None
    row: int | None = None


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


def devices(window: Window) -> Devices:
    """Return the cards of a window and their holders."""
    found: dict[Place, Device] = {}
    rows = 0
    grids = {name: window.of(name) for name in _QUESTIONS}
    into: dict[str, Ints] = {}
    exported = {
        labels.get("job")
        for name in _RATIOS
        for labels in grids[name].labels
        if any(labels.get(label) for label in _EXPORTED)
    }
    # Questions about the same cards have the same label sets: each is looked at once.
    known: dict[tuple[int, bool], int] = {}
    for name, grid in grids.items():
        into[name] = np.full(len(grid.labels), -1, np.int64)
        for row, (labels, told) in enumerate(zip(grid.labels, grid.own, strict=True)):
            key = (id(labels), name == "hami")
            if (place := known.get(key)) is None:
                place, rows = _place(found, labels, told, rows, exported=None if name == "hami" else exported)
                known[key] = place
            into[name][row] = place
    listed = [found[key] for key in sorted(found, key=lambda key: (key[0], key[1] or ""))]
    busy = _busy(grids, into, _blind(listed, rows))
    return Devices(listed, _seats(listed, _known(grids, into, rows)), busy, in_units(busy))


def _place(
    found: dict[Place, Device],
    labels: Labels,
    told: Labels,
    rows: int,
    *,
    exported: Container[str | None] | None,
) -> tuple[int, int]:
    """Return the row that a series goes into, −1 for none, and how many rows there are now.

    `exported` are the scrape jobs that say `exported_pod`; None for HAMi, whose labels are its own.
    """
    if (device := _device(found, told)) is None:
        return -1, rows
    by = _hami(told) if exported is None else holder(labels, told, exported=labels.get("job") in exported)
    if by is None:
        return -1, rows
    place = device.held.setdefault(by, rows)
    return place, rows + (place == rows)


def _device(found: dict[Place, Device], told: Labels) -> Device | None:
    uuid = told.get("UUID") or told.get("deviceuuid") or told.get("device_uuid")
    if uuid is None:
        return None
    slice_id, profile = slice_of(told)
    if (device := found.get((uuid, slice_id))) is None:
        device = found[uuid, slice_id] = Device(uuid, slice_id, profile, told.get("modelName"))
    for label in _NODE_LABELS:
        if (node := told.get(label)) and node not in device.nodes:
            device.nodes.append(node)
    return device


def _hami(told: Labels) -> Holder | None:
    pod = told.get("podname") or told.get("pod")
    space, container = (
        told.get("podnamespace") or told.get("namespace"),
        told.get("ctrname") or told.get("container"),
    )
    return Holder(space, pod, container) if pod else None


def _blind(listed: Iterable[Device], rows: int) -> Flags:
    """Tell of which holders GPU_UTIL says nothing: it is 0 on a card in MIG mode, whatever runs."""
    blind = np.zeros(rows, np.bool_)
    sliced = {device.uuid for device in listed if device.slice_id is not None}
    for device in listed:
        if device.uuid in sliced:
            blind[list(device.held.values())] = True
    return blind


def _busy(grids: Mapping[str, Grid], into: Mapping[str, Ints], blind: Flags) -> Values:
    """Return how busy each holder's card was: by GPU_UTIL, or by the engine where that says nothing."""
    found: list[Values] = []
    for name, less in _RATIOS.items():
        said = first_of(grids[name], into[name], blind.size)
        # 0 <= digits / 10**places <= 10**less; with 18 places all values are small enough.
        most = 10 ** np.clip(said.places + less, 0, 18)
        right = said.known & (said.digits >= 0) & (said.digits <= most)
        found.append(Values(said.digits, np.where(right, said.places + less, -1)))
    util, engine = found
    util.places[blind] = -1
    return Values(
        np.where(util.known, util.digits, engine.digits), np.where(util.known, util.places, engine.places)
    )


def _known(grids: Mapping[str, Grid], into: Mapping[str, Ints], rows: int) -> list[int]:
    """Return the steps in which each holder was seen."""
    found = [0] * rows
    for name, grid in grids.items():
        for place, steps in zip(into[name].tolist(), masks(grid.values.known), strict=True):
            if place >= 0:
                found[place] |= steps
    return found


def _seats(listed: Iterable[Device], steps: Sequence[int]) -> list[Seat]:
    seats: list[Seat] = []
    for device in listed:
        mine = [Seat(device, by, row, steps[row]) for by, row in device.held.items()]
        seats += mine
        if len(mine) > 1:
            for seat in mine:
                seat.beside = tuple(
                    other.steps
                    for other in mine
                    if other is not seat
                    and ((other.steps & seat.steps).bit_count() > 1 or other.steps == seat.steps)
                )
    return seats


def holds(held: Sequence[Seat], asked: Sequence[DeviceRequest], step: int) -> Iterator[Hold]:
    """Yield what a container had in a step, from the cards that it was seen on and what it asked for."""
    request = asked[0] if asked else None
    for seat in held:
        yield seat_hold(seat, request, step)
    seen = Decimal(len(held))
    for one in asked:
        if held and one.sharing in _TURNS:
            continue  # several turns at one card are one device: its share has them all
        found = Decimal(0) if one.count is None else min(seen, one.count)
        seen -= found
        # Exporters lose labels at times: what was asked for and not seen was held nevertheless.
        if one.count is None or found < one.count:
            yield Hold(None, None if one.count is None else one.count - found, one.sharing, one.share)


def seat_hold(seat: Seat, request: DeviceRequest | None, step: int) -> Hold:
    """Return what a holder has of a device in a step."""
    sharers = seat.sharers(step)
    share, sharing = part_of(seat.device, seat.by, request, sharers)
    size = None if share is None else decimal(share)
    alone = size is not None and sharers == 1 and sharing in _ALONE
    return Hold(seat.device.uuid, size, sharing, share, seat.row if alone else None)


def part_of(
    device: Device, one: Holder, request: DeviceRequest | None, sharers: int
) -> tuple[Fraction | None, Sharing | None]:
    """Tell which part of the card behind a device a holder has, and how it is shared."""
    part = _WHOLE if device.slice_id is None else slice_part(device.profile, canonical(device.model_name))
    if one.claim is not None:
        return (None if part is None else claim_share(sharers, part)), "dra"
    if device.slice_id is not None:
        turns = request.share if request is not None and request.sharing != "mig" else None
        return (part if turns is None or part is None or turns == 1 else min(part, turns)), "mig"
    if request is not None and (request.sharing != "whole" or sharers == 1):
        # Turns at one card that one container took are one device.
        share = request.share
        if share is not None and share < 1 and request.count is not None and request.sharing in _TURNS:
            share = min(_WHOLE, share * Fraction(request.count))
        return share, request.sharing
    # Several on a card that each asked for one: turns, whose number no label tells.
    return (_WHOLE, "whole") if sharers == 1 else (None, "time-slicing")


_WHOLE: Final = Fraction(1)
