"""How bursty AI is against everything else in a ledger: money by hour and day, arrivals of jobs, stranded commitments.

A charge is AI's when its row names an accelerator, an AI model, or FOCUS' service category 'AI and Machine Learning';
every other one is 'other'. Levels are EffectiveCost of usage, without unused commitments, taxes, credits and corrections,
in windows of an hour and a day by the start of their charge period. A charge longer than a window can't show what
happened within it and is left out there; `covered_share` says how much money is in.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from gpuledger.core import burst, burst_index
from gpuledger.core.burst_index import Drawing, Figure
from gpuledger.core.calendar import WorkingHours
from gpuledger.core.money import total
from gpuledger.core.windows import Window
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.pipeline import costs

WORKLOADS: Final = ("ai", "other")
AI: Final = "(x_GpuModel IS NOT NULL OR x_GpuHours IS NOT NULL OR x_AiModel IS NOT NULL OR coalesce(ServiceCategory, '') = 'AI and Machine Learning')"
_USAGE: Final = "ChargeCategory = 'Usage' AND coalesce(ChargeClass, '') <> 'Correction' AND coalesce(CommitmentDiscountStatus, '') <> 'Unused'"
_HOUR: Final = timedelta(hours=1)
_HOUR_MICROS: Final = 3_600_000_000
_LENGTH: Final = "epoch_us(ChargePeriodEnd - ChargePeriodStart)"
_WINDOWS: Final = {"1 h": (_HOUR, 24), "1 d": (timedelta(days=1), 7)}
"""Length, and how many make a block of the bootstrap: a day, a week."""
_GAPS: Final = 24
_MOST_LEFT_OUT: Final = Decimal("0.05")
_SHARE: Final = Decimal("0.0001")
_TYPES: Final = (
    "('training', 'fine-tuning', 'inference', 'batch-inference', 'evaluation', 'notebook', 'agent')"
)
_DEFINITIONS: Final = {
    "peak_to_mean": "max / mean",
    "p99_to_mean": "p99 / mean, interpolated linearly",
    "cv": "standard deviation / mean (population)",
    "off_hours_lift": "share outside working hours / share of hours that are outside; a flat load: 1",
    "burst_index": "p99_to_mean of AI / that of everything else, of the same windows",
    "fano": "variance / mean of jobs handed in per hour (population); Poisson: 1",
    "goh_barabasi": "(sd - mean) / (sd + mean) of seconds between jobs handed in; Poisson: 0",
    "stranded_share": "unused / all EffectiveCost of commitments",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """Working hours, draws and seed of the intervals."""

    hours: WorkingHours = field(default_factory=WorkingHours)
    draws: int = 500
    seed: int = 0


@dataclass(slots=True)
class Bursts:
    """Rows by period, workload and measure; totals; findings."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    totals: dict[str, Any] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)


def bursts(con: duckdb.Connection, periods: Sequence[tuple[str, Window]], settings: Settings) -> Bursts:
    """Return the burst figures of each period. Raises UsageError when its charges are in several currencies."""
    answer = Bursts()
    for name, window in periods:
        question = costs.Question(window=window)
        currency = costs.one_currency(con, "cost_and_usage", question)
        where = costs.predicate(question)
        rows = [
            *_money(con, where, window, settings, answer),
            *_arrivals(con, window, settings, answer),
            *_stranded(con, where),
        ]
        answer.rows += [{"period": name, **row} for row in rows]
        answer.totals["currency"] = currency[0] if currency else None
    answer.totals |= {
        "confidence": burst_index.CONFIDENCE, "draws": settings.draws, "seed": settings.seed,
        "working_hours": f"Mon-Fri {settings.hours.opens:02}-{settings.hours.closes:02} {settings.hours.zone or 'UTC'}",
    }  # fmt: skip
    answer.diagnostics = list(dict.fromkeys(answer.diagnostics))
    return answer


def _money(
    con: duckdb.Connection, where: str, window: Window, settings: Settings, answer: Bursts
) -> list[dict[str, Any]]:
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE burst_charge AS
        SELECT {AI} AS ai, epoch_us(ChargePeriodStart) // {_HOUR_MICROS} AS hour, {_within(window)} AS inside,
            CASE WHEN {_LENGTH} <= {_HOUR_MICROS} THEN 1 WHEN {_LENGTH} <= 24 * {_HOUR_MICROS} THEN 24 END AS longest,
            sum(EffectiveCost) AS cost
        FROM cost_and_usage WHERE {where} AND {_USAGE} GROUP BY ALL HAVING sum(EffectiveCost) IS NOT NULL"""
    )
    whole = _sums(con, "SELECT ai, sum(cost) FROM burst_charge GROUP BY 1")
    rows = []
    for name, (length, block) in _WINDOWS.items():
        hours = length // _HOUR
        # A month's bill may hold a charge of the day before: levels are of the window's own time.
        cells = con.execute(
            f"SELECT ai, hour // {hours}, sum(cost) FROM burst_charge WHERE inside AND longest <= {hours} GROUP BY ALL"
        ).fetchall()
        if not cells:
            continue
        first, last = min(cell[1] for cell in cells), max(cell[1] for cell in cells)
        kept = {
            workload: total(cell[2] for cell in cells if cell[0] is (workload == "ai"))
            for workload in WORKLOADS
        }
        levels = {workload: [0.0] * (last - first + 1) for workload in WORKLOADS}
        for is_ai, place, cost in cells:
            levels["ai" if is_ai else "other"][place - first] = float(cost)
        begin = datetime.fromtimestamp(first * hours * burst.HOUR, UTC)
        off = (
            [_off(begin + place * _HOUR, settings.hours) for place in range(last - first + 1)]
            if length == _HOUR
            else None
        )
        drawing = Drawing(block, settings.draws, settings.seed)
        for workload in WORKLOADS:
            if kept[workload] <= 0:
                continue
            covered = _part(kept[workload], whole.get(workload))
            _left_out(answer, workload, name, covered)
            rows += _rows(
                workload,
                "cost",
                name,
                burst_index.of_levels(levels[workload], drawing, off),
                last - first + 1,
                covered,
            )
        if all(kept[workload] > 0 for workload in WORKLOADS):
            rows += _rows(
                "ai/other",
                "cost",
                name,
                burst_index.against(levels["ai"], levels["other"], drawing),
                last - first + 1,
                None,
            )
        if last - first + 1 < 2 * block:
            answer.diagnostics.append(_short(name, last - first + 1, block))
    return rows


def _within(window: Window) -> str:
    since, until = (f"TIMESTAMPTZ '{moment.isoformat()}'" for moment in (window.start, window.end))
    return f"ChargePeriodStart >= {since} AND ChargePeriodStart < {until}"


def _rows(
    workload: str, basis: str, window: str, figures: Sequence[Figure], periods: int, covered: Decimal | None
) -> list[dict[str, Any]]:
    return [
        {
            "workload": workload, "measure": figure.measure, "window": window, "value": figure.value, "low": figure.low,
            "high": figure.high, "periods": periods, "basis": basis, "covered_share": covered,
            "definition": _definition(workload, figure.measure),
        }
        for figure in figures
    ]  # fmt: skip


def _definition(workload: str, measure: str) -> str:
    text = _DEFINITIONS[measure]
    return (
        f"{text}: AI's / everything else's"
        if workload == "ai/other" and measure != burst_index.INDEX
        else text
    )


def _off(moment: datetime, hours: WorkingHours) -> bool:
    local = moment.astimezone(hours.zone) if hours.zone else moment
    return not hours.works(local.date()) or not hours.opens <= local.hour < hours.closes


def _arrivals(
    con: duckdb.Connection, window: Window, settings: Settings, answer: Bursts
) -> list[dict[str, Any]]:
    """Jobs handed in on the days that telemetry tells of: per hour, and the gaps between them on days that follow each other."""
    days = [
        datetime.fromisoformat(row[0]).replace(tzinfo=UTC)
        for row in con.execute(
            "SELECT DISTINCT x_BillingPeriod FROM job WHERE x_BillingPeriod >= $since AND x_BillingPeriod < $until ORDER BY 1",
            {"since": f"{window.start:%Y-%m-%d}", "until": f"{window.end:%Y-%m-%dT%H:%M}"},
        ).fetchall()
    ]
    if not days:
        return []
    told = con.execute(
        f"""SELECT CASE WHEN job_id IN (SELECT job_id FROM usage_interval WHERE resource = 'gpu') OR workload_type IN {_TYPES} THEN 'ai'
            WHEN workload_type IS NOT NULL OR job_id IN (SELECT job_id FROM usage_interval) THEN 'other' END,
            epoch_us(coalesce(submitted, started)) / 1e6
        FROM jobs WHERE coalesce(submitted, started) >= $since AND coalesce(submitted, started) < $until ORDER BY 2""",
        {"since": days[0], "until": days[-1] + timedelta(days=1)},
    ).fetchall()
    unknown = sum(1 for workload, _ in told if workload is None)
    if unknown:
        answer.diagnostics.append(
            Diagnostic(
                "burst-unknown-jobs", "info", "jobs", f"{unknown:,} job(s) neither say what they are nor held anything: left out of arrivals",
                hint="A workload_type label says what a job is before it runs.",
            )
        )  # fmt: skip
    rows = []
    for workload in WORKLOADS:
        moments = [at for kind, at in told if kind == workload]
        numbers: list[int] = []
        gaps: list[float] = []
        for start, end in _runs(days):
            numbers += burst.counts(moments, start.timestamp(), end.timestamp())
            gaps += burst.gaps(moments, start.timestamp(), end.timestamp())
        if not moments:
            continue
        fano = burst_index.of_counts(numbers, Drawing(24, settings.draws, settings.seed))
        bursty = burst_index.of_gaps(gaps, Drawing(_GAPS, settings.draws, settings.seed))
        rows += _rows(workload, "arrivals", "1 h", [fano], len(numbers), None)
        rows += _rows(workload, "arrivals", "gaps", [bursty], len(gaps), None)
    return rows


def _runs(days: Sequence[datetime]) -> list[tuple[datetime, datetime]]:
    """Days that follow each other, as [start, end)."""
    found: list[tuple[datetime, datetime]] = []
    for day in days:
        if found and found[-1][1] == day:
            found[-1] = (found[-1][0], day + timedelta(days=1))
        else:
            found.append((day, day + timedelta(days=1)))
    return found


def _stranded(con: duckdb.Connection, where: str) -> list[dict[str, Any]]:
    """Unused part of commitments: of those that only AI used, that only others used, and that both or nobody did."""
    found = con.execute(
        f"""WITH term AS (
            SELECT CommitmentDiscountId,
                sum(EffectiveCost) FILTER (CommitmentDiscountStatus = 'Unused') AS unused, sum(EffectiveCost) AS whole,
                coalesce(bool_or({AI}), false) AS ai, coalesce(bool_or(NOT {AI} AND CommitmentDiscountStatus = 'Used'), false) AS other
            FROM cost_and_usage
            WHERE {where} AND ChargeCategory = 'Usage' AND CommitmentDiscountId IS NOT NULL AND CommitmentDiscountStatus IN ('Used', 'Unused')
            GROUP BY 1
        )
        SELECT CASE WHEN ai AND NOT other THEN 'ai' WHEN other AND NOT ai THEN 'other' ELSE 'ai and other' END, sum(unused), sum(whole), count(*)
        FROM term GROUP BY 1 ORDER BY 1"""
    ).fetchall()
    return [
        row
        for workload, unused, whole, terms in found
        if whole
        for row in _rows(workload, "commitments", "period", [Figure("stranded_share", float((unused or Decimal(0)) / whole))], terms, None)
    ]  # fmt: skip


def _sums(con: duckdb.Connection, sql: str) -> dict[str, Decimal | None]:
    return {"ai" if is_ai else "other": cost for is_ai, cost in con.execute(sql).fetchall()}


def _part(part: Decimal, whole: Decimal | None) -> Decimal | None:
    return (part / whole).quantize(_SHARE) if whole else None


def _left_out(answer: Bursts, workload: str, window: str, covered: Decimal | None) -> None:
    if covered is None or 1 - covered <= _MOST_LEFT_OUT:
        return
    answer.diagnostics.append(
        Diagnostic(
            "burst-coarse-charges", "warning", "cost_and_usage",
            f"{1 - covered:.0%} of the money of {workload} is in charges longer than {window}: these windows leave it out",
            hint="Hourly exports show more; compare AI and other at windows that hold most of both.",
        )
    )  # fmt: skip


def _short(window: str, periods: int, block: int) -> Diagnostic:
    return Diagnostic(
        "burst-too-short", "info", "cost_and_usage", f"{periods} windows of {window} are less than two blocks of {block}: no interval",
        hint="Ask for a longer window.",
    )  # fmt: skip
