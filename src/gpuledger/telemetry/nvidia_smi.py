"""nvidia-smi, run on this machine or read from a file: facts about cards and the processes on them.

Documented by NVIDIA: `nvidia-smi --help-query-gpu`, `--help-query-compute-apps`, and the DTD that `-q -x` names (forms
v11 to v13 are read). `[N/A]`, `[Not Supported]` and their like are unknown, not 0. Under MIG the tool measures no
utilisation: a slice's activity is DCGM's to tell. No process in the list is no proof of idleness: inside a container
the tool sees none.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final
from xml.parsers import expat

from gpuledger.core.card_facts import CardFacts, canonical, ratio
from gpuledger.errors import SourceError

TYPE: Final = "nvidia-smi"
TITLE: Final = "nvidia-smi on this machine"

CARD_FIELDS: Final = (
    *("index", "uuid", "name", "driver_version", "mig.mode.current", "utilization.gpu"),
    *("memory.used", "memory.total", "power.draw"),
)
PROCESS_FIELDS: Final = ("gpu_uuid", "pid", "process_name", "used_gpu_memory")
_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(%|W|MiB|[A-Za-z/]*)")
_DEEPEST: Final = 64


@dataclass(frozen=True, slots=True)
class Process:
    """A compute process on a card. `memory_mib` is None where the driver hides it."""

    card: str | None
    pid: int
    name: str | None = None
    memory_mib: Decimal | None = None
    slice_id: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Cards, slices among them, and the processes that the tool sees."""

    cards: tuple[CardFacts, ...]
    processes: tuple[Process, ...] = ()


def read(binary: str = "nvidia-smi", *, timeout: float = 15.0) -> Report:
    """Ask the tool for all it knows. Raises SourceError when it is missing, fails, or doesn't answer in time."""
    return from_xml(run((binary, "-q", "-x"), timeout), f"{binary} -q -x")


def read_short(binary: str = "nvidia-smi", *, timeout: float = 15.0) -> Report:
    """Ask for the few columns that matter, which is much faster on machines with many cards. No MIG slices."""
    cards = run((binary, f"--query-gpu={','.join(CARD_FIELDS)}", "--format=csv"), timeout)
    processes = run((binary, f"--query-compute-apps={','.join(PROCESS_FIELDS)}", "--format=csv"), timeout)
    return Report(tuple(cards_from_csv(cards, binary)), tuple(processes_from_csv(processes, binary)))


def run(words: Sequence[str], timeout: float) -> str:
    """Return what the tool prints. A card that has fallen off its bus can hang it for good, hence the time limit."""
    hint = "Is the NVIDIA driver loaded? Look at dmesg for NVRM and Xid lines."
    try:
        process = subprocess.Popen(  # noqa: S603 - the words are ours, no shell reads them
            list(words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        raise SourceError(
            f"can't be run: {error.strerror}",
            where=words[0],
            hint="Install the driver's tools, or give their path.",
        ) from error
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # one that waits for the driver doesn't even die
            process.communicate(timeout=1)
        raise SourceError(f"no answer within {timeout:g} s", where=words[0], hint=hint) from None
    text = out.decode("utf-8", "replace")
    if process.returncode:
        said = " ".join((text + err.decode("utf-8", "replace")).split())[:300]
        raise SourceError(f"failed with code {process.returncode}: {said}", where=words[0], hint=hint)
    return text


def cards_from_csv(text: str, where: str) -> Iterator[CardFacts]:
    """Read the output of `--query-gpu=… --format=csv` (also `nounits`), whichever columns were asked for."""
    for row in _table(text, where, "uuid", "index"):
        name, sliced = row.get("name"), row.get("mig.mode.current") == "Enabled"
        yield CardFacts(
            uuid=row.get("uuid"),
            index=row.get("index"),
            model_name=name,
            model=canonical(name),
            sliced=sliced,
            utilisation=None if sliced else ratio(quantity(row.get("utilization.gpu"), "%"), 100),
            memory_used_mib=quantity(row.get("memory.used"), "MiB"),
            memory_total_mib=quantity(row.get("memory.total"), "MiB"),
            power_watts=quantity(row.get("power.draw"), "W"),
            driver=row.get("driver_version"),
        )


def processes_from_csv(text: str, where: str) -> Iterator[Process]:
    """Read the output of `--query-compute-apps=… --format=csv`."""
    for row in _table(text, where, "pid"):
        pid = row.get("pid")
        if pid is not None and pid.isdecimal():
            memory = row.get("used_gpu_memory") or row.get("used_memory")
            yield Process(row.get("gpu_uuid"), int(pid), row.get("process_name"), quantity(memory, "MiB"))


def quantity(text: str | None, unit: str) -> Decimal | None:
    """Read a value such as '45 %' or '45'; None for what isn't one, or is in another unit."""
    found = _QUANTITY.fullmatch(text.strip()) if text else None
    return Decimal(found[1]) if found and found[2] in {"", unit} else None


def _table(text: str, where: str, *wanted: str) -> Iterator[dict[str, str | None]]:
    """Yield rows by column name without its unit. What stands in brackets, or is N/A, is unknown."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines() if line.strip()]
    header = [re.sub(r"\s*\[.*\]$", "", name) for name in rows[0]] if rows else []
    if not set(wanted) & set(header):
        raise SourceError(
            f"that is no table of nvidia-smi: no column {' or '.join(wanted)}",
            where=where,
            hint="Make it with --format=csv, with the header, and ask for uuid and pid.",
        )
    free = header.index("process_name") if "process_name" in header else len(header)
    for row in rows[1:]:
        # The tool doesn't quote, so the commas of a program's name split it.
        more = len(row) - len(header)
        if more > 0 and free < len(header):
            row[free : free + more + 1] = [", ".join(row[free : free + more + 1])]
        if len(row) == len(header):
            yield {name: _known(cell) for name, cell in zip(header, row, strict=True)}


def _known(text: str | None) -> str | None:
    stripped = (text or "").strip()
    return None if stripped in {"", "N/A"} or (stripped[0] == "[" and stripped[-1] == "]") else stripped


@dataclass(slots=True)
class _Node:
    tag: str
    text: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    children: list["_Node"] = field(default_factory=list)

    def all(self, *path: str) -> list["_Node"]:
        found = [self]
        for tag in path:
            found = [child for node in found for child in node.children if child.tag == tag]
        return found

    def said(self, *path: str) -> str | None:
        return next((_known(node.text) for node in self.all(*path)), None)


def from_xml(text: str, where: str) -> Report:
    """Read the output of `nvidia-smi -q -x`. Entities are refused, and the DTD that it names is never fetched."""
    top = _tree(text, where)
    if top.tag != "nvidia_smi_log":
        raise SourceError(
            f"that is {top.tag}, not nvidia_smi_log", where=where, hint="Make it with nvidia-smi -q -x."
        )
    driver = top.said("driver_version")
    cards: list[CardFacts] = []
    processes: list[Process] = []
    for order, gpu in enumerate(top.all("gpu")):
        parent = _card(gpu, order, driver)
        cards += [parent, *_slices(gpu, parent)]
        processes += _processes(gpu, parent.uuid)
    return Report(tuple(cards), tuple(processes))


def _card(gpu: _Node, order: int, driver: str | None) -> CardFacts:
    name, sliced = gpu.said("product_name"), gpu.said("mig_mode", "current_mig") == "Enabled"
    power = (
        gpu.said(group, key)
        for group in ("gpu_power_readings", "power_readings")
        for key in ("instant_power_draw", "power_draw", "average_power_draw")
    )
    return CardFacts(
        uuid=gpu.said("uuid"),
        # The order in the log is the index that other tools use; minor numbers may differ.
        index=str(order),
        model_name=name,
        model=canonical(name),
        sliced=sliced,
        utilisation=None if sliced else ratio(quantity(gpu.said("utilization", "gpu_util"), "%"), 100),
        memory_used_mib=quantity(gpu.said("fb_memory_usage", "used"), "MiB"),
        memory_total_mib=quantity(gpu.said("fb_memory_usage", "total"), "MiB"),
        power_watts=quantity(next((said for said in power if said), None), "W"),
        driver=driver,
    )


def _slices(gpu: _Node, parent: CardFacts) -> Iterator[CardFacts]:
    """The log names no profile. A slice's multiprocessors don't give its share exactly, so that is unknown."""
    for one in gpu.all("mig_devices", "mig_device"):
        yield CardFacts(
            uuid=parent.uuid,
            index=parent.index,
            model_name=parent.model_name,
            model=parent.model,
            slice_id=one.said("gpu_instance_id"),
            share=None,
            memory_used_mib=quantity(one.said("fb_memory_usage", "used"), "MiB"),
            memory_total_mib=quantity(one.said("fb_memory_usage", "total"), "MiB"),
            driver=parent.driver,
        )


def _processes(gpu: _Node, card: str | None) -> Iterator[Process]:
    for one in gpu.all("processes", "process_info"):
        pid = one.said("pid")
        if pid is not None and pid.isdecimal() and (one.said("type") or "C").startswith(("C", "M")):
            memory = quantity(one.said("used_memory"), "MiB")
            yield Process(card, int(pid), one.said("process_name"), memory, one.said("gpu_instance_id"))


def _tree(text: str, where: str) -> _Node:
    top = _Node("")
    open_nodes = [top]

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(open_nodes) > _DEEPEST:
            raise SourceError("nested too deep", where=where, hint="That isn't from nvidia-smi.")
        node = _Node(tag, attributes=attributes)
        open_nodes[-1].children.append(node)
        open_nodes.append(node)

    def end(_tag: str) -> None:
        open_nodes.pop()

    def data(more: str) -> None:
        open_nodes[-1].text += more

    def entity(*_about: object) -> None:
        raise SourceError(
            "it declares entities", where=where, hint="That isn't from nvidia-smi; it may be an attack."
        )

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.EntityDeclHandler = data, entity
    try:
        parser.Parse(text.encode(), True)  # noqa: FBT003 - expat takes it by position only
    except expat.ExpatError as error:
        raise SourceError(
            f"no complete XML: {error}", where=where, hint="Make it with nvidia-smi -q -x, and let it finish."
        ) from error
    return top.children[0]
