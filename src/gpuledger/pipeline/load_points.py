"""Measured load points of serving replicas from a CSV: one row per load, columns by name or by `--column NAME=THEIRS`.

`hardware` or `gpu_model` names what was measured, `gpus` how many cards a replica has. Throughput is of the replica
(`output_tok_s`, `input_tok_s`, `total_tok_s`) or per card (`…_per_gpu`). Where a replica has cards of two roles,
`prefill_gpus` and `decode_gpus`, figures per card are read as InferenceX publishes them: output per decode card, input
per prefill card, total per card of both; gpuledger charges all cards to each of them.

Latencies are seconds by rank: `ttft_p95_s`, `ttft_p99_s`, `ttft_median_s`, `ttft_mean_s`, and `tpot_…` likewise. `interactivity` is
tokens/s per user, 1 / median TPOT.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

from gpuledger.errors import SourceError, UsageError

BASES: Final = ("output", "input", "total")
RANKS: Final = ("p95", "p99", "median", "mean")
KINDS: Final = ("ttft", "tpot")
_TEXTS: Final = ("hardware", "gpu_model", "model", "precision", "size", "variant")
_NUMBERS: Final = (
    "gpus", "prefill_gpus", "decode_gpus", "isl", "osl", "concurrency", "seconds", "interactivity",
    "usd_per_gpu_hour", "gpu_memory_gib",
    *(f"{basis}_tok_s{per}" for basis in BASES for per in ("", "_per_gpu")),
    *(f"{kind}_{rank}_s" for kind in KINDS for rank in RANKS),
)  # fmt: skip
COLUMNS: Final = (*_TEXTS, *_NUMBERS)
_HINT: Final = "Name columns of another spelling with --column NAME=THEIRS; docs/hardware.md lists the names."


@dataclass(frozen=True, slots=True)
class Measured:
    """One load of one replica. Tokens a second are the replica's, by basis; `slow` seconds by kind and rank.

    `where` is file and line, or the ledger's window; `tokens` of a request, input and output together.
    """

    hardware: str
    gpu_model: str | None
    gpus: Decimal
    model: str | None
    size: str
    tok_s: Mapping[str, Decimal | None]
    where: str
    precision: str | None = None
    tokens: Decimal | None = None
    concurrency: Decimal | None = None
    seconds: Decimal = Decimal(1)
    slow: Mapping[tuple[str, str], Decimal] = field(default_factory=dict)
    usd_per_gpu_hour: Decimal | None = None
    gpu_memory_gib: Decimal | None = None
    prefill_gpus: Decimal | None = None
    decode_gpus: Decimal | None = None
    variant: str | None = None
    bare: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Return what it may be called where prices are: its label, the label without roles and variant, its card."""
        return tuple(dict.fromkeys(name for name in (self.hardware, self.bare, self.gpu_model) if name))

    @property
    def interactivity(self) -> Decimal | None:
        """Return tokens/s per user: 1 / median TPOT; None when that isn't known."""
        slow = self.slow.get(("tpot", "median"))
        return 1 / slow if slow else None

    def seconds_of(self, kind: str, rank: str) -> tuple[Decimal | None, str]:
        """Return TTFT or TPOT of a rank, and the rank that it is of: a p99, which is no lower, stands in for a p95."""
        for one in (rank, "p99") if rank == "p95" else (rank,):
            if (kind, one) in self.slow:
                return self.slow[kind, one], one
        return None, rank


def read_columns(
    texts: Sequence[str], option: str = "--column", known: Sequence[str] = COLUMNS
) -> dict[str, str]:
    """Read NAME=THEIRS. Raises UsageError for names that there aren't."""
    found = {}
    for text in texts:
        name, equals, theirs = text.partition("=")
        if not equals or name.strip() not in known or not theirs.strip():
            raise UsageError(
                f"can't read {text!r}", where=option, hint=f"Write NAME=THEIRS; names are {', '.join(known)}."
            )
        found[name.strip()] = theirs.strip()
    return found


def read(path: Path, columns: Mapping[str, str] | None = None, *, model: str | None = None) -> list[Measured]:
    """Read the load points of a file, of one model when given. Raises SourceError for what can't be read."""
    rows = [*table(path, columns or {}, COLUMNS)]
    found = [_measured(cells, where) for where, cells in rows]
    if model is not None:
        wanted = model.strip().casefold()
        kept = [one for one in found if one.model is not None and wanted == one.model.casefold()]
        if not kept:
            models = ", ".join(sorted({one.model for one in found if one.model})) or "none"
            raise UsageError(
                f"no load points of the model {model!r}", where=str(path), hint=f"Its models: {models}."
            )
        found = kept
    if not found:
        raise SourceError("holds no load points", where=str(path), hint="One row per measured load.")
    return found


def table(
    path: Path, columns: Mapping[str, str], known: Sequence[str]
) -> Iterator[tuple[str, dict[str, str]]]:
    """Rows of a CSV as (file:line, cells by our names); empty cells are left out. Raises SourceError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, strict=True)
            given = {_folded(name): name for name in reader.fieldnames or ()}
            theirs = {}
            for name in known:
                header = given.get(_folded(columns.get(name, name)))
                if header is not None:
                    theirs[name] = header
                elif name in columns:
                    raise SourceError(
                        f"no column {columns[name]!r}", where=str(path),
                        hint=f"There are: {', '.join(reader.fieldnames or ())}.",
                    )  # fmt: skip
            for row in reader:
                cells = {name: (row[header] or "").strip() for name, header in theirs.items()}
                yield f"{path.name}:{reader.line_num}", {name: cell for name, cell in cells.items() if cell}
    except FileNotFoundError as error:
        raise SourceError("there is no such file", where=str(path), hint="Check the path.") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise SourceError(f"is no CSV: {error}", where=str(path), hint=_HINT) from error


def number(cells: Mapping[str, str], name: str, where: str, *, least: Decimal = Decimal(0)) -> Decimal | None:
    """Read a number that isn't negative. Raises SourceError for anything else; None when the cell is empty."""
    text = cells.get(name)
    if text is None:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise SourceError(f"{name} is {text!r}, no number", where=where, hint=_HINT) from error
    if not value.is_finite() or value < least:
        raise SourceError(f"{name} is {text!r}", where=where, hint=f"It must be a number from {least}.")
    return value


def _measured(cells: Mapping[str, str], where: str) -> Measured:
    values = {name: number(cells, name, where) for name in _NUMBERS}
    named = cells.get("hardware") or cells.get("gpu_model")
    if named is None:
        raise SourceError("names no hardware", where=where, hint=f"It needs hardware or gpu_model. {_HINT}")
    prefill, decode = values["prefill_gpus"], values["decode_gpus"]
    roles = (prefill or Decimal(0)) + (decode or Decimal(0))
    gpus = values["gpus"] or roles
    if not gpus:
        raise SourceError(
            "doesn't say how many cards a replica has", where=where, hint=f"It needs gpus. {_HINT}"
        )
    if roles and gpus != roles:
        raise SourceError(
            f"has {gpus} gpus, but {prefill or 0} for prefill and {decode or 0} for decode", where=where,
            hint="The cards of both roles are all that a replica has.",
        )  # fmt: skip
    slow = {
        (kind, rank): found
        for kind in KINDS for rank in RANKS if (found := values[f"{kind}_{rank}_s"]) is not None
    }  # fmt: skip
    if values["interactivity"]:
        slow.setdefault(("tpot", "median"), 1 / values["interactivity"])
    isl, osl = values["isl"], values["osl"]
    label = cells.get("hardware") or (named if gpus == 1 else f"{gpus.normalize():f}x {named}")
    if roles:
        label += f" {prefill or 0}P+{decode or 0}D"
    if variant := cells.get("variant"):
        label += f" {variant}"
    return Measured(
        hardware=label, gpu_model=cells.get("gpu_model"), gpus=gpus, model=cells.get("model"),
        size=cells.get("size") or (f"{isl}x{osl}" if isl is not None and osl is not None else "all"),
        tok_s=_throughput(values, gpus, where), where=where, precision=cells.get("precision"),
        tokens=None if isl is None or osl is None else isl + osl, concurrency=values["concurrency"],
        seconds=values["seconds"] or Decimal(1), slow=slow, usd_per_gpu_hour=values["usd_per_gpu_hour"], gpu_memory_gib=values["gpu_memory_gib"],
        prefill_gpus=prefill, decode_gpus=decode, variant=variant, bare=named,
    )  # fmt: skip


def _throughput(values: Mapping[str, Decimal | None], gpus: Decimal, where: str) -> dict[str, Decimal | None]:
    """Tokens a second of the whole replica by basis; what is told per card counts the cards of its role."""
    counted = {
        "output": values["decode_gpus"] or gpus,
        "input": values["prefill_gpus"] or gpus,
        "total": gpus,
    }
    found: dict[str, Decimal | None] = {}
    for basis in BASES:
        per_card, whole = values[f"{basis}_tok_s_per_gpu"], values[f"{basis}_tok_s"]
        found[basis] = whole if whole is not None or per_card is None else per_card * counted[basis]
    output, given = found["output"], found["input"]
    if found["total"] is None and output is not None and given is not None:
        found["total"] = output + given
    if all(value is None for value in found.values()):
        raise SourceError(
            "has no throughput",
            where=where,
            hint=f"It needs output_tok_s, total_tok_s or one per card. {_HINT}",
        )
    return found


def _folded(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
