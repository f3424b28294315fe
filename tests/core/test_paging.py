"""Which requests a poller makes, how long it waits, and what it takes out of an answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuledger.core import paging
from gpuledger.core.contracts import PollContext, Reply
from gpuledger.core.paging import WIDTHS, Feed, Width
from gpuledger.errors import ConfigError, SourceError

NOW = datetime(2026, 10, 12, 9, 30, tzinfo=UTC)
START = datetime(2026, 10, 1, tzinfo=UTC)
moments = st.integers(0, 520 * 24 * 60).map(
    lambda minutes: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
)


def feed(width: Width = "1h") -> Feed:
    return Feed("usage", "https://api.example/v1/usage", width, (("group_by[]", "model"),))


@given(
    since=moments,
    length=st.timedeltas(timedelta(hours=1), timedelta(days=90)),
    now=moments,
    width=st.sampled_from(list(WIDTHS)),
)
def test_chunks_cover_whole_months_once_and_none_crosses_a_month(
    since: datetime, length: timedelta, now: datetime, width: Width
) -> None:
    chunks = list(paging.plan(feed(width), since, since + length, now))
    assert all(chunk.start < chunk.end and chunk.start <= now for chunk in chunks)
    assert all(
        paging.month_of(chunk.start) == paging.month_of(chunk.end - timedelta(seconds=1)) for chunk in chunks
    )
    assert all(one.end == other.start for one, other in pairwise(chunks))
    assert len({chunk.name for chunk in chunks}) == len(chunks)
    limit = {"1d": 31, "1h": 168, "1m": 1440}[width]
    assert all((chunk.end - chunk.start) / WIDTHS[width] <= limit for chunk in chunks), (
        "one page at the API's limit"
    )
    if chunks:
        assert chunks[0].start == paging.month_of(since)
        last = paging.month_of(since + length - timedelta(microseconds=1))
        assert chunks[-1].end == min(paging.month_of(last + timedelta(days=32)), chunks[-1].end)
        assert chunks[-1].end > now or chunks[-1].end == paging.month_of(last + timedelta(days=32))
    else:
        assert now < paging.month_of(since)


def test_the_bucket_that_is_running_is_asked_for_and_none_after_it() -> None:
    chunks = list(paging.plan(feed(), START, NOW, NOW))
    assert [chunk.request(NOW)[:2] for chunk in chunks] == [
        (("starting_at", "2026-10-01T00:00:00Z"), ("ending_at", "2026-10-08T00:00:00Z")),
        (("starting_at", "2026-10-08T00:00:00Z"), ("ending_at", "2026-10-12T10:00:00Z")),
    ]
    unix = replace(feed("1d"), bounds=("start_time", "end_time"), unix=True)
    (month,) = paging.plan(unix, START, NOW, NOW)
    assert month.request(NOW)[:2] == (("start_time", "1790812800"), ("end_time", "1791849600"))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Mon, 12 Oct 2026 09:30:20 GMT"}, 20.0),
        ({"retry-after": "Mon, 12 Oct 2026 09:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({}, None),
    ],
)
def test_how_long_the_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert paging.retry_after(headers, NOW) == seconds


@given(attempt=st.integers(0, 5000), jitter=st.floats(0, 1, exclude_max=True))
def test_waits_grow_and_are_bounded(attempt: int, jitter: float) -> None:
    wait = paging.backoff(attempt, jitter)
    whole = min(60.0, 0.5 * 2.0 ** min(attempt, 30))
    assert whole / 2 <= wait <= whole


def test_messages_of_an_api_come_without_keys() -> None:
    body = b'{"error": {"message": "Incorrect API key provided: sk-admin-AbC*****xyz.\\n See the page."}}'
    assert paging.said(body) == "Incorrect API key provided: sk-\u2026 See the page."
    assert paging.said(b"<html>") == ""
    assert paging.said(b'["odd"]') == ""


@pytest.mark.parametrize(
    "settings", [{"recent_day": 3}, {"recent_days": -1}, {"recent_days": True}, {"names": "x"}]
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    def use() -> None:
        paging.check(settings)
        paging.whole(settings, "recent_days", 3)
        paging.table(settings, "names")

    with pytest.raises(ConfigError):
        use()


def test_a_misspelt_setting_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match="usage_bucket"):
        paging.check({"usage_bukket": "1h"})


def test_a_named_variable_that_is_not_set_is_not_replaced_by_another() -> None:
    assert paging.key_of({}, {"USUAL": " key "}, "USUAL", "key") == "key"
    with pytest.raises(ConfigError, match="api_key_env names"):
        paging.key_of({"api_key": None}, {"USUAL": "key"}, "USUAL", "key")


@dataclass
class Memory:
    """Pages in memory, and an API that answers from a list."""

    answers: list[bytes | int]
    held: dict[str, bytes] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)

    def names(self, prefix: str = "") -> list[str]:
        return sorted(name for name in self.held if name.startswith(prefix))

    def read(self, name: str) -> bytes:
        return self.held[name]

    def write(self, name: str, content: bytes) -> None:
        self.held[name] = content

    def remove(self, name: str) -> None:
        self.held.pop(name, None)

    def send(self, url: str, params: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> Reply:
        del url, headers
        self.asked.append(dict(params))
        answer = self.answers.pop(0)
        return Reply(answer, {}, b"{}") if isinstance(answer, int) else Reply(200, {}, answer)

    def context(self, now: datetime = NOW, progress: Callable[[str], None] = lambda _: None) -> PollContext:
        return PollContext({}, Path(), START, NOW, lambda: now, progress, self.send, self)


def page(more: str | None, data: str = "[]") -> bytes:
    cursor = "null" if more is None else f'"{more}"'
    return f'{{"data": {data}, "has_more": {str(more is not None).lower()}, "next_page": {cursor}}}'.encode()


def test_a_page_keeps_the_text_of_its_numbers_and_its_request() -> None:
    memory = Memory([b'\xef\xbb\xbf{"data": [\r\n {"v": 0.10000000000000000001}],\n "has_more": false}'])
    paging.update(memory.context(), feed("1d"), timedelta(days=3))
    (name,) = [name for name in memory.held if not name.startswith(".")]
    assert name == "2026-10/usage_2026-10-01_1d.jsonl"
    line = memory.held[name].decode()
    assert '"v": 0.10000000000000000001' in line
    assert line.count("\n") == 1
    assert '["group_by[]", "model"]' in line


@pytest.mark.parametrize(
    "answers",
    [
        [page("a"), page("b"), page("a")],
        [b'{"data": [], "has_more": true, "next_page": null}'],
        [b'{"data": {}}'],
        [b"[]"],
    ],
)
def test_answers_that_lead_nowhere_are_errors_and_leave_no_file(answers: list[bytes | int]) -> None:
    memory = Memory(answers)
    with pytest.raises(SourceError):
        paging.update(memory.context(), feed("1d"), timedelta(days=3))
    assert [name for name in memory.held if not name.startswith(".")] == []


def test_an_open_chunk_is_fetched_from_its_first_page_again() -> None:
    memory = Memory([page("a"), 400])
    with pytest.raises(paging.RefusedError):
        paging.update(memory.context(), feed("1d"), timedelta(days=3))
    memory.answers = [page(None)]
    paging.update(memory.context(), feed("1d"), timedelta(days=3))
    assert "page" not in memory.asked[-1]
    assert memory.names(".part/") == []


def test_a_final_chunk_goes_on_after_its_last_page_and_is_then_left_alone() -> None:
    later = datetime(2027, 1, 1, tzinfo=UTC)
    memory = Memory([page("a"), page("b"), 403])
    with pytest.raises(paging.RefusedError):
        paging.update(memory.context(later), feed("1d"), timedelta(days=3))
    memory.answers = [page(None)]
    assert paging.update(memory.context(later), feed("1d"), timedelta(days=3)) == 1
    assert memory.asked[-1]["page"] == "b"
    assert memory.held["2026-10/usage_2026-10-01_1d.jsonl"].count(b"\n") == 3
    assert paging.update(memory.context(later), feed("1d"), timedelta(days=3)) == 0


def test_parts_of_another_request_or_damaged_ones_are_not_used() -> None:
    later = datetime(2027, 1, 1, tzinfo=UTC)
    for damage in (b'{"request', b'{"request": {"params": [["starting_at", "x"]]}, "response": {}}\n'):
        memory = Memory([page("a"), 403])
        with pytest.raises(paging.RefusedError):
            paging.update(memory.context(later), feed("1d"), timedelta(days=3))
        (part,) = memory.names(".part/")
        memory.held[part] = damage
        memory.answers = [page(None)]
        assert paging.update(memory.context(later), feed("1d"), timedelta(days=3)) == 1
        assert "page" not in memory.asked[-1]


def test_a_chunk_fetched_before_it_was_final_is_fetched_once_more() -> None:
    memory = Memory([page(None)] * 3)
    end = datetime(2026, 11, 1, tzinfo=UTC)
    for moment, made in (
        (end - timedelta(hours=1), 1),
        (end + timedelta(days=2), 1),
        (end + timedelta(days=3), 1),
        (end + timedelta(days=9), 0),
    ):
        assert paging.update(memory.context(moment), feed("1d"), timedelta(days=3)) == made


def test_a_damaged_note_of_what_was_fetched_costs_requests_only() -> None:
    memory = Memory([page(None)] * 2)
    later = datetime(2027, 1, 1, tzinfo=UTC)
    paging.update(memory.context(later), feed("1d"), timedelta(days=3))
    memory.held[".fetched.json"] = b'{"2026-10'
    assert paging.update(memory.context(later), feed("1d"), timedelta(days=3)) == 1


def test_lists_are_read_to_their_end() -> None:
    first = b'{"data": [{"id": "p1", "name": "one"}, {"id": "p2", "name": null}], "has_more": true, "last_id": "p2"}'
    memory = Memory([first, b'{"data": [{"id": "p3", "name": "three"}], "has_more": false}'])
    assert paging.names_of(memory.context(), "u", (("limit", "2"),), {}, "after") == {
        "p1": "one",
        "p3": "three",
    }
    assert memory.asked == [{"limit": "2"}, {"limit": "2", "after": "p2"}]
    memory.answers = [first, first]
    with pytest.raises(SourceError):
        paging.names_of(memory.context(), "u", (), {}, "after")


def test_names_are_fetched_once_a_day_and_again_when_their_note_is_damaged() -> None:
    memory = Memory([])
    fetched: list[int] = []

    def fetch() -> dict[str, int]:
        fetched.append(1)
        return {"n": len(fetched)}

    def ask(hours: int) -> int:
        return int(paging.remembered(memory.context(NOW + timedelta(hours=hours)), fetch)["n"])

    assert [ask(0), ask(23), ask(25)] == [1, 1, 2]
    memory.held[".names.json"] = b'{"at'
    assert ask(26) == 3
