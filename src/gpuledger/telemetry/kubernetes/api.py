"""The Kubernetes API over HTTP: get, list by pages, watch, with patience for what passes and clear words for the rest.

Source: Kubernetes documentation, "Kubernetes API Concepts" (resource versions, limit and continue, bookmarks, 410
Gone, watch events), and "API Priority and Fairness" (429 with Retry-After).
"""

import contextlib
import json
import os
import random
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import httpx

from gpuledger import __version__
from gpuledger.core.paging import backoff, retry_after
from gpuledger.core.workload.fields import Json
from gpuledger.core.workload.lifetimes import TOLERANCE
from gpuledger.errors import ConfigError, SourceError
from gpuledger.telemetry.kubernetes.access import Access

_RETRIED: Final = frozenset({408, 429, 500, 502, 503, 504})
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _GONE, _OK = 401, 403, 404, 410, 200
_PAGE: Final = 500
# Bookmarks come about every minute; a watch that is silent for longer has lost its connection.
_SILENCE: Final = 120.0
_WATCH_SECONDS: Final = 300
_UNTRUSTED: Final = "CERTIFICATE_VERIFY_FAILED"


class GoneError(SourceError):
    """The resource version is too old: what happened since is lost, list again."""


class BrokenError(SourceError):
    """The connection of a watch ended before the server ended it: go on from the last resource version."""


class ForbiddenError(SourceError):
    """We may not do that."""


class NotFoundError(SourceError):
    """There is no such object, or no such kind of objects in this cluster."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of objects as the API serves it: its path is made of group, version and plural."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        """Return the path of all its objects, those of a namespace, or one."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        space = f"/namespaces/{namespace}" if namespace and self.namespaced else ""
        return f"{root}{space}/{self.plural}" + (f"/{name}" if name else "")

    @property
    def api_version(self) -> str:
        """Its objects' `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def sort(self) -> str:
        """How the timeline names this sort of objects."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def words(self) -> str:
        """How `kubectl auth can-i` names it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a watch: ADDED, MODIFIED, DELETED or BOOKMARK, and the moment (server's clock) it arrived."""

    type: str
    obj: Json
    at: datetime


@dataclass(slots=True)
class Api:
    """One cluster's API. Neither tokens nor objects are ever logged.

    `now` is our clock; `server_now` the server's, as far as its answers' Date tells. Requests are tried `tries` times.
    """

    access: Access
    timeout: float = 30.0
    tries: int = 5
    progress: Callable[[str], None] = lambda _: None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    sleep: Callable[[float], object] = time.sleep
    jitter: Callable[[], float] = random.random
    offset: timedelta = timedelta(0)
    _client: httpx.Client | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _token: tuple[float, str] | None = None

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()

    def client(self) -> httpx.Client:
        """Return a client of the server that is let in as we are, for services behind its proxy. The caller closes it."""
        return httpx.Client(
            headers=self._headers("application/json"),
            verify=_tls(self.access),
            timeout=self.timeout,
            follow_redirects=False,
            proxy=self.access.proxy,
            trust_env=False,
        )

    def server_now(self) -> datetime:
        """Return the moment by the API server's clock."""
        return self.now() + self.offset

    def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        what: str = "",
        verb: str = "get",
        accept: str = "application/json",
    ) -> Json:
        """Return the JSON object at a path; `verb` and `what` name the right that it takes.

        Raises ForbiddenError, NotFoundError, GoneError and other SourceErrors, those that may pass after the last try.
        """
        for attempt in range(self.tries):
            last = attempt + 1 == self.tries
            try:
                answer = self._http().get(
                    path,
                    params=dict(params or {}),
                    headers=self._headers(accept),
                    extensions=self._extensions(),
                )
                self._learn_offset(answer.headers)
                if answer.status_code == _OK:
                    return _object(answer.content, self._at(path))
                trouble = f"answered {answer.status_code}"
                if answer.status_code == _UNAUTHORIZED and not last and self._forget_token():
                    continue
                if answer.status_code not in _RETRIED or last:
                    raise _refused(answer.status_code, answer.content, self._at(path), verb, what)
                wait = retry_after(answer.headers, self.now())
            except httpx.HTTPError as error:
                trouble, wait = f"{type(error).__name__}: {str(error) or 'no answer'}", None
                if last or _UNTRUSTED in trouble:
                    raise self._unreachable(path, trouble, attempt + 1) from error
            wait = backoff(attempt, self.jitter()) if wait is None else wait
            self.progress(f"{path}: {trouble}; next try in {wait:.1f} s")
            self.sleep(wait)
        raise AssertionError  # `tries` is at least 1

    def listed(
        self, resource: Resource, namespace: str | None = None, *, metadata_only: bool = False
    ) -> tuple[list[Json], str]:
        """Return all objects of a resource and the resource version of the list, fetched by pages.

        A page whose continuation has expired starts the list anew, the last time in one piece.
        """
        accept = "application/json"
        if metadata_only:
            accept = f"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,{accept}"
        for limit in (_PAGE, _PAGE, None):
            with contextlib.suppress(GoneError):
                return self._pages(resource, resource.path(namespace), limit, accept)
        raise GoneError(
            "the list changes faster than it can be read",
            where=self._at(resource.path(namespace)),
            hint="Try again.",
        )

    def _pages(self, resource: Resource, path: str, limit: int | None, accept: str) -> tuple[list[Json], str]:
        found: list[Json] = []
        params = {"limit": str(limit)} if limit else {"resourceVersion": "0"}
        while True:
            page = self.get(path, params, what=resource.words, verb="list", accept=accept)
            meta, listed = page.get("metadata"), page.get("items")
            if not isinstance(meta, Mapping) or not isinstance(listed, list):
                raise SourceError("the answer is no list", where=self._at(path), hint="Is it an API server?")
            found += [_slim(item, resource) for item in listed if isinstance(item, Mapping)]
            following = meta.get("continue")
            if not following:
                return found, str(meta.get("resourceVersion") or "0")
            params = {"limit": str(limit or _PAGE), "continue": str(following)}

    def watch(self, resource: Resource, version: str, namespace: str | None = None) -> Iterator[Event]:
        """Yield changes after a resource version until the server ends the watch.

        Bookmarks are yielded: they say that nothing else happened, and from which version to go on. Raises GoneError
        when the version is too old, BrokenError when the connection ends, other SourceErrors when the server refuses.
        """
        params = {
            "watch": "1",
            "resourceVersion": version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(int(_WATCH_SECONDS * (1 + self.jitter() / 5))),
        }
        path = resource.path(namespace)
        timeout = httpx.Timeout(self.timeout, read=_SILENCE)
        headers = self._headers("application/json")
        try:
            with self._http().stream(
                "GET", path, params=params, headers=headers, timeout=timeout, extensions=self._extensions()
            ) as answer:
                self._learn_offset(answer.headers)
                if answer.status_code != _OK:
                    if answer.status_code == _UNAUTHORIZED:
                        self._forget_token()
                    raise _refused(answer.status_code, answer.read(), self._at(path), "watch", resource.words)
                for line in answer.iter_lines():
                    event = _event(line, resource, self.server_now(), self._at(path))
                    if event is not None:
                        yield event
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise BrokenError(
                f"the watch broke off: {type(error).__name__}",
                where=self._at(path),
                hint=f"Is {self.access.server} reachable from here?",
            ) from error

    def _http(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(
                    base_url=self.access.server,
                    verify=_tls(self.access),
                    timeout=self.timeout,
                    follow_redirects=False,  # one would carry the token elsewhere
                    proxy=self.access.proxy,
                    trust_env=False,
                    limits=httpx.Limits(max_connections=200, max_keepalive_connections=20),
                )
            return self._client

    def _headers(self, accept: str) -> list[tuple[str, str]]:
        headers = [("Accept", accept), ("User-Agent", f"gpuledger/{__version__}")]
        if (token := self._bearer()) is not None:
            headers.append(("Authorization", f"Bearer {token}"))
        if self.access.as_user:
            headers.append(("Impersonate-User", self.access.as_user))
        return [*headers, *(("Impersonate-Group", group) for group in self.access.as_groups)]

    def _extensions(self) -> dict[str, str]:
        return {"sni_hostname": self.access.server_name} if self.access.server_name else {}

    def _bearer(self) -> str | None:
        """Return the token; that of a file is read again when the file has changed."""
        path = self.access.token_file
        if path is None:
            return self.access.token
        try:
            changed = path.stat().st_mtime
            if self._token is None or self._token[0] != changed:
                self._token = (changed, path.read_text("ascii").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                "can't read the token", where=str(path), hint="Check path and rights."
            ) from error
        return self._token[1]

    def _forget_token(self) -> bool:
        """Forget a token that was refused; False when reading it again can't help."""
        had, self._token = self._token, None
        return had is not None

    def _learn_offset(self, headers: Mapping[str, str]) -> None:
        try:
            told = parsedate_to_datetime(headers.get("date", ""))
        except (TypeError, ValueError):
            return
        found = (told if told.tzinfo else told.replace(tzinfo=UTC)) - self.now()
        # Date has whole seconds: a smaller difference is none.
        self.offset = timedelta(0) if abs(found) <= TOLERANCE else found

    def _at(self, path: str) -> str:
        return f"{self.access.where}: {path}"

    def _unreachable(self, path: str, trouble: str, tries: int) -> SourceError:
        hint = f"Is {self.access.server} reachable from here?"
        if _UNTRUSTED in trouble:
            hint = "The server's certificate isn't signed by the kubeconfig's certificate-authority."
        return SourceError(f"no answer after {tries} tries: {trouble}", where=self._at(path), hint=hint)


def _tls(access: Access) -> ssl.SSLContext | bool:
    if not access.server.startswith("https://"):
        return False
    try:
        context = ssl.create_default_context(cadata=access.ca)
    except ssl.SSLError as error:
        raise ConfigError(
            "certificate-authority is no certificate", where=access.where, hint="Mend the kubeconfig."
        ) from error
    # Clusters' own authorities lack extensions that Python 3.13 began to demand, and kubectl doesn't.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if access.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if access.certificate and access.key:
        _load_certificate(context, access)
    return context


def _load_certificate(context: ssl.SSLContext, access: Access) -> None:
    """Load the client's certificate; Python takes files only, so it lies in one for this moment, for us alone."""
    handle, name = tempfile.mkstemp(suffix=".pem")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(f"{access.certificate}\n{access.key}")
        context.load_cert_chain(name)
    except ssl.SSLError as error:
        raise ConfigError(
            "client certificate and key don't fit together", where=access.where, hint="Mend the kubeconfig."
        ) from error
    finally:
        Path(name).unlink()


def _object(body: bytes, where: str) -> Json:
    try:
        content = json.loads(body)
    except ValueError as error:
        raise SourceError(
            "the answer isn't JSON", where=where, hint="Is it an API server, or a proxy's page?"
        ) from error
    if not isinstance(content, Mapping):
        raise SourceError("the answer is no object", where=where, hint="Is it an API server?")
    return content


def _refused(status: int, body: bytes, where: str, verb: str, what: str) -> SourceError:
    """Return the error for an answer that another try won't mend."""
    try:
        content = json.loads(body)
        said = str(content.get("message") or "") if isinstance(content, Mapping) else ""
    except ValueError:
        said = ""
    words = f": {' '.join(said.split())[:300]}" if said else ""
    if status == _GONE:
        return GoneError(f"expired{words}", where=where)
    if status == _NOT_FOUND:
        return NotFoundError(f"not found{words}", where=where)
    if status == _UNAUTHORIZED:
        return SourceError(
            f"the login isn't accepted (401){words}",
            where=where,
            hint="The token or certificate has expired or is of another cluster. Log in anew, or make a new token.",
        )
    if status == _FORBIDDEN:
        return ForbiddenError(
            f"may not {verb} {what or 'that'} (403){words}",
            where=where,
            hint=f"Let it get, list and watch {what or 'it'} by a ClusterRole; docs/jobs.md has one. "
            f"`kubectl auth can-i {verb} {what} -A` checks it.",
        )
    return SourceError(f"answered {status}{words}", where=where, hint="Look into the API server's log.")


def _event(line: str, resource: Resource, at: datetime, where: str) -> Event | None:
    """Read a line of a watch; a line that broke off is none. Raises what an ERROR event says."""
    try:
        content = json.loads(line)
    except ValueError:
        return None
    kind, obj = content.get("type"), content.get("object")
    if not isinstance(obj, Mapping):
        return None
    if kind == "ERROR":
        status = obj.get("code")
        raise _refused(
            status if isinstance(status, int) else 500,
            json.dumps(obj).encode(),
            where,
            "watch",
            resource.words,
        )
    return (
        Event(str(kind), _slim(obj, resource), at)
        if kind in {"ADDED", "MODIFIED", "DELETED", "BOOKMARK"}
        else None
    )


def _slim(item: Json, resource: Resource) -> Json:
    """Return an object with its kind, which lists leave out, and without what only servers need."""
    meta = {key: value for key, value in (item.get("metadata") or {}).items() if key != "managedFields"}
    return {**item, "apiVersion": resource.api_version, "kind": resource.kind, "metadata": meta}
