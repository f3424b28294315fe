"""What allocation was made from, and so whether it still holds: one fingerprint for each unit of charges."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, timedelta
from typing import Final

from gpuledger.config import AllocationSection
from gpuledger.core.usage_tables import HOLDING_TABLES
from gpuledger.diagnostics import Diagnostic
from gpuledger.models.allocation import METHOD
from gpuledger.pipeline.store import Store
from gpuledger.pipeline.views import unit_of

CHARGES: Final = ("cost_and_usage", "estimated_cost")
_VERSION: Final = f"{METHOD}/1"  # raise it when the same input is split differently
_DAY: Final = timedelta(days=1)

UnitKey = tuple[str, str]  # source, billing period


def fingerprints(
    store: Store, settings: AllocationSection, tables: Iterable[str] = CHARGES
) -> dict[UnitKey, str]:
    """Return what the allocation of each unit of charges depends on; units without any telemetry are left out."""
    days = _telemetry(store)
    found: dict[UnitKey, list[str]] = {}
    for table in tables:
        for file in store.files(table):
            found.setdefault(unit_of(file), []).append(file.rpartition("/")[2])
    made = {}
    for (source, period), files in found.items():
        told = [(day, file) for day, names in days.items() if covers(source, period, day) for file in names]
        if any(file.startswith("node_interval/") for _, file in told):
            text = repr((_VERSION, settings.model_dump_json(), sorted(files), sorted(told)))
            made[source, period] = hashlib.sha256(text.encode()).hexdigest()[:32]
    return made


def allocated(store: Store) -> dict[UnitKey, str]:
    """Return the fingerprints of what was allocated last, by unit; empty where its allocation was taken back."""
    found: dict[UnitKey, str] = {}
    for note in store.history("allocated_cost"):
        found.setdefault((note["source"], note["billing_period"]), note["fingerprint"])
    return found


def changed(wanted: Mapping[UnitKey, str], held: Mapping[UnitKey, str]) -> Iterator[UnitKey]:
    """Units whose allocation isn't what it would be now, oldest billing period first."""
    for key in sorted({*wanted, *held}, key=lambda unit: (unit[1], unit[0])):
        if wanted.get(key, "") != held.get(key, ""):
            yield key


def stale(store: Store, settings: AllocationSection) -> list[Diagnostic]:
    """Say when bills or telemetry are newer than the allocation. Estimates, which change all the time, don't count."""
    held = allocated(store)
    wanted = fingerprints(store, settings, CHARGES[:1])
    estimates = {unit_of(file) for file in store.files("estimated_cost")}
    old = list(changed(wanted, {key: value for key, value in held.items() if key not in estimates}))
    if not old:
        return []
    shown = ", ".join(f"{source} {period}" for source, period in old[:3])
    more = f" and {len(old) - 3} more" if len(old) > 3 else ""  # noqa: PLR2004  # as many as are shown
    return [
        Diagnostic(
            "allocation-stale", "warning", "allocated_cost",
            f"bills or telemetry of {shown}{more} are newer than their allocation to jobs",
            "gpuledger build",
        )
    ]  # fmt: skip


def covers(source: str, period: str, day: str) -> bool:
    """Whether a unit's charges may lie on a day (YYYY-MM-DD): within it, or a day off its edges.

    A unit is a billing period, or a day of estimates, which their source's name tells.
    """
    try:
        if metered := re.fullmatch(r"metered-(\d{4}-\d{2}-\d{2})", source):
            first = date.fromisoformat(metered[1])
            last = first + _DAY
        else:
            first = date.fromisoformat(f"{period}-01")
            last = (first + 31 * _DAY).replace(day=1)
    except ValueError:
        return True  # the charges of an unknown period may be of any day
    return f"{first - _DAY}" <= day <= f"{last}"


def _telemetry(store: Store) -> dict[str, list[str]]:
    """Return the data files of telemetry by UTC day, each as `<table>/<file>`."""
    found: dict[str, list[str]] = {}
    for table in HOLDING_TABLES:
        for file in store.files(table):
            found.setdefault(unit_of(file)[1], []).append(f"{table}/{file.rpartition('/')[2]}")
    return found
