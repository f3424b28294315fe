"""Accelerators of instance types, and the canonical name of an accelerator however a tool spells it.

The facts are in `gpu_types.csv`; README.md beside it names the sources. Unknown is None, never a guess.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from functools import cache
from importlib.resources import files

# Clouds whose bills count accelerator-hours on a SKU of their own, beside rows for cores and memory: an
# instance type on one of their rows names the machine, not what the row's quantity counts.
BILLED_PER_ACCELERATOR = frozenset({"gcp", "nebius", "oci"})

_MEMORY = re.compile(r"\b(\d{1,3})gb\b")
# 'NVIDIA GH200 480GB' counts the CPU's memory.
_SUPERCHIP = re.compile(r"G[BH]\d")
_OTHER_WORDS = ((" v5 lite ", "TPU v5e"), (" v5litepod ", "TPU v5e"))  # GKE's node label; Cloud TPU's API


@dataclass(frozen=True, slots=True)
class GpuType:
    """What an instance type carries.

    `instance_type` is lower case. `gpu_count` is in whole cards, a fraction of one for shared cards, None
    when the name doesn't say. `gpu_memory_gib` is the memory of one whole accelerator in GiB as `source`
    states it.
    """

    cloud: str
    instance_type: str
    gpu_model: str
    gpu_count: Fraction | None
    gpu_memory_gib: Decimal | None
    vendor: str
    source: str

    @property
    def billed_per_accelerator(self) -> bool:
        """Whether this cloud's bills count accelerator-hours, not instance-hours."""
        return self.cloud in BILLED_PER_ACCELERATOR


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A canonical accelerator model; `memory_gib` is None when the spelling doesn't say it."""

    model: str
    vendor: str
    memory_gib: Decimal | None


def _rows() -> Iterator[dict[str, str]]:
    text = files("gpuledger.prices").joinpath("gpu_types.csv").read_text("utf-8")
    return csv.DictReader(text.splitlines())


@cache
def _by_type() -> dict[str, GpuType]:
    return {
        row["instance_type"]: GpuType(
            cloud=row["cloud"],
            instance_type=row["instance_type"],
            gpu_model=row["gpu_model"],
            gpu_count=Fraction(row["gpu_count"]) if row["gpu_count"] else None,
            gpu_memory_gib=Decimal(row["gpu_memory_gib"]) if row["gpu_memory_gib"] else None,
            vendor=row["vendor"],
            source=row["source"],
        )
        for row in _rows()
    }


def gpu_types() -> tuple[GpuType, ...]:
    """All known instance types with accelerators, in the order of the file."""
    return tuple(_by_type().values())


def gpu_type(instance_type: str) -> GpuType | None:
    """Return what the instance type carries, in any case and of any cloud; None when it isn't known."""
    return _by_type().get(instance_type.strip().lower())


@cache
def _by_words() -> tuple[tuple[str, str, str], ...]:
    """(spaced words, model, vendor), longest first, so that 'H100 NVL' is tried before 'H100'."""
    models = {known.gpu_model: known.vendor for known in gpu_types()}
    spelled = [(_words(model), model) for model in models] + list(_OTHER_WORDS)
    longest_first = sorted(spelled, key=lambda known: -len(known[0]))
    return tuple((words, model, models[model]) for words, model in longest_first)


def spelled_models() -> tuple[tuple[str, str], ...]:
    """Spellings of models and the model of each, in the order in which a name is searched for them.

    A spelling is found in a name's words (runs of letters, digits and dots in lower case), joined and surrounded by blanks.
    """
    return tuple((words, model) for words, model, _ in _by_words())


def _words(text: str) -> str:
    return " " + " ".join(re.findall(r"[a-z0-9.]+", text.lower())) + " "


def accelerator(name: str) -> Accelerator | None:
    """Return the canonical model behind a name that nvidia-smi, DCGM, a node label or a cloud's API uses.

    'NVIDIA-A100-SXM4-80GB-MIG-1g.10gb' is an A100 with 80 GiB, 'nvidia-tesla-t4' a T4; None when no known
    model is named. The first memory size in the name is the card's, since MIG slices come last.
    """
    words = _words(name)
    for spelled, model, vendor in _by_words():
        if spelled in words:
            size = None if _SUPERCHIP.match(model) else _MEMORY.search(words)
            return Accelerator(model, vendor, Decimal(size[1]) if size else None)
    return None
