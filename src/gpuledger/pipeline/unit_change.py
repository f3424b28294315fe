"""Why cost per token, or cost, changed between two windows: parts by cause that add up, and their reasons in words."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, cast

from gpuledger.core import windows
from gpuledger.core.unit_change import FACTORS, ROUNDING, Cell, Change, Of, decompose
from gpuledger.core.unit_economics import Basis, Sums, cost, figures, quotient, tokens
from gpuledger.core.windows import Window
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import UsageError
from gpuledger.pipeline import allocation_state, unit_facts
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.unit_economics import (
    SERVED,
    Economics,
    Question,
    condition,
    grouped,
    one_currency,
    trait,
    trait_name,
)

_CELL: Final = ("cluster", "namespace", "deployment", "provider", "model", "gpu_model")
_ZERO: Final = Decimal(0)
_SMALL: Final = Decimal("0.005")  # a part below half a percent of the figure needs no words
Named = tuple[Any, ...]


def change(
    ledger: Ledger, compare: str, *, of: str = "cost_per_mtok", group_by: Sequence[str] = (),
    where: Sequence[str] = (), basis: Basis | None = None,
) -> Economics:  # fmt: skip
    """Take a change from one window to another apart, for everything together or by group; largest change first.

    `compare` is two windows with a comma between, or two months or days with two dots. Raises UsageError for windows
    that can't be read, unknown columns and several currencies.
    """
    ledger.require()
    first, second = pair(compare, datetime.now(UTC))
    con = unit_facts.load(ledger)
    try:
        found = ask(
            con, (first, second), cast("Of", of), group_by, where, basis or Basis(cost="fully_loaded")
        )
    finally:
        con.close()
    found.diagnostics += allocation_state.stale(ledger.store, ledger.config.allocation)
    return found


def pair(text: str, now: datetime) -> tuple[Window, Window]:
    """Read two windows. `now` is the present moment in UTC. Raises UsageError."""
    parts = text.split(",")
    if len(parts) == 1 and re.fullmatch(r"\s*\d{4}-\d{2}(-\d{2})?\.\.\d{4}-\d{2}(-\d{2})?\s*", text):
        parts = text.strip().split("..")
    if len(parts) != 2:  # noqa: PLR2004
        raise UsageError(
            f"not two windows: {text!r}", where="--compare",
            hint="--compare 2026-09,2026-10 or --compare 2026-10-01..2026-10-15,2026-10-16..2026-10-31",
        )  # fmt: skip
    return windows.parse(parts[0], now), windows.parse(parts[1], now)


def ask(
    con: duckdb.Connection, pair: tuple[Window, Window], of: Of, group_by: Sequence[str], where: Sequence[str], basis: Basis
) -> Economics:  # fmt: skip
    """Answer over the relation `unit_fact`."""
    names = [trait_name(name) for name in group_by]
    groups = [trait(name) for name in group_by]
    sides: list[dict[Named, dict[Named, tuple[Sums, int]]]] = []
    currency = None
    for window in pair:
        kept = f"{SERVED} AND {condition(Question((), window, where, basis))}"
        currency = one_currency(con, kept) or currency
        side: dict[Named, dict[Named, tuple[Sums, int]]] = {}
        for key, sums, hours, _ in grouped(con, kept, [*groups, *_CELL]):
            side.setdefault(key[: len(groups)], {})[key[len(groups) :]] = sums, hours
        sides.append(side)
    answer = Economics()
    for key in {**sides[0], **sides[1]}:
        one = dict(zip(names, key, strict=True))
        before, after = (side.get(key, {}) for side in sides)
        answer.rows.append(one | _row(before, after, of, basis))
    answer.rows.sort(key=lambda row: (row["change"] is None, -abs(row["change"] or 0)))
    if any(row["change"] is None for row in answer.rows):
        answer.diagnostics.append(_UNKNOWN)
    answer.totals = {
        "of": of, "token_basis": basis.tokens, "cost_basis": basis.cost, "rounding": ROUNDING, "currency": currency,
        "before": _named(pair[0]), "after": _named(pair[1]),
    }  # fmt: skip
    return answer


_UNKNOWN: Final = Diagnostic(
    "change-unknown", "info", "unit-economics", "where a window has no tokens, or no cost, a change can't be taken apart",
    "Compare windows in which the same things were told.",
)  # fmt: skip


def _named(window: Window) -> str:
    return f"{window.start:%Y-%m-%dT%H:%MZ}/{window.end:%Y-%m-%dT%H:%MZ}"


def _row(
    before: Mapping[Named, tuple[Sums, int]], after: Mapping[Named, tuple[Sums, int]], of: Of, basis: Basis
) -> dict[str, Any]:
    units = {name: _unit(before.get(name), after.get(name)) for name in {**before, **after}}
    cells = [
        {
            _word(name): cell
            for name, (sums, hours) in side.items()
            if (cell := _cell(sums, hours, units[name], basis))
        }
        for side in (before, after)
    ]
    known = all(cost(sums, basis.cost) is not None for side in (before, after) for sums, _ in side.values())
    found = decompose(cells[0], cells[1], of) if known else None
    whole = [sum((sums for sums, _ in side.values()), Sums()) for side in (before, after)]
    told = {
        f"{name}_{side}": figures(sums, 1, basis)[name]
        for side, sums in zip(("before", "after"), whole, strict=True)
        for name in ("tokens", "cost", "tps_per_dollar")
    }
    parts = {name: None if found is None else found.parts[name] for name in FACTORS}
    if of == "cost":
        parts["volume"] = None if found is None else found.parts["volume"]
    return {
        "figure": of, "token_basis": basis.tokens, "cost_basis": basis.cost,
        "before": found.before if found else None, "after": found.after if found else None,
        "change": found.change if found else None, **parts,
        "reasons": _reasons(found, cells[0], cells[1], {_word(name): unit for name, unit in units.items()}) if found else [],
        **told,
    }  # fmt: skip


def _unit(*sides: tuple[Sums, int] | None) -> str:
    """What a cell's quantity is: GPU-hours; tokens of an API; hours where neither is known in both windows."""
    known = [side[0] for side in sides if side is not None]
    if all(sums.gpu_hours for sums in known):
        return "GPU-hour"
    if all(sums.gpu_hours is None and tokens(sums, "total") for sums in known):
        return "token in or out"
    return "hour"


def _cell(sums: Sums, hours: int, unit: str, basis: Basis) -> Cell | None:
    quantity = {"GPU-hour": sums.gpu_hours, "token in or out": tokens(sums, "total"), "hour": Decimal(hours)}[
        unit
    ]
    base = cost(sums, "list" if basis.cost == "list" else "effective")
    if quantity is None or base is None:
        return None
    loaded = basis.cost == "fully_loaded"
    return Cell(
        quantity, tokens(sums, basis.tokens, basis.weights) or _ZERO, base,
        (sums.idle or _ZERO) if loaded else _ZERO, (sums.stranded or _ZERO) if loaded else _ZERO,
    )  # fmt: skip


def _word(name: Named) -> str:
    cluster, namespace, deployment, provider, model, card = name
    place = "/".join(part for part in (cluster, namespace) if part) or provider
    what = deployment if deployment == model or not model else f"{deployment} ({model})"
    return " ".join(filter(None, (what, f"on {card}" if card else None, f"at {place}" if place else None)))


def _reasons(
    found: Change, before: Mapping[str, Cell], after: Mapping[str, Cell], units: Mapping[str, str]
) -> list[str]:
    """A sentence for each part that matters, largest first, with the cell in which most of it happened."""
    told = []
    for name, amount in sorted(found.parts.items(), key=lambda part: -abs(part[1])):
        if abs(amount) < _SMALL * abs(found.before):
            continue
        way = "up" if amount > 0 else "down"
        figure = "cost per million tokens" if found.of == "cost_per_mtok" else "cost"
        told.append(f"{name}: {figure} {way} by {_short(abs(amount))}: {_cause(name, before, after, units)}")
    return told or ["nothing changed by more than half a percent"]


def _cause(name: str, before: Mapping[str, Cell], after: Mapping[str, Cell], units: Mapping[str, str]) -> str:
    if name == "volume":
        old, new = (sum((cell.tokens for cell in side.values()), _ZERO) for side in (before, after))
        return f"{_short(old)} tokens became {_short(new)}"
    if name == "mix":
        shares = [_shares(side) for side in (before, after)]
        cell = max(
            {**before, **after},
            key=lambda one: (abs(shares[1].get(one, _ZERO) - shares[0].get(one, _ZERO)), one),
        )
        old, new = (100 * side.get(cell, _ZERO) for side in shares)
        return f"{cell} went from {old:.1f} to {new:.1f} % of the cost before shares"
    both = [cell for cell in before if cell in after]
    if not both:
        return "nothing is in both windows"

    def rate(cell: Cell) -> Decimal:
        of = {"price": cell.cost, "load": cell.tokens, "idle": cell.idle, "stranded": cell.stranded}[name]
        return quotient(of, cell.quantity if name in {"price", "load"} else cell.cost) or _ZERO

    def effect(one: str) -> tuple[Decimal, str]:
        old, new = rate(before[one]), rate(after[one])
        weight = before[one].cost + after[one].cost
        return abs(new - old) / (abs(old) or 1) * weight if name in {"price", "load"} else abs(
            new - old
        ) * weight, one

    cell = max(both, key=effect)
    old, new = rate(before[cell]), rate(after[cell])
    if name in {"price", "load"}:
        what = "dollars" if name == "price" else "tokens"
        moved = f" ({100 * (new - old) / old:+.1f} %)" if old else ""
        return f"{cell} went from {_short(old)} to {_short(new)} {what} per {units[cell]}{moved}"
    share = "idle machines" if name == "idle" else "unused commitments"
    return f"the share of {share} that {cell} bears went from {100 * old:.1f} to {100 * new:.1f} % of its own cost"


def _shares(side: Mapping[str, Cell]) -> dict[str, Decimal]:
    whole = sum((cell.cost for cell in side.values()), _ZERO)
    return {name: quotient(cell.cost, whole) or _ZERO for name, cell in side.items()}


def _short(value: Decimal) -> str:
    """Four digits that count, for reading."""
    if not value:
        return "0"
    places = max(0, 3 - value.copy_abs().adjusted())
    return f"{value:,.{min(places, 12)}f}"
