"""The input of a validation: which columns it has, of which types, and how SQL reads a cell.

The same rules run on three kinds of input: text (a CSV file read with every column VARCHAR), typed
Parquet and rows of the ledger. A typed column needs no text casts, so the expressions here depend on
the column's DuckDB type.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from gpuledger.focus.contracts import Connection
from gpuledger.focus.schema import quoted

Kind = Literal["text", "decimal", "float", "instant", "date", "nested", "boolean", "other", "absent"]

# How text files write "no value"; a reader may have turned them into NULL already.
NULL_WORDS: Final = ("", "NULL", "null")
# Columns by which a reader tells the file and row of a cell, first match wins.
LOCATIONS: Final = (("_file", "_row"), ("x_SourceFile", "x_SourceRow"), ("filename", "file_row_number"))

# Marks a column of `rows` that is not the input's own.
DERIVED: Final = "~"

_DECIMAL: Final = re.compile(r"DECIMAL|U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?\b")
_WIDE: Final = "DECIMAL(38,18)"


def is_readers(name: str) -> bool:
    """Whether a column was added by whoever read the input (file, row number) and belongs to no dataset."""
    return name.startswith("_") or name in {"filename", "file_row_number"}


def literal(value: str) -> str:
    """`value` as an SQL string literal."""
    return "'" + value.replace("'", "''") + "'"


def kind_of(sql_type: str) -> Kind:
    """Classify a DuckDB type name."""
    if sql_type.endswith("]") or sql_type.startswith(("MAP", "STRUCT", "UNION", "VARIANT")):
        return "nested"
    if sql_type.startswith(("VARCHAR", "ENUM", "JSON", "UUID")):
        return "text"
    if sql_type in {"DOUBLE", "FLOAT"}:
        return "float"
    if sql_type.startswith("TIMESTAMP"):
        return "instant"
    if _DECIMAL.match(sql_type):
        return "decimal"
    return "date" if sql_type == "DATE" else "boolean" if sql_type == "BOOLEAN" else "other"


@dataclass(frozen=True, slots=True)
class Cells:
    """A relation and how to read its cells.

    `types` maps the relation's column names to DuckDB types. `untyped` is true when every column is
    text, as in a CSV file; only then are the words in NULL_WORDS read as null.
    """

    relation: str
    types: Mapping[str, str]

    @property
    def untyped(self) -> bool:
        """Whether the input carries no types; a reader's own columns do not count."""
        return all(
            kind_of(sql_type) == "text" for name, sql_type in self.types.items() if not is_readers(name)
        )

    def actual(self, name: str) -> str | None:
        """The relation's spelling of a column, or None when it lacks it."""
        if name in self.types:
            return name
        folded = name.casefold()
        return next((spelled for spelled in self.types if spelled.casefold() == folded), None)

    def kind(self, name: str) -> Kind:
        """The kind of a column; 'absent' when the relation lacks it."""
        actual = self.actual(name)
        return "absent" if actual is None else kind_of(self.types[actual])

    def value(self, name: str) -> str:
        """SQL of the cell as it is; NULL for an absent column."""
        return "NULL" if self.actual(name) is None else quoted(name)

    def text(self, name: str) -> str:
        """SQL of the cell as VARCHAR; JSON text for nested values."""
        match self.kind(name):
            case "text" if self._plain(name):
                return quoted(name)
            case "absent":
                return "NULL::VARCHAR"
            case "nested":
                return f"to_json({quoted(name)})::VARCHAR"
            case _:
                return f"{quoted(name)}::VARCHAR"

    def _plain(self, name: str) -> bool:
        return self.types.get(self.actual(name) or "") == "VARCHAR"

    def number(self, name: str) -> str:
        """SQL of the cell as an exact number; NULL when it is none."""
        match self.kind(name):
            case "decimal":
                return quoted(name)
            case "absent":
                return "NULL::DECIMAL(38,18)"
            case "text":
                return f"TRY_CAST({quoted(name)} AS {_WIDE})"
            case _:
                return f"TRY_CAST({quoted(name)}::VARCHAR AS {_WIDE})"

    def approximate(self, name: str) -> str:
        """SQL of the cell as DOUBLE, for comparisons that have a tolerance; never for money itself."""
        return f"TRY_CAST({self.value(name)} AS DOUBLE)"

    @staticmethod
    def converted(name: str) -> str:
        """Name of a derived column for `rows`: the cell as DOUBLE, converted once for all who compare it."""
        return f"{DERIVED}{name}"

    def instant(self, name: str) -> str:
        """SQL of the cell as TIMESTAMPTZ; NULL when it is none."""
        return quoted(name) if self.kind(name) == "instant" else f"TRY_CAST({self.text(name)} AS TIMESTAMPTZ)"

    def rows(self, *names: str, numbered: bool = False) -> str:
        """A subquery with the named columns (those present) and derived columns, null words resolved.

        `numbered` adds `_at_file` and `_at_row`: from the relation's own location columns, else the
        position in the input, from 1.
        """
        columns = [
            self._column(name, actual)
            for name in names
            if (actual := self.actual(name.removeprefix(DERIVED)))
        ]
        if numbered:
            columns += self._location()
        listed = ", ".join(dict.fromkeys(columns)) or "1 AS _"
        return f"(SELECT {listed} FROM {self.relation})"

    def _column(self, name: str, actual: str) -> str:
        if name.startswith(DERIVED):
            return f"TRY_CAST({quoted(actual)} AS DOUBLE) AS {quoted(name)}"
        if not self.untyped:
            return quoted(actual) if name == actual else f"{quoted(actual)} AS {quoted(name)}"
        words = ", ".join(map(literal, NULL_WORDS))
        cell = quoted(actual)
        return f"CASE WHEN {cell} IN ({words}) THEN NULL ELSE {cell} END AS {quoted(name)}"

    def _location(self) -> list[str]:
        for file, row in LOCATIONS:
            if file in self.types and row in self.types:
                return [f"{quoted(file)}::VARCHAR AS _at_file", f"{quoted(row)}::BIGINT AS _at_row"]
        file = "filename::VARCHAR" if "filename" in self.types else "NULL::VARCHAR"
        return [f"{file} AS _at_file", "row_number() OVER () AS _at_row"]


def describe(connection: Connection, relation: str) -> Cells:
    """Look at a relation: a table name, a table function call, a file literal or a SELECT."""
    first = relation.lstrip().split(None, 1)[0].upper() if relation.strip() else ""
    source = f"({relation})" if first in {"SELECT", "WITH", "FROM", "VALUES"} else relation
    described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()  # by contract SQL
    return Cells(source, {row[0]: row[1] for row in described})
