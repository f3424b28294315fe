"""Self-hosted deployments beside a model behind an API: what it would have cost there, and from which load on it pays."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from gpuledger.core import windows
from gpuledger.core.break_even import ApiPrice, BreakEven, Mix, api_cost, break_even
from gpuledger.core.unit_economics import Basis, Sums, cost, quotient, rounded
from gpuledger.engines import duckdb
from gpuledger.errors import UsageError
from gpuledger.pipeline import allocation_state, unit_facts
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.unit_economics import Economics, Question, condition, grouped, one_currency
from gpuledger.prices.tokens import CATALOGUE, newest_prices

_BY: Final = ("deployment", "model", "gpu_model", "cluster", "namespace", "team")
_MILLION: Final = 1_000_000


def against(
    ledger: Ledger, model: str, *, window: str | None = None, where: Sequence[str] = (), basis: Basis | None = None
) -> Economics:  # fmt: skip
    """Hold each self-hosted deployment against a model behind an API, at its own mix of tokens.

    The price is what the ledger's bills of that model say, else the catalogue's list price. Raises UsageError when
    neither knows the model, or when costs aren't in the catalogue's currency.
    """
    ledger.require()
    now = datetime.now(UTC)
    span = windows.parse(window, now) if window else None
    con = unit_facts.load(ledger)
    try:
        found = ask(
            con,
            model,
            Question((), span, where, basis or Basis()),
            min(span.end, now).date() if span else now.date(),
        )
    finally:
        con.close()
    found.diagnostics += allocation_state.stale(ledger.store, ledger.config.allocation)
    return found


def ask(con: duckdb.Connection, model: str, question: Question, day: date) -> Economics:
    """Answer over the relation `unit_fact`; `day` is the day of the catalogue's price."""
    kept = f"kind = 'serving' AND {condition(question)}"
    currency = one_currency(con, kept)
    price, source = price_of(con, model, question, currency, day)
    best = {row[:-1]: row[-1] for row in _replicas(con, kept)}
    rows = []
    for key, sums, hours, _ in grouped(con, kept, _BY):
        spent = cost(sums, question.basis.cost)
        row: dict[str, Any] = dict(zip(_BY, key, strict=True)) | {
            "against": model, "token_basis": "output", "cost_basis": question.basis.cost, "tokens": sums.output_tokens, "cost": spent,
        }  # fmt: skip
        rows.append(row | (_UNKNOWN if spent is None else _held(sums, spent, hours, best.get(key), price)))
    rows.sort(key=lambda row: (row["saving"] is None, -(row["saving"] or 0), str(row["deployment"])))
    per_million = {name: getattr(price, name) for name in ("input", "cached", "output")}
    totals = {
        "against": model, "price_source": source, "currency": currency,
        "price_per_mtok": {name: None if value is None else value * _MILLION for name, value in per_million.items()},
    }  # fmt: skip
    return Economics(rows, totals)


_UNKNOWN: Final[dict[str, Any]] = {
    "api_cost": None, "saving": None, "cheaper": None, "replicas": None, "replica_cost_per_hour": None,
    "tokens_per_second_per_replica": None, "peak_tokens_per_second_per_replica": None,
    "break_even_tokens_per_second": None, "break_even_share_of_peak": None, "always_from_tokens_per_second": None,
    "note": "nothing was made, or what it cost isn't known",
}  # fmt: skip


def _held(
    sums: Sums, spent: Decimal, hours: int, best: dict[str, Any] | None, price: ApiPrice
) -> dict[str, Any]:
    if not sums.output_tokens or sums.input_tokens is None:
        return _UNKNOWN
    mix = Mix(sums.input_tokens, sums.cached_tokens or Decimal(0), sums.output_tokens)
    there = rounded(api_cost(mix, price))
    # Where telemetry doesn't tell replicas apart, all of the deployment counts as one.
    replica_hours = best["replica_hours"] if best and best["replica_hours"] else hours
    hour = Fraction(spent) / replica_hours
    peak = Fraction(best["tokens"]) / (3600 * (best["pods"] or 1)) if best and best["tokens"] else Fraction(0)
    found = break_even(hour, mix, price, peak)
    saving = there - spent
    return {
        "api_cost": there, "saving": saving, "cheaper": "self-hosted" if saving > 0 else "api",
        "replicas": quotient(replica_hours, hours), "replica_cost_per_hour": rounded(hour),
        "tokens_per_second_per_replica": quotient(mix.output, 3600 * replica_hours),
        "peak_tokens_per_second_per_replica": rounded(peak),
        "break_even_tokens_per_second": found.one if found else None,
        "break_even_share_of_peak": found.share_of_peak if found else None,
        "always_from_tokens_per_second": found.always if found else None,
        "note": _note(found),
    }  # fmt: skip


def _note(found: BreakEven | None) -> str:
    if found is None:
        return "the API takes nothing for these tokens"
    if found.share_of_peak > 1:
        return "no load pays: a replica would have to make more than in the best hour that was seen"
    if found.always is None:
        return "pays only when replicas are full to the brim"
    return (
        f"pays while each whole replica makes {found.one:,.0f} output tokens/s or more ({100 * found.share_of_peak:.0f} % of "
        f"the best hour seen); at any load from {found.always:,.0f} tokens/s on"
    )


def _replicas(con: duckdb.Connection, kept: str) -> list[tuple[Any, ...]]:
    """Of each deployment its replica-hours, and its best hour: output and replicas. Floats only choose the hour."""
    keys = ", ".join(_BY)
    return con.execute(
        f"""SELECT {keys}, struct_pack(
                replica_hours := CAST(sum(pods) AS BIGINT), tokens := arg_max(made, made::DOUBLE / greatest(pods, 1)),
                pods := CAST(arg_max(pods, made::DOUBLE / greatest(pods, 1)) AS BIGINT)
            ) FROM (SELECT {keys}, hour, sum(output_tokens) AS made, sum(pods) AS pods FROM unit_fact WHERE {kept} GROUP BY ALL)
            GROUP BY {keys}"""
    ).fetchall()


def price_of(
    con: duckdb.Connection, model: str, question: Question, currency: str | None, day: date
) -> tuple[ApiPrice, str]:
    """Return a model's price per token and where it comes from: the bills in question, else the catalogue."""
    kept = condition(Question((), question.window))
    row = con.execute(
        f"""SELECT sum(fresh_cost), sum(input_tokens - cached_tokens - cache_write_tokens), sum(cached_cost), sum(cached_tokens),
                   sum(output_cost), sum(output_tokens)
            FROM unit_fact WHERE kind = 'api' AND lower(model) = lower({duckdb.literal(model)}) AND billed_output IS NOT NULL AND {kept}"""
    ).fetchall()[0]
    fresh, read, made = (quotient(row[at], row[at + 1], 18) for at in (0, 2, 4))
    if fresh is not None and made is not None:
        return ApiPrice(fresh, read, made), "bill"
    if currency not in {None, "USD"}:
        raise UsageError(
            f"list prices are in USD, these charges in {currency}",
            where="--against-api",
            hint="Name a model of your own bills.",
        )
    prices = {price.kind: price.price for price in newest_prices([model], day)}
    if "input" not in prices or "output" not in prices:
        raise UsageError(
            f"no price is known of the model {model!r}", where="--against-api",
            hint="Name one of your bills (`gpuledger costs --group-by ai_model`), or one that genai-prices knows.",
        )  # fmt: skip
    return ApiPrice(prices["input"], prices.get("cache_read"), prices["output"]), f"{CATALOGUE} {day}"
