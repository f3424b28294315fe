"""Excel workbooks: rows streamed to disk, numbers and times typed, text never a formula, no digit lost.

Excel keeps 15 significant digits. A number that has more is shown rounded, and stands with all its digits as text on
the second sheet, `exact`. (support.microsoft.com, "Excel specifications and limits".)
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from gpuledger.errors import UsageError

MAX_ROWS = 1_048_575  # beside the header
MAX_TEXT = 32_767
_DIGITS = 15
_ZOOM_COLUMNS = 18


def write(path: Path, title: str, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Write one sheet of rows (Decimal, int, str, datetime or None) and return how many there were.

    Raises UsageError when a cell or the sheet can't hold them; nothing is cut off.
    """
    from xlsxwriter import Workbook

    options = {
        "constant_memory": True,
        "tmpdir": str(path.parent),
        "default_date_format": "yyyy-mm-dd hh:mm:ss",
    }
    with Workbook(str(path), options) as book:
        bold = book.add_format({"bold": True})
        sheet, exact = book.add_worksheet(title), _Exact(book, names)
        sheet.freeze_panes(1, 0)
        sheet.set_column(0, max(len(names) - 1, 0), _ZOOM_COLUMNS)
        for place, name in enumerate(names):
            sheet.write_string(0, place, name, bold)
        count = 0
        for count, row in enumerate(rows, 1):
            if count > MAX_ROWS:
                raise too_many(f"more than {MAX_ROWS:,}")
            for place, value in enumerate(row):
                _cell(sheet, count, place, names[place], value)
                if isinstance(value, Decimal) and digits(value) > _DIGITS:
                    exact.add(count, names[place], value)
        if count:
            sheet.autofilter(0, 0, count, max(len(names) - 1, 0))
        return count


def too_many(rows: str) -> UsageError:
    """Return the error for more rows than a sheet holds."""
    return UsageError(
        f"a sheet of Excel holds {MAX_ROWS:,} rows, these are {rows}",
        hint="Narrow them with --window or --where, sum them with --group-by, or export --to parquet or csv.",
    )


def digits(value: Decimal) -> int:
    """Count significant digits: 1.2500 has 3, and so has 1250."""
    return len("".join(map(str, value.as_tuple().digits)).strip("0"))


def _cell(sheet: Any, row: int, place: int, name: str, value: Any) -> None:  # noqa: ANN401  # untyped library
    if value is None:
        return
    if isinstance(value, Decimal | int) and not isinstance(value, bool):
        sheet.write_number(row, place, float(value))
    elif isinstance(value, datetime):
        sheet.write_datetime(row, place, value.astimezone(UTC).replace(tzinfo=None))
    else:
        text = str(value)
        if len(text) > MAX_TEXT:
            raise UsageError(
                f"{name} of row {row} has {len(text):,} characters, a cell of Excel holds {MAX_TEXT:,}",
                hint="Export --to parquet or csv.",
            )
        sheet.write_string(row, place, text)


class _Exact:
    """The second sheet, made when a number needs it."""

    def __init__(self, book: Any, names: Sequence[str]) -> None:  # noqa: ANN401  # untyped library
        self.book = book
        self.names = names
        self.sheet: Any = None
        self.rows = 0

    def add(self, row: int, name: str, value: Decimal) -> None:
        """Put down one number: its row on the first sheet as Excel counts, its column, its digits."""
        if self.sheet is None:
            self.sheet = self.book.add_worksheet("exact")
            self.sheet.write_row(0, 0, ["row", "column", "exact value"], self.book.add_format({"bold": True}))
            self.sheet.set_column(1, 2, _ZOOM_COLUMNS * 2)
        self.rows += 1
        if self.rows > MAX_ROWS:
            raise UsageError(
                f"more than {MAX_ROWS:,} numbers have more than the {_DIGITS} digits that Excel keeps",
                hint="Sum them with --group-by, or export --to parquet or csv.",
            )
        self.sheet.write_number(self.rows, 0, row + 1)
        self.sheet.write_string(self.rows, 1, name)
        text = f"{value:f}"
        self.sheet.write_string(self.rows, 2, text.rstrip("0").rstrip(".") if "." in text else text)
