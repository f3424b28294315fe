"""`costs --compare estimate`: what was metered beside what was billed, and what makes the difference.

Definitions: docs/metering.md. Of the bill, usage that pays for machines is compared: of metered machines, and of any
other instance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from gpuledger.core.money import total
from gpuledger.engines import duckdb
from gpuledger.errors import UsageError
from gpuledger.focus.schema import create_columns
from gpuledger.models import metering
from gpuledger.pipeline import costs
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.store import TABLES, scan

_DEFAULT: Final = ("ResourceId",)
_AMOUNTS: Final = ("estimated", "final", "difference", *metering.CLASSES)


@dataclass(slots=True)
class Comparison:
    """Groups, largest difference first, and the sums over all of them.

    `error` is |sum of estimates - sum of bills| / sum of bills over settled time of machines that were metered; None
    where nothing is settled yet.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    error: Decimal | None = None
    currency: str | None = None


def compare(ledger: Ledger, question: costs.Question, as_of: datetime | int | None = None) -> Comparison:
    """Compare per group of the question (default: per resource). Raises UsageError when sums would mix currencies."""
    ledger.require()
    metric = costs.METRICS.get(question.metric.casefold())
    if metric is None:
        raise UsageError(f"no metric {question.metric!r}", hint=f"There are: {', '.join(costs.METRICS)}.")
    names = list(question.group_by) or list(_DEFAULT)
    groups = [costs.expression(name) for name in names]
    con = duckdb.connect(memory_limit=ledger.config.ledger.memory_limit)
    for table, name in (("cost_and_usage", "bills"), ("estimated_cost", "estimates")):
        _view(con, ledger, table, name, as_of)
    metering.load(con)
    kept = costs.predicate(question)
    final, estimated = (f"(SELECT * FROM {name} WHERE {kept})" for name in ("bills", "estimates"))
    query = metering.compare(final, estimated, groups, metric)
    con.execute(f"CREATE TEMP TABLE compared AS {query}")
    apart = '"BillingCurrency"' in groups
    currencies = [
        row[0] for row in con.execute("SELECT DISTINCT currency FROM compared ORDER BY 1").fetchall()
    ]
    if len(currencies) > 1 and not apart:
        raise UsageError(
            f"the charges are in several currencies: {', '.join(str(code) for code in currencies)}",
            hint="Add BillingCurrency to --group-by, or --where BillingCurrency=USD.",
        )
    return _answer(con, names, question.limit, currencies[0] if len(currencies) == 1 else None)


def _view(
    con: duckdb.Connection, ledger: Ledger, table: str, name: str, as_of: datetime | int | None
) -> None:
    version = as_of if table == "cost_and_usage" or isinstance(as_of, datetime) else None
    found = ledger.store.readable(table, version, ledger.cache)
    if found:
        con.execute(f"CREATE VIEW {name} AS SELECT * FROM {scan(table, found, hive=True)}")
    else:
        con.execute(f"CREATE TABLE {name} ({create_columns(TABLES[table])})")


def _answer(
    con: duckdb.Connection, names: Sequence[str], limit: int | None, currency: str | None
) -> Comparison:
    keys = [f"groups.k{place}" for place in range(len(names))]
    sums = ", ".join(f"sum({name}) AS {name}" for name in _AMOUNTS)
    found = con.execute(
        f"""SELECT {", ".join(keys)}, {sums}, sum(estimated_time), sum(final_time)
            FROM compared GROUP BY {", ".join(keys)} ORDER BY abs(sum(difference)) DESC, {", ".join(keys)}"""
    ).fetchall()
    columns = [*names, *_AMOUNTS, "estimated_hours", "final_hours"]
    rows = [dict(zip(columns, row, strict=True)) for row in found]
    for row in rows:
        row |= {name: _hours(row[name]) for name in ("estimated_hours", "final_hours")}
        row["classification"] = _largest(row)
    answer = Comparison(rows[:limit], currency=currency)
    if currency is not None or not rows:
        answer.totals = {name: _total([row[name] for row in rows]) for name in _AMOUNTS}
        answer.error = _error(con)
    return answer


def _hours(microseconds: int) -> Decimal:
    return Decimal(round(Fraction(int(microseconds), 3600))).scaleb(-6)


def _largest(row: dict[str, Any]) -> str | None:
    """The class that weighs most; None where nothing differs."""
    name = max(metering.CLASSES, key=lambda one: abs(row[one]))
    return name if row[name] else None


def _total(amounts: Sequence[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return total(known) if known else None


def _error(con: duckdb.Connection) -> Decimal | None:
    row = con.execute("SELECT sum(estimated), sum(final) FROM compared WHERE counts").fetchone()
    estimated, final = row or (None, None)
    if estimated is None or not final:
        return None
    error = abs(Fraction(estimated) - Fraction(final)) / abs(Fraction(final))
    return Decimal(round(error * 10**6)).scaleb(-6)
