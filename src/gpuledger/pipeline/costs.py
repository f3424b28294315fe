"""Cost questions: sums over the ledger by any columns, exact, in one currency."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from gpuledger.core.money import total as exact_total
from gpuledger.core.windows import Window
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import UsageError
from gpuledger.focus.schema import ALLOCATED_COST, LEDGER_COST_AND_USAGE, quoted

METRICS = {
    "billed": "BilledCost",
    "effective": "EffectiveCost",
    "list": "ListCost",
    "contracted": "ContractedCost",
}
# Words that people use, beside the columns' own names (FOCUS names in any case, ours with or without x_).
_ALIASES = {
    "provider": "ServiceProviderName",
    "host": "HostProviderName",
    "service": "ServiceName",
    "category": "ServiceCategory",
    "account": "SubAccountId",
    "region": "RegionId",
    "currency": "BillingCurrency",
    "instance_type": "x_InstanceType",
    "gpu_model": "x_GpuModel",
    "ai_model": "x_AiModel",
    "token_type": "x_TokenType",
    "tier": "x_ServiceTier",
    "cost_center": "x_CostCenter",
    "month": "x_BillingPeriod",
    "status": "x_CostStatus",
    "state": "x_AllocationState",
}
_TIMES = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H:00:00Z", "week": "%G-W%V"}
_ALLOCATED = {"resourceid": "AllocatedResourceId", "resourcename": "AllocatedResourceName"}
_COLUMNS = {column.name.casefold(): column for column in LEDGER_COST_AND_USAGE}
_SPLIT_COLUMNS = {column.name.casefold(): column for column in ALLOCATED_COST}


@dataclass(frozen=True, slots=True)
class Question:
    """What to sum and how.

    `allocated` shows split charges under the job or pod that they were allocated to, instead of its node (ask the
    relation `allocated` then); either way each dollar counts once. `where` entries are `Column=value` or `Column!=value`, all of which must hold; an
    empty value means unknown.
    """

    group_by: Sequence[str] = ()
    metric: str = "effective"
    where: Sequence[str] = ()
    window: Window | None = None
    allocated: bool = False
    limit: int | None = None


@dataclass(slots=True)
class Answer:
    """Rows with the group columns as asked for and `cost`; `total` over all rows, and the one currency of both."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    total: Decimal | None = None
    currency: str | None = None
    charges: int = 0
    diagnostics: list[Diagnostic] = field(default_factory=list)


def expression(name: str, *, allocated: bool = False) -> str:
    """Return SQL for a column that a person named. Raises UsageError with the nearest names.

    `Tags.KEY` (or `tag:KEY`) is the value of one tag; `day`, `hour`, `week` are of ChargePeriodStart. Of allocated
    charges also the job's: `job`, `job_id`, `cluster`, `namespace`, `pod` and so on.
    """
    if match := re.fullmatch(r"(?:tags\.|tag:)(.+)", name, re.IGNORECASE):
        key = duckdb.literal(match[1])
        return f"coalesce(AllocatedTags[{key}], Tags[{key}])" if allocated else f"Tags[{key}]"
    if (form := _TIMES.get(name.casefold())) is not None:
        return f"strftime(ChargePeriodStart, '{form}')"
    folded = _ALIASES.get(name.casefold(), name).casefold().replace("-", "_")
    columns = _SPLIT_COLUMNS if allocated else _COLUMNS
    spellings = (folded, f"x_{folded}", f"x_{folded.replace('_', '')}")
    column = next((columns[spelling] for spelling in spellings if spelling in columns), None)
    if column is None:
        if any(spelling in _SPLIT_COLUMNS for spelling in spellings):
            raise UsageError(f"{name} is known of allocated charges only", hint="Add --allocated.")
        known = [*_ALIASES, *_TIMES, *(c.name for c in columns.values())]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        raise UsageError(
            f"no column {name!r}", hint=f"Did you mean {', '.join(near)}?" if near else "Use FOCUS names."
        )
    if allocated and folded in _ALLOCATED:
        return f"CASE WHEN AllocatedMethodId IS NULL THEN {quoted(column.name)} ELSE {_ALLOCATED[folded]} END"
    return quoted(column.name)


def condition(text: str, *, allocated: bool = False) -> str:
    """Return SQL for one `Column=value` or `Column!=value`."""
    match = re.fullmatch(r"([^=!]+)(!?=)(.*)", text, re.DOTALL)
    if match is None:
        raise UsageError(f"can't read the condition {text!r}", hint="Write Column=value or Column!=value.")
    column = expression(match[1].strip(), allocated=allocated)
    value = "NULL" if match[3] == "" else duckdb.literal(match[3])
    return f"{column}::VARCHAR IS {'NOT ' if match[2] == '=' else ''}DISTINCT FROM {value}"


def predicate(question: Question) -> str:
    """Return the WHERE clause's condition of a question, `true` when it asks for everything."""
    parts = [condition(text, allocated=question.allocated) for text in question.where]
    window = question.window
    if window is not None and window.billing_periods:
        parts.append(f"x_BillingPeriod IN {tuple_of(window.billing_periods)}")
    elif window is not None:
        parts.append(f"ChargePeriodStart >= TIMESTAMPTZ '{window.start.isoformat()}'")
        parts.append(f"ChargePeriodStart < TIMESTAMPTZ '{window.end.isoformat()}'")
    return " AND ".join(parts) or "true"


def tuple_of(values: Sequence[str]) -> str:
    """Return an SQL list `('a', 'b')`."""
    return "(" + ", ".join(duckdb.literal(value) for value in values) + ")"


def ask(con: duckdb.Connection, relation: str, question: Question) -> Answer:
    """Answer a question over a ledger relation.

    Raises UsageError when the charges have several currencies that the question doesn't keep apart.
    """
    sums = statement(relation, question)
    currency = one_currency(con, relation, question)
    rows = con.execute(sums).fetchall()
    answer = Answer(currency=currency[0] if len(currency) == 1 else None)
    answer.rows = [
        dict(zip([*question.group_by, "cost"], row[:-1], strict=True))
        for row in rows
        if question.group_by or row[-1]
    ]
    answer.rows = answer.rows[: question.limit]
    answer.charges = sum(row[-1] for row in rows)
    if len(currency) <= 1:
        costs = [row[-2] for row in rows if row[-2] is not None]
        answer.total = exact_total(costs) if costs else None
    return answer


def statement(relation: str, question: Question) -> str:
    """Return SQL that answers a question: columns k0, k1, … for the groups, `cost` and `charges`, largest cost first.

    It adds up whatever currencies there are: `one_currency` first.
    """
    metric = METRICS.get(question.metric.casefold())
    if metric is None:
        raise UsageError(f"no metric {question.metric!r}", hint=f"There are: {', '.join(METRICS)}.")
    groups = [expression(name, allocated=question.allocated) for name in question.group_by]
    keys = "".join(f"{group} AS k{place}, " for place, group in enumerate(groups))
    grouping = f"GROUP BY {', '.join(f'k{place}' for place in range(len(groups)))}" if groups else ""
    order = ", ".join(["cost DESC NULLS LAST", *(f"k{place}" for place in range(len(groups)))])
    return (
        f"SELECT {keys}sum({quoted(metric)}) AS cost, count(*) AS charges FROM {relation} "
        f"WHERE {predicate(question)} {grouping} ORDER BY {order}"
    )


def one_currency(con: duckdb.Connection, relation: str, question: Question) -> list[str | None]:
    """Return the currencies of the charges in question. Raises UsageError when it would add several up."""
    found = con.execute(
        f"SELECT DISTINCT BillingCurrency FROM {relation} WHERE {predicate(question)} LIMIT 20"
    ).fetchall()
    currency = sorted((row[0] for row in found), key=lambda code: code or "")
    groups = [expression(name, allocated=question.allocated) for name in question.group_by]
    apart = '"BillingCurrency"' in groups
    if len(currency) > 1 and not apart:
        raise UsageError(
            f"these charges are in {', '.join(str(code or 'no stated currency') for code in currency)}; sums of several currencies mean nothing",
            hint=f"Add --where BillingCurrency={currency[0] or ''}, or --group-by BillingCurrency where there is that option.",
        )
    return currency
