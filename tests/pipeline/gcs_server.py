"""Google Cloud Storage's XML API, as far as an object store client uses it, played by a local server.

Written after cloud.google.com/storage/docs/xml-api (objects: PUT, GET with Range, HEAD, DELETE; buckets: GET with
list-type=2; `x-goog-if-generation-match`). Emulators on PyPI speak only the JSON API. This is not Google's service.
"""

import hashlib
import itertools
import re
import sys
import threading
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Bucket(BaseHTTPRequestHandler):
    """Objects by key: content, generation, time of change."""

    objects: dict[str, tuple[bytes, int, datetime]] = {}  # noqa: RUF012  # one bucket per server process
    generations = itertools.count(1)
    lock = threading.Lock()
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        key, body = self._key(), self.rfile.read(int(self.headers.get("Content-Length", 0)))
        wanted = self.headers.get("x-goog-if-generation-match")
        with self.lock:
            held = self.objects.get(key)
            if wanted is not None and int(wanted) != (held[1] if held else 0):
                self._send(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                return
            self.objects[key] = (body, next(self.generations), datetime.now(UTC))
        self._send(200, b"", self._describe(key))

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        if not self._key() or "list-type" in query:
            self._list(query)
            return
        if self._key() not in self.objects:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")
            return
        content = self.objects[self._key()][0]
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        headers = self._describe(self._key())
        if span is None:
            self._send(200, content, headers)
            return
        first, last = int(span[1]), min(int(span[2] or len(content) - 1), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._send(206, content[first : last + 1], headers)

    def do_HEAD(self) -> None:
        known = self._key() in self.objects
        body = self.objects[self._key()][0] if known else b""
        self._send(200 if known else 404, body, self._describe(self._key()) if known else {}, with_body=False)

    def do_DELETE(self) -> None:
        self._send(204 if self.objects.pop(self._key(), None) else 404, b"")

    def _list(self, query: dict[str, list[str]]) -> None:
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        after = query.get("start-after", [""])[0]
        entries, folders = [], set()
        for key, (body, _, changed) in sorted(self.objects.items()):
            if not key.startswith(prefix) or key <= after:
                continue
            if delimiter and delimiter in key[len(prefix) :]:
                folders.add(prefix + key[len(prefix) :].split(delimiter, 1)[0] + delimiter)
                continue
            entries.append(
                f"<Contents><Key>{escape(key)}</Key><Size>{len(body)}</Size><ETag>{self._describe(key)['ETag']}</ETag>"
                f"<LastModified>{changed:%Y-%m-%dT%H:%M:%S.%fZ}</LastModified></Contents>"
            )
        common = "".join(
            f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders)
        )
        self._send(200, f"<ListBucketResult>{''.join(entries)}{common}</ListBucketResult>".encode())

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

    def _describe(self, key: str) -> dict[str, str]:
        body, generation, changed = self.objects[key]
        tag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        return {
            "ETag": tag,
            "x-goog-generation": str(generation),
            "Last-Modified": format_datetime(changed, usegmt=True),
        }

    def _send(
        self, status: int, body: bytes, headers: dict[str, str] | None = None, *, with_body: bool = True
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Bucket).serve_forever()
