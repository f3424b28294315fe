"""How much of what was admitted said whose it is: from the webhook's decision logs, by week and namespace."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

from gpuledger.core.policy import Policy
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import UsageError

_SOON: Final = timedelta(days=30)


@dataclass(slots=True)
class _Sum:
    workloads: int = 0
    usd: Decimal = Decimal(0)
    attributed_usd: Decimal = Decimal(0)
    unpriced: int = 0
    exempted: int = 0
    would_refuse: int = 0
    would_refuse_usd: Decimal = Decimal(0)
    refused: int = 0
    refused_usd: Decimal = Decimal(0)


@dataclass(slots=True)
class Coverage:
    """Rows by week and namespace, the most expensive first; lines that couldn't be read are findings."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)


def coverage(logs: Iterable[Path], policy: Policy | None, now: datetime) -> Coverage:
    """Sum decision logs. A workload counts once, by its last decision; dry runs and what controllers made don't count.

    Dollars are expected costs (P90) at admission; a workload without one is counted as unpriced. What audit and warn
    let through and enforcing would have refused is `would_refuse`. Raises UsageError for a log that isn't there.
    """
    found = Coverage()
    last: dict[str, Mapping[str, Any]] = {}
    for log in logs:
        for entry in _entries(log, found.diagnostics):
            last[str(entry.get("key") or entry.get("uid"))] = entry
    sums: dict[tuple[str, str], _Sum] = {}
    for entry in last.values():
        moment = datetime.fromisoformat(str(entry["time"])).astimezone(UTC)
        key = f"{moment:%G-W%V}", str(entry.get("namespace") or "")
        _add(sums.setdefault(key, _Sum()), entry)
    ordered = sorted(sums.items(), key=lambda item: (item[0][0], -item[1].usd, item[0][1]))
    found.rows = [{"week": week, "namespace": space, **_row(one)} for (week, space), one in ordered]
    whole = _Sum()
    for one in sums.values():
        for name in _Sum.__dataclass_fields__:
            setattr(whole, name, getattr(whole, name) + getattr(one, name))
    found.totals = _row(whole)
    if policy is not None:
        found.totals["exemptions_ending"] = [
            {"name": one.name, "expires": one.expires, "approved_by": one.approved_by}
            for one in sorted(policy.exemption, key=lambda one: one.expires)
            if one.expires <= (now + _SOON).date()
        ]
    return found


def _entries(log: Path, problems: list[Diagnostic]) -> Iterator[Mapping[str, Any]]:
    try:
        with log.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    entry = json.loads(line)
                    datetime.fromisoformat(str(entry["time"]))
                    _usd(entry)
                except (ValueError, KeyError, TypeError, InvalidOperation):
                    told = "a line isn't a decision and is left out"
                    hint = "Give files that `admission serve --log` wrote."
                    problems.append(Diagnostic("bad-line", "error", f"{log}:{number}", told, hint))
                    continue
                if _counts(entry):
                    yield entry
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"can't be read: {error}", where=str(log), hint="Give decision logs.") from error


def _counts(entry: Mapping[str, Any]) -> bool:
    """Say whether an entry is an admission of a workload with cards: `would` is told of these alone."""
    return (
        not entry.get("dry_run")
        and not entry.get("backstop")
        and entry.get("operation") == "CREATE"
        and "would" in entry
        and entry.get("gpus") != "0"
    )


def _usd(entry: Mapping[str, Any]) -> Decimal | None:
    told = entry.get("cost-p90-usd")
    return None if told is None else Decimal(str(told))


def _add(total: _Sum, entry: Mapping[str, Any]) -> None:
    cost = _usd(entry)
    usd = cost or Decimal(0)
    if not entry.get("allowed"):
        total.refused += 1
        total.refused_usd += usd
        return
    total.workloads += 1
    total.usd += usd
    total.unpriced += cost is None
    total.exempted += bool(entry.get("exemptions"))
    if not entry.get("missing"):
        total.attributed_usd += usd
    if entry.get("would") == "deny":
        total.would_refuse += 1
        total.would_refuse_usd += usd


def _row(one: _Sum) -> dict[str, Any]:
    share = None if not one.usd else (one.attributed_usd / one.usd).quantize(Decimal("0.0001"))
    return {
        "workloads": one.workloads,
        "usd": one.usd,
        "attributed_usd": one.attributed_usd,
        "attributed_share": share,
        "unpriced": one.unpriced,
        "exempted": one.exempted,
        "would_refuse": one.would_refuse,
        "would_refuse_usd": one.would_refuse_usd,
        "refused": one.refused,
        "refused_usd": one.refused_usd,
    }
