"""Estimates beside the bill: the query that classifies every difference."""

from collections.abc import Sequence
from datetime import timedelta
from importlib.resources import files
from typing import Final

from gpuledger.models.metering.replaced import keys
from gpuledger.models.recognition.recognize import HOURS

CLASSES: Final = ("discount", "late_row", "price_error", "unmetered", "over_metered", "unpriced")
# Rows of a bill may be missing this long before its newest charge: providers add to the last day again and again.
LAG: Final = timedelta(hours=24)
_BY_HOURS: Final = {"late_row", "unmetered", "over_metered"}


def compare(final: str, estimated: str, groups: Sequence[str], cost: str, *, lag: timedelta = LAG) -> str:
    """Return a query of cells: a machine and the finest time that its bill knows, with both amounts and why they differ.

    `groups` are SQL expressions over ledger columns; a cell is in the group of its bill, where there is one. `cost` is
    the amount's column. Columns: groups (STRUCT k0, k1, …), currency, counts (settled time of a machine with
    estimates), estimated, final, difference (final - estimated), one per class of CLASSES, which add up to the
    difference exactly, estimated_time and final_time (microseconds).
    """
    classes = ", ".join(f"{_amount(name)} AS {name}" for name in CLASSES)
    packed = ", ".join(f"'k{place}': CAST({group} AS VARCHAR)" for place, group in enumerate(groups))
    text = files("gpuledger.models.metering").joinpath("compare.sql").read_text("utf-8").rstrip()
    return text.format(
        final=final,
        estimated=estimated,
        groups=f"{{{packed}}}" if packed else "{'all': ''}",
        cost=cost,
        list="ListCost",
        hours=", ".join(f"'{unit}'" for unit in HOURS),
        keys=keys("ResourceId"),
        name_keys=keys("ResourceName"),
        lag=f"to_microseconds({lag // timedelta(microseconds=1)})",
        classes=classes,
    )


def _amount(name: str) -> str:
    part = ("_by_hours", "_hours_class") if name in _BY_HOURS else ("_by_rate", "_rate_class")
    return f"CAST(CASE WHEN {part[1]} = '{name}' THEN {part[0]} ELSE 0 END AS DECIMAL(38, 18))"
