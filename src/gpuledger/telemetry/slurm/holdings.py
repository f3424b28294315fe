"""What an attempt held of each node, and for how long: UsageIntervals.

AllocTRES is the whole job's. Slurm doesn't keep each node's part, so it is told from the batch step (its node's part,
exactly), from the controller (running jobs), from what each node can hold, and else spread evenly; the sum over nodes
is always the job's. `gres/gpu` is the sum of its types: never both.

Suspended jobs give back their CPUs, not their memory or GPUs (gres.html, select/cons_tres): that time is `held`.
Accounting says how long, not when: it is put at the end of the attempt.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from gpuledger.core.sharing import mig_share
from gpuledger.core.usage import HoldState, Resource, Sharing, UsageInterval
from gpuledger.prices.accelerators import accelerator
from gpuledger.telemetry.slurm import notation
from gpuledger.telemetry.slurm.attempts import Place
from gpuledger.telemetry.slurm.records import Allocation, Notes, Step

_MEBIBYTES: Final = Decimal(1024)
_DECIMALS: Final = Decimal("1e-14")


@dataclass(frozen=True, slots=True)
class Window:
    """The time to tell of, Unix seconds, half-open; `now` is when Slurm was asked, the end of what still runs."""

    since: int
    until: int
    now: int


@dataclass(frozen=True, slots=True)
class _Device:
    """One kind of GPU resource: whole cards, MIG slices of one profile, shards or MPS percents of a card."""

    key: str
    sharing: Sharing
    profile: str | None = None


# A node's generic resources by name, such as {'gpu:h100': 8, 'shard': 64}; nodes that aren't known are absent.
Shapes = Mapping[str, Mapping[str, int]]


def intervals(
    record: Allocation, place: Place, shapes: Shapes, window: Window, notes: Notes
) -> Iterator[UsageInterval]:
    """Yield what a record held inside the window: a row per node and resource, and per kind of GPU."""
    if not record.tres or record.start is None or record.state == "REVOKED":
        return  # waiting, or the job of a federation that another cluster ran
    spans = list(_spans(record, place, window, notes))
    if not spans:
        return
    try:
        nodes = notation.nodes(record.nodes)
    except ValueError as error:
        notes.add("slurm-bad-row", "error", "a line can't be read", f"job {record.display}: {error}")
        return
    if not nodes:
        notes.add(
            "slurm-job-nowhere",
            "error",
            "a job held resources and accounting doesn't say where",
            f"job {record.display}",
        )
        return
    held = list(_held(record, nodes, shapes, notes))
    used = _used(record, nodes)
    for state, start, end in spans:
        for node, resource, requested, sharing, share in held:
            if state == "held" and resource == "cpu":
                continue
            yield UsageInterval(
                cluster=record.cluster,
                node=node,
                job_id=place.job_id,
                resource=resource,
                start=datetime.fromtimestamp(start, UTC),
                end=datetime.fromtimestamp(end, UTC),
                requested=requested,
                used=used.get((node, resource)),
                namespace=record.account or None,
                pod=record.display,
                pod_uid=record.sluid or f"{record.raw}@{record.submit}",
                attempt=place.attempt,
                sharing=sharing,
                share=share,
                state=state,
            )


def _spans(
    record: Allocation, place: Place, window: Window, notes: Notes
) -> Iterator[tuple[HoldState, int, int]]:
    begin, end = _limits(record, place, window, notes)
    suspended = min(record.suspended, max(0, end - begin))
    parts: tuple[tuple[HoldState, int, int], ...] = (
        ("running", begin, end - suspended),
        ("held", end - suspended, end),
    )
    for state, start, stop in parts:
        if max(start, window.since) < min(stop, window.until):
            yield state, max(start, window.since), min(stop, window.until)


def _limits(record: Allocation, place: Place, window: Window, notes: Notes) -> tuple[int, int]:
    """Return when the attempt began and ended to hold, where clocks make sense of it."""
    start = record.start or 0
    begin = max(start, place.not_before or 0)
    if record.end is None:
        if start > window.now:
            notes.add(
                "slurm-clock",
                "warning",
                "a job runs from a moment in the future",
                f"job {record.display}",
                _CLOCKS,
            )
        return begin, max(begin, window.now)
    end = record.end
    if end < start:
        notes.add(
            "slurm-clock",
            "warning",
            "a job ended before it started: it counts nothing",
            f"job {record.display}",
            _CLOCKS,
        )
        return begin, begin
    if end > window.now + _TOLERANCE:
        notes.add("slurm-clock", "warning", "a job ended in the future", f"job {record.display}", _CLOCKS)
    if record.elapsed is not None and abs(start + record.suspended + record.elapsed - end) > 1:
        # Local times without zone repeat an hour when summer ends; the elapsed time is told in seconds.
        notes.add(
            "slurm-clock",
            "warning",
            "a job's start and end don't fit its elapsed time, which counts",
            f"job {record.display}",
            _ZONES,
        )
        end = start + record.suspended + record.elapsed
    return begin, max(begin, end)


_TOLERANCE: Final = 60
_CLOCKS: Final = "Compare the clocks of this machine, the Slurm controller and the nodes."
_ZONES: Final = "Say SLURM_TIME_FORMAT=%s before sacct, so that times carry no zone."


def _held(
    record: Allocation, nodes: Sequence[str], shapes: Shapes, notes: Notes
) -> Iterator[tuple[str, Resource, Decimal | None, Sharing | None, Fraction | None]]:
    for device, amounts in _devices(record, nodes, shapes, notes):
        for node, amount in zip(nodes, amounts, strict=True):
            if amount:
                share = _share(device, node, shapes)
                if share is None:
                    notes.add(
                        "slurm-unknown-share",
                        "warning",
                        f"{device.key} is a part of a card, and which isn't known",
                        f"job {record.display} on {node}",
                        "Give the nodes' generic resources (scontrol show node), so that parts can be told.",
                    )
                yield node, "gpu", Decimal(amount), device.sharing, share
    plain: tuple[tuple[Resource, str, Decimal], ...] = (
        ("cpu", "cpu", Decimal(1)),
        ("memory", "mem", _MEBIBYTES),
    )
    for resource, key, unit in plain:
        amounts = _split(record, key, record.tres.get(key, 0), nodes, [None] * len(nodes), notes)
        for node, amount in zip(nodes, amounts, strict=True):
            if amount:
                yield node, resource, Decimal(amount) / unit, None, None


def _devices(
    record: Allocation, nodes: Sequence[str], shapes: Shapes, notes: Notes
) -> Iterator[tuple[_Device, list[int]]]:
    """Yield each kind of GPU resource with its amount per node, in the nodes' order."""
    whole = [0] * len(nodes)
    for key, total in _gpu_counts(record, notes):
        kind = key.removeprefix("gres/")
        limits = [_capacity(shapes.get(node), kind) for node in nodes]
        amounts = _split(record, key, total, nodes, limits, notes)
        profile = _profile(kind)
        if kind in {"shard", "mps"}:
            yield _Device(kind, "mps" if kind == "mps" else "time-slicing"), amounts
        elif profile is None:
            whole = [have + more for have, more in zip(whole, amounts, strict=True)]
        else:
            yield _Device(kind, "mig", profile), amounts
    if any(whole):
        yield _Device("gpu", "whole"), whole


def _gpu_counts(record: Allocation, notes: Notes) -> Iterator[tuple[str, int]]:
    """Yield AllocTRES keys of GPU resources with their amounts, types before the rest of unknown type."""
    typed = {key: count for key, count in record.tres.items() if key.startswith("gres/gpu:")}
    total = record.tres.get("gres/gpu", sum(typed.values()))
    rest = total - sum(typed.values())
    if rest < 0:
        notes.add(
            "slurm-gpu-counts",
            "warning",
            "types of GPUs sum to more than all GPUs: the types count",
            f"job {record.display}",
        )
    yield from ((key, count) for key, count in typed.items() if count)
    if rest > 0:
        yield "gres/gpu", rest
    for key in ("gres/shard", "gres/mps"):
        count = record.tres.get(key, 0) or sum(
            value for name, value in record.tres.items() if name.startswith(f"{key}:")
        )
        if count:
            yield key, count


def _profile(kind: str) -> str | None:
    """Return the MIG profile in a GPU's type: `gpu:a100_3g.20gb` is 3g.20gb."""
    found = notation.MIG_PROFILE.search(kind)
    return found[0] if found else None


def _capacity(shape: Mapping[str, int] | None, kind: str) -> int | None:
    """Return how many of a kind a node has; all of the resource where the job or the node doesn't tell types."""
    if shape is None:
        return None
    name = kind.partition(":")[0]
    if kind != name and any(key.startswith(f"{name}:") for key in shape):
        return shape.get(kind, 0)
    return sum(count for key, count in shape.items() if key.partition(":")[0] == name)


def _share(device: _Device, node: str, shapes: Shapes) -> Fraction | None:
    if device.sharing == "whole":
        return Fraction(1)
    shape = shapes.get(node, {})
    if device.profile is not None:
        named = accelerator(device.key.removeprefix("gpu:").replace("_", " "))
        models = {
            found.model
            for key in shape
            if key.startswith("gpu:") and (found := accelerator(key[4:].replace("_", " ")))
        }
        model = named.model if named else models.pop() if len(models) == 1 else None
        return mig_share(device.profile, model)
    parts = _capacity(shape, device.key) or 0
    cards = _capacity(shape, "gpu") or 0
    return Fraction(cards, parts) if parts and cards else None


def _split(
    record: Allocation, key: str, total: int, nodes: Sequence[str], limits: Sequence[int | None], notes: Notes
) -> list[int]:
    """Split a job's amount over its nodes; the sum is the amount."""
    if len(nodes) == 1:
        return [total]
    known = _known(record, key, nodes)
    if sum(known.values()) > total or (len(known) == len(nodes) and sum(known.values()) != total):
        known = {}
    rest = total - sum(known.values())
    others = [place for place, node in enumerate(nodes) if node not in known]
    room = [limits[place] for place in others]
    if len(others) > 1 and rest % len(others) and (None in room or sum(filter(None, room)) != rest):
        notes.add(
            "slurm-uneven-split",
            "info",
            "accounting doesn't say which node's part is larger: spread evenly, whole units",
            f"{key} of job {record.display}",
        )
    shares = iter(notation.spread(rest, len(others), room))
    return [known[node] if node in known else next(shares) for node in nodes]


def _known(record: Allocation, key: str, nodes: Sequence[str]) -> dict[str, int]:
    """Return the nodes' parts that Slurm tells: by the controller for all, by the batch step for its own."""
    if record.placement and key.startswith("gres/"):
        return {node: _of(record.placement.get(node, {}), key) for node in nodes}
    for step in record.steps:
        if step.name == "batch" and step.nodes in nodes:
            told = step.tres.get(key)
            if (
                told is None
                and key.startswith("gres/gpu:")
                and record.tres.get("gres/gpu") == record.tres[key]
            ):
                told = step.tres.get("gres/gpu")  # all of the job's GPUs are of this type
            return {step.nodes: told} if told else {}
    return {}


def _of(tres: Mapping[str, int], key: str) -> int:
    """Return the amount of a resource, the sum of its types where it has none of its own."""
    return tres.get(key, sum(count for name, count in tres.items() if name.startswith(f"{key}:")))


def _used(record: Allocation, nodes: Sequence[str]) -> dict[tuple[str, Resource], Decimal]:
    """Return measured use by node and resource, for nodes where every step is ended and ran nowhere else.

    CPU is the average over the attempt in cores. Memory is the largest step's, as the sum of its tasks' peaks, in
    GiB. GPU use isn't here: `gres/gpuutil` is the sum of each task's highest sample, which is no average.
    """
    if not record.elapsed or not record.steps or not all(step.ended for step in record.steps):
        return {}
    by_node: dict[str, list[Step]] = {}
    for step in record.steps:
        where = step.nodes if step.nodes in nodes else nodes[0] if len(nodes) == 1 else None
        if where is None and step.name != "extern":
            return {}
        if where is not None:
            by_node.setdefault(where, []).append(step)
    found: dict[tuple[str, Resource], Decimal] = {}
    for node, steps in by_node.items():
        cpu = [step.cpu_seconds for step in steps if step.cpu_seconds is not None]
        memory = [step.memory_bytes for step in steps if step.memory_bytes is not None]
        if cpu:
            found[node, "cpu"] = (sum(cpu, Decimal(0)) / record.elapsed).quantize(_DECIMALS)
        if memory:
            found[node, "memory"] = (Decimal(max(memory)) / 1024**3).quantize(_DECIMALS)
    return found
