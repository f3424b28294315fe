"""Exports of gateways, tracers and APIs into tokens. All of them are synthetic, made by hand after the vendors' documents."""

import csv
import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gpuledger.engines import duckdb
from gpuledger.pipeline import token_files
from gpuledger.pipeline.ledger import Ledger


def told(tmp_path: Path, type_name: str, path: Path, columns: str) -> list[tuple[Any, ...]]:
    """Ingest, and return columns of what came of it in order of time."""
    ledger = Ledger(str(tmp_path / "ledger"))
    report = token_files.ingest(ledger, type_name, str(path))
    assert not [one for one in report.diagnostics if one.severity == "error"], report.diagnostics
    con = ledger.connect()
    try:
        return con.execute(
            f"SELECT {columns} FROM token_interval ORDER BY start, provider, model, deployment"
        ).fetchall()
    finally:
        con.close()


def refused(tmp_path: Path, type_name: str, path: Path) -> str:
    report = token_files.ingest(Ledger(str(tmp_path / "ledger")), type_name, str(path))
    assert [row.action for row in report.rows] == ["rejected"]
    return report.diagnostics[-1].message


# ---- LiteLLM's spend logs

LOG: Mapping[str, Any] = {
    "request_id": "r1", "call_type": "acompletion", "api_key": "hashed", "spend": 0.0125, "prompt_tokens": 1000,
    "completion_tokens": 101, "startTime": "2026-11-02 08:00:00.000", "endTime": "2026-11-02 08:00:06.000",
    "completionStartTime": "2026-11-02 08:00:01.000", "model": "claude-opus-4-8", "model_group": "smart", "custom_llm_provider": "anthropic",
    "user": "ann", "team_id": "t-1", "status": "success", "cache_hit": "False",
    "metadata": {
        "user_api_key_team_alias": "nlp",
        "usage_object": {"cache_read_input_tokens": 600, "cache_creation_input_tokens": 50, "completion_tokens_details": {"reasoning_tokens": 40}},
    },
}  # fmt: skip
LOGS = [
    LOG,
    {**LOG, "request_id": "r2", "endTime": "2026-11-02 08:04:00", "completionStartTime": None, "metadata": {"user_api_key_team_alias": "nlp"}},
    {**LOG, "request_id": "r3", "endTime": "2026-11-02 08:04:30", "status": "failure", "spend": 0, "prompt_tokens": 0, "metadata": {"user_api_key_team_alias": "nlp"}, "completion_tokens": 0},
    {**LOG, "request_id": "r4", "endTime": "2026-11-02 08:07:00", "cache_hit": "True", "spend": 0},
    {**LOG, "request_id": "r5", "endTime": "2026-11-02 08:07:00", "custom_llm_provider": "openai", "model": "gpt-5.6", "model_group": None,
     "metadata": {"additional_usage_values": {"prompt_tokens_details": {"cached_tokens": 7}}}},
]  # fmt: skip


def litellm(folder: Path, kind: str) -> Path:
    folder.mkdir()
    if kind == "csv":
        with (folder / "spend.csv").open("w", newline="") as out:
            writer = csv.DictWriter(out, list(LOG))
            writer.writeheader()
            writer.writerows({**row, "metadata": json.dumps(row["metadata"])} for row in LOGS)
        return folder
    path = folder / ("spend.json" if kind != "jsonl" else "spend.jsonl")
    path.write_text(json.dumps(LOGS) if kind != "jsonl" else "\n".join(json.dumps(row) for row in LOGS))
    if kind == "parquet":
        duckdb.connect().execute(
            f"COPY (FROM read_json_auto('{path}')) TO '{folder / 'spend.parquet'}' (FORMAT parquet)"
        )
        path.unlink()
    return folder


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "parquet"])
def test_spend_logs_in_every_format(tmp_path: Path, kind: str) -> None:
    columns = "provider, model, deployment, team, owner, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, requests, failed_requests, spend, spend_currency"  # fmt: skip
    found = told(tmp_path, "litellm-spend-logs", litellm(tmp_path / "in", kind), columns)
    assert found == [
        # Prompt tokens include what came from the cache: 1000, not 1650.
        ("anthropic", "claude-opus-4-8", "smart", "nlp", "ann", 2000, 600, 50, 202, 40, 2, 1, Decimal("0.025"), "USD"),
        ("anthropic", "claude-opus-4-8", "smart", "nlp", "ann", None, None, None, None, None, 1, 0, 0, "USD"),
        ("openai", "gpt-5.6", "gpt-5.6", "t-1", "ann", 1000, 7, None, 101, None, 1, 0, Decimal("0.0125"), "USD"),
    ]  # fmt: skip


def test_latencies_of_requests_are_histograms(tmp_path: Path) -> None:
    (first, *_) = told(
        tmp_path, "litellm-spend-logs", litellm(tmp_path / "in", "jsonl"),
        'ttft_seconds_sum, ttft_seconds_count, ttft_buckets, tpot_seconds_sum, tpot_buckets, start, "end"',
    )  # fmt: skip
    assert first[:2] == (1, 1)
    assert first[2]["0.75"] == 0
    assert first[2]["1"] == first[2]["+Inf"] == 1
    assert first[3] == Decimal("0.05")  # 5 s after the first token, 100 tokens more
    assert (first[4]["0.025"], first[4]["0.05"]) == (0, 1)
    assert (first[5].minute, first[6].minute) == (0, 5)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.csv").write_text("a,b\n1,2\n")
    assert "not LiteLLM spend logs: no column startTime" in refused(
        tmp_path, "litellm-spend-logs", tmp_path / "in"
    )


# ---- Langfuse


def test_langfuse_usage_types_are_disjoint(tmp_path: Path) -> None:
    rows = [
        {"id": "1", "type": "GENERATION", "start_time": "2026-11-02 08:00:00.000000", "end_time": "2026-11-02 08:00:04.000000",
         "completion_start_time": "2026-11-02 08:00:00.500000", "provided_model_name": "gpt-5.6", "user_id": "ann", "trace_name": "chat",
         "usage_details": {"input": 100, "input_cached_tokens": 30, "cache_creation_input_tokens": 20, "output": 40, "output_reasoning_tokens": 10, "total": 200},
         "total_cost": 0.5, "level": "DEFAULT"},
        {"id": "2", "type": "SPAN", "start_time": "2026-11-02 08:00:00", "end_time": "2026-11-02 08:00:04", "usage_details": {"input": 9999}},
        {"id": "3", "type": "GENERATION", "start_time": "2026-11-02 08:00:00", "end_time": "2026-11-02 08:00:05", "provided_model_name": "gpt-5.6",
         "user_id": "ann", "trace_name": "chat", "usage_details": {}, "level": "ERROR"},
    ]  # fmt: skip
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "observations.jsonl").write_text("\n".join(map(json.dumps, rows)))
    columns = "model, deployment, owner, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, reasoning_tokens, requests, failed_requests, spend, ttft_seconds_sum"  # fmt: skip
    assert told(tmp_path, "langfuse", tmp_path / "in", columns) == [
        ("gpt-5.6", "chat", "ann", 150, 30, 20, 50, 10, 1, 1, Decimal("0.5"), Decimal("0.5"))
    ]


# ---- OpenTelemetry


def attributes(**values: str | int) -> list[dict[str, Any]]:
    return [
        {
            "key": key.replace("__", "."),
            "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value},
        }
        for key, value in values.items()
    ]


def nanos(minute: float) -> str:
    return str(int((1793606400 + minute * 60) * 10**9))  # 2026-11-02T08:00:00Z and so many minutes


def span(number: str, parent: str, end: float, code: int = 0, **values: str | int) -> dict[str, Any]:
    return {"spanId": number, "parentSpanId": parent, "startTimeUnixNano": nanos(end - 0.5), "endTimeUnixNano": nanos(end),
            "attributes": attributes(**values), "status": {"code": code}}  # fmt: skip


def otlp(folder: Path, content: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "traces.json").write_text(json.dumps(content) + "\n")
    return folder


CALL: Mapping[str, Any] = {
    "gen_ai__operation__name": "chat", "gen_ai__provider__name": "openai", "gen_ai__response__model": "gpt-5.6",
    "gen_ai__usage__input_tokens": 100, "gen_ai__usage__output_tokens": 20, "gen_ai__usage__cache_read__input_tokens": 80,
}  # fmt: skip
SPANS = {
    "resourceSpans": [{
        "resource": {"attributes": attributes(service__name="helpdesk")},
        "scopeSpans": [{"spans": [
            span("a", "", 3, gen_ai__operation__name="invoke_agent", gen_ai__usage__input_tokens=200, gen_ai__usage__output_tokens=40),
            span("b", "a", 1, **CALL),
            span("c", "a", 2, **CALL),
            span("d", "", 4, code=2, gen_ai__system="anthropic", gen_ai__request__model="claude", gen_ai__usage__prompt_tokens=5),
            span("e", "", 4, http__method="GET"),
        ]}],
    }],
}  # fmt: skip


def test_of_spans_within_each_other_the_innermost_counts(tmp_path: Path) -> None:
    columns = "provider, model, deployment, input_tokens, cached_input_tokens, output_tokens, requests, failed_requests"
    assert told(tmp_path, "otel-genai", otlp(tmp_path / "in", SPANS), columns) == [
        ("anthropic", "claude", "helpdesk", 5, None, None, 0, 1),
        ("openai", "gpt-5.6", "helpdesk", 200, 160, 40, 2, 0),
    ]


def metric(
    temporality: int,
    *points: tuple[float, float, int],
    name: str = "gen_ai.client.token.usage",
    kind: str = "input",
) -> dict[str, Any]:
    data = [
        {"attributes": attributes(gen_ai__provider__name="openai", gen_ai__request__model="m", gen_ai__token__type=kind),
         "startTimeUnixNano": nanos(-60), "timeUnixNano": nanos(minute), "sum": total, "count": str(count)}
        for minute, total, count in points
    ]  # fmt: skip
    return {"name": name, "histogram": {"dataPoints": data, "aggregationTemporality": temporality}}


def metrics(*found: dict[str, Any], service: str = "batch") -> dict[str, Any]:
    return {
        "resourceMetrics": [
            {
                "resource": {"attributes": attributes(service__name=service)},
                "scopeMetrics": [{"metrics": list(found)}],
            }
        ]
    }


def test_metrics_are_deltas_or_cumulative(tmp_path: Path) -> None:
    columns = "deployment, model, input_tokens, output_tokens, requests"
    cumulative = metrics(
        metric(2, (1, 1000, 10), (2, 1500, 14), (7, 1800, 15)), metric(2, (1, 7, 10), kind="output")
    )
    assert told(tmp_path / "a", "otel-genai", otlp(tmp_path / "c", cumulative), columns) == [
        ("batch", "m", 1500, 7, 14),
        ("batch", "m", 300, None, 1),
    ]
    delta = metrics(metric(1, (1, 1000, 10), (2, 500, 4), (7, 300, 1)))
    assert told(tmp_path / "b", "otel-genai", otlp(tmp_path / "d", delta), columns) == [
        ("batch", "m", 1500, None, 14),
        ("batch", "m", 300, None, 1),
    ]


def test_metrics_of_a_service_whose_spans_count_are_left_out(tmp_path: Path) -> None:
    both = {**SPANS, **metrics(metric(1, (1, 9999, 10)), service="helpdesk")}
    assert (
        sum(row[0] for row in told(tmp_path, "otel-genai", otlp(tmp_path / "in", both), "input_tokens"))
        == 205
    )


def test_traces_without_genai_are_refused(tmp_path: Path) -> None:
    plain = {
        "resourceSpans": [{"resource": {}, "scopeSpans": [{"spans": [span("e", "", 4, http__method="GET")]}]}]
    }
    assert "no GenAI span with usage" in refused(tmp_path, "otel-genai", otlp(tmp_path / "in", plain))


# ---- OpenAI and Anthropic


def pages(folder: Path, *found: dict[str, Any]) -> Path:
    folder.mkdir()
    for number, page in enumerate(found):
        (folder / f"{number}.json").write_text(json.dumps(page))
    return folder


def test_openai_input_includes_cached_tokens(tmp_path: Path) -> None:
    result = {"object": "organization.usage.completions.result", "model": "gpt-5.6", "project_id": "p", "api_key_id": "k1",
              "input_tokens": 1000, "input_cached_tokens": 800, "output_tokens": 50, "num_model_requests": 5}  # fmt: skip
    page = {
        "object": "page",
        "data": [
            {
                "start_time": 1793606400,
                "end_time": 1793610000,
                "results": [result, {**result, "api_key_id": "k2"}],
            }
        ],
    }
    columns = 'provider, model, team, input_tokens, cached_input_tokens, output_tokens, requests, epoch("end") - epoch(start)'
    # The second page says the same again: a page that was fetched twice.
    assert told(tmp_path, "openai-usage", pages(tmp_path / "in", page, page), columns) == [
        ("OpenAI", "gpt-5.6", "p", 2000, 1600, 100, 10, 3600)
    ]


def test_anthropic_input_is_told_in_parts(tmp_path: Path) -> None:
    result = {"model": "claude-opus-4-8", "workspace_id": "w", "uncached_input_tokens": 100, "cache_read_input_tokens": 800,
              "cache_creation": {"ephemeral_1h_input_tokens": 30, "ephemeral_5m_input_tokens": 20}, "output_tokens": 50}  # fmt: skip
    page = {
        "data": [
            {"starting_at": "2026-11-02T08:00:00Z", "ending_at": "2026-11-02T09:00:00Z", "results": [result]}
        ]
    }
    columns = "provider, model, team, input_tokens, cached_input_tokens, cache_write_tokens, output_tokens, requests"
    assert told(tmp_path, "anthropic-usage", pages(tmp_path / "in", page), columns) == [
        ("Anthropic", "claude-opus-4-8", "w", 950, 800, 50, 50, None)
    ]


@pytest.mark.parametrize("type_name", ["openai-usage", "anthropic-usage"])
def test_pages_of_costs_are_no_usage(tmp_path: Path, type_name: str) -> None:
    page = {
        "data": [
            {
                "start_time": 1,
                "end_time": 2,
                "results": [{"object": "organization.costs.result", "amount": {"value": 1}}],
            }
        ]
    }
    assert "no results of" in refused(tmp_path, type_name, pages(tmp_path / "in", page))
