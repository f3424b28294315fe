"""What a trace in the ledger says: pods, hours held, demand, arrivals, off-hours, from the ledger's views.

Each figure is a row of its own: section, series, measure, value, the window it is of, and its definition. Definitions
are those of `gpuledger.core.burst` and `gpuledger.core.reserve`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import floor
from typing import Any, Final

from gpuledger.core import burst, reserve
from gpuledger.core.windows import Window
from gpuledger.engines import duckdb

_DEFINITIONS: Final = {
    "pods": "pods of the trace; by phase and QoS those that ran",
    "gpu_pods": "pods that ask for a GPU",
    "fractional_gpu_pods": "pods that ask for a part of one card",
    "multi_gpu_pods": "pods that ask for several cards",
    "with_gpu_spec": "pods that name the cards they may run on",
    "instances": "pods that lived within the trace",
    "apps": "services",
    "share": "share of all GPU hours",
    "windows": "hours looked at",
    "minimum": "of hourly windows",
    "peak": "of hourly windows",
    "peak_to_mean_low": "90 % interval by circular block bootstrap: blocks of 24 hours, 500 draws",
    "peak_to_mean_high": "90 % interval by circular block bootstrap: blocks of 24 hours, 500 draws",
    "gaps": "times between arrivals that follow each other in the window",
    "mean_gap_s": "mean of these times in seconds",
    "gpu_hours": "cards held x hours; parts of a card by their share",
    "core_hours": "cores requested x hours",
    "never_scheduled": "pods that never ran: they held nothing",
    "whole_card_gpu_hours": "if each pod with a part of a card had held the whole card",
    "ratio": "gpu_hours / whole_card_gpu_hours",
    "median_gpu_run_s": "of pods with cards, from start to end; interpolated linearly",
    "p95_gpu_run_s": "of pods with cards, from start to end; interpolated linearly",
    "mean": "of hourly windows; levels are weighted by time",
    "peak_to_mean": "max / mean of hourly windows",
    "p99_to_mean": "p99 / mean of hourly windows, interpolated linearly",
    "cv": "standard deviation / mean of hourly windows (population)",
    "fano_1h": "variance / mean of arrivals per hour (population); Poisson: 1",
    "goh_barabasi": "(sd - mean) / (sd + mean) of seconds between arrivals; Poisson: 0",
    "off_share": "share of GPU hours on Saturday, Sunday or outside 08-20; second 0 is a Monday by decree",
    "weekend_share": "share of GPU hours on Saturday and Sunday; second 0 is a Monday by decree",
    "size": "GPUs committed through all hours of the window",
    "utilization": "used / committed GPU hours",
    "coverage": "used / demanded GPU hours",
    "stranded": "GPU hours committed and not used",
    "spill": "GPU hours demanded beyond the commitment",
    "best_size": "GPUs committed at the least cost, at this discount; each costs 1 - discount in every hour",
    "best_cost": "its cost, in the on-demand price of a GPU hour",
    "of_on_demand": "its cost / the cost without a commitment",
    "off_hours_lift": "off_share / share of a flat load (108 of 168 hours)",
}
_PARTS: Final = (0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.6)
_DISCOUNTS: Final = (0.2, 0.4, 0.6)
_SERIES: Final = {"gpu": "GPUs of pods with GPUs", "cpu": "cores of pods without GPUs"}
_HELD: Final = """
CREATE OR REPLACE TEMP TABLE trace_held AS
SELECT
    job_id, pod, container,
    min(start) AS start, max("end") AS "end",
    coalesce(max(requested) FILTER (resource = 'gpu'), 0)::DOUBLE AS gpus,
    coalesce(max(requested) FILTER (resource = 'cpu'), 0)::DOUBLE AS cores
FROM usage_interval
WHERE cluster = $cluster AND resource IN ('gpu', 'cpu')
GROUP BY ALL
"""
_HOURS: Final = '(epoch_us("end") - epoch_us(start))::DOUBLE / 3600000000'


@dataclass(frozen=True, slots=True)
class _Span:
    """Window of the statistics, in seconds since 1970."""

    start: float
    end: float

    @property
    def text(self) -> str:
        first, last = (datetime.fromtimestamp(edge, UTC) for edge in (self.start, self.end))
        return f"{first:%Y-%m-%dT%H:%M:%SZ}/{last:%Y-%m-%dT%H:%M:%SZ}"


def trace_stats(
    con: duckdb.Connection,
    cluster: str,
    window: Window | None = None,
    arrivals: Mapping[str, Sequence[float]] | None = None,
) -> list[dict[str, Any]]:
    """Return the figures of a trace's cluster; demand and arrivals are of `window`, by default of all of it.

    A window is taken in whole hours. `arrivals` are moments by role, for a trace whose jobs are services. No rows when
    the ledger holds nothing of the cluster.
    """
    con.execute(_HELD, {"cluster": cluster})
    bounds = con.execute('SELECT epoch(min(start)), epoch(max("end")) FROM trace_held').fetchone()
    if bounds is None or bounds[0] is None:
        return []
    low, high = bounds[0] // 3600 * 3600, -(-bounds[1] // 3600) * 3600
    span = _Span(window.start.timestamp(), window.end.timestamp()) if window else _Span(low, high)
    labelled = con.execute(
        "SELECT count(*) FROM jobs WHERE cluster = $cluster AND labels['num_gpu'] IS NOT NULL",
        {"cluster": cluster},
    ).fetchone() or (0,)
    if labelled[0]:
        figures, arrivals = [*_pods(con, cluster)], _handed_in(con, cluster)
    else:
        figures = [*_services(con)]
    rows = [*figures, *_arrivals(arrivals or {}, span), *_demand(con, span)]
    return [
        {
            "section": section,
            "series": series,
            "measure": measure,
            "value": value,
            "window": span.text
            if section in {"demand", "arrivals", "off-hours", "commitment"}
            else "whole trace",
            "definition": _DEFINITIONS[measure],
        }
        for section, series, measure, value in rows
    ]


_Row = tuple[str, str, str, float | int | None]


def _table(
    con: duckdb.Connection, section: str, sql: str, values: dict[str, str] | None = None
) -> Iterator[_Row]:
    """Rows of a query whose first column names the series and whose others are measures."""
    found = con.execute(sql, values or {})
    names = [column[0] for column in found.description or ()]
    for series, *figures in found.fetchall():
        for name, figure in zip(names[1:], figures, strict=True):
            yield section, series, name, figure


def _pods(con: duckdb.Connection, cluster: str) -> Iterator[_Row]:
    """Traces of pods: every pod is a job, labelled with what it asked for."""
    asked = "labels['num_gpu']::INTEGER"
    yield from _table(
        con, "pods",
        f"""SELECT 'all', count(*) AS pods, count(*) FILTER ({asked} > 0) AS gpu_pods,
            count(*) FILTER (started IS NULL) AS never_scheduled,
            count(*) FILTER ({asked} = 1 AND labels['gpu_milli']::INTEGER < 1000) AS fractional_gpu_pods,
            count(*) FILTER ({asked} > 1) AS multi_gpu_pods,
            count(*) FILTER (labels['gpu_spec'] IS NOT NULL) AS with_gpu_spec
        FROM jobs WHERE cluster = $cluster""",
        {"cluster": cluster},
    )  # fmt: skip
    hours = f"""SELECT coalesce({{0}}, 'ALL'), count(*) AS pods, sum(gpus * {_HOURS}) AS gpu_hours,
        sum(cores * {_HOURS}) AS core_hours FROM trace_held JOIN jobs USING (job_id) GROUP BY {{1}} ORDER BY 1"""
    yield from _table(con, "phase", hours.format("state", "ROLLUP (state)"))
    yield from _table(
        con, "qos",
        f"""SELECT labels['qos'], count(*) AS pods, sum(gpus * {_HOURS}) AS gpu_hours,
            quantile_cont({_HOURS} * 3600, 0.5) FILTER (gpus > 0) AS median_gpu_run_s,
            quantile_cont({_HOURS} * 3600, 0.95) FILTER (gpus > 0) AS p95_gpu_run_s
        FROM trace_held JOIN jobs USING (job_id) GROUP BY 1 ORDER BY 1""",
    )  # fmt: skip
    yield from _table(
        con, "rounding",
        f"""SELECT 'pods with GPUs', sum(ceil(gpus) * {_HOURS}) AS whole_card_gpu_hours, sum(gpus * {_HOURS}) AS gpu_hours,
            sum(gpus * {_HOURS}) / sum(ceil(gpus) * {_HOURS}) AS ratio FROM trace_held WHERE gpus > 0""",
    )  # fmt: skip


def _services(con: duckdb.Connection) -> Iterator[_Row]:
    """Traces of services: a job is a service, its pods are instances, containers their roles."""
    yield from _table(
        con, "role",
        f"""SELECT container, count(*) AS instances, count(DISTINCT job_id) AS apps, sum(gpus * {_HOURS}) AS gpu_hours,
            sum(cores * {_HOURS}) AS core_hours FROM trace_held GROUP BY 1 ORDER BY 1""",
    )  # fmt: skip
    yield from _table(
        con, "service",
        f"""SELECT any_value(name), sum(gpus * {_HOURS}) AS gpu_hours,
            sum(gpus * {_HOURS}) / (SELECT sum(gpus * {_HOURS}) FROM trace_held) AS share
        FROM trace_held JOIN jobs USING (job_id) WHERE gpus > 0 GROUP BY job_id ORDER BY 2 DESC, 1""",
    )  # fmt: skip


def _demand(con: duckdb.Connection, span: _Span) -> Iterator[_Row]:
    """Hourly levels: GPUs of all pods, and cores of the pods that have no GPU."""
    for key, level, which in (("gpu", "gpus", "gpus > 0"), ("cpu", "cores", "gpus = 0")):
        spans = con.execute(
            f'SELECT epoch_us(start) / 1e6, epoch_us("end") / 1e6, {level} FROM trace_held WHERE {which}'
        ).fetchall()
        values = burst.levels(spans, span.start, span.end)
        found = burst.profile(values)
        if found is None:
            continue
        series = _SERIES[key]
        for measure in ("windows", "mean", "minimum", "peak", "peak_to_mean", "p99_to_mean", "cv"):
            yield "demand", series, measure, getattr(found, measure)
        bounds = burst.interval(values, _peak_to_mean) or (None, None)
        yield "demand", series, "peak_to_mean_low", bounds[0]
        yield "demand", series, "peak_to_mean_high", bounds[1]
        if key == "gpu":
            off = burst.off_hours(values, datetime.fromtimestamp(span.start, UTC))
            yield "off-hours", series, "off_share", off.share
            yield "off-hours", series, "weekend_share", off.weekend_share
            yield "off-hours", series, "off_hours_lift", off.lift
            yield from _commitment(series, values)


def _peak_to_mean(values: Any) -> float | None:  # noqa: ANN401 - any sequence of numbers
    found = burst.profile(values)
    return found.peak_to_mean if found else None


def _commitment(series: str, values: Sequence[float]) -> Iterator[_Row]:
    """Flat commitments on an hourly demand: by part of its peak, and the cheapest by discount."""
    for part in _PARTS:
        found = reserve.committed(values, floor(part * max(values) + 0.5))
        name = f"{series}, {part:.0%} of the peak"
        for measure in ("size", "utilization", "coverage", "stranded", "spill"):
            yield "commitment", name, measure, getattr(found, measure)
    for discount in _DISCOUNTS:
        best = reserve.cheapest(values, discount)
        name = f"{series}, discount {discount:.0%}"
        yield "commitment", name, "best_size", best.size
        yield "commitment", name, "best_cost", best.cost
        yield "commitment", name, "of_on_demand", best.of_on_demand


def _handed_in(con: duckdb.Connection, cluster: str) -> dict[str, list[float]]:
    """Moments at which pods were handed in, those that never ran too."""
    return {
        series: [
            row[0]
            for row in con.execute(
                f"SELECT epoch_us(submitted) / 1e6 FROM jobs WHERE cluster = $cluster AND labels['num_gpu']::INTEGER {which}",
                {"cluster": cluster},
            ).fetchall()
        ]
        for series, which in (("pods with GPUs", "> 0"), ("pods without GPUs", "= 0"))
    }


def _arrivals(arrivals: Mapping[str, Sequence[float]], span: _Span) -> Iterator[_Row]:
    for series, moments in arrivals.items():
        numbers = burst.counts(moments, span.start, span.end)
        between = burst.gaps(moments, span.start, span.end)
        found = burst.profile(numbers)
        yield "arrivals", series, "mean", found.mean if found else None
        yield "arrivals", series, "fano_1h", burst.fano(numbers)
        yield "arrivals", series, "peak_to_mean", found.peak_to_mean if found else None
        yield "arrivals", series, "gaps", len(between)
        yield "arrivals", series, "mean_gap_s", sum(between) / len(between) if between else None
        yield "arrivals", series, "goh_barabasi", burst.goh_barabasi(between)
