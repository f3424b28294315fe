"""Demand and load points of the ledger's own token telemetry, and demand by hour from a file.

A replica is a pod that tells tokens, with as many cards as the job held for each of them; where prefill and decode are
roles of their own, the whole job is one replica. Intervals are gathered into bins of concurrency (two to each doubling):
tokens and seconds are summed before they are divided, and p95 latencies are read from the summed histograms, between
two bounds linearly, as Prometheus does. Left out are intervals shorter than four minutes, and those in which more
requests waited than ran, since their queue wasn't stable.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Final

from gpuledger.core.windows import Window
from gpuledger.engines import duckdb
from gpuledger.errors import SourceError, UsageError
from gpuledger.pipeline import load_points
from gpuledger.pipeline.load_points import Measured

_SHORTEST: Final = 240
_BINS: Final = 2
_WHOLE: Final = Decimal("0.1")
DEMAND_COLUMNS: Final = ("hour", "size", "tok_s")
_TOLD: Final = """
CREATE OR REPLACE TEMP TABLE told AS
SELECT
    job_id, pod, model, role IN ('prefill', 'decode') AS split, start, date_trunc('hour', start) AS hour,
    epoch_us("end" - start)::DOUBLE / 1e6 AS seconds,
    input_tokens::DOUBLE AS input_tokens, output_tokens::DOUBLE AS output_tokens, running::DOUBLE AS running,
    waiting::DOUBLE AS waiting, ttft_seconds_sum::DOUBLE AS ttft_sum,
    ttft_seconds_count::DOUBLE AS ttft_count, tpot_seconds_sum::DOUBLE AS tpot_sum, tpot_seconds_count::DOUBLE AS tpot_count
FROM tokens
WHERE start >= $since AND start < $until AND "end" > start AND job_id IS NOT NULL
"""
_CARDS: Final = """
CREATE OR REPLACE TEMP TABLE replica_cards AS
WITH kept AS (SELECT DISTINCT job_id, hour FROM told),
node AS (SELECT cluster, node, any_value(gpu_model) AS gpu_model FROM node_interval WHERE gpu_model IS NOT NULL GROUP BY 1, 2),
held AS (
    SELECT u.job_id, n.gpu_model, k.hour,
        sum(u.requested::DOUBLE * epoch_us(least(u."end", k.hour + INTERVAL 1 HOUR) - greatest(u.start, k.hour))::DOUBLE / 3.6e9) AS card_hours
    FROM kept AS k
    JOIN usage_interval AS u
        ON u.job_id = k.job_id AND u.resource = 'gpu' AND u.start < k.hour + INTERVAL 1 HOUR AND u."end" > k.hour
    LEFT JOIN node AS n ON n.cluster = u.cluster AND n.node = u.node
    GROUP BY ALL
),
replicas AS (
    SELECT job_id, hour, CASE WHEN bool_or(split) THEN 1.0 ELSE sum(seconds) / 3600 END AS replica_hours
    FROM told GROUP BY ALL
)
SELECT job_id, CASE WHEN count(DISTINCT gpu_model) = 1 THEN any_value(gpu_model) END AS gpu_model,
    sum(card_hours) / sum(replica_hours) AS cards
FROM (SELECT job_id, hour, any_value(gpu_model) AS gpu_model, count(DISTINCT gpu_model) AS models, sum(card_hours) AS card_hours FROM held GROUP BY 1, 2)
JOIN replicas USING (job_id, hour)
WHERE models = 1
GROUP BY 1
"""
_LOADS: Final = """
CREATE OR REPLACE TEMP TABLE replica_load AS
WITH slots AS (
    SELECT job_id, model, start, CASE WHEN split THEN '' ELSE coalesce(pod, '') END AS replica, max(seconds) AS seconds,
        sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(running) AS running, sum(waiting) AS waiting,
        sum(ttft_sum) AS ttft_sum, sum(ttft_count) AS ttft_count, sum(tpot_sum) AS tpot_sum, sum(tpot_count) AS tpot_count
    FROM told GROUP BY ALL
)
SELECT s.*, c.gpu_model, c.cards, round(log2(running) * $bins) AS bin
FROM slots AS s JOIN replica_cards AS c USING (job_id)
WHERE seconds >= $shortest AND running > 0 AND coalesce(waiting, 0) <= running AND c.gpu_model IS NOT NULL AND c.cards > 0
"""
_POINTS: Final = """
SELECT gpu_model, {cards} AS cards, model, bin, sum(running * seconds) / sum(seconds) AS concurrency, sum(seconds) AS seconds,
    sum(input_tokens) / sum(seconds) AS input_tok_s, sum(output_tokens) / sum(seconds) AS output_tok_s,
    sum(ttft_sum) / nullif(sum(ttft_count), 0) AS ttft_mean, sum(tpot_sum) / nullif(sum(tpot_count), 0) AS tpot_mean
FROM replica_load GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
"""
# Histograms are read in a second pass, so that no table holds them.
_BUCKETS: Final = """
SELECT gpu_model, cards, model, bin, kind, entry.key AS bound, sum(entry.value)::DOUBLE AS count
FROM (
    SELECT gpu_model, cards, model, bin, kind, unnest(map_entries(CASE WHEN kind = 'ttft' THEN ttft_buckets ELSE tpot_buckets END)) AS entry
    FROM (
        SELECT r.gpu_model, {cards} AS cards, r.model, r.bin, t.ttft_buckets, t.tpot_buckets
        FROM tokens AS t JOIN replica_load AS r
            ON r.job_id = t.job_id AND r.start = t.start AND r.model IS NOT DISTINCT FROM t.model
            AND r.replica = CASE WHEN t.role IN ('prefill', 'decode') THEN '' ELSE coalesce(t.pod, '') END
        WHERE t.start >= $since AND t.start < $until
    ), (VALUES ('ttft'), ('tpot')) AS kinds (kind)
)
GROUP BY ALL
"""
# A replica has whole cards; pods that come and go within an hour make the mean a little less or more.
_CARDS_OF: Final = "CASE WHEN abs(cards - round(cards)) <= 0.1 * cards AND round(cards) > 0 THEN round(cards) ELSE round(cards, 3) END"


def measured(con: duckdb.Connection, window: Window, model: str | None = None) -> list[Measured]:
    """Return the load points that the ledger's token telemetry shows, by card model and cards of a replica."""
    con.execute(_TOLD, {"since": window.start, "until": window.end})
    if model is not None:
        con.execute("DELETE FROM told WHERE model IS DISTINCT FROM $model", {"model": model})
    con.execute(_CARDS)
    con.execute(_LOADS, {"bins": _BINS, "shortest": _SHORTEST})
    slow: dict[tuple[object, ...], dict[str, dict[float, float]]] = {}
    for gpu_model, cards, name, place, kind, bound, count in con.execute(
        _BUCKETS.format(cards=_CARDS_OF), {"since": window.start, "until": window.end}
    ).fetchall():
        slow.setdefault((gpu_model, cards, name, place), {}).setdefault(kind, {})[
            float(bound.replace("+Inf", "inf"))
        ] = count
    found = []
    points = con.execute(_POINTS.format(cards=_CARDS_OF)).fetchall()
    for gpu_model, cards, name, place, load, seconds, given, output, *means in points:
        ranked = _ranked(slow.get((gpu_model, cards, name, place), {}), means)
        tokens = {"output": _decimal(output), "input": _decimal(given), "total": None}
        if tokens["output"] is not None and tokens["input"] is not None:
            tokens["total"] = tokens["output"] + tokens["input"]
        found.append(
            Measured(
                hardware=gpu_model if cards == 1 else f"{cards:g}x {gpu_model}", gpu_model=gpu_model, gpus=Decimal(repr(cards)), model=name, size="all",
                tok_s=tokens, where=f"ledger {window.start:%Y-%m-%d}..{window.end:%Y-%m-%d}", concurrency=_decimal(load),
                seconds=Decimal(repr(seconds)), slow=ranked,
            )
        )  # fmt: skip
    return found


def _ranked(
    buckets: Mapping[str, Mapping[float, float]], means: Sequence[float | None]
) -> dict[tuple[str, str], Decimal]:
    """Seconds by kind and rank: quantiles of the histograms, means of the sums."""
    found = {
        (kind, rank): histogram_quantile(counts, share)
        for kind, counts in buckets.items() for rank, share in (("p95", 0.95), ("p99", 0.99), ("median", 0.5))
    }  # fmt: skip
    found |= {(kind, "mean"): mean for kind, mean in zip(load_points.KINDS, means, strict=True)}
    return {key: Decimal(repr(value)) for key, value in found.items() if value is not None}


def by_hour(
    con: duckdb.Connection, window: Window, basis: str, model: str | None = None
) -> list[dict[str, float]]:
    """Return tokens a second of each hour that telemetry tells of; hours without any are unknown, not zero."""
    column = {"output": "output_tokens", "input": "input_tokens", "total": "input_tokens + output_tokens"}[
        basis
    ]
    rows = con.execute(
        f"""SELECT sum(({column})::DOUBLE) / 3600 FROM tokens
        WHERE start >= $since AND start < $until AND ($model IS NULL OR model = $model)
        GROUP BY date_trunc('hour', start) HAVING sum({column}) IS NOT NULL ORDER BY date_trunc('hour', start)""",
        {"since": window.start, "until": window.end, "model": model},
    ).fetchall()
    return [{"all": float(row[0])} for row in rows]


def of_file(path: Path) -> list[dict[str, float]]:
    """Read demand by hour: columns hour, tok_s and, where there are several request sizes, size. Raises SourceError."""
    hours: dict[str, dict[str, float]] = {}
    for where, cells in load_points.table(path, {}, DEMAND_COLUMNS):
        load = load_points.number(cells, "tok_s", where)
        if load is None or "hour" not in cells:
            raise SourceError(
                "needs hour and tok_s", where=where, hint="Columns: hour, tok_s and perhaps size."
            )
        hour, size = hours.setdefault(cells["hour"], {}), cells.get("size", "all")
        if size in hour:
            raise SourceError(
                f"tells {cells['hour']} twice", where=where, hint="One row per hour and request size."
            )
        hour[size] = float(load)
    if not hours:
        raise SourceError("holds no hours", where=str(path), hint="Columns: hour, tok_s and perhaps size.")
    return [*hours.values()]


def typed(texts: Sequence[str]) -> list[dict[str, float]]:
    """Read --demand: TOK_S, or SIZE=TOK_S several times. Raises UsageError."""
    found: dict[str, float] = {}
    for text in texts:
        size, _, load = text.rpartition("=")
        try:
            value = float(load)
        except ValueError:
            value = -1.0
        if not 0 < value < float("inf") or (size.strip() or "all") in found:
            raise UsageError(
                f"can't read {text!r}",
                where="--demand",
                hint="Write tokens a second, 700, or for each request size 1024x128=700.",
            )
        found[size.strip() or "all"] = value
    return [found]


def named(hours: Sequence[Mapping[str, float]], points: Sequence[Measured]) -> list[Mapping[str, float]]:
    """Give a demand without a size the one size that the load points have."""
    sizes = {point.size for point in points}
    if len(sizes) != 1:
        return [*hours]
    (only,) = sizes
    return [{(only if size == "all" else size): load for size, load in hour.items()} for hour in hours]


def histogram_quantile(counts: Mapping[float, float], share: float) -> float | None:
    """Return a quantile of cumulative counts by upper bound, linear between two bounds; None beyond the last finite one.

    That is `histogram_quantile` of Prometheus, but for the last: it returns the last finite bound there, which is a lower
    bound only.
    """
    bounds = sorted(counts)
    whole = counts[bounds[-1]] if bounds else 0
    if not whole:
        return None
    rank, steps = share * whole, [(0.0, 0.0), *((bound, counts[bound]) for bound in bounds)]
    for (low, before), (high, after) in pairwise(steps):
        if after >= rank:
            if high == float("inf"):
                return None
            return low + (high - low) * (rank - before) / (after - before) if after > before else high
    return None


def _decimal(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(repr(value))
