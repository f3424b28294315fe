"""Policies of CEL, run by celpy: with the functions that Kubernetes adds, and variables as an API server has them.

celpy has neither Kubernetes' string functions nor its list functions; they are added here as the documentation of
"Common Expression Language in Kubernetes" describes them. `dyn` is the identity. celpy runs Python's `re` or RE2, as
is installed.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import celpy
from celpy import celtypes
from celpy.adapter import json_to_cel
from celpy.evaluation import CELEvalError


def _sum(values: list[Any]) -> celtypes.IntType:
    return celtypes.IntType(sum(int(value) for value in values))


FUNCTIONS: dict[str, Any] = {
    "trim": lambda text: celtypes.StringType(str(text).strip()),
    "lowerAscii": lambda text: celtypes.StringType(str(text).lower()),
    "replace": lambda text, old, new: celtypes.StringType(str(text).replace(str(old), str(new))),
    "sum": _sum,
    "min": min,
    "max": max,
    "dyn": lambda value: value,
}
_ENVIRONMENT = celpy.Environment()
_VARIABLE = re.compile(r"\bvariables\.(\w+)")


@cache
def compiled(expression: str) -> Any:  # noqa: ANN401 - celpy's program
    return _ENVIRONMENT.program(_ENVIRONMENT.compile(expression), functions=FUNCTIONS)


class Request:
    """One admission, with variables worked out when they are first needed, as an API server does."""

    def __init__(self, variables: Sequence[Mapping[str, str]], **known: Any) -> None:  # noqa: ANN401 - JSON
        self._known = {name: json_to_cel(value) for name, value in known.items()}
        self._expressions = {one["name"]: one["expression"] for one in variables}
        self._values: dict[str, Any] = {}

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - any value of CEL
        names = dict.fromkeys(_VARIABLE.findall(expression))
        for name in names:
            if name not in self._values:
                self._values[name] = self.evaluate(self._expressions[name])
        values = celtypes.MapType({celtypes.StringType(name): self._values[name] for name in names})
        try:
            return compiled(expression).evaluate({**self._known, "variables": values})
        except CELEvalError as error:
            raise AssertionError(f"{expression}: {error}") from error
