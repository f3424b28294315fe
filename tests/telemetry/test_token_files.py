"""Exports of gateways, tracers and APIs into tokens. All of them are synthetic, made by hand after the vendors' documents."""

import csv
import json
import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gpuledger.engines import duckdb
from gpuledger.errors import UsageError
from gpuledger.pipeline import token_files
from gpuledger.pipeline.ledger import Ledger

SHARED = Path(os.environ.get("GPULEDGER_SHARED", "../shared")) / "data"


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


# ---- Saved metrics pages

PAGE = """# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{{engine="0",model_name="llama"}} {tokens}
vllm:num_requests_running{{engine="0",model_name="llama"}} {running}
vllm:request_success_total{{engine="0",finished_reason="stop",model_name="llama"}} {done}
vllm:request_success_total{{engine="0",finished_reason="abort",model_name="llama"}} 1
not a line of metrics
"""


def test_pages_of_two_replicas(tmp_path: Path) -> None:
    for pod, tokens in (("chat-0", (100, 700, 50)), ("chat-1", (0, 40, 90))):
        folder = tmp_path / "in" / pod
        folder.mkdir(parents=True)
        for minute, value in zip((0, 30, 45), tokens, strict=True):
            text = PAGE.format(tokens=value, running=minute, done=minute)
            (folder / f"20261102T08{minute:02}00Z.prom").write_text(text)
    ledger = Ledger(str(tmp_path / "ledger"))
    report = token_files.ingest(ledger, "vllm", str(tmp_path / "in"))
    assert {one.code for one in report.diagnostics} == {"bad-line"}
    found = ledger.connect().execute(
        """SELECT pod, model, strftime(start, '%H:%M'), strftime("end", '%H:%M'), output_tokens, running, requests, failed_requests
        FROM token_interval ORDER BY pod, start"""
    ).fetchall()  # fmt: skip
    assert found == [
        ("chat-0", "llama", "08:00", "08:30", 600, 15, 30, 0),
        ("chat-0", "llama", "08:30", "08:45", 50, Decimal("37.5"), 15, 0),  # it restarted
        ("chat-1", "llama", "08:00", "08:30", 40, 15, 30, 0),
        ("chat-1", "llama", "08:30", "08:45", 50, Decimal("37.5"), 15, 0),
    ]


def test_a_single_page_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "20261102T080000Z.prom").write_text(PAGE.format(tokens=1, running=1, done=1))
    assert "no two pages of the same replica" in refused(tmp_path, "vllm", tmp_path / "in")


def test_pages_of_another_engine_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "20261102T080000Z.prom").write_text(PAGE.format(tokens=1, running=1, done=1))
    assert "no metric of SGLang" in refused(tmp_path, "sglang", tmp_path / "in")


@pytest.mark.shared
def test_a_real_page_of_vllm(tmp_path: Path) -> None:
    """A page that a vLLM served (Datadog's fixture), and the same with every value doubled: the gain is the page itself."""
    real = SHARED / "k8s" / "vllm" / "vllm_core.prom"
    if not real.is_file():
        pytest.skip(f"no {real}")
    folder = tmp_path / "in" / "replica"
    folder.mkdir(parents=True)
    lines = real.read_text().splitlines()
    (folder / "20261102T080000Z.prom").write_text("\n".join(lines))
    doubled = [
        line
        if line.startswith("#") or not line
        else f"{line.rpartition(' ')[0]} {2 * float(line.rpartition(' ')[2])}"
        for line in lines
    ]
    (folder / "20261102T080500Z.prom").write_text("\n".join(doubled))
    columns = "pod, model, input_tokens, cached_input_tokens, output_tokens, requests, preemptions, ttft_seconds_count, ttft_seconds_sum, ttft_buckets"
    assert told(tmp_path, "vllm", tmp_path / "in", columns) == [
        (
            "replica",
            "facebook/opt-125m",
            5,
            64,
            7,
            1,
            0,
            1,
            Decimal("0.31326723098755"),
            {"0.1": 0, "0.5": 1, "+Inf": 1},
        )
    ]


# ---- Raw samples


def samples(folder: Path, kind: str) -> Path:
    """Samples of two replicas and a metric that is nobody's, once a minute over a midnight."""
    folder.mkdir()
    con = duckdb.connect()
    con.execute(
        """CREATE TABLE s AS
        SELECT metric, TIMESTAMPTZ '2026-11-02 23:50:30+00' + to_minutes(m::INTEGER) AS ts, 'pod-' || p AS pod, 'llama' AS model_name, (10 * (p + 1) * m)::DOUBLE AS value
        FROM range(20) AS a(m), range(2) AS b(p), (VALUES ('vllm:generation_tokens_total'), ('up')) AS c(metric)
        ORDER BY metric, p, m"""
    )
    if kind == "labels":
        con.execute(
            f"COPY (SELECT metric AS __name__, epoch_ms(ts) AS timestamp, value, MAP {{'pod': pod, 'model_name': model_name}} AS labels FROM s) TO '{folder}/s.parquet'"
        )
    elif kind == "shuffled":
        con.execute(f"COPY (FROM s ORDER BY hash(ts, pod)) TO '{folder}/s.parquet'")
    elif kind == "jsonl":
        con.execute(
            f"COPY (SELECT metric, epoch(ts) AS ts, value, to_json({{'pod': pod, 'model_name': model_name}}) AS labels FROM s) TO '{folder}/s.jsonl' (FORMAT json)"
        )
    elif kind == "days":
        for day in (2, 3):
            con.execute(f"COPY (FROM s WHERE day(ts) = {day}) TO '{folder}/{day}.parquet'")
    else:
        con.execute(f"COPY s TO '{folder}/s.{kind}'")
    return folder


@pytest.mark.parametrize("kind", ["parquet", "labels", "shuffled", "days", "csv", "jsonl"])
def test_samples_in_files_of_every_form(tmp_path: Path, kind: str) -> None:
    folder = samples(tmp_path / "in", kind)
    found = told(
        tmp_path,
        "token-samples",
        folder,
        "strftime(start, '%d %H:%M'), pod, output_tokens, model, x_BillingPeriod",
    )
    gains = {"02 23:50": 4, "02 23:55": 5, "03 00:00": 5, "03 00:05": 5}
    assert sorted(found) == sorted(
        (start, f"pod-{p}", 10 * (p + 1) * minutes, "llama", f"2026-11-{start[:2]}") for start, minutes in gains.items() for p in range(2)
    )  # fmt: skip


def test_the_same_samples_again_change_nothing(tmp_path: Path) -> None:
    folder, ledger = samples(tmp_path / "in", "parquet"), Ledger(str(tmp_path / "ledger"))
    actions = [
        [row.action for row in token_files.ingest(ledger, "token-samples", str(folder)).rows]
        for _ in range(2)
    ]
    assert actions == [["loaded", "loaded"], ["unchanged", "unchanged"]]


def test_samples_of_a_front_end_beside_its_engines_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    duckdb.connect().execute(
        f"""COPY (SELECT metric, 60 * m AS ts, 'p' AS pod, m::DOUBLE AS value FROM range(5) AS a(m),
        (VALUES ('vllm:generation_tokens_total'), ('dynamo_frontend_output_tokens_total')) AS b(metric)) TO '{folder}/s.csv'"""
    )
    report = token_files.ingest(Ledger(str(tmp_path / "ledger")), "token-samples", str(folder))
    assert [one.code for one in report.diagnostics] == ["tokens-twice"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "no column metric"),
        ("metric,ts,value\nup,1,2\n", "no sample of a serving engine's metric"),
        ("metric,ts,value\nvllm:generation_tokens_total,1,nan\n", "no sample has a value"),
    ],
)
def test_files_without_samples_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "s.csv").write_text(text)
    assert message in refused(tmp_path, "token-samples", tmp_path / "in")


def test_a_type_that_is_asked_over_the_network_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="isn't read from files"):
        token_files.ingest(Ledger(str(tmp_path / "ledger")), "kubernetes", str(tmp_path))
