"""A FAKE Kubernetes API server, for tests only: it speaks list and watch over HTTP and knows nothing else.

What it imitates is documented in "Kubernetes API Concepts": resource versions, limit and continue, watch events as
lines of JSON, bookmarks, 410 Gone. It can be told to misbehave. Nothing here was tested on a real cluster.
"""

import contextlib
import json
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Obj = dict[str, Any]

CORE = {
    "services": ("Service", True),
    "pods": ("Pod", True), "nodes": ("Node", False), "namespaces": ("Namespace", False),
    "resourcequotas": ("ResourceQuota", True), "configmaps": ("ConfigMap", True),
}  # fmt: skip
GROUPS = {
    "apps/v1": {name: (kind, True) for name, kind in (
        ("deployments", "Deployment"), ("replicasets", "ReplicaSet"), ("statefulsets", "StatefulSet"), ("daemonsets", "DaemonSet"),
    )},
    "batch/v1": {"jobs": ("Job", True), "cronjobs": ("CronJob", True)},
    "jobset.x-k8s.io/v1alpha2": {"jobsets": ("JobSet", True)},
    "example.com/v1": {"odds": ("Odd", True), "odds/status": ("Odd", True)},
}  # fmt: skip


@dataclass
class FakeApiServer:
    """State and behaviour. `token` and `forbidden` (plural names) are checked; the other fields make it misbehave.

    `failures` maps a path to statuses that it answers first, one by one (0 breaks the connection, 1 is silent for a second first). `expire_continue`
    lets that many continued pages expire. `proxied` has addresses by the path of a service's proxy. `clock` is added to the Date it tells. `requests` are those it got.
    """

    token: str | None = None
    forbidden: frozenset[str] = frozenset()
    groups: dict[str, dict[str, tuple[str, bool]]] = field(default_factory=lambda: dict(GROUPS))
    failures: dict[str, list[int]] = field(default_factory=dict)
    expire_continue: int = 0
    clock: timedelta = timedelta(0)
    bookmark_every: float = 0.2
    watch_seconds: float = 30.0
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    version: int = 100
    oldest: int = 0
    objects: dict[str, dict[tuple[str | None, str], Obj]] = field(default_factory=dict)
    events: list[tuple[int, str, str, Obj]] = field(default_factory=list)
    url: str = ""
    broken_lines: list[str] = field(default_factory=list)
    proxied: dict[str, str] = field(default_factory=dict)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _stopping: bool = False

    def put(self, plural: str, obj: Obj) -> None:
        """Create or change an object."""
        with self._changed:
            key = (obj["metadata"].get("namespace"), obj["metadata"]["name"])
            held = self.objects.setdefault(plural, {})
            self.version += 1
            stored = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version)}}
            self.events.append((self.version, plural, "MODIFIED" if key in held else "ADDED", stored))
            held[key] = stored
            self._changed.notify_all()

    def delete(self, plural: str, name: str, namespace: str | None = "ml", *, silently: bool = False) -> None:
        """Delete an object; `silently` leaves no event, as if it had been compacted away."""
        with self._changed:
            obj = self.objects[plural].pop((namespace, name))
            self.version += 1
            if not silently:
                self.events.append((self.version, plural, "DELETED", obj))
            self._changed.notify_all()

    def compact(self) -> None:
        """Forget all events: whoever asks for older ones is told 410, and so is who watches."""
        with self._changed:
            self.version += 1
            self.oldest = self.version
            self._changed.notify_all()

    def asked(self, path: str) -> list[dict[str, str]]:
        """Return the parameters of the requests for a path."""
        return [params for found, params in self.requests if found == path]

    @contextlib.contextmanager
    def running(self, tls: ssl.SSLContext | None = None) -> Iterator["FakeApiServer"]:
        """Serve on a free port of this machine."""
        state = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # headers and body are written apart

            def log_message(self, *_: object) -> None:
                """Be silent."""

            def date_time_string(self, timestamp: float | None = None) -> str:
                del timestamp
                return format_datetime(datetime.now(UTC) + state.clock, usegmt=True)

            def do_GET(self) -> None:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    state._answer(self)

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            with self._changed:
                self._stopping = True
                self._changed.notify_all()
            server.shutdown()
            server.server_close()
            thread.join()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        params = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.requests.append((parts.path, params))
        self.headers.append({key.lower(): value for key, value in request.headers.items()})
        waiting = self.failures.get(parts.path)
        status = waiting.pop(0) if waiting else 200
        if status in {0, 1}:
            time.sleep(status)
            request.close_connection = True
            request.connection.close()
            return
        if status != 200:
            _send(request, status, _status(status, "told to fail"))
        elif self.token is not None and request.headers.get("Authorization") != f"Bearer {self.token}":
            _send(request, 401, _status(401, "Unauthorized"))
        else:
            self._route(request, parts.path, params)

    def _route(self, request: BaseHTTPRequestHandler, path: str, params: dict[str, str]) -> None:
        for proxy, url in self.proxied.items():
            if path.startswith(proxy):
                _forward(request, f"{url}{path.removeprefix(proxy)}?{urlsplit(request.path).query}")
                return
        if path == "/apis":
            versions = {found: found.partition("/")[0] for found in self.groups}
            groups = [
                {"name": group, "preferredVersion": {"groupVersion": found}}
                for found, group in versions.items()
            ]
            _send(request, 200, {"kind": "APIGroupList", "groups": groups})
            return
        root, _, rest = path.removeprefix("/").partition("/")
        version, _, rest = (
            rest.partition("/")
            if root == "api"
            else ("/".join(rest.split("/")[:2]), "", "/".join(rest.split("/")[2:]))
        )
        served = CORE if root == "api" else self.groups.get(version)
        if served is None:
            _send(request, 404, _status(404, "the server could not find the requested resource"))
            return
        if not rest:
            resources = [
                {"name": name, "kind": kind, "namespaced": own} for name, (kind, own) in served.items()
            ]
            _send(request, 200, {"kind": "APIResourceList", "resources": resources})
            return
        words = rest.split("/")
        namespace = words[1] if words[0] == "namespaces" and len(words) > 2 else None
        plural, name = (
            (words[2], words[3] if len(words) > 3 else None)
            if namespace
            else (words[0], words[1] if len(words) > 1 else None)
        )
        verb = "watch" if params.get("watch") else "get" if name else "list"
        if plural in self.forbidden or f"{verb} {plural}" in self.forbidden:
            _send(request, 403, _status(403, f'{plural} is forbidden: User "x" cannot {verb} resource'))
        elif plural not in served:
            _send(request, 404, _status(404, "the server could not find the requested resource"))
        elif name is not None:
            found = self.objects.get(plural, {}).get((namespace, name))
            _send(request, 200 if found else 404, found or _status(404, f"{plural} {name!r} not found"))
        elif verb == "watch":
            self._watch(request, plural, served[plural][0], namespace, params)
        else:
            self._list(request, plural, served[plural][0], version, namespace, params)

    def _list(
        self,
        request: BaseHTTPRequestHandler,
        plural: str,
        kind: str,
        version: str,
        namespace: str | None,
        params: dict[str, str],
    ) -> None:
        if "continue" in params and self.expire_continue > 0:
            self.expire_continue -= 1
            _send(request, 410, _status(410, "The provided continue parameter is too old"))
            return
        with self._changed:
            held = [
                obj for (space, _), obj in self.objects.get(plural, {}).items() if namespace in {None, space}
            ]
            now = self.version
        start, size = int(params.get("continue", "0")), int(params.get("limit", "0")) or len(held)
        # Items of a list don't say their kind, and servers keep managedFields.
        page = [
            {**{key: value for key, value in obj.items() if key not in {"kind", "apiVersion"}},
             "metadata": {**obj["metadata"], "managedFields": [{"manager": "x"}]}}
            for obj in held[start : start + size]
        ]  # fmt: skip
        meta = {"resourceVersion": str(now)}
        if start + size < len(held):
            meta["continue"] = str(start + size)
        _send(request, 200, {"kind": f"{kind}List", "apiVersion": version, "metadata": meta, "items": page})

    def _watch(
        self,
        request: BaseHTTPRequestHandler,
        plural: str,
        kind: str,
        namespace: str | None,
        params: dict[str, str],
    ) -> None:
        seen = int(params["resourceVersion"])
        request.send_response(200)
        request.send_header("Content-Type", "application/json")
        request.send_header("Connection", "close")
        request.end_headers()
        request.close_connection = True
        ends = time.monotonic() + self.watch_seconds
        while not self._stopping and time.monotonic() < ends:
            with self._changed:
                if seen < self.oldest:
                    _line(request, {"type": "ERROR", "object": _status(410, "too old resource version")})
                    return
                due = [one for one in self.events if one[0] > seen and one[1] == plural]
                now = self.version
                broken = self.broken_lines.pop(0) if self.broken_lines and plural == "pods" else None
                if not due and broken is None:
                    self._changed.wait(self.bookmark_every)
            for number, _, event, obj in due:
                seen = number
                if namespace in {None, obj["metadata"].get("namespace")}:
                    _line(request, {"type": event, "object": obj})
            if broken is not None:
                request.wfile.write(broken.encode())
                request.wfile.flush()
                return
            if not due and params.get("allowWatchBookmarks") == "true":
                seen = max(seen, now)
                _line(
                    request,
                    {
                        "type": "BOOKMARK",
                        "object": {"kind": kind, "metadata": {"resourceVersion": str(seen)}},
                    },
                )


def _forward(request: BaseHTTPRequestHandler, url: str) -> None:
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310 - a test's own server
        body = answer.read()
    request.send_response(answer.status)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def _send(request: BaseHTTPRequestHandler, status: int, body: Obj) -> None:
    content = json.dumps(body).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(content)))
    if status == 429:
        request.send_header("Retry-After", "1")
    request.end_headers()
    request.wfile.write(content)


def _line(request: BaseHTTPRequestHandler, event: Obj) -> None:
    request.wfile.write(json.dumps(event).encode() + b"\n")
    request.wfile.flush()


def _status(code: int, message: str) -> Obj:
    return {"kind": "Status", "status": "Failure", "code": code, "message": message}
