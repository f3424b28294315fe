"""Tables for people: money to the cent with thousands separators; the exact digits are in json and csv."""

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_UNKNOWN = Text("unknown", style="dim")


def show(rows: Sequence[Mapping[str, Any]], totals: Mapping[str, Any], title: str | None) -> None:
    """Print rows as a table, with the totals in the last line where their names match columns."""
    console = Console() if sys.stdout.isatty() else Console(width=140)  # a pipe has no width of its own
    if not rows:
        console.print(Text("nothing to show", style="dim"))
        return
    table = Table(
        title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", show_footer=bool(totals)
    )
    for name in rows[0]:
        numeric = any(
            isinstance(row[name], (Decimal, int)) and not isinstance(row[name], bool) for row in rows
        )
        footer = cell(totals[name]) if totals.get(name) is not None else Text("")
        # Words apart: a narrow terminal breaks a heading between them, not within.
        heading = name.replace("_", " ")
        table.add_column(heading, justify="right" if numeric else "left", footer=footer, overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row.values()))
    console.print(table)
    rest = {name: value for name, value in totals.items() if name not in rows[0] and value is not None}
    if rest:
        console.print(Text("  ".join(f"{name}: {cell(value)}" for name, value in rest.items())))


def cell(value: object) -> Text:
    """Write one value for a person; unknown is said, never shown as 0."""
    if value is None:
        return _UNKNOWN
    if isinstance(value, Decimal):
        small = value != 0 and abs(value) < Decimal("0.01")
        return Text(f"{value:.2g}" if small else f"{value:,.2f}")
    if isinstance(value, int):
        return Text(str(value) if isinstance(value, bool) else f"{value:,}")
    if isinstance(value, datetime):
        return Text(value.strftime("%Y-%m-%d %H:%M"))
    return Text(", ".join(str(part) for part in value) if isinstance(value, (list, dict)) else str(value))
