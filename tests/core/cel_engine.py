"""Policies of CEL, run by celpy: with the functions that Kubernetes adds, and variables as an API server has them.

celpy has neither Kubernetes' string functions nor its list functions; they are added here as the documentation of
"Common Expression Language in Kubernetes" describes them. `dyn` is the identity. celpy runs Python's `re` or RE2, as
is installed.
"""

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


@cache
def compiled(expression: str) -> Any:  # noqa: ANN401 - celpy's program
    return _ENVIRONMENT.program(_ENVIRONMENT.compile(expression), functions=FUNCTIONS)


class Request:
    """One admission, with variables worked out when they are first needed."""

    def __init__(self, variables: Sequence[Mapping[str, str]], **known: Any) -> None:  # noqa: ANN401 - JSON
        self._context = {name: json_to_cel(value) for name, value in known.items()}
        values: dict[str, Any] = {}
        for one in variables:
            self._context["variables"] = celtypes.MapType(
                {celtypes.StringType(key): value for key, value in values.items()}
            )
            values[one["name"]] = self.evaluate(one["expression"])
        self._context["variables"] = celtypes.MapType(
            {celtypes.StringType(key): value for key, value in values.items()}
        )
        self.values = values

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - any value of CEL
        try:
            return compiled(expression).evaluate(self._context)
        except CELEvalError as error:
            raise AssertionError(f"{expression}: {error}") from error
