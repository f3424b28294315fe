"""Texts of SKUs on bills: which accelerator or AI model they name. The facts are the data files beside it."""

import csv
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from typing import Any, Literal

Unit = Literal["gpu-hours", "none"]


@dataclass(frozen=True, slots=True)
class GpuSkuPattern:
    """A SKU text that names an accelerator.

    `needs` is a literal that must occur in the lower-case text before `pattern` (RE2) is tried. `unit`
    'gpu-hours': an hour of the SKU is an hour of one accelerator; 'none': the text is no accelerator time
    (a licence, a commitment).
    """

    id: str
    cloud: str
    needs: str
    pattern: str
    gpu_model: str | None
    gpu_memory_gib: Decimal | None
    unit: Unit


@dataclass(frozen=True, slots=True)
class AiFamily:
    """How one vendor spells its AI lines; see `ai_sku_patterns.toml` for the meaning of each part."""

    name: str
    needs: str
    when: str
    model: str | None
    strip: str | None
    service: str | None
    prefix: tuple[str, str, str] | None
    tokens: tuple[tuple[str, str], ...]
    tiers: tuple[tuple[str, str], ...]


def _text(name: str) -> str:
    return files("gpuledger.prices").joinpath(name).read_text("utf-8")


@cache
def gpu_sku_patterns() -> tuple[GpuSkuPattern, ...]:
    """Patterns in the order in which they are tried."""
    return tuple(_gpu_rows())


def _gpu_rows() -> Iterator[GpuSkuPattern]:
    for row in csv.DictReader(_text("gpu_sku_patterns.csv").splitlines()):
        unit: Unit = "gpu-hours" if row["unit"] == "gpu-hours" else "none"
        yield GpuSkuPattern(
            id=row["id"],
            cloud=row["cloud"],
            needs=row["needs"],
            pattern=row["pattern"],
            gpu_model=row["gpu_model"] or None,
            gpu_memory_gib=Decimal(row["gpu_memory_gib"]) if row["gpu_memory_gib"] else None,
            unit=unit,
        )


@cache
def _ai() -> dict[str, Any]:
    return tomllib.loads(_text("ai_sku_patterns.toml"))


def ai_needs() -> tuple[str, ...]:
    """Literals, one of which every AI line's lower-case text has, except the lines of `ai_providers`."""
    return tuple(_ai()["needs"])


def ai_providers() -> tuple[str, ...]:
    """ServiceProviderNames, lower case, all of whose lines are AI lines."""
    return tuple(_ai()["providers"])


@cache
def ai_families() -> tuple[AiFamily, ...]:
    """Families in the order in which they are tried."""
    return tuple(
        AiFamily(
            name=family["name"],
            needs=family["needs"],
            when=family["when"],
            model=family.get("model"),
            strip=family.get("strip"),
            service=family.get("service"),
            prefix=tuple(family["prefix"]) if "prefix" in family else None,
            tokens=tuple((literal, kind) for literal, kind in family["tokens"]),
            tiers=tuple((literal, tier) for literal, tier in family["tiers"]),
        )
        for family in _ai()["family"]
    )


@cache
def ai_models() -> dict[str, str]:
    """Spelling (lower case, words joined by `-`) → the model's name as its maker writes it."""
    return {row["spelling"]: row["model"] for row in csv.DictReader(_text("ai_models.csv").splitlines())}
