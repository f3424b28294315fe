"""Serving engines through a real Prometheus: every token once, whoever restarts. All samples are synthetic."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.telemetry.prometheus_server import START, Samples, at, serve

from gpuledger.config import Config
from gpuledger.core.telling import Block
from gpuledger.core.usage_tables import columns_of
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import SourceError
from gpuledger.pipeline.collect import collect
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.serving import Reader

IN, OUT, DONE = "vllm:prompt_tokens_total", "vllm:generation_tokens_total", "vllm:request_success_total"
pytestmark = pytest.mark.server


def walk(values: list[float]) -> float:
    """What a counter gained, by the rule: a fall is a reset, after which it began at 0."""
    return sum(b - a if b >= a else b for a, b in pairwise(values))


def saw(minute: int) -> float:
    """Gains 100 a minute, restarts at minutes 7 and 31; by minute 9 it is above what it had before the first restart."""
    if minute < 7:
        return 20 * minute
    return 100.0 * (minute - 7) if minute < 31 else 100.0 * (minute - 31)


def vllm(scene: Samples, pod: str, minutes: range, **labels: str) -> None:
    named = {
        "pod": pod,
        "namespace": "web",
        "model_name": "llama",
        "instance": f"{pod}:8000",
        "service": "chat",
        **labels,
    }
    scene.add(IN, lambda m: 1000 * m, minutes, engine="0", **named)
    scene.add(OUT, saw, minutes, engine="0", **named)
    scene.add(DONE, lambda m: 2 * m, minutes, engine="0", finished_reason="stop", **named)
    scene.add("vllm:num_requests_running", lambda m: m % 2, minutes, engine="0", **named)
    scene.add("vllm:time_to_first_token_seconds_bucket", lambda m: m, minutes, le="0.25", **named)
    scene.add("vllm:time_to_first_token_seconds_bucket", lambda m: 4 * m, minutes, le="+Inf", **named)
    scene.add("vllm:time_to_first_token_seconds_sum", lambda m: m / 2, minutes, **named)
    scene.add("vllm:time_to_first_token_seconds_count", lambda m: 4 * m, minutes, **named)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    plain, late, gap = Samples("plain"), Samples("late"), Samples("gap")
    vllm(plain, "chat-0", range(60))
    vllm(late, "chat-1", range(22, 60))
    late.add(DONE, lambda m: 3 * (m - 39), range(40, 60), pod="chat-1", namespace="web", model_name="llama",
             instance="chat-1:8000", service="chat", engine="0", finished_reason="abort")  # fmt: skip
    minutes = [minute for minute in range(60) if not 12 <= minute < 40]
    gap.add(
        OUT,
        lambda m: 10 * m,
        minutes,
        pod="chat-2",
        namespace="web",
        model_name="llama",
        instance="chat-2:8000",
    )
    with serve(tmp_path_factory.mktemp("prometheus"), [plain, late, gap]) as address:
        yield address


def collected(
    url: str, tmp_path: Path, scene: str, *spans: tuple[int, int], **more: object
) -> tuple[Ledger, list[Diagnostic]]:
    section = {"type": "vllm", "url": url, "cluster": "prod", "match": {"scene": scene}, **more}
    ledger = Ledger(str(tmp_path / "ledger"), Config.model_validate({"telemetry": {"serving": section}}))
    told: list[Diagnostic] = []
    for first, last in spans or ((0, 60),):
        report = collect(ledger, ["serving"], at(first), at(last), now=lambda: at(600))
        assert [row.action for row in report.rows] != ["rejected"], report.diagnostics
        told += report.diagnostics
    return ledger, told


def rows(ledger: Ledger, names: str) -> list[tuple[Any, ...]]:
    con = ledger.connect()
    try:
        return con.execute(f"SELECT {names} FROM token_interval ORDER BY start").fetchall()
    finally:
        con.close()


def test_every_column_of_a_replica(url: str, tmp_path: Path) -> None:
    ledger, told = collected(url, tmp_path, "plain")
    assert told == []
    found = rows(ledger, "* EXCLUDE (x_Source, x_BillingPeriod, x_DeliveryId)")
    names = columns_of("token_interval")
    second = {name: value for name, value in zip(names, found[1], strict=True) if value is not None}
    assert second == {
        "cluster": "prod", "namespace": "web", "deployment": "chat", "pod": "chat-0", "provider": "vllm", "model": "llama",
        "start": START + timedelta(minutes=5), "end": START + timedelta(minutes=10),
        "input_tokens": 5000, "output_tokens": walk([saw(m) for m in range(4, 10)]), "requests": 10, "running": Decimal("0.6"),
        "ttft_seconds_sum": Decimal("2.5"), "ttft_seconds_count": 20, "ttft_buckets": {"0.25": 5, "+Inf": 20},
    }  # fmt: skip


def test_tokens_are_exact_over_restarts(url: str, tmp_path: Path) -> None:
    ledger, _ = collected(url, tmp_path, "plain")
    found = rows(ledger, "output_tokens, input_tokens")
    assert sum(row[0] for row in found) == walk([saw(m) for m in range(60)])
    assert sum(row[1] for row in found) == 59_000
    by_interval = [walk([saw(m) for m in range(max(first - 1, 0), first + 5)]) for first in range(0, 60, 5)]
    assert [row[0] for row in found] == by_interval


def test_short_windows_and_later_collections_come_to_the_same(url: str, tmp_path: Path) -> None:
    whole, _ = collected(url, tmp_path / "a", "plain")
    parts, _ = collected(url, tmp_path / "b", "plain", (0, 20), (20, 45), (45, 60), steps=2)
    again, _ = collected(url, tmp_path / "c", "plain", (0, 60), (20, 45), (0, 60))
    names = 'start, "end", pod, input_tokens, output_tokens, requests, running, ttft_buckets'
    assert rows(whole, names) == rows(parts, names) == rows(again, names)


def test_a_replica_that_comes_later_counts_from_its_first_sample(url: str, tmp_path: Path) -> None:
    ledger, _ = collected(url, tmp_path, "late")
    found = rows(ledger, "input_tokens, output_tokens, requests, failed_requests, start")
    assert found[0][4] == START + timedelta(minutes=20)
    assert sum(row[0] for row in found) == 1000 * (59 - 22)
    assert sum(row[1] for row in found) == walk([saw(m) for m in range(22, 60)])
    # The target had been scraped before without it: all of it came since.
    assert sum(row[3] for row in found if row[3] is not None) == 3 * 20


def test_a_gap_is_one_row_and_nothing_is_lost(url: str, tmp_path: Path) -> None:
    ledger, _ = collected(url, tmp_path, "gap")
    found = rows(ledger, 'start, "end", output_tokens')
    assert (START + timedelta(minutes=15), START + timedelta(minutes=40)) in {row[:2] for row in found}
    assert sum(row[2] for row in found) == 590
    assert all(a[1] <= b[0] for a, b in pairwise(found))


def test_labels_of_ones_own(url: str, tmp_path: Path) -> None:
    ledger, _ = collected(url, tmp_path, "plain", labels={"deployment": "scene", "team": "namespace"})
    assert set(rows(ledger, "deployment, team")) == {("plain", "web")}


def test_nothing_there_is_said(url: str, tmp_path: Path) -> None:
    ledger, told = collected(url, tmp_path, "plain", type="sglang")
    assert [one.code for one in told] == ["no-metrics"]
    assert rows(ledger, "start") == []


def test_a_label_that_names_no_column_is_refused(url: str, tmp_path: Path) -> None:
    section = {"type": "vllm", "url": url, "cluster": "c", "labels": {"modle": "x"}}
    ledger = Ledger(str(tmp_path / "l"), Config.model_validate({"telemetry": {"s": section}}))
    report = collect(ledger, ["s"], at(0), at(60), now=lambda: at(600))
    assert "no column that a label names" in report.diagnostics[0].message


def test_what_was_told_before_a_failure_stays(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    ask = Reader._window

    def failing(self: Reader, *given: Any) -> Block | None:  # noqa: ANN401 - passed on
        asked.append(1)
        if len(asked) == 3:
            raise SourceError("gone", where="there", hint="Wait.")
        return ask(self, *given)

    monkeypatch.setattr(Reader, "_window", failing)
    section = {"type": "vllm", "url": url, "cluster": "prod", "match": {"scene": "plain"}, "steps": 4}
    ledger = Ledger(str(tmp_path / "l"), Config.model_validate({"telemetry": {"serving": section}}))
    report = collect(ledger, ["serving"], at(0), at(60), now=lambda: at(600))
    assert [one.code for one in report.diagnostics] == ["collect-failed"]
    assert [row[0] for row in rows(ledger, '"end"')][-1] == START + timedelta(minutes=40)
    collect(ledger, ["serving"], None, at(60), now=lambda: at(600))
    assert sum(row[0] for row in rows(ledger, "output_tokens")) == walk([saw(m) for m in range(60)])
