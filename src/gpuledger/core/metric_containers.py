"""The containers of a window: when they were there, what they asked for and used, from kube-state-metrics and cAdvisor."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

import numpy as np

from gpuledger.core.metric_grid import (
    DIGITS,
    Flags,
    Grid,
    Ints,
    Values,
    Window,
    exact_units,
    first_of,
    gib_units,
    in_units,
    layers,
)
from gpuledger.core.usage_columns import UNKNOWN, micros

_MICROSECOND: Final = timedelta(microseconds=1)
_LAST: Final = 10.0**11  # seconds: what is later is no time
_STATE_METRICS: Final = ("phase", "running", "requests")
# What a pod was in a step, by rank: one that was Pending and then Running was running.
_NEITHER, _PENDING, _RUNNING, _OTHER = range(4)
_PHASES: Final = {"Pending": _PENDING, "Running": _RUNNING}


class Name(NamedTuple):
    """A container of a pod."""

    namespace: str
    pod: str
    uid: str | None
    container: str


@dataclass(slots=True)
class Containers:
    """Containers, each a row of the arrays.

    `asked` has for each what it asked for: the row of `amounts` by resource. An amount is a place in `sizes`, and as
    it was before where nobody said; −1 where nobody had said yet. `starts` and `ends` are microseconds: the part of
    each step in which the pod was there.
    """

    names: list[Name]
    nodes: list[str | None]
    alive: Flags
    waits: Flags
    attempts: Ints
    asked: list[dict[str, int]]
    amounts: Ints
    sizes: list[Decimal]
    starts: Ints
    ends: Ints


@dataclass(slots=True)
class _Reading:
    """Containers while they are found."""

    places: dict[Name, int] = field(default_factory=dict)
    nodes: list[str | None] = field(default_factory=list)
    asked: list[dict[str, int]] = field(default_factory=list)
    rows: int = 0

    def read(self, grid: Grid, *, requests: bool) -> Ints:
        """Return where each series goes: to its container, or to a row for what that asks of a resource."""
        into = np.empty(len(grid.labels), np.int64)
        for row, labels in enumerate(grid.own):
            get = labels.get
            name = Name(get("namespace", ""), get("pod", ""), get("uid"), get("container", ""))
            if (place := self.places.get(name)) is None:
                place = self.places[name] = len(self.nodes)
                self.nodes.append(None)
                self.asked.append({})
            if node := get("node"):
                self.nodes[place] = node
            if requests:
                resource = get("resource", "")
                asked = self.asked[place]
                if (place := asked.get(resource, -1)) < 0:
                    place = asked[resource] = self.rows
                    self.rows += 1
            into[row] = place
        return into


def blind(window: Window) -> list[tuple[int, int]]:
    """Return first and past step of the times in which no metric of kube-state-metrics was scraped."""
    seen = np.zeros(window.steps, np.bool_)
    for name in _STATE_METRICS:
        seen |= window.of(name).values.known.any(axis=0)
    edges = np.flatnonzero(np.diff(np.concatenate(([True], seen, [True])).astype(np.int8)))
    return [(int(first), int(past)) for first, past in edges.reshape(-1, 2)]


def containers(window: Window, gaps: Sequence[tuple[int, int]]) -> Containers:
    """Return the containers of a window. A step of a gap counts as alive when those before and after it do."""
    reading = _Reading()
    grids = [window.of(name) for name in ("requests", "running", "restarts")]
    into = [reading.read(grid, requests=place == 0) for place, grid in enumerate(grids)]
    names, count = list(reading.places), len(reading.places)
    requests = first_of(grids[0], into[0], reading.rows)
    running = first_of(grids[1], into[1], count)
    seen = running.known
    owners = np.array([place for place, asked in enumerate(reading.asked) for _ in asked], np.int64)
    rows = np.array([row for asked in reading.asked for row in asked.values()], np.int64)
    for some, at in layers(owners):
        seen[at] |= requests.known[rows[some]]
    phases = _phases(window, names)
    alive = seen & ((phases < 0) | (phases == _PENDING) | (phases == _RUNNING))
    placed = _nodes(window, reading)
    alive[np.array([node is None for node in placed], np.bool_)] = False
    for first, past in gaps:
        if first > 0 and past < window.steps:
            alive[:, first:past] |= (alive[:, first - 1] & alive[:, past])[:, None]
    amounts, sizes = _numbered(requests)
    starts, ends = _clipped(window, names)
    return Containers(
        names=names,
        nodes=placed,
        alive=alive,
        waits=(phases == _PENDING) | (running.known & (running.digits == 0)),
        attempts=_attempts(grids[2], into[2], count),
        asked=reading.asked,
        amounts=amounts,
        sizes=sizes,
        starts=starts,
        ends=ends,
    )


def _nodes(window: Window, reading: _Reading) -> list[str | None]:
    known = {
        (labels.get("namespace"), labels.get("pod")): node
        for labels in window.of("pod_info").own
        if (node := labels.get("node"))
    }
    return [
        node or known.get((name.namespace, name.pod))
        for name, node in zip(reading.places, reading.nodes, strict=True)
    ]


def _phases(window: Window, names: Sequence[Name]) -> Ints:
    """Return the phase of each container's pod, −1 where nobody said."""
    grid = window.of("phase")
    places: dict[tuple[str, str, str | None], int] = {}
    into = np.empty(len(grid.labels), np.int64)
    ranks = np.empty((len(grid.labels), 1), np.int64)
    for row, labels in enumerate(grid.own):
        key = (labels.get("namespace", ""), labels.get("pod", ""), labels.get("uid"))
        into[row] = places.setdefault(key, len(places))
        ranks[row] = _PHASES.get(labels.get("phase", ""), _OTHER)
    found = np.full((len(places) + 1, window.steps), -1, np.int64)  # the last is nobody's
    values = grid.values
    said = np.where(values.known, np.where(values.digits > 0, ranks, _NEITHER), -1)
    for rows, at in layers(into):
        found[at] = np.maximum(found[at], said[rows])
    return found[[places.get((name.namespace, name.pod, name.uid), -1) for name in names]]


def _attempts(grid: Grid, into: Ints, count: int) -> Ints:
    """Return one more than the restarts; 1 where nobody counted them."""
    values = grid.values
    restarts = values.digits // 10 ** np.clip(values.places, 0, DIGITS)
    found = np.ones((count, values.digits.shape[1]), np.int64)
    for rows, at in layers(into):
        found[at] = np.maximum(found[at], np.where(values.known[rows], restarts[rows] + 1, 1))
    return found


def _numbered(values: Values) -> tuple[Ints, list[Decimal]]:
    """Number the values that differ. A step without one has the last before it, −1 when there is none."""
    digits, places, known = values.digits, values.places, values.known
    moved = known.copy()
    moved[:, 1:] &= ~known[:, :-1] | (digits[:, 1:] != digits[:, :-1]) | (places[:, 1:] != places[:, :-1])
    numbers: dict[Decimal, int] = {}
    pairs: dict[tuple[int, int], int] = {}
    cells = np.flatnonzero(moved)
    found = np.full(digits.size + 1, -1, np.int64)  # the last is for steps before the first value
    for cell, *pair in zip(
        cells.tolist(), digits.flat[cells].tolist(), places.flat[cells].tolist(), strict=True
    ):
        key = (pair[0], pair[1])
        if (number := pairs.get(key)) is None:
            size = Decimal(key[0]).scaleb(-key[1])
            number = pairs[key] = numbers.setdefault(size, len(numbers))
        found[cell] = number
    at = np.where(moved, np.arange(digits.size).reshape(digits.shape), -1)
    return found[np.maximum.accumulate(at, axis=1)] if at.size else at, list(numbers)


Moments = Mapping[tuple[str, str], Mapping[str | None, int]]


def _moments(grid: Grid) -> Moments:
    """Return what times are told of pods, in microseconds, by namespace and name, then by uid."""
    found: dict[tuple[str, str], dict[str | None, int]] = defaultdict(dict)
    digits, places = grid.values.digits.tolist(), grid.values.places.tolist()
    for row, labels in enumerate(grid.own):
        told = [
            seconds
            for number, power in zip(digits[row], places[row], strict=True)
            if power >= 0 and (seconds := number / 10**power) < _LAST
        ]
        if told:
            place = (labels.get("namespace", ""), labels.get("pod", ""))
            found[place][labels.get("uid")] = timedelta(seconds=max(told)) // _MICROSECOND
    return found


def _clipped(window: Window, names: Sequence[Name]) -> tuple[Ints, Ints]:
    """Return the part of each step in which each container's pod was there. Times from a clock that is off don't count."""
    began, told_ends = _moments(window.of("pod_start")), _moments(window.of("pod_end"))
    begin, length = micros(window.start), window.step // _MICROSECOND
    past = micros(window.end)
    row = begin + length * np.arange(window.steps)
    starts = np.repeat(row[None, :], len(names), axis=0)
    ends = starts + length
    nobody: Mapping[str | None, int] = {}
    for place, name in enumerate(names):
        pod = (name.namespace, name.pod)
        others = began.get(pod, nobody)
        first, last = others.get(name.uid), told_ends.get(pod, nobody).get(name.uid)
        if first is not None and begin < first < past and (first - begin) % length:
            starts[place, (first - begin) // length] = first
        stops = [] if last is None else [last]
        if first is not None and len(others) > 1:
            # A stateful set's next pod has the name of the last, which must have gone before it came.
            stops += [when for uid, when in others.items() if uid != name.uid and when > first]
        for stop in stops:
            if begin < stop < past:
                step = (stop - begin) // length
                if starts[place, step] < stop < ends[place, step]:
                    ends[place, step] = stop
    return starts, ends


Used = tuple[dict[tuple[str, str, str], int], Ints]


def used(window: Window, question: str) -> Used:
    """Return the row of each container, by namespace, pod and name, and what it used in units: cores or GiB.

    Its restarts are cgroups of their own: CPU adds up, memory is the larger of both.
    """
    grid = window.of(question)
    rows: dict[tuple[str, str, str], int] = {}
    groups: dict[tuple[int, str], int] = {}
    into = np.full(len(grid.labels), -1, np.int64)
    for row, labels in enumerate(grid.own):
        if (container := labels.get("container")) and container != "POD":
            key = (labels.get("namespace", ""), labels.get("pod", ""), container)
            group = (rows.setdefault(key, len(rows)), labels.get("id", ""))
            into[row] = groups.setdefault(group, len(groups))
    values = first_of(grid, into, len(groups))
    owners = np.array([row for row, _ in groups], np.int64)
    found = np.full((len(rows), window.steps), UNKNOWN, np.int64)
    units = in_units(values) if question == "cpu" else gib_units(values)
    several = np.zeros(found.shape, np.int64)
    for some, at in layers(owners):
        found[at] = np.maximum(found[at], units[some])
        several[at] += values.known[some]
    if question == "cpu":
        _add(found, np.argwhere(several > 1), owners, values)
    return rows, found


def _add(found: Ints, cells: Ints, owners: Ints, values: Values) -> None:
    """Add up exactly what several cgroups used in the same step."""
    groups: dict[int, list[int]] = defaultdict(list)
    if cells.size:
        for group, row in enumerate(owners.tolist()):
            groups[row].append(group)
    for row, step in cells.tolist():
        known = [group for group in groups[row] if values.places[group, step] >= 0]
        found[row, step] = exact_units(
            sum((Fraction(values.number(group, step)) for group in known), Fraction(0))
        )
