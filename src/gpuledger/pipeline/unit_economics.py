"""What a dollar buys: TPS/$ and its relatives by deployment, model, card, team or time, and of training runs."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from gpuledger.core import windows
from gpuledger.core.token_usage import LOSS_CAUSES
from gpuledger.core.training_economics import RunSums, training_figures
from gpuledger.core.unit_economics import Basis, Sums, cost, figures, ranked, tokens
from gpuledger.core.windows import Window
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import UsageError
from gpuledger.pipeline import allocation_state, costs, unit_facts
from gpuledger.pipeline.ledger import Ledger

PEAK_WINDOW: Final = "1h"
_TRAITS: Final = (
    "deployment", "model", "gpu_model", "provider", "cluster", "namespace", "team", "owner", "cost_center", "job_id", "run_id",
)  # fmt: skip
_TIMES: Final = {"hour": "%Y-%m-%dT%H:00:00Z", "day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}
BY: Final = ("deployment", "model", "gpu_model", "provider", "cluster", "namespace", "team")
BY_RUN: Final = ("run_id", "deployment", "model", "gpu_model", "cluster", "namespace", "team")
# Columns of the facts, by field of Sums.
_SUMMED: Final = {
    "input_tokens": "input_tokens", "cached_tokens": "cached_tokens", "output_tokens": "output_tokens",
    "requests": "requests", "failed_requests": "failed_requests", "rated_requests": "rated_requests",
    "good_requests": "good_requests", "rated_output": "rated_output", "good_output": "good_output",
    "effective": "effective", "idle": "idle", "stranded": "stranded", "untold_cost": "untold_cost",
    "gpu_hours": "gpu_hours", "measured_gpu_hours": "measured", "used_gpu_hours": "used",
}  # fmt: skip
SERVED: Final = "kind IN ('serving', 'api', 'unpriced') AND run_id IS NULL"
TRAINED: Final = "(kind = 'training' OR (kind = 'unpriced' AND run_id IS NOT NULL))"
_LIST: Final = (
    "CASE WHEN bool_and(list_cost IS NOT NULL OR effective IS NULL) THEN sum(list_cost) END AS list_cost"
)


@dataclass(slots=True)
class Economics:
    """Rows by group, totals over all of them with the basis of every figure, and findings."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask. `group_by` empty means by deployment (or run); `where` entries are COL=value or COL!=value."""

    group_by: Sequence[str] = ()
    window: Window | None = None
    where: Sequence[str] = ()
    basis: Basis = field(default_factory=Basis)
    limit: int | None = None


def unit_economics(
    ledger: Ledger, *, group_by: Sequence[str] = (), window: str | None = None, where: Sequence[str] = (),
    basis: Basis | None = None, limit: int | None = None, training: bool = False,
) -> Economics:  # fmt: skip
    """Return unit economics of serving and of models behind an API, or of training runs, best TPS/$ (largest cost) first.

    Raises LedgerError when there is nothing in the ledger, UsageError for unknown columns and several currencies.
    """
    ledger.require()
    span = windows.parse(window, datetime.now(UTC)) if window else None
    question = Question(group_by, span, where, basis or Basis(), limit)
    con = unit_facts.load(ledger)
    try:
        found = runs(con, question) if training else ask(con, question)
    finally:
        con.close()
    found.diagnostics += allocation_state.stale(ledger.store, ledger.config.allocation)
    return found


def ask(con: duckdb.Connection, question: Question) -> Economics:
    """Answer of serving and APIs, over the relation `unit_fact`."""
    kept = f"{SERVED} AND {condition(question)}"
    currency = one_currency(con, kept)
    groups = [trait(name) for name in question.group_by or BY]
    names = [trait_name(name) for name in question.group_by or BY]
    peaks = {row[: len(groups)]: row[len(groups) :] for row in _peaks(con, kept, groups, question.basis)}
    rows = []
    for key, sums, span, last in grouped(con, kept, groups):
        made = figures(sums, span, question.basis, _peak(peaks.get(key), question.basis))
        rows.append(
            dict(zip(names, key, strict=True))
            | made
            | {"idle_cost": sums.idle, "stranded_cost": sums.stranded, "last_hour": last}
        )
    _, whole, hours, _ = next(iter(grouped(con, kept, [])))
    totals = _totals(con, question, figures(whole, hours, question.basis)) if rows else {}
    if times := [name for name in names if name in _TIMES]:
        rows.sort(
            key=lambda row: tuple(str(row[name]) for name in (*times, *names))
        )  # a course, not a ranking
    else:
        rows = ranked(rows)
    answer = Economics(rows[: question.limit], totals | _named(question.basis) | {"currency": currency})
    answer.diagnostics = [*_findings(con, kept), *([] if rows else [_NOTHING])]
    return answer


_NOTHING: Final = Diagnostic(
    "no-token-telemetry", "info", "unit-economics", "nothing in the ledger tells of tokens in this window",
    "Collect from an engine, a gateway or an API (docs/token-telemetry.md), or try the example: gpuledger demo.",
)  # fmt: skip


def _named(basis: Basis) -> dict[str, Any]:
    weights = {"input": basis.weights.input, "cached_input": basis.weights.cached, "output": Decimal(1)}
    return {
        "token_basis": basis.tokens, "cost_basis": basis.cost, "weights": weights if basis.tokens == "weighted" else None,
        "peak_window": PEAK_WINDOW,
    }  # fmt: skip


def grouped(
    con: duckdb.Connection, kept: str, groups: Sequence[str]
) -> Iterable[tuple[tuple[Any, ...], Sums, int, datetime]]:
    """Sums by group. Tokens of hours without a known charge count only where nothing of the group has one."""
    keys = "".join(f"{group} AS k{number}, " for number, group in enumerate(groups))
    priced = "kind <> 'unpriced'"
    sums = ", ".join(
        f"CASE WHEN bool_or({priced}) THEN sum({column}) FILTER ({priced}) ELSE sum({column}) END AS {name}"
        for name, column in _SUMMED.items()
    )
    grouping = f"GROUP BY {', '.join(f'k{number}' for number in range(len(groups)))}" if groups else ""
    query = (
        f"SELECT {keys}count(DISTINCT hour) FILTER ({priced}), count(DISTINCT hour), max(hour), "
        f"{_LIST}, {sums} FROM unit_fact WHERE {kept} {grouping}"
    )
    size, names = len(groups), ("list_cost", *_SUMMED)
    for row in con.execute(query).fetchall():
        found = dict(zip(names, row[size + 3 :], strict=True))
        yield row[:size], Sums(**found), row[size] or row[size + 1], row[size + 2]


def _peaks(con: duckdb.Connection, kept: str, groups: Sequence[str], basis: Basis) -> list[tuple[Any, ...]]:
    """Of each group the hour with the best ratio: its tokens and costs as a struct. Floats only choose the hour."""
    keys = "".join(f"{group} AS k{number}, " for number, group in enumerate(groups))
    names = "".join(f"k{number}, " for number in range(len(groups)))
    computed = "(input_tokens - coalesce(cached_tokens, 0))"
    count = {
        "output": "output_tokens::DOUBLE", "total": "(input_tokens + output_tokens)::DOUBLE",
        "computed": f"({computed} + output_tokens)::DOUBLE",
        "weighted": f"output_tokens + {basis.weights.input} * {computed}::DOUBLE + {basis.weights.cached} * coalesce(cached_tokens, 0)::DOUBLE",
    }[basis.tokens]  # fmt: skip
    money = {
        "list": "list_cost", "effective": "effective",
        "fully_loaded": "(effective + coalesce(idle, 0) + coalesce(stranded, 0))",
    }[basis.cost]  # fmt: skip
    columns = ("input_tokens", "cached_tokens", "output_tokens", "effective", "idle", "stranded")
    sums = ", ".join(f"sum({name}) AS {name}" for name in columns)
    packed = ", ".join(f"{name} := {name}" for name in (*columns, "list_cost"))
    return con.execute(
        f"""SELECT {names}arg_max(struct_pack({packed}), ratio) FROM (
            SELECT *, {count} / nullif({money}::DOUBLE, 0) AS ratio FROM (
                SELECT {keys}hour, {sums}, {_LIST} FROM unit_fact
                WHERE {kept} AND kind <> 'unpriced' GROUP BY {names}hour
            ) WHERE {money} > 0
        ) WHERE ratio IS NOT NULL {f"GROUP BY {names[:-2]}" if groups else ""}"""
    ).fetchall()


def _peak(packed: Sequence[Mapping[str, Any]] | None, basis: Basis) -> tuple[Decimal, Decimal] | None:
    if not packed or packed[0] is None:
        return None
    sums = Sums(**packed[0])
    made, spent = tokens(sums, basis.tokens, basis.weights), cost(sums, basis.cost)
    return None if made is None or spent is None else (made, spent)


def _totals(con: duckdb.Connection, question: Question, whole: dict[str, Any]) -> dict[str, Any]:
    """Figures of all rows together, and beside them the money that is no row: other jobs, and what nobody took."""
    kept = condition(Question((), question.window, (), question.basis))
    beside = {}
    for name, kinds in (("other_jobs", "'other', 'training'"), ("nobodys", "'nobody'")):
        sums = next(iter(grouped(con, f"kind IN ({kinds}) AND {kept}", [])))[1]
        beside[f"{name}_cost"] = cost(sums, question.basis.cost)
    shown = ("tokens", "cost", "gpu_hours", "tps_per_dollar", "cost_per_mtok", "requests")
    return {name: whole[name] for name in shown} | (beside if not question.where else {})


def _findings(con: duckdb.Connection, kept: str) -> list[Diagnostic]:
    found = []
    unpriced = con.execute(
        f"""SELECT coalesce(deployment, model, provider), sum(output_tokens) FROM unit_fact
            WHERE {kept} AND kind = 'unpriced' GROUP BY ALL HAVING sum(output_tokens) > 0 ORDER BY 2 DESC, 1"""
    ).fetchall()
    if unpriced:
        names = ", ".join(str(row[0]) for row in unpriced[:3])
        found.append(
            Diagnostic(
                "tokens-unpriced", "warning", "token_interval",
                f"{sum(row[1] for row in unpriced):,.0f} output tokens of {names} fall in hours in which no charge is known to pay for them; no ratio counts them",
                "Ingest the bill of that time, or tell which job serves: its job id, its pod, or a deployment named like the job.",
            )
        )  # fmt: skip
    for model, billed, told in con.execute(
        f"""SELECT concat_ws(' ', model, 'of', deployment), sum(billed_output) AS billed, sum(told_output) AS told
            FROM unit_fact WHERE {kept} AND kind = 'api' GROUP BY model, deployment
            HAVING count(told_output) > 0 AND abs(billed - told) * 100 > billed ORDER BY 1"""
    ).fetchall():
        found.append(
            Diagnostic(
                "tokens-differ", "warning", model,
                f"the bill counts {billed:,.0f} output tokens, telemetry {told:,.0f}: figures are of the bill's",
                "Some calls don't go through the gateway that tells, or the bill isn't complete yet.",
            )
        )  # fmt: skip
    return found


def runs(con: duckdb.Connection, question: Question) -> Economics:
    """Answer of training runs, largest cost first."""
    kept = f"{TRAINED} AND {condition(question)}"
    currency = one_currency(con, kept)
    names = [trait_name(name) for name in question.group_by or BY_RUN]
    groups = [trait(name) for name in question.group_by or BY_RUN]
    found: dict[tuple[Any, ...], RunSums] = {}
    for key, sums in _run_sums(con, kept, groups):
        found[key] = found.get(key, RunSums()) + sums
    rows = [
        dict(zip(names, key, strict=True)) | training_figures(sums, question.basis)
        for key, sums in found.items()
    ]
    rows.sort(key=lambda row: (row["cost"] is None, -(row["cost"] or 0), str(row[names[0]])))
    whole = sum(found.values(), RunSums())
    shown = ("tokens", "cost", "gpu_hours", "useful_hours", "goodput", "discarded_cost", "discarded_share")
    told = training_figures(whole, question.basis)
    totals = {name: told[name] for name in shown} | {"cost_basis": question.basis.cost, "currency": currency}
    answer = Economics(rows[: question.limit], totals)
    if not rows:
        answer.diagnostics.append(
            Diagnostic("no-training-telemetry", "info", "unit-economics", "nothing in the ledger tells of training in this window", _NOTHING.hint)
        )  # fmt: skip
    return answer


def _run_sums(
    con: duckdb.Connection, kept: str, groups: Sequence[str]
) -> Iterable[tuple[tuple[Any, ...], RunSums]]:
    """Sums by group, and by whether the run was thrown away."""
    keys = "".join(f"{group} AS k{number}, " for number, group in enumerate(groups))
    money = ("effective", "idle", "stranded", "gpu_hours")
    plain = ("trained_tokens", "steps", "CAST(run_us AS DECIMAL(38, 0))", "useful_seconds", *(f"lost_{cause}" for cause in LOSS_CAUSES))  # fmt: skip
    sums = ", ".join(f"sum({name})" for name in (*money, *plain))
    thrown = "last_value(discarded IGNORE NULLS) OVER (PARTITION BY run_id ORDER BY hour ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"
    size = len(groups)
    for row in con.execute(
        f"""SELECT {keys}thrown, {_LIST}, {sums}
            FROM (SELECT *, {thrown} AS thrown FROM unit_fact WHERE {kept})
            GROUP BY {"".join(f"k{number}, " for number in range(size))}thrown"""
    ).fetchall():
        thrown_away, values = row[size], dict(zip(("list_cost", *money), row[size + 1 :], strict=False))
        counts = row[size + 2 + len(money) :]
        spent = Sums(**values)
        lost: dict[str, Decimal] = {
            cause: value for cause, value in zip(LOSS_CAUSES, counts[4:], strict=True) if value is not None
        }
        seconds = None if counts[2] is None else Decimal(counts[2]).scaleb(-6)
        yield (
            row[:size],
            RunSums(
                spent, counts[0], counts[1], seconds, counts[3], lost,
                spent if thrown_away else Sums(), spent if thrown_away is not None else Sums(),
            ),
        )  # fmt: skip


def trait_name(name: str) -> str:
    """Return the name of a column of the facts, or of time, that a person named. Raises UsageError with the nearest."""
    folded = name.strip().casefold().replace("-", "_").removeprefix("x_")
    folded = {
        "gpu": "gpu_model",
        "card": "gpu_model",
        "gpumodel": "gpu_model",
        "run": "run_id",
        "job": "job_id",
    }.get(folded, folded)
    known = (*_TRAITS, *_TIMES)
    if folded not in known:
        near = difflib.get_close_matches(folded, known, n=3, cutoff=0.5)
        raise UsageError(
            f"unit economics have no {name!r}",
            hint=f"Did you mean {', '.join(near)}?" if near else f"There are: {', '.join(known)}.",
        )
    return folded


def trait(name: str) -> str:
    """Return SQL of a column that a person named."""
    folded = trait_name(name)
    return f"strftime(hour, '{_TIMES[folded]}')" if folded in _TIMES else folded


def condition(question: Question) -> str:
    """Return SQL of the rows in question. Whole months mean their bills; else hours that begin in the window."""
    parts = []
    for text in question.where:
        match = re.fullmatch(r"([^=!]+)(!?=)(.*)", text, re.DOTALL)
        if match is None:
            raise UsageError(
                f"can't read the condition {text!r}", hint="Write COLUMN=value or COLUMN!=value."
            )
        value = "NULL" if match[3] == "" else duckdb.literal(match[3])
        parts.append(f"{trait(match[1])} IS {'NOT ' if match[2] == '=' else ''}DISTINCT FROM {value}")
    if question.window is not None and question.window.billing_periods:
        parts.append(f"billing_period IN {costs.tuple_of(question.window.billing_periods)}")
    elif question.window is not None:
        start, end = question.window.start.isoformat(), question.window.end.isoformat()
        parts.append(f"hour >= TIMESTAMPTZ '{start}' AND hour < TIMESTAMPTZ '{end}'")
    return " AND ".join(parts) or "true"


def one_currency(con: duckdb.Connection, kept: str) -> str | None:
    """Return the currency of the charges in question. Raises UsageError when there are several."""
    found = con.execute(
        f"SELECT DISTINCT currency FROM unit_fact WHERE {kept} AND effective IS NOT NULL ORDER BY 1 LIMIT 20"
    ).fetchall()
    if len(found) > 1:
        raise UsageError(
            f"these charges are in {', '.join(str(row[0] or 'no stated currency') for row in found)}; sums of several currencies mean nothing",
            hint="Keep one of them apart, for example by --where cluster=NAME.",
        )
    return found[0][0] if found else None
