"""Clauses about one row, as SQL that is TRUE or FALSE and never NULL.

A clause reads `<Column> <test> [argument]`:

| clause | holds when |
|---|---|
| `A null`, `A set` | the cell is null, or is not |
| `A in x|y`, `A only x|y` | it is one of these values |
| `A not x|y` | it is none of these values; null is none of them |
| `A same B`, `A differs B` | equal texts, null equal to null |
| `A allowed` | null or one of the column's allowed values |
| `A equals B` | equal numbers |
| `A zero`, `A nonnegative`, `A fraction` | 0; at least 0; from 0 to 1 |
| `A before B` | an earlier time |
| `A times B gives C` | the product, within 1e-9 of C |
| `A decimal` | a finite number |
| `A type t`, `A format f` | the data type; the value format |
| `A placeholder` | no word that stands for "no value" |
| `A child of B` | the service subcategory's parent is B |

Tests from `allowed` on pass on null: whether a cell may be null is for other rules. So `x <> 'y'` traps
(NULL in, NULL out, rule never fires) cannot occur.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gpuledger.focus.cells import Cells, literal
from gpuledger.focus.model import Model, currencies, subcategory_parents
from gpuledger.focus.schema import quoted

TRUE: Final = "TRUE"
FALSE: Final = "FALSE"

# Relative tolerance of products, as in the official validator: prices are published rounded.
TOLERANCE: Final = "1e-9"

_PLACEHOLDERS: Final = (
    "-", "--", "?", "n/a", "na", "nan", "nil", "none", "not applicable", "null", "tbd", "undefined", "unknown",
)  # fmt: skip
_FEW: Final = 8
_LONGEST: Final = max(map(len, _PLACEHOLDERS))

_DATETIME: Final = r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])T([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d+)?Z"
_NUMERIC: Final = r"-?(\d+(\.\d+)?|\.\d+)([eE]-?\d+)?"


def _unit_pattern() -> str:
    size = "[KMGTPE]?[bB]|[KMGTPE]i[bB]"
    times = ("Year", "Month", "Day", "Hour", "Minute", "Second")
    time, plural = "|".join(times), "|".join(f"{word}s" for word in times)
    # Counted things are the provider's nouns; the specification asks for a capital, real units have "vCPU".
    count = "[A-Za-z][A-Za-z0-9]*(?: [A-Za-z][A-Za-z0-9]*)*"
    unit = f"(?:{size}|{count})"
    return f"(?:[0-9]+ )?{unit}(?:-(?:{plural})|/(?:{time})|/[0-9]+ (?:{plural}))?"


UNIT: Final = _unit_pattern()


@dataclass(frozen=True, slots=True)
class Predicate:
    """A clause in SQL, the columns it reads (and derived ones), and whether it passes on nulls by definition."""

    clause: str
    columns: tuple[str, ...]
    sql: str
    skips_null: bool = False
    derived: tuple[str, ...] = ()


def _values(argument: str) -> str:
    return ", ".join(literal(value) for value in argument.split("|"))


def _among(text: str, values: Sequence[str]) -> str:
    """SQL: `text` is one of `values`; one automaton instead of a comparison per value when there are many."""
    if len(values) <= _FEW:
        return f"{text} IN ({', '.join(map(literal, values))})"
    return f"regexp_full_match({text}, {literal('|'.join(map(re.escape, values)))})"


def _if_set(cells: Cells, names: Sequence[str], test: str) -> str:
    nulls = " OR ".join(f"{cells.value(name)} IS NULL" for name in names)
    return f"({nulls} OR coalesce({test}, FALSE))"


def _type(cells: Cells, name: str, expected: str) -> str:
    kind = cells.kind(name)
    if kind == "text" and expected != "string":
        tests = {
            "decimal": f"TRY_CAST({cells.text(name)} AS DOUBLE)",
            "datetime": f"TRY_CAST({cells.text(name)} AS TIMESTAMPTZ)",
        }
        # Text holds any type; JSON is judged by its format rule.
        return _if_set(cells, [name], f"{tests[expected]} IS NOT NULL") if expected in tests else TRUE
    fine = {
        "string": {"text", "nested"},
        "decimal": {"decimal", "float"},
        "datetime": {"instant"},
        "json": {"text", "nested"},
    }
    # A column without values has no type to judge.
    return TRUE if kind in fine[expected] else f"{cells.value(name)} IS NULL"


def _format(cells: Cells, name: str, wanted: str) -> str:
    text, kind = cells.text(name), cells.kind(name)
    if wanted == "string":
        # DuckDB text is valid Unicode; what is left to find is text without any letter.
        blank = f"CASE WHEN {text} < '!' THEN trim({text}) <> '' ELSE TRUE END"
        return blank if kind == "text" else TRUE
    if wanted == "numeric" and kind == "decimal":
        return TRUE
    if wanted == "numeric" and kind == "float":
        return f"coalesce(isfinite({cells.value(name)}), TRUE)"
    if wanted == "datetime" and kind == "instant":
        return TRUE
    code = _among(text, sorted(currencies()))
    tests: dict[str, str] = {
        "numeric": f"regexp_full_match({text}, {literal(_NUMERIC)})",
        "datetime": f"regexp_full_match({text}, {literal(_DATETIME)})",
        "national_currency": code,
        # A virtual currency may have any name; three capitals announce an ISO code, which must exist.
        "currency": f"({code} OR NOT regexp_full_match({text}, '[A-Za-z]{{3}}')) AND trim({text}) <> ''",
        "unit": f"regexp_full_match({text}, {literal(UNIT)})",
    }
    return _if_set(cells, [name], tests[wanted])


def _placeholder(cells: Cells, name: str) -> str:
    if cells.kind(name) != "text":
        return TRUE
    text, words = cells.text(name), ", ".join(map(literal, _PLACEHOLDERS))
    return f"CASE WHEN strlen({text}) <= {_LONGEST} THEN lower({text}) NOT IN ({words}) ELSE TRUE END"


def _product(cells: Cells, names: Sequence[str]) -> str:
    price, quantity, cost = (quoted(cells.converted(name)) for name in names)
    close = f"abs({price} * {quantity} - {cost}) <= {TOLERANCE} * greatest(abs({cost}), 1)"
    return _if_set(cells, names, close)


def _child(cells: Cells, name: str, parent: str) -> str:
    families: dict[str, list[str]] = {}
    for sub, category in subcategory_parents().items():
        families.setdefault(category, []).append(sub)
    cases = " ".join(
        f"WHEN {literal(category)} THEN {cells.text(name)} IN ({', '.join(map(literal, subs))})"
        for category, subs in families.items()
    )
    # A subcategory that is not allowed at all is another rule's finding.
    known = _among(cells.text(name), tuple(subcategory_parents()))
    return (
        f"(NOT coalesce({known}, FALSE) OR {cells.value(parent)} IS NULL"
        f" OR coalesce(CASE {cells.text(parent)} {cases} END, FALSE))"
    )


def _finite(cells: Cells, name: str) -> str:
    match cells.kind(name):
        case "decimal" | "absent":
            return TRUE
        case "float":
            return f"coalesce(isfinite({cells.value(name)}), TRUE)"
        case _:
            return _if_set(cells, [name], f"isfinite({cells.approximate(name)})")


def predicate(clause: str, cells: Cells, model: Model) -> Predicate:
    """Compile one row clause. ValueError for a clause that is none."""
    name, test, *rest = clause.split(" ", 2)
    argument = rest[0] if rest else ""
    value, text = cells.value(name), cells.text(name)
    plain: dict[str, Callable[[], str]] = {
        "null": lambda: f"{value} IS NULL",
        "set": lambda: f"{value} IS NOT NULL",
        "in": lambda: f"coalesce({text} IN ({_values(argument)}), FALSE)",
        "only": lambda: f"coalesce({text} IN ({_values(argument)}), FALSE)",
        "not": lambda: f"coalesce({text} NOT IN ({_values(argument)}), TRUE)",
        "same": lambda: f"{text} IS NOT DISTINCT FROM {cells.text(argument)}",
        "differs": lambda: f"{text} IS DISTINCT FROM {cells.text(argument)}",
    }
    if test in plain:
        other = (argument,) if test in {"same", "differs"} else ()
        return Predicate(clause, (name, *other), plain[test]())
    skipping: dict[str, Callable[[], str]] = {
        "allowed": lambda: _if_set(cells, [name], _among(text, model.columns[name].allowed)),
        "equals": lambda: _if_set(
            cells, [name, argument], f"{cells.number(name)} = {cells.number(argument)}"
        ),
        "zero": lambda: _if_set(cells, [name], f"{cells.number(name)} = 0"),
        "nonnegative": lambda: _if_set(cells, [name], f"{cells.number(name)} >= 0"),
        "fraction": lambda: _if_set(cells, [name], f"{cells.number(name)} BETWEEN 0 AND 1"),
        "before": lambda: _if_set(
            cells, [name, argument], f"{cells.instant(name)} < {cells.instant(argument)}"
        ),
        "times": lambda: _product(cells, _operands(clause)),
        "decimal": lambda: _finite(cells, name),
        "type": lambda: _type(cells, name, argument),
        "format": lambda: _format(cells, name, argument),
        "placeholder": lambda: _placeholder(cells, name),
        "child": lambda: _child(cells, name, argument.removeprefix("of ")),
    }
    if test not in skipping:
        raise ValueError(f"no such row clause: {clause}")
    operands = _operands(clause)
    derived = tuple(map(cells.converted, operands)) if test == "times" else ()
    return Predicate(clause, operands, skipping[test](), skips_null=True, derived=derived)


def _operands(clause: str) -> tuple[str, ...]:
    words = clause.split(" ")
    match words[1]:
        case "times":
            return words[0], words[2], words[4]
        case "equals" | "before":
            return words[0], words[2]
        case "child":
            return words[0], words[3]
        case _:
            return (words[0],)
