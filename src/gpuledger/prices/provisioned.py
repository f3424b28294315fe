"""What one unit of provisioned throughput carries, by model, as the vendor states it.

Azure: input tokens per minute and unit; an output token counts as several input tokens, one from a cache not at all.
"""

import csv
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class UnitCapacity:
    """Input tokens per minute of one unit, and how many of them an output token counts as."""

    model: str
    input_tokens_per_minute: Decimal
    output_weight: Decimal

    def unit_hours(self, uncached_input: Decimal, output: Decimal) -> Decimal:
        """Return how many unit hours these tokens take."""
        return (uncached_input + self.output_weight * output) / (self.input_tokens_per_minute * 60)


@cache
def _known() -> tuple[UnitCapacity, ...]:
    text = files("gpuledger.prices").joinpath("provisioned_units.csv").read_text("utf-8")
    rows = [
        UnitCapacity(row["model"], Decimal(row["input_tokens_per_minute"]), Decimal(row["output_weight"]))
        for row in csv.DictReader(text.splitlines())
    ]
    return tuple(sorted(rows, key=lambda one: -len(one.model)))


def unit_capacity(model: str) -> UnitCapacity | None:
    """Return what a unit carries of a model, a dated name being its base name's; None for a model that isn't known."""
    name = model.strip().casefold().rpartition("/")[2]
    for one in _known():
        rest = name.removeprefix(one.model)
        if name.startswith(one.model) and (not rest or (rest[0] in "-:@" and rest[1:2].isdigit())):
            return one
    return None
