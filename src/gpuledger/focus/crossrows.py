"""Clauses that hold across rows: keys, functional dependencies, sums, references.

Each compiles to one query that returns `checked, failed, value`: how many rows the clause is about, how many belong
to a group that breaks it, and the key column's value in such a group, by which an example is found.
"""

from dataclasses import dataclass
from typing import Final

from gpuledger.focus.cells import Cells
from gpuledger.focus.schema import quoted

# Sums of rounded shares may differ in the last digits that a bill carries; money that is really missing is larger.
SUM_TOLERANCE: Final = "0.000001"
RATIO_TOLERANCE: Final = "0.0001"

# What the allocated charges of one origin have in common (their dimensions equal the origin's), as far as it
# tells one origin from another.
ORIGIN_DIMENSIONS: Final = (
    "AllocatedMethodId", "BillingAccountId", "SubAccountId", "ResourceId", "SkuPriceId", "SkuMeter",
    "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargePeriodStart", "ChargePeriodEnd",
    "BillingPeriodStart", "CommitmentDiscountId", "CommitmentDiscountStatus", "CapacityReservationId",
    "CapacityReservationStatus", "PricingCategory", "RegionId", "AvailabilityZone", "Tags",
)  # fmt: skip
ORIGIN_KEY: Final = "x_OriginChargeId"


@dataclass(frozen=True, slots=True)
class CrossRow:
    """A clause across rows: the columns it needs, its key as SQL text over a row, and its query."""

    clause: str
    columns: tuple[str, ...]
    key: str
    sql: str


def _groups(inner: str) -> str:
    """Sum up groups `k, n, bad`: their rows, the rows of bad groups, and one bad group's key."""
    return (
        "SELECT coalesce(sum(n), 0), coalesce(sum(n) FILTER (WHERE bad), 0), min(k) FILTER (WHERE bad)"
        f" FROM ({inner})"
    )


def _determines(cells: Cells, key: str, value: str) -> str:
    inner = (
        f"SELECT {cells.text(key)} AS k, count(*) AS n, min({cells.text(value)}) <> max({cells.text(value)}) AS bad"
        f" FROM {cells.rows(key, value)} WHERE {quoted(key)} IS NOT NULL GROUP BY k"
    )
    return _groups(inner)


def _unique(cells: Cells, key: str) -> str:
    inner = (
        f"SELECT {cells.text(key)} AS k, count(*) AS n, count(*) > 1 AS bad"
        f" FROM {cells.rows(key)} WHERE {quoted(key)} IS NOT NULL GROUP BY k"
    )
    return _groups(inner)


def _amortised(cells: Cells) -> str:
    """Usage at EffectiveCost equals purchases at BilledCost, for commitments that show both."""
    key, used = "CommitmentDiscountId", cells.text("ChargeCategory")
    effective, billed = cells.number("EffectiveCost"), cells.number("BilledCost")
    gap = (
        f"coalesce(sum({effective}) FILTER (WHERE {used} = 'Usage'), 0)"
        f" - coalesce(sum({billed}) FILTER (WHERE {used} = 'Purchase'), 0)"
    )
    inner = (
        f"SELECT {cells.text(key)} AS k, count(*) AS n, abs({gap}) > {SUM_TOLERANCE} AS bad"
        f" FROM {cells.rows(key, 'ChargeCategory', 'EffectiveCost', 'BilledCost')}"
        f" WHERE {quoted(key)} IS NOT NULL GROUP BY k"
        f" HAVING count(*) FILTER (WHERE {used} = 'Usage') > 0 AND count(*) FILTER (WHERE {used} = 'Purchase') > 0"
    )
    return _groups(inner)


def _used_and_unused(cells: Cells) -> str:
    """Usage of a commitment is all Used or Unused: nothing effective is left over."""
    key, effective = "CommitmentDiscountId", cells.number("EffectiveCost")
    status = cells.text("CommitmentDiscountStatus")
    rest = (
        f"coalesce(sum({effective}) FILTER (WHERE {status} IS NULL OR {status} NOT IN ('Used', 'Unused')), 0)"
    )
    inner = (
        f"SELECT {cells.text(key)} AS k, count(*) AS n, abs({rest}) > {SUM_TOLERANCE} AS bad"
        f" FROM {cells.rows(key, 'ChargeCategory', 'EffectiveCost', 'CommitmentDiscountStatus')}"
        f" WHERE {quoted(key)} IS NOT NULL AND {cells.text('ChargeCategory')} = 'Usage' GROUP BY k"
    )
    return _groups(inner)


def _ratios(cells: Cells) -> str:
    """AllocatedRatio over the allocated charges of one origin adds up to 1."""
    keys = (ORIGIN_KEY,) if cells.actual(ORIGIN_KEY) else ORIGIN_DIMENSIONS
    present = [name for name in keys if cells.actual(name)]
    column = "AllocatedMethodDetails"
    ratio = (
        "list_sum(list_transform(json_extract_string(CASE WHEN json_valid(v) THEN v::JSON END,"
        " '$.Elements[*].AllocatedRatio'), lambda x: TRY_CAST(x AS DECIMAL(18,9))))"
    )
    origin = ", ".join(cells.text(name) for name in present)
    inner = (
        f"SELECT min(v) AS k, count(*) AS n, abs(sum({ratio}) - 1) > {RATIO_TOLERANCE} AS bad FROM ("
        f"SELECT {cells.text(column)} AS v, hash({origin}) AS origin FROM {cells.rows(column, *present)}"
        f" WHERE {quoted(column)} IS NOT NULL) GROUP BY origin"
    )
    return _groups(inner)


def _pairs(cells: Cells) -> str:
    """No key of AllocatedTags repeats the same key and value of Tags."""
    one, two = cells.text("AllocatedTags"), cells.text("Tags")
    pointer = "'/' || replace(replace(x, '~', '~0'), '/', '~1')"
    pairs = (
        "list_filter(json_keys(k::JSON), lambda x: coalesce("
        f"json_extract_string(k::JSON, {pointer}) = json_extract_string(t::JSON, {pointer}), FALSE))"
    )
    inner = (
        f"SELECT k || t AS k, n, len({pairs}) > 0 AS bad FROM (SELECT {one} AS k, {two} AS t, count(*) AS n"
        f" FROM {cells.rows('AllocatedTags', 'Tags')} WHERE {quoted('AllocatedTags')} IS NOT NULL GROUP BY ALL)"
        " WHERE json_valid(k) AND coalesce(json_valid(t), FALSE)"
    )
    return _groups(inner)


def _applied(cells: Cells, *others: str) -> str:
    """The commitments that charges name: `k` (the cell), ContractId, ContractCommitmentId and other cells."""
    column = "ContractApplied"
    extra = "".join(f", {cells.text(name)} AS {quoted(name)}" for name in others)
    element = "unnest(json_extract(CASE WHEN json_valid(k) THEN k::JSON END, '$.Elements[*]'))"
    read = "coalesce(json_extract_string(e, '$.{0}Id'), json_extract_string(e, '$.{0}ID')) AS {0}Id"
    return (
        f"SELECT *, {read.format('Contract')}, {read.format('ContractCommitment')} FROM ("
        f"SELECT *, {element} AS e FROM (SELECT {cells.text(column)} AS k{extra}, count(*) AS n"
        f" FROM {cells.rows(column, *others)} WHERE {quoted(column)} IS NOT NULL GROUP BY ALL))"
    )


def _one_parent(cells: Cells) -> str:
    inner = (
        "SELECT min(k) AS k, sum(n) AS n, min(ContractId) <> max(ContractId) AS bad"
        f" FROM ({_applied(cells)}) WHERE ContractCommitmentId IS NOT NULL GROUP BY ContractCommitmentId"
    )
    return _groups(inner)


def _purchase_is_resource(cells: Cells) -> str:
    inner = (
        "SELECT k, n, ContractCommitmentId IS DISTINCT FROM ResourceId AS bad"
        f" FROM ({_applied(cells, 'ResourceId', 'ChargeCategory')}) WHERE ChargeCategory = 'Purchase'"
    )
    return _groups(inner)


def _known_commitments(cells: Cells, commitments: Cells) -> str:
    inner = (
        "SELECT k, n, ContractCommitmentId NOT IN"
        f" (SELECT {commitments.text('ContractCommitmentId')} FROM {commitments.rows('ContractCommitmentId')}"
        f" WHERE {quoted('ContractCommitmentId')} IS NOT NULL) AS bad"
        f" FROM ({_applied(cells)}) WHERE ContractCommitmentId IS NOT NULL"
    )
    return _groups(inner)


def cross_row(  # noqa: PLR0911  # one per clause
    clause: str, cells: Cells, commitments: Cells | None
) -> CrossRow | None:
    """Compile a clause across rows; None when it is about another kind of thing.

    `commitments` is the ContractCommitment dataset that goes with the input; without it the query of a clause that
    refers to it is empty.
    """
    applied = "ContractApplied"

    def keyed(query: str, *columns: str) -> CrossRow:
        return CrossRow(clause, columns, cells.text(columns[0]), query)

    match clause.split(" "):
        case [key, "determines", value]:
            return keyed(_determines(cells, key, value), key, value)
        case [key, "unique"]:
            return keyed(_unique(cells, key), key)
        case ["commitment", "amortised"]:
            columns = ("CommitmentDiscountId", "ChargeCategory", "EffectiveCost", "BilledCost")
            return keyed(_amortised(cells), *columns)
        case ["commitment", "used", *_]:
            columns = ("CommitmentDiscountId", "CommitmentDiscountStatus", "ChargeCategory", "EffectiveCost")
            return keyed(_used_and_unused(cells), *columns)
        case ["allocated", "ratios", *_]:
            return keyed(_ratios(cells), "AllocatedMethodDetails")
        case [one, "pairs", *_]:
            return CrossRow(
                clause, (one, "Tags"), f"{cells.text(one)} || {cells.text('Tags')}", _pairs(cells)
            )
        case [_, "elements", _, "determines", _]:
            return keyed(_one_parent(cells), applied)
        case [_, "elements", _, "same", _]:
            return keyed(_purchase_is_resource(cells), applied, "ResourceId", "ChargeCategory")
        case [_, "elements", _, "in", _]:
            return keyed(_known_commitments(cells, commitments) if commitments else "", applied)
        case _:
            return None
