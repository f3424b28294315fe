"""A column map: what the columns of anybody's bill mean.

Here is its shape; `column_map_parser` reads it from TOML, `column_map_sql` makes SQL of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from gpuledger.focus.schema import LEDGER_COST_AND_USAGE, PARTITION_COLUMNS

_PIPELINE: Final = {*PARTITION_COLUMNS, "x_SourceFile", "x_SourceRow", "x_DataIssues"}
KINDS: Final = {c.name: c.sql_type for c in LEDGER_COST_AND_USAGE if c.name not in _PIPELINE}


@dataclass(frozen=True, slots=True)
class Value:
    """Where one ledger column comes from. `combine` is how `sources` become one value; see the module docstring."""

    target: str
    combine: str
    sources: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    constant: str | None = None
    separator: str = " "
    optional: bool = False
    times: Decimal | None = None
    divide: int | None = None
    negate: bool = False
    pattern: str | None = None
    values: Mapping[str, str] | None = None
    default: str | None = None
    formats: tuple[str, ...] = ()
    zone: str | None = None

    @property
    def kind(self) -> str:
        """DuckDB type of the ledger column."""
        return KINDS[self.target]


@dataclass(frozen=True, slots=True)
class Match:
    """Lines whose `column` holds one of `values` (whatever the case), matches `pattern`, or is `empty`."""

    column: str
    values: tuple[str, ...] = ()
    pattern: str | None = None
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Tags:
    """Where tags come from; later ones win: JSON cells, `key:value;…` cells, header prefixes, single columns."""

    json: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str, str], ...] = ()  # column, mark between pairs, mark between key and value
    prefixes: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Charges:
    """A line that is several charges: an amount per column, and the constants of each; `total` is their sum."""

    columns: Mapping[str, Mapping[str, str]]
    total: str | None = None
    remainder: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rate:
    """A contract's price of a SKU: start inclusive, end exclusive, None is open."""

    sku: str
    unit_price: Decimal
    start: datetime | None = None
    end: datetime | None = None
    list_unit_price: Decimal | None = None


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """A checked map. `where` names its file for messages."""

    where: str
    title: str
    provider: str | None
    version: str
    values: Mapping[str, Value]
    charge_period: str | None = None
    keep: tuple[str, ...] = ()
    delimiter: str | None = None
    records: str | None = None
    decimal: str = "."
    thousands: str = ""
    symbols: bool = False
    nulls: tuple[str, ...] = ("",)
    zone: str = "UTC"
    tags: Tags = Tags()
    skip: tuple[Match, ...] = ()
    totals: tuple[Match, ...] = ()
    charges: Charges | None = None
    rates: tuple[Rate, ...] | None = None

    def used(self) -> list[str]:
        """Columns of the file that the map names, each once."""
        found = [name for value in self.values.values() for name in value.sources]
        found += [match.column for match in (*self.skip, *self.totals)]
        found += [
            *self.tags.json,
            *(column for column, _, _ in self.tags.pairs),
            *self.tags.columns.values(),
            *self.keep,
        ]
        if self.charges is not None:
            found += [*self.charges.columns, *([self.charges.total] if self.charges.total else [])]
        return list(dict.fromkeys(found))

    def required(self) -> list[str]:
        """Columns without which the file isn't of this form; `a|b` means either."""
        found = [match.column for match in (*self.skip, *self.totals)]
        for value in self.values.values():
            if not value.optional and value.combine != "object":
                found += ["|".join(value.sources)] if value.combine == "first" else value.sources
        if self.charges is not None:
            found.append(self.charges.total or "|".join(self.charges.columns))
        return list(dict.fromkeys(found))
