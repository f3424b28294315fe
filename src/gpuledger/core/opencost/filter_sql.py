"""Filters as SQL conditions, with every value bound.

A field is an SQL expression that is never NULL: '' stands for "has none", which `__unallocated__` compares equal to.
"""

from collections.abc import Callable, Mapping
from typing import Final

from gpuledger.core.opencost import UNALLOCATED
from gpuledger.core.opencost.filters import And, Comparison, Filter, Not

Parameters = dict[str, str]
Lookup = Callable[[str], str]
"""Gives the SQL of one entry of a map field, for the SQL of its name."""

_TESTS: Final = {
    "equals": "{field} = {value}",
    "contains": "contains({field}, {value})",
    "prefix": "starts_with({field}, {value})",
    "suffix": "ends_with({field}, {value})",
}
_FOLDED: Final = frozenset({"controllerKind"})


def condition(
    tree: Filter,
    fields: Mapping[str, str | Lookup],
    keys: Mapping[str, str],
    parameters: Parameters,
) -> str:
    """Return a filter as an SQL condition that is never NULL; adds the values to `parameters`.

    `fields` has the SQL of each text field and a lookup for each map field; `keys` the SQL of a map field's names, a
    list.
    """
    if isinstance(tree, Comparison):
        return _comparison(tree, fields, keys, parameters)
    if isinstance(tree, Not):
        return f"NOT ({condition(tree.operand, fields, keys, parameters)})"
    parts = [f"({condition(one, fields, keys, parameters)})" for one in tree.operands]
    if isinstance(tree, And):
        return " AND ".join(parts) or "true"
    return " OR ".join(parts) or "false"


def _comparison(
    tree: Comparison, fields: Mapping[str, str | Lookup], keys: Mapping[str, str], parameters: Parameters
) -> str:
    value = "" if tree.value == UNALLOCATED else tree.value
    bound = bind(value.casefold() if tree.field in _FOLDED else value, parameters)
    field = fields[tree.field]
    if isinstance(field, str):
        return _TESTS[tree.operator].format(field=field, value=bound)
    if tree.key is not None:
        return _TESTS[tree.operator].format(field=field(bind(tree.key, parameters)), value=bound)
    test = _TESTS["equals" if tree.operator == "contains" else tree.operator]
    one = test.format(field="name", value=bound)
    return f"len(list_filter({keys[tree.field]}, lambda name: {one})) > 0"


def bind(value: str, parameters: Parameters) -> str:
    """Add a value to the parameters of a statement; return its placeholder."""
    for name, known in parameters.items():
        if known == value:
            return f"${name}"
    name = f"p{len(parameters)}"
    parameters[name] = value
    return f"${name}"
