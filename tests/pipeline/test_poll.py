"""Polling against a server that knows what it charges: the ledger equals it to the last digit, whatever goes wrong."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.sources import report_server as server
from tests.sources.report_server import Api, Use

from gpuledger import registry
from gpuledger.core.windows import Window
from gpuledger.engines import duckdb
from gpuledger.errors import ConfigError, UsageError
from gpuledger.pipeline import poll as polling
from gpuledger.pipeline.ingest import Options, Report
from gpuledger.pipeline.store import Store

pytestmark = pytest.mark.server
START = datetime(2026, 10, 1, tzinfo=UTC)
NOW = datetime(2026, 10, 12, 9, 30, tzinfo=UTC)
MODELS = {
    "anthropic": ("claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001"),
    "openai": ("gpt-4o-mini-2024-07-18", "gpt-5-2025-08-07"),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait between tries: how long to wait is tested with the client."""
    monkeypatch.setattr(polling, "Client", partial(polling.Client, sleep=lambda _: None))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def uses(kind: str, until: datetime = NOW, every: timedelta = timedelta(hours=7, minutes=11)) -> list[Use]:
    """Two groups, three keys, two models; amounts that no rounding would keep."""
    found, when, step = [], START, 1
    while when < until:
        for group, key, model in (("a", "key_1", 0), ("a", "key_2", 0), ("b", "key_3", 1)):
            tokens = (12_345_678 * step + 7, 371_009 * step, 0 if step % 3 else 5_013)
            found.append(Use(when, f"group_{group}", key, MODELS[kind][model], tokens))
        when += every
        step += 1
    return found


@dataclass
class Bench:
    """A server, a ledger and a poll between them."""

    kind: str
    api: Api
    folder: Path
    now: datetime = NOW
    said: str = ""

    @property
    def store(self) -> Store:
        return Store(str(self.folder / "ledger"))

    @property
    def pages(self) -> Path:
        return self.folder / "ledger" / ".state" / "sources" / "bill"

    def poll(self, since: datetime = START, until: datetime | None = None, **settings: object) -> Report:
        base = self.api.url + ("/v1" if self.kind == "openai" else "")
        given = {"api_key": server.KEY, "base_url": base} | (
            {"api": "admin"} if self.kind == "anthropic" else {}
        )
        options = Options(progress=self._hear)
        window = Window(since, until or self.now)
        connector = registry.source(self.kind)
        report = polling.poll(
            self.store, "bill", connector, given | settings, window, options=options, now=lambda: self.now
        )
        self.said += repr(report)
        return report

    def _hear(self, text: str) -> None:
        self.said += text

    def ask(self, select: str) -> list[tuple[Any, ...]]:
        files = self.store.files("cost_and_usage")
        con = duckdb.connect()
        return con.execute(f"SELECT {select} FROM read_parquet({duckdb.literals(files)})").fetchall()

    def ties(self) -> None:
        """The ledger's final rows are what the server charges, and its tokens are those that were used."""
        final = "FILTER (x_CostStatus = 'Final')"
        ((billed, tokens),) = self.ask(f"sum(BilledCost) {final}, sum(ConsumedQuantity)")
        assert billed == self.api.cost()
        assert tokens == self.api.tokens()
        groups = {f"group_{name}": self.api.cost(f"group_{name}") for name in "ab"}
        columns = ", ".join(
            f"sum(BilledCost) FILTER (x_CostStatus = 'Final' AND SubAccountId = '{group}')"
            for group in groups
        )
        assert self.ask(columns) == [tuple(groups.values())]


@pytest.fixture(params=["anthropic", "openai"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    kind = str(request.param)
    with server.serve(Api(uses=uses(kind))) as api:
        yield Bench(kind, api, tmp_path)


@pytest.fixture
def anthropic(tmp_path: Path) -> Iterator[Bench]:
    with server.serve(Api(uses=uses("anthropic"))) as api:
        yield Bench("anthropic", api, tmp_path)


@pytest.fixture
def openai(tmp_path: Path) -> Iterator[Bench]:
    with server.serve(Api(uses=uses("openai"))) as api:
        yield Bench("openai", api, tmp_path)


def actions(report: Report) -> list[str]:
    return [row.action for row in report.rows]


def errors(report: Report) -> list[str]:
    return [told.code for told in report.diagnostics if told.severity == "error"]


def test_every_page_arrives_and_the_ledger_ties(bench: Bench) -> None:
    report = bench.poll()
    assert actions(report) == ["loaded"]
    assert errors(report) == []
    bench.ties()
    names = {"anthropic": "org-synthetic", "openai": None}
    assert bench.ask("DISTINCT BillingAccountId") == [(names[bench.kind],)]


def test_an_hour_and_a_key_can_be_told_apart_though_the_bill_is_by_day(anthropic: Bench) -> None:
    anthropic.poll()
    hours = "ChargePeriodEnd - ChargePeriodStart = INTERVAL 1 HOUR"
    assert anthropic.ask(f"bool_and({hours}), count(DISTINCT ResourceId)") == [(True, 3)]
    price = server.PRICES["claude-sonnet-4-5-20250929"][0]
    ((billed, tokens),) = anthropic.ask(
        "sum(BilledCost) FILTER (ResourceId = 'key_1' AND SkuMeter = 'Input Tokens'), "
        "sum(ConsumedQuantity) FILTER (ResourceId = 'key_1' AND SkuMeter = 'Input Tokens')"
    )
    assert billed == tokens * price


def test_trouble_is_waited_out(bench: Bench) -> None:
    bench.api.faults = [
        server.status(429, Retry_After="0"), server.status(500), server.cut, server.usual, server.cut_length, server.drop,
        server.status(429, Retry_After=(NOW - timedelta(seconds=5)).strftime("%a, %d %b %Y %H:%M:%S GMT")), server.status(529),
    ]  # fmt: skip
    report = bench.poll()
    assert bench.api.faults == []
    assert errors(report) == []
    bench.ties()


def test_lasting_trouble_ends_and_keeps_what_is_there(anthropic: Bench) -> None:
    anthropic.api.faults = [server.usual] * 8 + [server.status(503)] * 4
    report = anthropic.poll(max_tries=4)
    assert "poll-failed" in errors(report)
    assert anthropic.api.faults == []
    made = len(anthropic.api.requests)
    assert errors(anthropic.poll()) == []
    assert len(anthropic.api.requests) > made
    anthropic.ties()


def test_a_refused_key_names_the_variable_and_never_shows_itself(bench: Bench) -> None:
    with pytest.raises(ConfigError) as caught:
        bench.poll(api_key="sk-admin-wrong-secret-999")
    variable = {"anthropic": "ANTHROPIC_ADMIN_API_KEY", "openai": "OPENAI_ADMIN_KEY"}[bench.kind]
    assert variable in str(caught.value)
    assert "api_key_env" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_missing_key_is_told_before_any_request(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_ADMIN_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_ADMIN_KEY", raising=False)
    with pytest.raises(ConfigError, match="not set"):
        bench.poll(api_key=None)
    assert bench.api.requests == []


def test_secrets_stay_out_of_pages_messages_and_the_ledger(openai: Bench) -> None:
    openai.api.faults = [server.status(500), server.status(400)]
    openai.poll(max_tries=2)
    openai.poll()
    held = b"".join(path.read_bytes() for path in openai.folder.rglob("*") if path.is_file())
    assert b"page_" in held
    assert server.KEY.encode() not in held
    assert server.KEY not in openai.said


def test_what_can_change_is_fetched_again_and_what_is_settled_is_not(bench: Bench) -> None:
    bench.poll()
    first = len(bench.api.requests)
    late = Use(NOW - timedelta(days=1), "group_a", "key_1", MODELS[bench.kind][0], (111_111, 3, 0))
    bench.api.uses.append(late)
    assert actions(bench.poll()) == ["replaced"]
    bench.ties()
    assert len(bench.api.requests) - first < first
    starts = {
        query.get("starting_at", query.get("start_time", [""]))[0]
        for path, query in bench.api.requests[first:]
        if "usage" in path
    }
    settled = {"2026-10-01T00:00:00Z", str(int(START.timestamp()))}
    assert not starts & settled


def test_nothing_new_changes_nothing(bench: Bench) -> None:
    bench.poll()
    assert actions(bench.poll()) == ["unchanged"]
    bench.ties()


def test_a_stopped_poll_of_settled_months_goes_on_where_it_was(bench: Bench) -> None:
    bench.now = NOW + timedelta(days=60)
    until = START + timedelta(days=31)
    bench.api.faults = [server.usual] * 4 + [server.status(503)] * 2
    report = bench.poll(until=until, max_tries=2)
    assert errors(report)[:1] == ["poll-failed"]
    before = len(bench.api.requests)
    assert errors(bench.poll(until=until)) == []
    bench.ties()
    assert [request for request in bench.api.requests[before:] if request in bench.api.requests[:4]] == []


def test_an_expired_cursor_starts_the_chunk_again(openai: Bench) -> None:
    openai.now = NOW + timedelta(days=60)
    until = START + timedelta(days=31)
    openai.api.faults = [server.usual] * 4 + [server.status(503)]
    openai.poll(until=until, max_tries=1)
    openai.api.faults = [server.status(400)]
    assert errors(openai.poll(until=until)) == []
    openai.ties()


def test_another_bucket_width_replaces_the_pages_of_the_first(bench: Bench) -> None:
    bench.poll(usage_bucket="1h")
    bench.poll(usage_bucket="1d")
    bench.ties()
    assert {path.stem.rsplit("_", 1)[1] for path in bench.pages.rglob("*usage*.jsonl")} == {"1d"}
    bench.poll(usage_bucket="1m")
    bench.ties()


def test_estimates_give_way_to_the_bill(bench: Bench) -> None:
    bench.api.charged_until = datetime(2026, 10, 11, tzinfo=UTC)
    bench.poll()
    bench.ties()
    ((estimated, final, newest),) = bench.ask(
        "count(*) FILTER (x_CostStatus = 'Estimated' AND BilledCost > 0), count(*) FILTER (x_CostStatus = 'Final'), "
        "min(ChargePeriodStart) FILTER (x_CostStatus = 'Estimated')"
    )
    assert estimated > 0 < final
    assert newest >= bench.api.charged_until
    bench.api.charged_until = NOW + timedelta(days=1)
    bench.poll()
    bench.ties()
    assert bench.ask("count(*) FILTER (x_CostStatus = 'Estimated')") == [(0,)]


def test_months_are_units_of_their_own(bench: Bench) -> None:
    bench.api.uses += [
        Use(START + timedelta(days=32, hours=hour), "group_a", "key_1", MODELS[bench.kind][0], (10_007, 3, 0))
        for hour in range(5)
    ]
    bench.now = START + timedelta(days=33, hours=1)
    report = bench.poll()
    assert [row.billing_period for row in report.rows] == ["2026-10", "2026-11"]
    bench.ties()
    bench.api.uses.append(Use(bench.now, "group_a", "key_1", MODELS[bench.kind][0], (5, 0, 0)))
    bench.now += timedelta(hours=2)
    assert actions(bench.poll()) == ["unchanged", "replaced"]
    bench.ties()


def test_an_empty_month_is_no_error(anthropic: Bench) -> None:
    report = anthropic.poll(since=START - timedelta(days=40))
    assert errors(report) == []
    assert [row.billing_period for row in report.rows] == ["2026-10"]


def test_analytics_gives_keys_hours_and_list_prices(anthropic: Bench) -> None:
    report = anthropic.poll(api="auto", cost_bucket="1h")
    assert errors(report) == []
    ((billed, listed, tokens, keys),) = anthropic.ask(
        "sum(BilledCost), sum(ListCost), sum(ConsumedQuantity), count(DISTINCT ResourceId)"
    )
    assert (billed, listed) == (anthropic.api.cost() * anthropic.api.discount, anthropic.api.cost())
    assert (tokens, keys) == (anthropic.api.tokens(), 3)


def test_groups_that_the_older_analytics_leave_out_are_a_visible_row(anthropic: Bench) -> None:
    assert errors(anthropic.poll(api="analytics-report")) == []
    ((billed, listed, unlisted),) = anthropic.ask(
        "sum(BilledCost), sum(ListCost), sum(ListCost) FILTER (x_ChargeType = 'unlisted')"
    )
    assert (billed, listed) == (anthropic.api.cost() * anthropic.api.discount, anthropic.api.cost())
    assert 0 < unlisted < listed


def test_without_analytics_the_admin_reports_are_read(anthropic: Bench) -> None:
    anthropic.api.analytics = False
    report = anthropic.poll(api="auto")
    assert [told.code for told in report.diagnostics if told.code != "focus-rules"] == ["api-not-available"]
    anthropic.ties()
    anthropic.api.analytics = True
    anthropic.poll(api="auto")
    assert anthropic.ask("sum(BilledCost)") == [(anthropic.api.cost() * anthropic.api.discount,)]


def test_keys_travel_encrypted_or_not_at_all(anthropic: Bench) -> None:
    with pytest.raises(ConfigError, match="clear text"):
        anthropic.poll(base_url="http://gateway.example")


def test_a_redirect_is_not_followed(anthropic: Bench) -> None:
    anthropic.api.faults = [server.status(302, Location=f"{anthropic.api.url}/elsewhere")]
    assert "poll-failed" in errors(anthropic.poll())
    assert "/elsewhere" not in anthropic.api.paths()


def test_one_poll_at_a_time(anthropic: Bench) -> None:
    fcntl = pytest.importorskip("fcntl", reason="this system has no file locks; nothing to install")
    anthropic.pages.mkdir(parents=True)
    with (anthropic.pages / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match="another poll"):
            anthropic.poll()


def test_labels_of_the_settings_reach_the_rows(bench: Bench) -> None:
    bench.poll(names={"key_1": "ci"}, tags={"group_a": {"team": "evals"}, "key_2": {"team": "rag"}})
    rows = bench.ask("DISTINCT ResourceId, ResourceName, Tags['team'], x_Team")
    assert sorted(rows) == [
        ("key_1", "ci", "evals", "evals"),
        ("key_2", None, "rag", "rag"),
        ("key_3", None, None, None),
    ]


_CHILD = """
import sys
from datetime import datetime
from gpuledger import registry
from gpuledger.core.windows import Window
from gpuledger.pipeline.poll import poll
from gpuledger.pipeline.store import Store
kind, base, ledger, now, until = sys.argv[1:]
settings = {"api_key": "sk-admin-synthetic-secret-0123456789", "base_url": base}
settings |= {"api": "admin"} if kind == "anthropic" else {}
window = Window(datetime.fromisoformat("2026-10-01T00:00:00+00:00"), datetime.fromisoformat(until))
report = poll(Store(ledger), "bill", registry.source(kind), settings, window, now=lambda: datetime.fromisoformat(now))
print([row.action for row in report.rows])
"""


@pytest.mark.parametrize(
    ("bench", "after"), [("anthropic", 2), ("anthropic", 12), ("openai", 7)], indirect=["bench"]
)
def test_kill_9_in_the_middle_loses_nothing_and_asks_nothing_twice(bench: Bench, after: int) -> None:
    """The server stops answering after some requests; the process is killed while it waits; the next one goes on."""
    bench.now = NOW + timedelta(days=60)
    until = START + timedelta(days=31)

    def stall(_: server.Handler) -> None:
        time.sleep(30)

    bench.api.faults = [server.usual] * after + [stall]
    base = bench.api.url + ("/v1" if bench.kind == "openai" else "")
    command = [
        sys.executable,
        "-c",
        _CHILD,
        bench.kind,
        base,
        bench.store.location,
        bench.now.isoformat(),
        until.isoformat(),
    ]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "NO_PROXY": "127.0.0.1",
    }
    child = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(bench.api.requests) <= after and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait(10) == -signal.SIGKILL
    assert len(bench.api.requests) == after + 1, "the child did not get so far"
    assert not (bench.folder / "ledger" / "cost_and_usage").exists()
    bench.api.faults = []
    done = bench.api.requests[:after]
    report = bench.poll(until=until)
    assert errors(report) == []
    bench.ties()
    again = [request for request in bench.api.requests[after + 1 :] if request in done]
    assert again == []


def test_exact_digits_beyond_a_float() -> None:
    """The server's costs do hold digits that a float would lose: else the other tests prove nothing."""
    api = Api(uses=uses("anthropic"))
    assert any(Decimal(repr(float(amount))) != amount for amount in api.amounts())
