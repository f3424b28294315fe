"""The OTLP receiver: usage is kept, what was said isn't, and nobody can fill the disk."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from tests.surfaces.api_world import NOW

from gpuledger.config import Config
from gpuledger.pipeline.collect import collect
from gpuledger.pipeline.ledger import Ledger
from gpuledger.surfaces.api import otlp
from gpuledger.surfaces.api.app import Settings, create_app


def attribute(key: str, value: str | int) -> dict[str, Any]:
    return {
        "key": key,
        "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value},
    }


START = int(NOW.timestamp() * 10**9)
SPAN = {
    "traceId": "t", "spanId": "s", "name": "chat gpt-5.6", "startTimeUnixNano": str(START), "endTimeUnixNano": str(START + 10**9),
    "attributes": [
        attribute("gen_ai.request.model", "gpt-5.6"), attribute("gen_ai.usage.input_tokens", 12), attribute("gen_ai.usage.output_tokens", 3),
        attribute("gen_ai.input.messages", "my secret question"),
    ],
    "events": [{"name": "gen_ai.choice", "attributes": [attribute("message", "a secret answer")]}],
    "status": {},
}  # fmt: skip
TRACES = {
    "resourceSpans": [{
        "resource": {"attributes": [attribute("service.name", "helpdesk"), attribute("host.name", "laptop")]},
        "scopeSpans": [{"spans": [SPAN, {"spanId": "x", "attributes": [attribute("http.route", "/")]}]}],
    }],
}  # fmt: skip


@pytest.fixture
def http(tmp_path: Path) -> Iterator[TestClient]:
    app = create_app(Ledger(str(tmp_path / "ledger")), Settings(otlp=tmp_path / "otlp"), lambda: NOW)
    with TestClient(app, raise_server_exceptions=False) as found:
        yield found


def test_usage_is_kept_by_day_and_collected(http: TestClient, tmp_path: Path) -> None:
    assert http.post("/v1/traces", json=TRACES).json() == {"partialSuccess": {}}
    packed = gzip.compress(json.dumps(TRACES).replace('"s"', '"s2"').encode())
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    assert http.post("/v1/traces", content=packed, headers=headers).status_code == 200
    (file,) = (tmp_path / "otlp").iterdir()
    assert file.name == f"{NOW:%Y-%m-%d}.jsonl"
    text = file.read_text()
    assert "secret" not in text
    assert "laptop" not in text
    section = {"type": "otel-genai", "path": str(tmp_path / "otlp")}
    ledger = Ledger(str(tmp_path / "ledger"), Config.model_validate({"telemetry": {"calls": section}}))
    assert [row.action for row in collect(ledger, ["calls"]).rows] == ["loaded"]
    con = ledger.connect()
    row = con.execute("SELECT deployment, model, input_tokens, output_tokens, requests FROM token_interval")
    assert row.fetchall() == [("helpdesk", "gpt-5.6", 24, 6, 2)]


def test_metrics_of_calls_are_kept_and_others_are_not(http: TestClient, tmp_path: Path) -> None:
    point = {
        "attributes": [],
        "timeUnixNano": str(START),
        "startTimeUnixNano": str(START),
        "sum": 5,
        "count": "1",
        "bucketCounts": ["1"],
    }
    metrics = [
        {
            "name": "gen_ai.client.token.usage",
            "histogram": {"dataPoints": [point], "aggregationTemporality": 1},
        },
        {"name": "http.server.duration", "histogram": {"dataPoints": [point], "aggregationTemporality": 1}},
    ]
    content = {"resourceMetrics": [{"resource": {}, "scopeMetrics": [{"metrics": metrics}]}]}
    assert http.post("/v1/metrics", json=content).status_code == 200
    (file,) = (tmp_path / "otlp").iterdir()
    assert "http.server" not in file.read_text()
    assert "token.usage" in file.read_text()


def test_messages_without_calls_leave_nothing(http: TestClient, tmp_path: Path) -> None:
    assert http.post("/v1/traces", json={"resourceSpans": []}).status_code == 200
    assert list((tmp_path / "otlp").iterdir()) == []


@pytest.mark.parametrize(
    ("content", "headers", "code"),
    [
        (b"\x0a\x00", {"content-type": "application/x-protobuf"}, 415),
        (b"{", {"content-type": "application/json"}, 400),
        (b"[]", {"content-type": "application/json"}, 400),
        (b'{"resourceSpans": [1]}', {"content-type": "application/json"}, 400),
        (b"no gzip", {"content-type": "application/json", "content-encoding": "gzip"}, 400),
    ],
)
def test_what_is_no_message_is_refused(
    http: TestClient, content: bytes, headers: dict[str, str], code: int
) -> None:
    answer = http.post("/v1/traces", content=content, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (code, "error")
    assert answer.json()["hint"]


def test_messages_and_days_are_bounded(
    http: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "MESSAGE", 1000)
    headers = {"content-type": "application/json"}
    assert http.post("/v1/traces", content=b" " * 2000, headers=headers).status_code == 413
    bomb = gzip.compress(b" " * 10_000_000)[:999]
    assert (
        http.post("/v1/traces", content=bomb, headers={**headers, "content-encoding": "gzip"}).status_code
        == 413
    )
    monkeypatch.undo()
    app = create_app(Ledger(str(tmp_path / "ledger")), None, lambda: NOW)
    app.include_router(otlp.routes(tmp_path / "small", lambda: NOW, day=700))
    with TestClient(app) as small:
        codes = [small.post("/v1/traces", json=TRACES).status_code for _ in range(4)]
    assert codes[0] == 200
    assert codes[-1] == 429
    assert sum(file.stat().st_size for file in (tmp_path / "small").iterdir()) <= 700


def test_without_a_folder_there_is_no_receiver(tmp_path: Path) -> None:
    with TestClient(create_app(Ledger(str(tmp_path / "ledger")), None, lambda: NOW)) as http:
        assert http.post("/v1/traces", json=TRACES).status_code == 404
