"""Clauses about the content of a JSON cell, judged once per distinct value.

Tags and details repeat over millions of rows, so the cells are grouped first and every clause becomes one
expression over `v` (the text) and `j` (the parsed JSON, NULL when `v` is no JSON). A clause other than the
format itself passes on what is no JSON: one defect, one finding.

Clauses: `format keyvalue`, `format json`, `keys prefixed|spelled|pascal`, `values set|typed`,
`object unique|shallow`, and `elements …` about the objects in the array "Elements" (ContractApplied,
AllocatedMethodDetails). FOCUS 1.3 spells two keys …ID in places, its erratum …Id: both are read.
"""

from dataclasses import dataclass
from typing import Final

from gpuledger.focus.cells import Cells, literal
from gpuledger.focus.predicates import UNIT

# FOCUS-defined properties of SkuPriceDetails and their types (specification, column SkuPriceDetails).
SKU_PROPERTIES: Final = {
    "CoreCount": "number",
    "DiskMaxIops": "number",
    "DiskSpace": "number",
    "DiskType": "string",
    "GpuCount": "number",
    "InstanceSeries": "string",
    "InstanceType": "string",
    "MemorySize": "number",
    "NetworkMaxIops": "number",
    "NetworkMaxThroughput": "number",
    "OperatingSystem": "string",
    "Redundancy": "string",
    "StorageClass": "string",
}
ELEMENT_KEYS: Final = {
    "ContractApplied": (
        "ContractId",
        "ContractCommitmentId",
        "ContractCommitmentAppliedCost",
        "ContractCommitmentAppliedQuantity",
        "ContractCommitmentAppliedUnit",
    ),
    "AllocatedMethodDetails": ("AllocatedRatio", "UsageUnit", "UsageQuantity"),
}
SPELLINGS: Final = {"ContractId": "ContractID", "ContractCommitmentId": "ContractCommitmentID"}

_NOT_NUMBER: Final = "('VARCHAR', 'BOOLEAN', 'OBJECT', 'ARRAY')"
_ELEMENTS: Final = "json_extract(j, '$.Elements[*]')"
_DEEPEST: Final = 3


@dataclass(frozen=True, slots=True)
class ObjectClause:
    """A clause about one JSON column: `sql` is TRUE where a distinct value keeps it."""

    clause: str
    column: str
    sql: str


def is_object_clause(clause: str) -> bool:
    """Whether a rule's check is for this module."""
    _, test, *rest = clause.split(" ")
    if test == "elements":
        return rest[1:2] not in (["determines"], ["same"], ["in"])
    return test in {"object", "keys", "values"} or (test, *rest) in {
        ("format", "keyvalue"),
        ("format", "json"),
    }


def _flat(json: str) -> str:
    """An object whose keys are unique and whose values are scalars."""
    return (
        f"(json_type({json}) = 'OBJECT' AND len(json_keys({json})) = len(list_distinct(json_keys({json})))"
        f" AND len(list_filter(json_extract({json}, '$.*'), lambda x: json_type(x) IN ('OBJECT', 'ARRAY'))) = 0)"
    )


def _every(test: str) -> str:
    """Every element keeps `test`, an expression over `e`."""
    return f"len(list_filter({_ELEMENTS}, lambda e: NOT coalesce({test}, FALSE))) = 0"


def _key(name: str) -> str:
    """Type of a key of element `e`; NULL when the key is absent."""
    other = SPELLINGS.get(name)
    plain = f"json_type(e, '$.{name}')"
    return f"coalesce({plain}, json_type(e, '$.{other}'))" if other else plain


def _string(name: str) -> str:
    other = SPELLINGS.get(name)
    plain = f"json_extract_string(e, '$.{name}')"
    return f"coalesce({plain}, json_extract_string(e, '$.{other}'))" if other else plain


def _set(name: str) -> str:
    return f"coalesce({_key(name)}, 'NULL') <> 'NULL'"


def _known(column: str) -> list[str]:
    names = list(ELEMENT_KEYS.get(column, SKU_PROPERTIES))
    return names + [SPELLINGS[name] for name in names if name in SPELLINGS]


def _keys(column: str, test: str, json: str) -> str:
    """A test of every key `k` of an object."""
    known = ", ".join(map(literal, _known(column)))
    folded = ", ".join(literal(name.lower()) for name in _known(column))
    bad = {
        "prefixed": f"NOT (k IN ({known}) OR starts_with(k, 'x_'))",
        "spelled": f"k NOT IN ({known}) AND lower(k) IN ({folded})",
        "pascal": "NOT regexp_full_match(k, '(x_)?[A-Z][A-Za-z0-9]*')",
    }[test]
    return f"len(list_filter(json_keys({json}), lambda k: {bad})) = 0"


def _typed() -> str:
    """FOCUS-defined SKU properties have their type."""
    tests = [
        f"coalesce(json_type(j, '$.{name}') "
        + (f"NOT IN {_NOT_NUMBER}" if kind == "number" else "IN ('VARCHAR', 'NULL')")
        + ", TRUE)"
        for name, kind in SKU_PROPERTIES.items()
    ]
    return " AND ".join(tests)


def _element(column: str, words: list[str]) -> str:  # noqa: PLR0911  # one per clause
    """The elements' clauses; `words` follow `elements`."""
    match words:
        case ["array"]:
            return "coalesce(json_type(j, '$.Elements') = 'ARRAY', FALSE)"
        case ["objects"]:
            return _every("json_type(e) = 'OBJECT'")
        case ["flat"]:
            return _every(f"json_type(e) <> 'OBJECT' OR {_flat('e')}")
        case ["prefixed" | "spelled" | "pascal" as test]:
            return _every(_keys(column, test, "e"))
        case ["same"]:
            return f"len(list_distinct(list_transform({_ELEMENTS}, lambda e: json_type(e)))) <= 1"
        case ["distinct"]:
            return f"len(list_distinct({_ELEMENTS})) = len({_ELEMENTS})"
        case ["nonnull"]:
            return _every("json_type(e) <> 'NULL'")
        case ["keys", "complete"]:
            return _every(" AND ".join(f"{_key(name)} IS NOT NULL" for name in ELEMENT_KEYS[column]))
        case ["cost", "or", "quantity"]:
            cost, quantity, unit = (
                _set(f"ContractCommitmentApplied{x}") for x in ("Cost", "Quantity", "Unit")
            )
            return _every(
                f"({cost} AND NOT {quantity} AND NOT {unit}) OR (NOT {cost} AND {quantity} AND {unit})"
            )
        case [name, *test]:
            return _every(_element_key(name, test))
        case _:
            raise ValueError(f"no such clause on elements: {' '.join(words)}")


def _element_key(name: str, test: list[str]) -> str:  # noqa: PLR0911  # one per clause
    kind, text = _key(name), _string(name)
    match test:
        case ["present"]:
            return f"{kind} IS NOT NULL"
        case ["present", "when", other]:
            return f"{_key(other)} IS NULL OR {kind} IS NOT NULL"
        case ["string"]:
            return f"coalesce({kind} IN ('VARCHAR', 'NULL'), TRUE)"
        case ["decimal"]:
            return f"coalesce({kind} NOT IN {_NOT_NUMBER}, TRUE)"
        case ["text"]:
            return f"coalesce(trim({text}) <> '', TRUE)"
        case ["unit"]:
            return f"coalesce(regexp_full_match({text}, {literal(UNIT)}), TRUE)"
        case ["fraction"]:
            return f"coalesce(TRY_CAST({text} AS DECIMAL(38,18)) BETWEEN 0 AND 1, TRUE)"
        case [("set" | "null") as wanted, "when", other, ("set" | "null") as state]:
            applies = _set(other) if state == "set" else f"NOT {_set(other)}"
            return f"NOT {applies} OR {_set(name) if wanted == 'set' else f'NOT {_set(name)}'}"
        case _:
            raise ValueError(f"no such clause on an element: {name} {' '.join(test)}")


def object_clause(clause: str) -> ObjectClause:
    """Compile a clause; ValueError for one that is none."""
    column, test, *words = clause.split(" ")
    match (test, words):
        case ("format", ["keyvalue"]):
            return ObjectClause(clause, column, f"coalesce({_flat('j')}, FALSE)")
        case ("format", ["json"]):
            return ObjectClause(clause, column, "coalesce(json_type(j) = 'OBJECT', FALSE)")
        case ("object", ["unique"]):
            sql = "len(json_keys(j)) = len(list_distinct(json_keys(j)))"
        case ("object", ["shallow"]):
            # Containers that hold another container at the third level.
            deep = "regexp_extract_all(fullkey, '[.\\[]')"
            sql = (
                f"(SELECT coalesce(max(len({deep})), 0) FROM json_tree(j)"
                f" WHERE type IN ('OBJECT', 'ARRAY')) < {_DEEPEST}"
            )
        case ("keys", ["prefixed" | "spelled" | "pascal" as wanted]):
            sql = _keys(column, wanted, "j")
        case ("values", ["set"]):
            sql = "len(list_filter(json_extract(j, '$.*'), lambda x: json_type(x) = 'NULL')) = 0"
        case ("values", ["typed"]):
            sql = _typed()
        case ("elements", _):
            sql = _element(column, words)
        case _:
            raise ValueError(f"no such object clause: {clause}")
    return ObjectClause(clause, column, f"coalesce({sql}, TRUE)")


def judgement(cells: Cells, column: str, clauses: list[ObjectClause]) -> str:
    """SQL giving, for one column: the cells set, then for every clause the cells failing and a failing value.

    One row: `checked, failed_1, value_1, failed_2, value_2, …`.
    """
    results = ", ".join(
        f"coalesce(sum(n) FILTER (WHERE NOT p{i}), 0), min(v) FILTER (WHERE NOT p{i})"
        for i in range(len(clauses))
    )
    tests = ", ".join(f"{clause.sql} AS p{i}" for i, clause in enumerate(clauses))
    distinct = (
        f"SELECT v, count(*) AS n FROM (SELECT {cells.text(column)} AS v FROM {cells.rows(column)})"
        " WHERE v IS NOT NULL GROUP BY v"
    )
    parsed = f"SELECT v, n, CASE WHEN json_valid(v) THEN v::JSON END AS j FROM ({distinct})"
    return f"SELECT coalesce(sum(n), 0), {results} FROM (SELECT v, n, {tests} FROM ({parsed}))"
