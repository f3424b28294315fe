"""Nodes, from `scontrol show node` (text or JSON) and `sinfo --json`: NodeIntervals, and what each node's parts are.

Slurm tells how its nodes are configured now and keeps no history of it: an interval says that a node had this shape
from `since` to `until`, as far as the answer shows. A node in the cloud begins when it booted, and a powered-down one
is left out, since nobody pays for it.

CPUs are Slurm's: hardware threads where ThreadsPerCore is more than one, the unit of what jobs hold.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import IO, Any, Final

from gpuledger.core.comments import pairs
from gpuledger.core.sharing import mig_share
from gpuledger.core.usage import NodeInterval
from gpuledger.errors import SourceError
from gpuledger.prices.accelerators import accelerator, gpu_type
from gpuledger.telemetry.slurm import notation
from gpuledger.telemetry.slurm.documents import Readable, elements
from gpuledger.telemetry.slurm.records import Notes, Options

# Values may hold spaces, so a value ends before the next `Name=`.
_FIELD: Final = re.compile(
    r"(?:^|\s)([A-Za-z][A-Za-z:_/]*)=(.*?)(?=\s+[A-Za-z][A-Za-z:_/]*=|\s*$)", re.DOTALL
)
_ABSENT: Final = frozenset({"", "(null)", "N/A", "None", "Unknown", "n/a"})
_GONE: Final = frozenset({"POWERED_DOWN", "FUTURE"})
_EXTRA: Final = {
    "provider_id": ("instance_id", "provider_id", "resource_id"),
    "instance_type": ("instance_type", "machine_type", "vm_size", "shape"),
    "region": ("region",),
    "zone": ("zone", "availability_zone"),
    "cloud": ("cloud", "provider"),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """A node as Slurm is configured: `gres` is 'gpu:h100:8', `states` upper case, times Unix seconds."""

    name: str
    states: tuple[str, ...]
    cpus: int | None
    memory_mib: int | None
    gres: str
    partitions: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    booted: int | None = None
    instance_id: str = ""
    instance_type: str = ""
    extra: str = ""
    cluster: str = ""


def machines(stream: IO[str], notes: Notes) -> Iterator[Machine]:
    """Yield nodes of any of the three outputs. Raises SourceError when the text is none of them."""
    first = stream.readline()
    if first.lstrip().startswith("{"):
        yield from _documents(_Again(first, stream), notes)
    elif first.startswith("NodeName="):
        yield from _texts(first, stream, notes)
    elif first.strip():
        raise SourceError(
            "not nodes of Slurm",
            where=notes.source,
            hint="Make the file with `scontrol -o show node` or `scontrol show nodes --json`.",
        )


class _Again:
    """A stream whose first line was read already."""

    def __init__(self, first: str, stream: IO[str]) -> None:
        self._first = first
        self._stream = stream

    def read(self, size: int, /) -> str:
        text, self._first = self._first, ""
        return text or self._stream.read(size)


def _texts(first: str, stream: IO[str], notes: Notes) -> Iterator[Machine]:
    """Read `scontrol show node`, one line a node (-o) or paragraphs."""
    block = first
    for line in stream:
        if line.startswith("NodeName="):
            yield from _text(block, notes)
            block = ""
        block += line
    yield from _text(block, notes)


def _text(block: str, notes: Notes) -> Iterator[Machine]:
    values: dict[str, str] = {}
    for name, value in _FIELD.findall(block):
        values.setdefault(name, value.strip())
    told = {name: value for name, value in values.items() if value not in _ABSENT}
    try:
        yield Machine(
            name=told["NodeName"],
            states=_states(re.split(r"[+]", told.get("State", ""))),
            cpus=int(told["CPUTot"]) if "CPUTot" in told else None,
            memory_mib=int(told["RealMemory"]) if "RealMemory" in told else None,
            gres=told.get("Gres", ""),
            partitions=tuple(filter(None, told.get("Partitions", "").split(","))),
            features=tuple(filter(None, told.get("AvailableFeatures", "").split(","))),
            booted=notation.instant(told.get("BootTime", "")),
            instance_id=told.get("InstanceId", ""),
            instance_type=told.get("InstanceType", ""),
            extra=" ".join(filter(None, (told.get("Extra", ""), told.get("Comment", "")))),
        )
    except (KeyError, ValueError) as error:
        notes.add("slurm-bad-row", "error", "a node can't be read", f"{block[:60]!r}: {error}")


def _states(words: list[str]) -> tuple[str, ...]:
    """Return states without the signs that Slurm adds to them: `DOWN*` doesn't answer, `IDLE~` is powered down."""
    found = []
    for word in words:
        name = word.upper()
        if name.endswith("~"):
            found.append("POWERED_DOWN")
        if name.endswith("*"):
            found.append("NOT_RESPONDING")
        if plain := name.rstrip("*~#!%$@^-+"):
            found.append(plain)
    return tuple(found)


def _documents(stream: Readable, notes: Notes) -> Iterator[Machine]:
    for node in elements(stream, ("nodes", "sinfo"), notes):
        try:
            yield from _of_sinfo(node) if isinstance(node.get("nodes"), Mapping) else _of_node(node)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            notes.add("slurm-bad-row", "error", "a node can't be read", f"{json.dumps(node)[:60]}: {error!r}")


def _words(value: Any) -> tuple[str, ...]:  # noqa: ANN401 - a list, or text with commas
    items = value.split(",") if isinstance(value, str) else value or []
    return tuple(str(item) for item in items if item)


def _of_node(node: Mapping[str, Any]) -> Iterator[Machine]:
    states = [*_words(node.get("state")), *_words(node.get("state_flags"))]
    yield Machine(
        name=str(node["name"]),
        states=_states(states),
        cpus=notation.number(node.get("cpus")),
        memory_mib=notation.number(node.get("real_memory")),
        gres=str(node.get("gres") or ""),
        partitions=_words(node.get("partitions")),
        features=_words(node.get("features")),
        booted=notation.number(node.get("boot_time")) or None,
        instance_id=str(node.get("instance_id") or ""),
        instance_type=str(node.get("instance_type") or ""),
        extra=" ".join(str(node.get(key) or "") for key in ("extra", "comment")).strip(),
        cluster=str(node.get("cluster_name") or ""),
    )


def _of_sinfo(group: Mapping[str, Any]) -> Iterator[Machine]:
    """Read a group of like nodes: sinfo of 23.02 and newer. What isn't the same for all of them isn't known."""
    cpus, memory = group.get("cpus") or {}, group.get("memory") or {}
    for name in group["nodes"].get("nodes") or []:
        yield Machine(
            name=str(name),
            states=_states(list(_words((group.get("node") or {}).get("state")))),
            cpus=_same(cpus),
            memory_mib=_same(memory),
            gres=str((group.get("gres") or {}).get("total") or ""),
            partitions=_words((group.get("partition") or {}).get("name")),
            features=_words((group.get("features") or {}).get("total")),
            cluster=str(group.get("cluster") or ""),
        )


def _same(limits: Mapping[str, Any]) -> int | None:
    least, most = notation.number(limits.get("minimum")), notation.number(limits.get("maximum"))
    return least if least == most else None


def intervals(
    machine: Machine, since: datetime, until: datetime, options: Options, asked: datetime
) -> Iterator[NodeInterval]:
    """Yield the node over [since, until), cut at `asked`; nothing for a node that isn't there."""
    start, end = since, min(until, asked)
    if machine.booted is not None and "CLOUD" in machine.states:
        start = max(start, datetime.fromtimestamp(machine.booted, UTC))
    if start >= end or _GONE & set(machine.states):
        return
    told = pairs(machine.extra)
    extra = {name: next((told[key] for key in keys if key in told), None) for name, keys in _EXTRA.items()}
    instance_type = (
        machine.instance_type or extra["instance_type"] or next(filter(gpu_type, machine.features), None)
    )
    model, count = cards(notation.gres(machine.gres))
    labels = {
        "slurm/state": "+".join(machine.states),
        "slurm/gres": machine.gres,
        "slurm/partitions": ",".join(machine.partitions),
        "slurm/features": ",".join(machine.features),
        "slurm/as-of": asked.astimezone(UTC).isoformat(),
    }
    yield NodeInterval(
        cluster=machine.cluster or options.cluster or "slurm",
        node=machine.name,
        start=start,
        end=end,
        provider_id=machine.instance_id or extra["provider_id"],
        instance_type=instance_type,
        cloud=extra["cloud"],
        region=extra["region"],
        zone=extra["zone"],
        pool=machine.partitions[0] if machine.partitions else None,
        cpu_cores=None if machine.cpus is None else Decimal(machine.cpus),
        memory_gib=None if machine.memory_mib is None else Decimal(machine.memory_mib) / 1024,
        gpu_model=model,
        gpu_count=count,
        labels={name: value for name, value in labels.items() if value},
    )


def cards(gres: Mapping[str, int]) -> tuple[str | None, Decimal | None]:
    """Return a node's GPU model and whole cards; (None, 0) without GPUs, no model where there are several or none is told.

    MIG slices count as their part of a card; the cards are None when a slice's part isn't known.
    """
    models, whole, parts = set(), 0, Fraction(0)
    unknown = False
    for key, count in gres.items():
        name, _, kind = key.partition(":")
        if name != "gpu":
            continue
        found = accelerator(kind.replace("_", " ")) if kind else None
        models.add(found.model if found else None)
        profile = notation.MIG_PROFILE.search(kind)
        if profile is None:
            whole += count
        elif (share := mig_share(profile[0], found.model if found else None)) is not None:
            parts += share * count
        else:
            unknown = True
    model = models.pop() if len(models) == 1 else None
    return model, None if unknown else Decimal(whole + -(-parts.numerator // parts.denominator))
