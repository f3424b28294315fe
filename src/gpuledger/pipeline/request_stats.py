"""What a trace of requests says: tokens, speed, arrivals by window, work by tenant. Token sums are the ledger's.

Each figure is a row of its own: section, series, measure, value, the window it is of, and its definition, as in
`gpuledger.pipeline.trace_stats`; figures of unevenness are those of `gpuledger.core.burst`.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from gpuledger.core import burst
from gpuledger.demo.request_traces import Requests
from gpuledger.engines import duckdb

_SECOND: Final = 1_000_000
_BIN: Final = 10
_WINDOWS: Final = {"azure-llm": (1, 10, 60), "mooncake": (10, 60)}
_SHOWN: Final = 10
_DEFINITIONS: Final = {
    "requests": "requests, of any outcome",
    "input_tokens": "sum over the ledger's token telemetry, tokens from a cache included",
    "output_tokens": "sum over the ledger's token telemetry",
    "cached_input_tokens": "tokens of the run of 512-token blocks at a request's beginning that earlier requests had; at most its input",
    "cached_share": "cached_input_tokens / input_tokens",
    "mean_input": "input tokens per request",
    "mean_output": "output tokens per request",
    "p50_input": "median of input tokens, interpolated linearly",
    "p50_output": "median of output tokens, interpolated linearly",
    "span_s": "seconds from the first request to the last",
    "output_tok_s": "output tokens / span_s",
    "total_tok_s": "input and output tokens / span_s",
    "windows": "whole windows from the first request; clock hours where windows are hours",
    "mean": "requests per window",
    "fano": "variance / mean of requests per window (population); Poisson: 1",
    "peak_to_mean": "max / mean of requests per window",
    "goh_barabasi": "(sd - mean) / (sd + mean) of seconds between requests; Poisson: 0",
    "bins": "whole ten seconds of the clock between the first and the last",
    "mean_tok_s": "mean of output tokens a second by ten seconds",
    "peak_tok_s": "maximum of output tokens a second by ten seconds",
    "cv": "standard deviation / mean of output tokens a second by ten seconds (population)",
    "p99_tok_s": "p99 of output tokens a second by ten seconds, interpolated linearly",
    "tenants": "groups that asked",
    "models": "checkpoints asked for",
    "images": "images of requests that succeeded",
    "exec_hours": "hours of work for requests that succeeded",
    "failed_share": "requests that failed / requests",
    "first": "first request, on the trace's clock",
    "last": "last request, on the trace's clock",
    "exec_seconds": "seconds of work, of any outcome",
    "share": "share of all seconds of work",
    "off_share": "share of requests on Saturday, Sunday or outside 08-20 of the trace's clock",
    "off_hours_lift": "off_share / share of a flat load (108 of 168 hours)",
}

_Row = tuple[str, str, str, Any, str]


def request_stats(con: duckdb.Connection, trace: Requests, source: str) -> list[dict[str, Any]]:
    """Return the figures of a trace whose telemetry is in the ledger under a source."""
    whole = "whole trace"
    rows: list[_Row] = []
    for series, moments in trace.moments.items():
        rows += [("requests", series, *figure, whole) for figure in _totals(con, trace, source, series)]
        rows += [("arrivals", series, *figure) for figure in _arrivals(trace, moments)]
        if trace.outputs[series]:
            rows += [
                ("tokens", series, *figure, f"{_BIN} s") for figure in _speeds(moments, trace.outputs[series])
            ]
    rows += [("tenant", series, *figure, whole) for series, *figure in _tenants(trace)]
    return [
        {"section": section, "series": series, "measure": measure, "value": value, "window": window, "definition": _DEFINITIONS[measure]}
        for section, series, measure, value, window in rows
    ]  # fmt: skip


def _totals(con: duckdb.Connection, trace: Requests, source: str, series: str) -> Iterator[tuple[str, Any]]:
    moments, inputs, outputs = trace.moments[series], trace.inputs[series], trace.outputs[series]
    yield "requests", len(moments)
    told = con.execute(
        """SELECT sum(input_tokens), sum(output_tokens), sum(cached_input_tokens) FROM tokens
        WHERE x_Source = $source AND deployment = $series""",
        {"source": source, "series": series},
    ).fetchone() or (None, None, None)
    span = (moments[-1] - moments[0]) / _SECOND
    if inputs:
        given, output, cached = (None if value is None else int(value) for value in told)
        yield "input_tokens", given
        yield "output_tokens", output
        if cached is not None:
            yield "cached_input_tokens", cached
            yield "cached_share", burst.share_of(cached, given or 0)
        for name, values in (("input", inputs), ("output", outputs)):
            yield f"mean_{name}", sum(values) / len(values)
            yield f"p50_{name}", burst.quantile(values, 0.5)
        yield "span_s", span
        yield "output_tok_s", burst.share_of(output or 0, span)
        yield "total_tok_s", burst.share_of((given or 0) + (output or 0), span)
        return
    yield "tenants", len(trace.tenants)
    yield "models", trace.models
    yield "images", trace.images
    yield "exec_hours", None if trace.exec_seconds is None else trace.exec_seconds / burst.HOUR
    yield "failed_share", burst.share_of(trace.failed, len(moments))
    yield "first", _moment(moments[0])
    yield "last", _moment(moments[-1])


def _arrivals(trace: Requests, moments: list[int]) -> Iterator[tuple[str, Any, str]]:
    """Requests by window: whole windows from the first request, or hours of the clock where the trace lasts for days."""
    first = moments[0]
    seconds = [(moment - first) / _SECOND for moment in moments]
    for width in _WINDOWS.get(trace.kind, ()):
        numbers = burst.counts(seconds, 0, seconds[-1] // width * width, width)
        yield from _counted(numbers, f"{width} s")
    if trace.kind not in _WINDOWS:
        hour = burst.HOUR * _SECOND
        start, end = first // hour * hour, (moments[-1] // hour + 1) * hour
        numbers = burst.counts([(moment - start) / _SECOND for moment in moments], 0, (end - start) / _SECOND)
        yield from _counted(numbers, "1 h")
        off = burst.off_hours(numbers, _moment(start))
        yield "off_share", off.share, "1 h"
        yield "off_hours_lift", off.lift, "1 h"
    yield "goh_barabasi", burst.goh_barabasi(burst.gaps(seconds, 0, seconds[-1] + 1)), "whole trace"


def _counted(numbers: list[int], window: str) -> Iterator[tuple[str, Any, str]]:
    found = burst.profile(numbers)
    if found is not None:
        yield "windows", found.windows, window
        yield "mean", found.mean, window
        yield "fano", burst.fano(numbers), window
        yield "peak_to_mean", found.peak_to_mean, window


def _speeds(moments: list[int], outputs: list[int]) -> Iterator[tuple[str, Any]]:
    """Output tokens a second by ten seconds of the clock, without the first and last, which aren't whole."""
    width = _BIN * _SECOND
    sums: dict[int, int] = {}
    for moment, tokens in zip(moments, outputs, strict=True):
        sums[moment // width] = sums.get(moment // width, 0) + tokens
    speeds = [sums.get(place, 0) / _BIN for place in range(min(sums) + 1, max(sums))]
    found = burst.profile(speeds)
    if found is not None:
        yield "bins", found.windows
        yield "mean_tok_s", found.mean
        yield "peak_tok_s", found.peak
        yield "cv", found.cv
        yield "p99_tok_s", burst.quantile(speeds, 0.99)


def _tenants(trace: Requests) -> Iterator[tuple[str, str, Any]]:
    for tenant in trace.tenants[:_SHOWN]:
        yield tenant.name, "requests", tenant.requests
        yield tenant.name, "exec_seconds", tenant.seconds
        yield tenant.name, "share", burst.share_of(tenant.seconds or 0.0, trace.all_seconds or 0.0)


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(us / _SECOND, tz=UTC)
