"""Bills that come from an API: the connector's `poll` fetches pages into a folder, which is then ingested like any other.

One folder per source, `<state>/sources/<name>/`. A poll may be stopped at any moment, by `kill -9` too: pages are
written whole, and ingestion commits a billing period whole. Only one poll of a source runs at a time.
"""

import contextlib
import ipaddress
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from gpuledger import __version__
from gpuledger.core import deliveries, paging
from gpuledger.core.contracts import FileConnector, PollContext, Poller, Reply
from gpuledger.core.windows import Window
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import ConfigError, SourceError, UsageError
from gpuledger.pipeline.ingest import Options, Report, ingest
from gpuledger.pipeline.locations import open_tree
from gpuledger.pipeline.store import Store, slug

_RETRIED = frozenset({408, 409, 425, 429})
_SERVER_ERROR = 500
_REDIRECT = 300


def poll(  # noqa: PLR0913 - five arguments say what to poll, the others have defaults
    store: Store,
    name: str,
    connector: FileConnector,
    settings: Mapping[str, Any],
    window: Window,
    *,
    state: Path | None = None,
    options: Options | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Report:
    """Fetch the months that the window touches and bring them into the ledger as source `name`.

    `settings` are those of `[sources.NAME]`, secrets resolved; `state` is where pages are kept, by default beside the
    ledger. When fetching fails half-way, what is complete is ingested and the failure is a Diagnostic `poll-failed`.
    Raises ConfigError for settings and keys that can't work, UsageError when the connector has no `poll` or another
    poll of the source is running.
    """
    if not hasattr(connector, "poll"):
        raise UsageError(
            f"{connector.TYPE} bills are files, there is no API to poll",
            hint="Use gpuledger ingest with a path.",
        )
    options = options or Options()
    folder = (state or state_of(store)) / "sources" / slug(name)
    report = Report()
    with alone(folder, name), _client(settings, options.progress, now) as send:
        context = PollContext(
            settings=settings,
            state_dir=folder,
            since=window.start,
            until=window.end,
            now=now,
            progress=options.progress,
            send=send,
            pages=Folder(folder),
        )
        try:
            report.diagnostics += cast("Poller", connector).poll(context)
        except ConfigError:
            raise
        except SourceError as error:
            report.diagnostics.append(
                Diagnostic("poll-failed", "error", error.where or name, error.message, error.hint or "")
            )
        if Folder(folder).visible():
            tree = open_tree(str(folder), folder / ".downloads")
            if getattr(connector, "discover", deliveries.plain)(tree):  # parts of a month are no delivery yet
                report.extend(ingest(store, tree, connector, replace(options, source=name)))
    return report


def state_of(store: Store) -> Path:
    """Where pages of API sources are kept: in a local ledger's own folder, else in the user's state folder."""
    if not store.remote:
        return Path(store.location, ".state")
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "gpuledger" / sha256(store.location.encode()).hexdigest()[:16]


class Folder:
    """Pages in a local folder. A write is a temporary file, synced, and renamed over the old one."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def names(self, prefix: str = "") -> list[str]:
        """Paths below the folder that start with the prefix, sorted; unfinished writes are none."""
        found = (path for path in self.root.rglob("*") if path.is_file() and path.suffix != ".writing")
        return sorted(
            name for path in found if (name := path.relative_to(self.root).as_posix()).startswith(prefix)
        )

    def visible(self) -> bool:
        """Say whether there is anything to ingest."""
        return any(not part.startswith(".") for name in self.names() for part in name.split("/")[:1])

    def read(self, name: str) -> bytes:
        """Return a page's content."""
        return (self.root / name).read_bytes()

    def write(self, name: str, content: bytes) -> None:
        """Put the content in the page's place in one step, durably."""
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.writing")
        with partial.open("wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(target)

    def remove(self, name: str) -> None:
        """Delete a page, and its folder when it was the last in a folder of parts."""
        target = self.root / name
        target.unlink(missing_ok=True)
        for parent in target.parents:
            if parent == self.root or not parent.is_dir() or any(parent.iterdir()):
                break
            parent.rmdir()


@contextlib.contextmanager
def alone(folder: Path, name: str) -> Iterator[None]:
    """Hold the source's lock. The system frees it when the process ends, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # no such locks on Windows: whole-file writes still keep every state readable
        yield
        return
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"another poll of {name} is running",
                where=str(folder),
                hint="Wait until it has finished, or stop it.",
            ) from error
        yield


@contextlib.contextmanager
def _client(
    settings: Mapping[str, Any], progress: Callable[[str], None], now: Callable[[], datetime]
) -> Iterator["Client"]:
    import httpx

    timeout = paging.whole(settings, "timeout_seconds", 60, 1)
    tries = paging.whole(settings, "max_tries", 8, 1)
    seconds = paging.whole(settings, "max_wait_seconds", 300)
    # A redirect would carry the key elsewhere, so none is followed.
    with httpx.Client(
        timeout=timeout, follow_redirects=False, headers={"User-Agent": f"gpuledger/{__version__}"}
    ) as client:
        yield Client(client, tries, seconds, progress, now)


@dataclass(slots=True)
class Client:
    """GET with retries, bounded in tries and in seconds per request. Neither keys nor bodies are ever logged."""

    client: Any
    tries: int
    seconds: float
    progress: Callable[[str], None]
    now: Callable[[], datetime]
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    jitter: Callable[[], float] = field(default=random.random)

    def __call__(self, url: str, params: Sequence[tuple[str, str]], headers: Mapping[str, str]) -> Reply:
        """Send one request. See `core.contracts.Send`."""
        _refuse_clear_text(url)
        deadline = self.clock() + self.seconds
        for attempt in range(self.tries):
            reply, trouble = self._once(url, params, headers)
            if reply is not None and not trouble:
                return reply
            asked = paging.retry_after(reply.headers, self.now()) if reply is not None else None
            wait = (
                paging.backoff(attempt, self.jitter())
                if asked is None
                else asked + paging.backoff(0, self.jitter()) / 2
            )
            if attempt + 1 == self.tries or self.clock() + wait > deadline:
                raise SourceError(
                    f"gave up after {attempt + 1} tries: {trouble}"
                    + (f", asks to wait {asked:.0f} s" if asked else ""),
                    where=url,
                    hint="What was fetched is kept. Poll again later, or raise max_tries and max_wait_seconds.",
                )
            self.progress(f"{urlsplit(url).path}: {trouble}; next try in {wait:.1f} s")
            self.sleep(wait)
        raise AssertionError  # `tries` is at least 1

    def _once(
        self, url: str, params: Sequence[tuple[str, str]], headers: Mapping[str, str]
    ) -> tuple[Reply | None, str]:
        """Return the answer, and what is wrong with it that another try may mend."""
        import httpx

        try:
            got = self.client.get(url, params=list(params), headers=dict(headers))
        except httpx.TransportError as error:
            return (
                None,
                f"{type(error).__name__}: {paging.said(json.dumps(str(error)).encode()) or 'no connection'}",
            )
        except httpx.DecodingError:
            return None, "the body can't be decompressed"
        reply = Reply(
            got.status_code, {key.lower(): value for key, value in got.headers.items()}, got.content
        )
        if reply.status in _RETRIED or reply.status >= _SERVER_ERROR:
            return reply, f"the API answered {reply.status}"
        if reply.status >= _REDIRECT:
            return reply, ""
        try:
            json.loads(reply.body)
        except ValueError:
            return reply, "the answer ends early or isn't JSON"
        return reply, ""


def _refuse_clear_text(url: str) -> None:
    """Refuse to send a key over plain HTTP, except to this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            host = "localhost"
    if parts.scheme != "https" and not (parts.scheme == "http" and host == "localhost"):
        raise ConfigError("the key would travel in clear text", where=url, hint="Give base_url as https://…")
