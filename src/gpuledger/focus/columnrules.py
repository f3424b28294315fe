"""Clauses about the columns themselves: which there are, how they are named, in what order."""

import re
from typing import Final

from gpuledger.focus.cells import Cells, is_readers
from gpuledger.focus.model import Model, Rule
from gpuledger.focus.report import RuleResult

_CUSTOM: Final = re.compile(r"x_[A-Z][A-Za-z0-9]*")
_LONGEST_NAME: Final = 50


def _listed(names: list[str]) -> str:
    return f"Seen: {', '.join(names[:8])}{' …' if len(names) > 8 else ''}." if names else ""  # noqa: PLR2004


def column_result(rule: Rule, cells: Cells, model: Model) -> RuleResult:
    """Judge one clause about the columns; ValueError for a clause that is none.

    Columns that a reader added (file, row) belong to no dataset.
    """
    names = [name for name in cells.types if not is_readers(name)]
    folded = {name.casefold() for name in model.columns}
    custom = [name for name in names if name.casefold() not in folded]
    match rule.check.split(" "):
        case [_, "present"]:
            actual = cells.actual(rule.column)
            other = f"It is there as {actual}." if actual and actual != rule.column else ""
            return RuleResult(rule, 1, int(actual != rule.column), None, other)
        case ["custom", "columns", "prefixed"]:
            bad = [name for name in custom if not name.startswith("x_")]
        case ["custom", "columns", "named"]:
            prefixed = [name for name in custom if name.startswith("x_")]
            bad = [name for name in prefixed if not _CUSTOM.fullmatch(name) or len(name) > _LONGEST_NAME]
        case ["focus", "columns", "first"]:
            first = next((names.index(name) for name in custom), len(names))
            bad = [name for name in names[first:] if name not in custom]
            return RuleResult(rule, len(names), len(bad), None, _listed(bad))
        case _:
            raise ValueError(f"no such clause about columns: {rule.check}")
    return RuleResult(rule, len(custom), len(bad), None, _listed(bad))
