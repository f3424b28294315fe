"""What holders held and used, step by step, and how steps that say the same become one interval.

A lane is one holder's hold of one device (or of its cores, or its memory) over all steps.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from gpuledger.core.metric_containers import Containers, Used
from gpuledger.core.metric_devices import Devices, Hold, Seat, holds, rounded, seat_hold
from gpuledger.core.metric_grid import Flags, Ints, changes, exact_units, masks, runs
from gpuledger.core.metric_names import resource_name
from gpuledger.core.metric_nodes import Shape, Shapes
from gpuledger.core.usage import Resource
from gpuledger.core.usage_columns import UNKNOWN, Kind, Owner, UsageColumns
from gpuledger.core.workload.devices import UNKNOWN_CARDS, DeviceRequest, container_devices
from gpuledger.core.workload.fields import gib

_NONE: Final = Decimal(0)
_PLAIN: Final = frozenset({"cpu", "memory"})


@lru_cache(4096)
def _in_gib(size: Decimal) -> Decimal:
    return rounded(gib(size))


class Kinds(dict[Kind, int]):
    """What was held, each kind with a number."""

    def __missing__(self, kind: Kind) -> int:
        self[kind] = found = len(self)
        return found


@dataclass(slots=True)
class Holders:
    """Who holds something, each a row: when that counts, and how. `starts` and `ends` are microseconds."""

    owners: list[Owner]
    alive: Flags
    waits: Flags
    attempts: Ints
    starts: Ints
    ends: Ints


class _Part(NamedTuple):
    """A kind that is held in steps first…past (exclusive); `row` is the row of its use, −1 when that isn't known."""

    first: int
    past: int
    kind: int
    row: int


@dataclass(slots=True)
class _Lane:
    owner: int
    parts: list[_Part] = field(default_factory=list)
    steps: int = 0
    tangled: bool = False


@dataclass(slots=True)
class Lanes:
    """Lanes of cards while they are found."""

    kinds: Kinds
    found: dict[tuple[int, str | None], _Lane] = field(default_factory=dict)

    def add(self, owner: int, first: int, past: int, hold: Hold) -> None:
        """Add what a holder has in steps first…past (exclusive)."""
        device, size, sharing, share, row = hold
        if (lane := self.found.get((owner, device))) is None:
            lane = self.found[owner, device] = _Lane(owner)
        kind = self.kinds[Kind("gpu", device, size, sharing, share)]
        lane.parts.append(_Part(first, past, kind, -1 if row is None else row))
        steps = (1 << past) - (1 << first)
        lane.tangled = lane.tangled or bool(lane.steps & steps)
        lane.steps |= steps


class Requests:
    """Requests for accelerators by what is asked for and the node's cards."""

    def __init__(self, sizes: Sequence[Decimal]) -> None:
        self.sizes = [format(size, "f") for size in sizes]
        self.known: dict[tuple[object, ...], list[DeviceRequest]] = {}

    def of(self, asked: tuple[tuple[str, int], ...], shape: Shape | None) -> list[DeviceRequest]:
        """Return the requests of a container that asks for `asked`: places in the sizes by resource, −1 for none yet."""
        key = (asked, shape and shape.cards)
        if (found := self.known.get(key)) is None:
            sizes = {resource_name(name): self.sizes[size] for name, size in asked if size >= 0}
            cards = shape.node.cards if shape else UNKNOWN_CARDS
            found, _ = container_devices({"requests": sizes}, None, cards)
            self.known[key] = found
        return found


def container_lanes(
    lanes: Lanes, held: Containers, seats: Mapping[tuple[str, str], Sequence[Seat]], shapes: Shapes
) -> None:
    """Add the cards that containers held: those that they were seen on, and those that they asked for besides."""
    steps = held.alive.shape[1]
    requests = Requests(held.sizes)
    amounts = held.amounts.tolist()
    moved = masks(np.diff(held.amounts, axis=1, prepend=-1) != 0)
    alive = masks(held.alive)
    nobody: list[Shape | None] = [None] * steps
    turns: dict[str, int] = {}
    for place, name in enumerate(held.names):
        if not alive[place]:
            continue
        mine = [
            seat
            for seat in seats.get((name.namespace, name.pod), ())
            if seat.by.container in {None, name.container}
            and (seat.by.pod_uid is None or name.uid is None or seat.by.pod_uid == name.uid)
        ]
        asked = [(what, row) for what, row in held.asked[place].items() if what not in _PLAIN]
        if not mine and not asked:
            continue
        node = held.nodes[place] or ""
        known = shapes.get(node, nobody)
        if (edges := turns.get(node)) is None:
            edges = turns[node] = _turns(known)
        for seat in mine:
            edges |= changes(seat.steps)
            for other in seat.beside:
                edges |= changes(other)
        for _, row in asked:
            edges |= moved[row]
        for first, past in runs(edges, steps):
            if alive[place] >> first & ((1 << (past - first)) - 1):
                there = {
                    (seat.device.uuid, seat.device.slice_id): seat for seat in mine if seat.steps >> first & 1
                }
                wanted = requests.of(tuple((what, amounts[row][first]) for what, row in asked), known[first])
                for hold in holds(list(there.values()), wanted, first):
                    lanes.add(place, first, past, hold)


def _turns(shapes: Sequence[Shape | None]) -> int:
    """Return the steps in which a node isn't what it was before."""
    return sum(1 << step for step in range(1, len(shapes)) if shapes[step] is not shapes[step - 1])


def seat_lanes(lanes: Lanes, owner: int, seat: Seat, steps: int) -> None:
    """Add what a holder that only DCGM names had of a device."""
    edges = changes(seat.steps)
    for other in seat.beside:
        edges |= changes(other)
    for first, past in runs(edges, steps):
        if seat.steps >> first & 1:
            lanes.add(owner, first, past, seat_hold(seat, None, first))


class _Cells(NamedTuple):
    """Lanes as arrays: whose each is, and by step what is held (−1: nothing) and how much of it was used."""

    owners: Ints
    kinds: Ints
    used: Ints


def _plain_cells(resource: Resource, kinds: Kinds, held: Containers, used: Used) -> _Cells:
    """Return the lanes of cores or memory, of all containers."""
    rows, units = used
    units = np.concatenate((units, np.full((1, units.shape[1]), UNKNOWN, np.int64)))
    sizes = [_in_gib(size) if resource == "memory" else size for size in held.sizes]
    numbers = [
        kinds[Kind(resource, None, size, None, None)] for size in (*sizes, None)
    ]  # the last for a place of −1
    nothing = kinds[Kind(resource, None, _NONE, None, None)]
    asked = np.array([asked.get(resource, -1) for asked in held.asked], np.int64)
    found = np.full(held.alive.shape, nothing, np.int64)
    found[asked >= 0] = np.array(numbers, np.int64)[held.amounts[asked[asked >= 0]]]
    found[~held.alive] = -1
    mine = [rows.get((name.namespace, name.pod, name.container), -1) for name in held.names]
    return _Cells(np.arange(len(mine)), found, units[np.array(mine, np.int64)])


def _card_cells(lanes: Sequence[_Lane], kinds: Sequence[Kind], devices: Devices, alive: Flags) -> _Cells:
    """Return lanes of cards."""
    steps = alive.shape[1]
    owners = np.array([lane.owner for lane in lanes], np.int64)
    found = np.full((len(lanes), steps), -1, np.int64)
    used = np.full((len(lanes), steps), UNKNOWN, np.int64)
    parts = np.array(
        [(place, *part) for place, lane in enumerate(lanes) for part in lane.parts], np.int64
    ).reshape(-1, 5)
    lengths = parts[:, 2] - parts[:, 1]
    place, first, _, kind, row = np.repeat(parts, lengths, axis=0).T
    step = first + np.arange(first.size) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    found[place, step] = kind
    some = row >= 0
    used[place[some], step[some]] = devices.units[row[some], step[some]]
    whole = np.array([one.requested == 1 for one in kinds], np.bool_)
    for lane, when, what, which in zip(
        *(column[some & ~whole[kind]].tolist() for column in (place, step, kind, row)), strict=True
    ):
        used[lane, when] = _part_used(devices, kinds[what], which, when)
    found[~alive[owners]] = -1
    return _Cells(owners, found, used)


def _part_used(devices: Devices, kind: Kind, row: int, step: int) -> int:
    """Return how much of a card was used by who has a part of it."""
    if row < 0 or devices.busy.places[row, step] < 0 or kind.requested is None:
        return UNKNOWN
    return exact_units(Fraction(devices.busy.number(row, step)) * Fraction(kind.requested))


def usage(
    cluster: str,
    held: Containers,
    holders: Holders,
    lanes: Lanes,
    devices: Devices,
    used: Mapping[Resource, Used],
) -> UsageColumns:
    """Return all intervals: steps that follow each other and say the same are one."""
    kinds = lanes.kinds
    cells = [_plain_cells(resource, kinds, held, told) for resource, told in used.items()]
    listed = list(kinds)
    cells.append(
        _card_cells([one for one in lanes.found.values() if not one.tangled], listed, devices, holders.alive)
    )
    owners, what, use = (np.concatenate(column) for column in zip(*cells, strict=True))
    columns = _joined(owners, what, use, holders)
    rows = [
        row
        for lane in lanes.found.values()
        if lane.tangled
        for row in _untangled(lane, holders, devices, listed)
    ]
    if rows:
        more = np.array(rows, np.int64).T
        columns = [np.concatenate((one, two)) for one, two in zip(columns, more, strict=True)]
    owner, kind, units, attempt, waits, start, end = columns
    return UsageColumns(cluster, holders.owners, listed, owner, kind, units, attempt, waits != 0, start, end)


def _joined(owners: Ints, kinds: Ints, used: Ints, holders: Holders) -> list[Ints]:
    """Return owner, kind, use, attempt, wait, start and end of each interval."""
    attempts, waits = holders.attempts[owners], holders.waits[owners]
    starts, ends = holders.starts[owners], holders.ends[owners]
    there = kinds >= 0
    on = there[:, 1:] & (ends[:, :-1] == starts[:, 1:])
    for said in (kinds, used, attempts, waits):
        on &= said[:, 1:] == said[:, :-1]
    begins, stops = there.copy(), there
    begins[:, 1:] &= ~on
    stops[:, :-1] &= ~on
    row, step = np.nonzero(begins)
    _, last = np.nonzero(stops)
    return [
        owners[row],
        kinds[row, step],
        used[row, step],
        attempts[row, step],
        waits[row, step].astype(np.int64),
        starts[row, step],
        ends[row, last],
    ]


def _untangled(
    lane: _Lane, holders: Holders, devices: Devices, kinds: Sequence[Kind]
) -> Iterator[tuple[int, ...]]:
    """Yield the intervals of a lane that has several kinds at the same time, such as two slices of one card.

    Two alike at the same time stay two: of those that may go on, the eldest does.
    """
    owner = lane.owner
    open_: list[list[int]] = []
    for step in np.flatnonzero(holders.alive[owner]).tolist():
        start, end = int(holders.starts[owner, step]), int(holders.ends[owner, step])
        attempt, waits = int(holders.attempts[owner, step]), int(holders.waits[owner, step])
        for first, past, kind, row in lane.parts:
            if not first <= step < past:
                continue
            use = _part_used(devices, kinds[kind], row, step)
            said = [owner, kind, use, attempt, waits]
            for one in open_:
                if one[-1] == start and one[:-2] == said:
                    one[-1] = end
                    break
            else:
                open_.append([*said, start, end])
        yield from (tuple(one) for one in open_ if one[-1] < end)
        open_ = [one for one in open_ if one[-1] >= end]
    yield from (tuple(one) for one in open_)


def seats_of(devices: Devices) -> dict[tuple[str, str], list[Seat]]:
    """Return the seats of each pod, by namespace and name."""
    found: dict[tuple[str, str], list[Seat]] = {}
    for seat in devices.seats:
        found.setdefault((seat.by.namespace or "", seat.by.pod or ""), []).append(seat)
    return found


def unlisted(seats: Iterable[Seat], listed: set[tuple[str, str]]) -> Iterator[Seat]:
    """Yield seats whose holder only DCGM names: Slurm jobs, and pods where kube-state-metrics is missing."""
    for seat in seats:
        by = seat.by
        if by.pod is None:
            if by.slurm_job is not None:
                yield seat
        elif (by.namespace or "", by.pod) not in listed:
            yield seat
