"""The HTTP API of one server: tries again, halves what is too much, and says in words what is wrong."""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import reduce
from operator import add
from sys import intern
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit, urlunsplit

from gpuledger.core import paging
from gpuledger.core.exposition import number
from gpuledger.core.metric_series import Series
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from gpuledger.core.metric_grid import Grid
    from gpuledger.telemetry.prometheus.matrix import Steps

_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_OK, _REDIRECT, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 300, 401, 403, 404
_ABSURD: Final = Decimal(10) ** 18  # no quantity of these metrics comes near
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TOO_MUCH: Final = ("too many samples", "exceeded maximum resolution", "query timed out", "timed out in")


class _TooMuchError(Exception):
    """The server can't or won't answer for that long a time at once."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where to ask. Give `token`, or `username` and `password`, or neither.

    `match` has labels that every series must have, for servers that hold several clusters. `tenant` is sent as
    X-Scope-OrgID. `seconds` bounds the tries of one question, `timeout` each of them. A secret is not sent in clear
    text to another machine unless `clear_text` says so.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tenant: str | None = None
    match: Mapping[str, str] = field(default_factory=dict)
    ca_file: str | None = None
    timeout: float = 60.0
    tries: int = 5
    seconds: float = 300.0
    largest: int = 128 * 2**20
    clear_text: bool = False


class Client:
    """The API of one server. Secrets are in headers only: no message has them."""

    def __init__(self, server: Server, now: Callable[[], datetime], sleep: Callable[[float], None]) -> None:
        import httpx

        from gpuledger.telemetry.prometheus import matrix

        parts = urlsplit(server.url.rstrip("/"))
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigError(
                "not an address", where=parts.hostname or server.url, hint="Such as http://prometheus:9090."
            )
        host = parts.hostname + (f":{parts.port}" if parts.port else "")
        self.where = urlunsplit((parts.scheme, host, parts.path, "", ""))
        user, password = server.username or parts.username, server.password or parts.password
        secret = bool(server.token or password)
        if (
            secret
            and parts.scheme == "http"
            and parts.hostname not in {"localhost", "127.0.0.1", "::1"}
            and not server.clear_text
        ):
            raise ConfigError(
                "the secret would travel in clear text",
                where=self.where,
                hint="Use https://…, or allow clear text.",
            )
        # Compressing takes a server longer than sending does in one's own network, where plain HTTP is.
        headers = {"Accept-Encoding": "identity"} if parts.scheme == "http" else {}
        if server.token:
            headers["Authorization"] = f"Bearer {server.token}"
        if server.tenant:
            headers["X-Scope-OrgID"] = server.tenant
        auth = httpx.BasicAuth(user, password or "") if user and not server.token else None
        self.server, self.now, self.sleep = server, now, sleep
        self.http = httpx.Client(
            headers=headers, auth=auth, timeout=server.timeout, verify=_trust(server.ca_file)
        )
        self.notes: dict[str, Diagnostic] = {}
        self.labels = matrix.LabelSets()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_about: object) -> None:
        self.http.close()

    def clock(self) -> datetime:
        """Return the server's time, which also shows whether it can be asked at all."""
        data = self.get("query", (("query", "time()"),))["data"]
        try:
            return _EPOCH + timedelta(seconds=float(data["result"][1]))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError):
            raise self._odd() from None

    def taken(self) -> list[Diagnostic]:
        """Return what was to be told since the last time."""
        told, self.notes = self.notes, {}
        return list(told.values())

    def ask(self, question: "Question", start: datetime, end: datetime) -> "Grid":
        """Return the answer for [start, end); where that is too much for the server, asked for in parts.

        The same series may be in several parts: each is kept, and they are joined where series are.
        """
        step = end - start if question.once else question.step
        steps, expression = _steps(start, end, step), question.text(step)
        if not question.once:
            contents = self._parts(expression, question.name, (start + step, end), step, compact=True)
        else:
            try:
                contents = iter([self._range(expression, (end, end), step, compact=True)])
            except _TooMuchError as error:
                if (count := step // question.step) <= 1:
                    raise self._even(question.name, error) from None
                middle = start + question.step * (count // 2)
                return self.ask(question, start, middle) + self.ask(question, middle, end)
        return reduce(add, (self._grid(one["data"], steps) for one in contents))

    def ranged(
        self, expression: str, what: str, between: tuple[datetime, datetime], step: timedelta
    ) -> Iterator[Any]:
        """Yield answers about the moments first, first + step, …, last; several where one is too much for the server."""
        for content in self._parts(expression, what, between, step, compact=False):
            yield content["data"]

    def _parts(
        self,
        expression: str,
        what: str,
        between: tuple[datetime, datetime],
        step: timedelta,
        *,
        compact: bool,
    ) -> Iterator[Mapping[str, Any]]:
        first, last = between
        try:
            yield self._range(expression, between, step, compact=compact)
        except _TooMuchError as error:
            count = (last - first) // step + 1
            if count <= 1:
                raise self._even(what, error) from None
            middle = first + step * (count // 2)
            yield from self._parts(expression, what, (first, middle - step), step, compact=compact)
            yield from self._parts(expression, what, (middle, last), step, compact=compact)

    def _range(
        self, expression: str, between: tuple[datetime, datetime], step: timedelta, *, compact: bool
    ) -> Mapping[str, Any]:
        asked = (
            ("query", expression),
            ("start", str(int(between[0].timestamp()))),
            ("end", str(int(between[1].timestamp()))),
            ("step", str(int(step.total_seconds()))),
            # The server then gives up before we do, and says that it was too much.
            ("timeout", f"{max(1, int(self.server.timeout * 0.9))}s"),
        )
        return self.get("query_range", asked, compact=compact)

    def _even(self, what: str, error: _TooMuchError) -> SourceError:
        return SourceError(
            f"too much for one answer, even for one step of {what}: {error}",
            where=self.where,
            hint="Match one cluster, make steps shorter, or raise --query.max-samples and --query.timeout.",
        )

    def _grid(self, data: Any, steps: "Steps") -> "Grid":  # noqa: ANN401 - JSON
        from gpuledger.telemetry.prometheus import matrix

        try:
            if data["resultType"] != "matrix":
                raise self._odd(f"{data['resultType']} came instead of a matrix")
            result = data["result"]
            if isinstance(result, matrix.Compact):
                grid = matrix.read(result, steps, self.labels)
                if grid is not None:
                    return grid
                result = _json(result.body)["data"]["result"]
            return matrix.walk(result, steps)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._odd() from None

    def instant(self, expression: str, at: datetime) -> list[tuple[dict[str, str], Decimal]]:
        """Return labels and value of each series of a vector at a moment; NaN and infinities are left out."""
        return [
            (dict(one.labels), value)
            for one in self._asked(expression, at, "vector")
            for value in one.values.values()
        ]

    def samples(self, selector: str, span: timedelta, at: datetime) -> list[Series]:
        """Return the samples of (at − span, at] as they were scraped, at their own times."""
        return self._asked(f"{selector}[{int(span.total_seconds())}s]", at, "matrix")

    def _asked(self, expression: str, at: datetime, wanted: str) -> list[Series]:
        asked = (
            ("query", expression),
            ("time", f"{at.timestamp():.3f}"),
            ("timeout", f"{max(1, int(self.server.timeout * 0.9))}s"),
        )
        try:
            data = self.get("query", asked)["data"]
        except _TooMuchError as error:
            raise SourceError(
                f"too much for one answer: {error}",
                where=self.where,
                hint="Look back less far, or raise --query.max-samples and --query.timeout.",
            ) from None
        if isinstance(data, Mapping) and data.get("resultType") == "vector" == wanted:
            data = {
                "resultType": "matrix",
                "result": [{**one, "values": [one.get("value")]} for one in data.get("result") or ()],
            }
        return self._series(data)

    def get(
        self, verb: str, params: tuple[tuple[str, str], ...], *, compact: bool = False
    ) -> Mapping[str, Any]:
        """Return the answer, which has data, after as many tries as are allowed; `compact` as `matrix.Compact` if it is."""
        deadline = time.monotonic() + self.server.seconds
        for attempt in range(self.server.tries):
            content, trouble, asked = self._once(verb, params, compact=compact)
            if content is not None:
                return content
            wait = paging.backoff(attempt, random.random()) if asked is None else asked  # noqa: S311 - spreads load
            if attempt + 1 == self.server.tries or time.monotonic() + wait > deadline:
                raise SourceError(
                    f"gave up after {attempt + 1} tries: {trouble}",
                    where=self.where,
                    hint="Is it up, and is that its address? What was read before stays; go on from there later.",
                )
            self.sleep(wait)
        raise ConfigError("no try is allowed", where="tries", hint="Such as tries = 5.")

    def _once(
        self, verb: str, params: tuple[tuple[str, str], ...], *, compact: bool
    ) -> tuple[Mapping[str, Any] | None, str, float | None]:
        """Return the answer, or what is wrong that another try may mend and the wait that the server asks for."""
        import httpx

        try:
            with self.http.stream("GET", f"{self.where}/api/v1/{verb}", params=list(params)) as answer:
                body = bytearray()
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > self.server.largest:
                        raise _TooMuchError(f"more than {self.server.largest} bytes")
        except httpx.TimeoutException:
            return None, f"no answer within {self.server.timeout:g} s", None
        except httpx.HTTPError as error:
            return None, f"{type(error).__name__}: {error}", None
        status = answer.status_code
        content = _content(bytes(body)) if compact else _json(bytes(body))
        said = str(content.get("error", ""))[:300] if isinstance(content, Mapping) else ""
        if any(words in said for words in _TOO_MUCH):
            raise _TooMuchError(said)
        if status in _RETRIED:
            headers = {key.lower(): value for key, value in answer.headers.items()}
            return (
                None,
                f"it answered {status}" + (f": {said}" if said else ""),
                paging.retry_after(headers, self.now()),
            )
        self._refused(status, said)
        if bytes(body).lstrip()[:1] == b"<":
            raise self._odd("a web page came instead of JSON")
        if content is None:
            return None, "the answer ends early or isn't JSON", None
        if not isinstance(content, Mapping) or content.get("status") != "success" or "data" not in content:
            raise self._odd(said or None)
        self._partial(content)
        return content, "", None

    def _refused(self, status: int, said: str) -> None:
        if status in {_UNAUTHORIZED, _FORBIDDEN}:
            raise ConfigError(
                f"it refused us ({status}){': ' + said if said else ''}",
                where=self.where,
                hint="Give a token, or username and password, that may query metrics.",
            )
        if status == _NOT_FOUND:
            raise self._odd("it has no /api/v1 there (404)")
        if _REDIRECT <= status < _REDIRECT + 100:
            raise self._odd(f"it answered {status}, which leads elsewhere, perhaps to a login")
        if status >= _REDIRECT:
            raise SourceError(
                f"it answered {status}: {said}", where=self.where, hint="The server's log says more."
            )

    def _odd(self, what: str | None = None) -> SourceError:
        return SourceError(
            what or "that isn't the API of Prometheus",
            where=self.where,
            hint="Give the address below which /api/v1/query is: not Grafana's, and not that of a login page.",
        )

    def _partial(self, content: Mapping[str, Any]) -> None:
        for said in content.get("warnings") or ():
            self.notes[str(said)] = Diagnostic(
                "partial-answer",
                "warning",
                self.where,
                str(said)[:300],
                "Some of the server's stores didn't answer.",
            )

    def _series(self, data: Any) -> list[Series]:  # noqa: ANN401 - JSON
        try:
            if data["resultType"] != "matrix":
                raise self._odd(f"{data['resultType']} came instead of a matrix")
            numbers = _Numbers()
            return [
                Series(
                    {intern(str(key)): intern(str(value)) for key, value in one["metric"].items()},
                    {
                        _EPOCH + timedelta(seconds=float(when)): value
                        for when, text in one["values"]
                        if (value := numbers[text]) is not None
                    },
                )
                for one in data["result"]
            ]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._odd() from None


class _Numbers(dict[str, Decimal | None]):
    """Values by their text; None for those that are none."""

    def __missing__(self, text: str) -> Decimal | None:
        value = number(text)
        self[text] = found = None if value is None or abs(value) >= _ABSURD else value
        return found


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a window: for every step, or `once` for all of it. `text` gives the PromQL for a length of time."""

    name: str
    step: timedelta
    text: Callable[[timedelta], str]
    once: bool = False


def _steps(start: datetime, end: datetime, step: timedelta) -> "Steps":
    """Return the times of steps: each has the time of its end."""
    from gpuledger.telemetry.prometheus.matrix import Steps

    return Steps(int((start + step).timestamp()), int(step.total_seconds()), (end - start) // step)


def _content(body: bytes) -> Any:  # noqa: ANN401 - JSON
    """Return an answer as JSON, with a matrix cut at its series but not read yet."""
    from gpuledger.telemetry.prometheus import matrix

    found = matrix.cut(body)
    content = _json(body if found is None else found.envelope)
    if found is None:
        return content
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, dict) or data.get("result") != []:
        return _json(body)
    return {**content, "data": {**data, "result": found}}


def _json(body: bytes) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(body, parse_float=Decimal)
    except ValueError:
        return None


def _trust(ca_file: str | None) -> Any:  # noqa: ANN401 - what httpx takes
    import ssl

    try:
        return True if ca_file is None else ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigError(f"can't be read: {error}", where=ca_file, hint="Give a PEM file.") from error
