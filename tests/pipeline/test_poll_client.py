"""How the client of pollers waits, gives up, and keeps keys to itself."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from tests.sources import report_server as server
from tests.sources.report_server import Api

from gpuledger.errors import ConfigError, SourceError
from gpuledger.pipeline.poll import Client, Folder

pytestmark = pytest.mark.server
NOW = datetime(2026, 10, 12, 9, 30, tzinfo=UTC)
PATH = "/v1/organizations/me"


class Clock:
    """Time that passes by sleeping only."""

    def __init__(self) -> None:
        self.time = 0.0
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with server.serve(Api()) as running:
        yield running


def client(clock: Clock, tries: int = 8, seconds: float = 300, said: list[str] | None = None) -> Client:
    heard = [] if said is None else said
    return Client(
        httpx.Client(timeout=10),
        tries,
        seconds,
        heard.append,
        lambda: NOW,
        clock.sleep,
        lambda: clock.time,
        lambda: 0.0,
    )


def ask(one: Client, api: Api) -> bytes:
    with one.client:
        return one(api.url + PATH, (), {"x-api-key": server.KEY}).body


def test_the_servers_wish_is_followed(api: Api) -> None:
    date = (NOW + timedelta(seconds=30)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    api.faults = [server.status(429, Retry_After="11"), server.status(429, Retry_After=date)]
    clock = Clock()
    assert b"org-synthetic" in ask(client(clock), api)
    assert clock.waits == [pytest.approx(11.25), pytest.approx(30.25)]


def test_without_a_wish_waits_double(api: Api) -> None:
    api.faults = [server.status(500), server.drop, server.cut, server.cut_length, server.status(529)]
    clock = Clock()
    ask(client(clock), api)
    assert clock.waits == [0.5, 1.0, 2.0, 4.0, 8.0]


def test_tries_are_bounded(api: Api) -> None:
    api.faults = [server.status(503)] * 9
    clock = Clock()
    with pytest.raises(SourceError, match="gave up after 3 tries"):
        ask(client(clock, tries=3), api)
    assert len(api.requests) == 3


def test_time_is_bounded_and_a_longer_wish_is_told_at_once(api: Api) -> None:
    api.faults = [server.status(429, Retry_After="3600")]
    clock = Clock()
    with pytest.raises(SourceError, match="asks to wait 3600 s"):
        ask(client(clock, seconds=60), api)
    assert clock.waits == []


def test_what_the_user_hears_has_neither_key_nor_query(api: Api) -> None:
    api.faults = [server.status(500), server.drop]
    said: list[str] = []
    ask(client(Clock(), said=said), api)
    assert len(said) == 2
    assert all(text.startswith(PATH) and server.KEY not in text for text in said)


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(SourceError, match="ConnectError"), httpx.Client() as http:
        Client(http, 2, 9, lambda _: None, lambda: NOW, lambda _: None)("http://127.0.0.1:9/v1", (), {})


@pytest.mark.parametrize(
    "url", ["http://api.example/v1", "ftp://127.0.0.1/", "http://127.0.0.1.example/", "http://[::2]/"]
)
def test_no_clear_text_to_other_machines(url: str) -> None:
    with pytest.raises(ConfigError, match="clear text"), httpx.Client() as http:
        Client(http, 1, 9, lambda _: None, lambda: NOW)(url, (), {})


def test_a_folder_shows_no_half_written_page(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("2026-10/a.jsonl", b"one")
    (folder.root / "2026-10" / ".b.jsonl.writing").write_bytes(b"half")
    folder.write(".part/2026-10/a.jsonl/0001", b"part")
    assert folder.names() == [".part/2026-10/a.jsonl/0001", "2026-10/a.jsonl"]
    folder.remove(".part/2026-10/a.jsonl/0001")
    folder.remove(".part/2026-10/a.jsonl/0001")
    assert not (folder.root / ".part").exists()
