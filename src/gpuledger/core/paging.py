"""Paged usage and cost reports of APIs: which requests to make, how to go on after a stop, when an answer is final.

A report is fetched in *chunks*: a month of daily buckets, seven days of hourly ones, a day of minutes, never across a
month's end. A chunk's pages are kept below `.part/` one by one; when the last is there, all of them become one file of
JSON lines in one step, in place of the chunk's earlier state. A reader thus sees a chunk as it was or as it is. A stop
in a chunk that can no longer change goes on after its last page; one that can still change is fetched anew, because
pages of two moments don't add up.

Nothing here does I/O or knows the time: both come in through the PollContext.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from email.utils import parsedate_to_datetime
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from gpuledger.core.contracts import PollContext, Reply
from gpuledger.errors import ConfigError, SourceError

Width = Literal["1m", "1h", "1d"]
WIDTHS: dict[Width, timedelta] = {
    "1m": timedelta(minutes=1),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}
_CHUNK_DAYS: dict[Width, int] = {"1m": 1, "1h": 7, "1d": 31}
_PARTS = ".part/"
_FETCHED = ".fetched.json"
_NAMES = ".names.json"
_FILE = re.compile(r"^(\d{4}-\d{2})/(.+)_\d{4}-\d{2}-\d{2}_(1m|1h|1d)\.jsonl$")
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]+)"')
_MAX_PAGES = 10_000
_SECRET = re.compile(r"\bsk-[A-Za-z0-9*_.-]+")


class RefusedError(SourceError):
    """The API answered with a lasting error; `status` is its HTTP status, `said` its own words."""

    def __init__(self, reply: Reply, url: str) -> None:
        self.status = reply.status
        self.said = said(reply.body)
        super().__init__(
            f"the API answered {reply.status}" + (f": {self.said}" if self.said else ""),
            where=url,
            hint="What was fetched before is kept; the next poll goes on from there.",
        )


@dataclass(frozen=True, slots=True)
class Feed:
    """One report of an API, asked for by time.

    `name` begins the names of its files. `bounds` are the parameters for the inclusive start and the exclusive end,
    `unix` says whether they are Unix seconds or RFC 3339. `params` are sent with every request, `headers` too; the
    headers are not kept.
    """

    name: str
    url: str
    width: Width
    params: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    bounds: tuple[str, str] = ("starting_at", "ending_at")
    unix: bool = False

    def time(self, moment: datetime) -> str:
        """Write a moment as the API takes it."""
        return str(int(moment.timestamp())) if self.unix else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Chunk:
    """The part of a feed that one file holds: buckets that start in [start, end), in one month, UTC."""

    feed: Feed
    start: datetime
    end: datetime

    @property
    def name(self) -> str:
        """Path of its file."""
        return f"{self.start:%Y-%m}/{self.feed.name}_{self.start:%Y-%m-%d}_{self.feed.width}.jsonl"

    def request(self, now: datetime) -> tuple[tuple[str, str], ...]:
        """Parameters of its first page; the end is that of the bucket that is running now, at most."""
        width = WIDTHS[self.feed.width]
        running = datetime.fromtimestamp(
            (now.timestamp() // width.total_seconds() + 1) * width.total_seconds(), UTC
        )
        bounds = zip(self.feed.bounds, (self.start, min(self.end, running)), strict=True)
        return (*((name, self.feed.time(moment)) for name, moment in bounds), *self.feed.params)


def month_of(moment: datetime) -> datetime:
    """Start of the moment's month."""
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def months(since: datetime, until: datetime) -> Iterator[datetime]:
    """Starts of the months that [since, until) touches."""
    month = month_of(since)
    while month < until:
        yield month
        month = month_of(month + timedelta(days=32))


def plan(feed: Feed, since: datetime, until: datetime, now: datetime) -> Iterator[Chunk]:
    """Chunks of the months that [since, until) touches, as far as they have begun. A bill's unit is the whole month."""
    for month in months(since, until):
        end, start = month_of(month + timedelta(days=32)), month
        while start < end and start <= now:
            stop = min(start + timedelta(days=_CHUNK_DAYS[feed.width]), end)
            yield Chunk(feed, start, stop)
            start = stop


def update(context: PollContext, feed: Feed, settle: timedelta) -> int:
    """Fetch the feed's chunks that are missing or could change since they were fetched. Returns requests made.

    A chunk is final when it was fetched `settle` or more after its end. Raises RefusedError, or SourceError for an
    answer that isn't a page; chunks that are complete by then stay.
    """
    fetched = _fetched(context)
    present = set(context.pages.names())
    requests = 0
    for chunk in plan(feed, context.since, context.until, context.now()):
        moment = context.now()
        last = fetched.get(chunk.name)
        if last is not None and chunk.name in present and last >= chunk.end + settle:
            continue
        context.progress(f"fetching {chunk.name}")
        lines, made = _fetch(context, chunk, moment, resume=moment >= chunk.end + settle)
        requests += made
        content = b"".join(lines)
        if chunk.name not in present or context.pages.read(chunk.name) != content:
            context.pages.write(chunk.name, content)
        fetched[chunk.name] = moment
        context.pages.write(
            _FETCHED, json.dumps({name: when.isoformat() for name, when in sorted(fetched.items())}).encode()
        )
        _discard(context, chunk)
    return requests


def prune(context: PollContext, feeds: Iterable[Feed]) -> None:
    """Drop what other feeds or widths left in the months that were just fetched: they hold the same charges again."""
    current = {(feed.name, feed.width) for feed in feeds}
    touched = {f"{month:%Y-%m}" for month in months(context.since, context.until)}
    for name in context.pages.names():
        match = _FILE.match(name)
        if match and match[1] in touched and (match[2], match[3]) not in current:
            context.pages.remove(name)


def label(context: PollContext, labels: Mapping[str, Any]) -> None:
    """Put account, names and tags beside the pages of each month that was fetched, so that a delivery is whole."""
    content = json.dumps({"labels": labels}, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    held = {match[1] for name in context.pages.names() if (match := _FILE.match(name))}
    for month in months(context.since, context.until):
        name = f"{month:%Y-%m}/labels.jsonl"
        if f"{month:%Y-%m}" in held and (
            name not in context.pages.names(name) or context.pages.read(name) != content
        ):
            context.pages.write(name, content)


def models_in(context: PollContext, feed: str) -> set[str]:
    """Names of models in the pages of the feeds that begin so, in the months that were fetched."""
    found: set[str] = set()
    for month in months(context.since, context.until):
        for name in context.pages.names(f"{month:%Y-%m}/{feed}"):
            found |= {match.decode() for match in _MODEL.findall(context.pages.read(name))}
    return found


def account_of(body: bytes) -> dict[str, str | None]:
    """Take id and name out of the answer that describes an organisation."""
    content = json.loads(body)
    found = content if isinstance(content, Mapping) else {}
    return {name: str(found[name]) if found.get(name) else None for name in ("id", "name")}


def names_of(
    context: PollContext,
    url: str,
    params: tuple[tuple[str, str], ...],
    headers: Mapping[str, str],
    cursor: str,
) -> dict[str, str]:
    """Read a list of objects to its end: names by id. `cursor` is the parameter for the id to go on after."""
    found: dict[str, str] = {}
    after: str | None = None
    while True:
        reply = context.send(url, (*params, *(((cursor, after),) if after else ())), headers)
        if reply.status >= 300:  # noqa: PLR2004 - redirects and errors
            raise RefusedError(reply, url)
        content = json.loads(reply.body)
        data = content.get("data") if isinstance(content, Mapping) else None
        items = [item for item in data or () if isinstance(item, Mapping)]
        found |= {str(item["id"]): str(item["name"]) for item in items if item.get("id") and item.get("name")}
        if not items or not content.get("has_more"):
            return found
        last = str(content.get("last_id") or items[-1].get("id") or "")
        if not last or last == after:
            raise _odd(url, "the API says that there is more, and not where")
        after = last


def remembered(context: PollContext, fetch: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return what the API says of account and names: fetched once a day, they change seldom."""
    with suppress(KeyError, ValueError, TypeError, OSError):
        held = json.loads(context.pages.read(_NAMES))
        if context.now() - datetime.fromisoformat(held["at"]) < timedelta(days=1):
            return cast("Mapping[str, Any]", held["found"])
    found = fetch()
    context.pages.write(_NAMES, json.dumps({"at": context.now().isoformat(), "found": found}).encode())
    return found


def _fetched(context: PollContext) -> dict[str, datetime]:
    """When each chunk was fetched. A damaged note costs another fetch, nothing more."""
    if _FETCHED not in context.pages.names(_FETCHED):
        return {}
    try:
        held = json.loads(context.pages.read(_FETCHED))
        return {str(name): datetime.fromisoformat(when) for name, when in held.items()}
    except (ValueError, AttributeError, TypeError):
        return {}


def _discard(context: PollContext, chunk: Chunk) -> None:
    for name in context.pages.names(f"{_PARTS}{chunk.name}/"):
        context.pages.remove(name)


def _fetch(context: PollContext, chunk: Chunk, moment: datetime, *, resume: bool) -> tuple[list[bytes], int]:
    """Return the chunk's lines, one per page, and how many requests that took."""
    base = chunk.request(moment)
    lines, cursor = _kept(context, chunk, base) if resume else ([], None)
    if not lines:
        _discard(context, chunk)
    elif cursor is None:
        return lines, 0
    resumed, seen, made = bool(lines), {cursor}, 0
    while len(lines) < _MAX_PAGES:
        params = base if cursor is None else (*base, ("page", cursor))
        reply = context.send(chunk.feed.url, params, chunk.feed.headers)
        made += 1
        if resumed and reply.status == 400:  # noqa: PLR2004 - the cursor that was kept is no longer valid
            _discard(context, chunk)
            lines, cursor, resumed, seen = [], None, False, {None}
            continue
        if reply.status >= 300:  # noqa: PLR2004 - redirects (not followed, they would carry the key) and errors
            raise RefusedError(reply, chunk.feed.url)
        resumed = False
        page = _page(reply.body, chunk.feed.url)
        lines.append(_line(chunk.feed.url, params, reply.body))
        context.pages.write(f"{_PARTS}{chunk.name}/{len(lines):04d}", lines[-1])
        cursor = _next(page, chunk.feed.url)
        if cursor is None:
            return lines, made
        if cursor in seen:
            raise _odd(chunk.feed.url, "the API gives the same next page again and again")
        seen.add(cursor)
    raise _odd(chunk.feed.url, f"the API gives more than {_MAX_PAGES} pages")


def _kept(
    context: PollContext, chunk: Chunk, base: tuple[tuple[str, str], ...]
) -> tuple[list[bytes], str | None]:
    """Return the pages of an earlier attempt at the same request, and the cursor after them."""
    lines: list[bytes] = []
    cursor: str | None = None
    for number, name in enumerate(context.pages.names(f"{_PARTS}{chunk.name}/"), start=1):
        line = context.pages.read(name)
        try:
            held = json.loads(line)
            asked = [tuple(pair) for pair in held["request"]["params"] if pair[0] != "page"]
            page = held["response"]
        except (ValueError, KeyError, TypeError):
            return [], None
        if asked != list(base) or not name.endswith(f"/{number:04d}"):
            return [], None
        lines.append(line)
        cursor = _next(page, chunk.feed.url)
    return lines, cursor


def _line(url: str, params: tuple[tuple[str, str], ...], body: bytes) -> bytes:
    """Join request and answer to one line. The answer's text stays: its numbers may not pass through a float."""
    request = json.dumps(
        {"path": urlsplit(url).path, "params": [list(pair) for pair in params]}, ensure_ascii=False
    )
    answer = body.decode("utf-8-sig").replace("\r", " ").replace("\n", " ").strip()
    return f'{{"request":{request},"response":{answer}}}\n'.encode()


def _page(body: bytes, url: str) -> Mapping[str, Any]:
    page = json.loads(body.decode("utf-8-sig"))
    if not isinstance(page, Mapping) or not isinstance(page.get("data"), list):
        raise _odd(url, "the answer isn't a page of a report: it has no list named data")
    return page


def _next(page: Mapping[str, Any], url: str) -> str | None:
    more, cursor = page.get("has_more"), page.get("next_page")
    if more is False or (more is None and not cursor):
        return None
    if not isinstance(cursor, str) or not cursor:
        raise _odd(url, "the API says that there is more, and not where")
    return cursor


def _odd(url: str, what: str) -> SourceError:
    return SourceError(
        what, where=url, hint="The API may have changed; the ledger keeps its last good state."
    )


def said(body: bytes) -> str:
    """Take the message out of an API's error body, without anything that looks like a key."""
    try:
        content = json.loads(body)
        error = content.get("error", content)
        text = str(error.get("message", "")) if isinstance(error, Mapping) else str(error)
    except (ValueError, AttributeError):
        text = ""
    return _SECRET.sub("sk-…", " ".join(text.split()))[:300]


def key_of(settings: Mapping[str, Any], environ: Mapping[str, str], variable: str, what: str) -> str:
    """Return the API key: the setting `api_key_env`, resolved by the configuration, or the usual variable."""
    named = "api_key" in settings
    key = settings["api_key"] if named else environ.get(variable)
    if not isinstance(key, str) or not key.strip():
        raise ConfigError(
            f"no {what}: the environment variable {'that api_key_env names' if named else variable} is not set",
            where="api_key_env",
            hint=f'Set it, or name another one in [sources.NAME]: api_key_env = "{variable}".',
        )
    return key.strip()


def key_refused(error: RefusedError, variable: str, what: str) -> ConfigError:
    """Explain a 401 or 403: which key is needed, and where it is taken from."""
    return ConfigError(
        f"the API refused the key ({error.status}){': ' + error.said if error.said else ''}",
        where=error.where,
        hint=f"It needs {what}, taken from the variable that api_key_env names, or else from {variable}.",
    )


COMMON_SETTINGS = frozenset(
    {
        "api_key", "base_url", "recent_days", "usage_bucket", "organization_id", "organization_name", "names", "tags",
        "timeout_seconds", "max_tries", "max_wait_seconds",
    }
)  # fmt: skip


def check(settings: Mapping[str, Any], own: Iterable[str] = ()) -> None:
    """Refuse settings that no poller and not this connector knows: a misspelt one must not pass for set."""
    allowed = COMMON_SETTINGS | set(own)
    for name in sorted(set(settings) - allowed):
        near = get_close_matches(name, allowed, n=1)
        raise ConfigError(
            f"unknown setting {name}",
            where=name,
            hint=f"Did you mean {near[0]}?" if near else f"There are: {', '.join(sorted(allowed))}.",
        )


def table(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a setting that must be a table."""
    value = settings.get(name, {})
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name} must be a table", where=name, hint=f"Such as [sources.NAME.{name}].")
    return value


def whole(settings: Mapping[str, Any], name: str, default: int, lowest: int = 0) -> int:
    """Return a setting that must be a whole number."""
    value = settings.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise ConfigError(
            f"{name} must be a whole number from {lowest}, not {value!r}",
            where=name,
            hint=f"Such as {name} = {default}.",
        )
    return value


def one_of(settings: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    """Return a setting that must be one of the words; the first is the default."""
    value = settings.get(name, allowed[0])
    if value not in allowed:
        raise ConfigError(
            f"{name} can't be {value!r}", where=name, hint=f"It is one of {', '.join(allowed)}."
        )
    return str(value)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that the server asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as an HTTP date."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "").strip()
        if re.fullmatch(r"\d+(\.\d+)?", text):
            return float(text) * scale
    try:
        return max(0.0, (parsedate_to_datetime(headers.get("retry-after", "")) - now).total_seconds())
    except (TypeError, ValueError):
        return None


def backoff(attempt: int, jitter: float, first: float = 0.5, longest: float = 60.0) -> float:
    """Seconds before the next try: doubling from `first` up to `longest`, of which `jitter` in [0, 1) takes up to half."""
    return min(longest, first * float(2 ** min(attempt, 30))) * (1.0 - jitter / 2)
