"""Prometheus, or what speaks its HTTP API (Thanos, Mimir, VictoriaMetrics): usage records of a Kubernetes cluster.

Documented by Prometheus: "HTTP API" (`/api/v1/query`, `/api/v1/query_range`). Reads what kube-state-metrics, cAdvisor,
dcgm-exporter and HAMi's monitor put there; every question asks for the mean over a step, so that a gap in scraping
is a gap here too, and no value is carried over it. Counters go through `rate`, which knows their resets.
Known to be missing: init containers' requests, volumes, network; owners beyond what kube-state-metrics tells (a
TrainJob above a JobSet); HAMi's utilisation, whose unit differs between its versions.
"""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from sys import intern
from typing import Any, Final, Self
from urllib.parse import urlsplit, urlunsplit

from gpuledger.core import paging
from gpuledger.core.cluster_metrics import Batch, records
from gpuledger.core.exposition import number
from gpuledger.core.metric_series import Series, Window
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import ConfigError, SourceError

TYPE: Final = "prometheus"
TITLE: Final = "Prometheus with kube-state-metrics, cAdvisor and dcgm-exporter"

_CONTAINERS: Final = 'container!="",container!="POD"'
# Question -> function, metrics, fixed matchers. Metrics of several names are renamings between versions.
QUESTIONS: Final[Mapping[str, tuple[str, tuple[str, ...], str]]] = {
    "phase": ("max_over_time", ("kube_pod_status_phase",), 'phase=~"Pending|Running"'),
    "running": ("avg_over_time", ("kube_pod_container_status_running",), ""),
    "requests": ("max_over_time", ("kube_pod_container_resource_requests",), ""),
    "restarts": ("max_over_time", ("kube_pod_container_status_restarts_total",), ""),
    "pod_info": ("max_over_time", ("kube_pod_info",), ""),
    "pod_start": ("max_over_time", ("kube_pod_start_time",), ""),
    "pod_end": ("max_over_time", ("kube_pod_completion_time",), ""),
    "pod_labels": ("max_over_time", ("kube_pod_labels",), ""),
    "pod_owner": ("max_over_time", ("kube_pod_owner",), ""),
    "replicaset_owner": ("max_over_time", ("kube_replicaset_owner",), ""),
    "job_owner": ("max_over_time", ("kube_job_owner",), ""),
    "node_info": ("max_over_time", ("kube_node_info",), ""),
    "node_labels": ("max_over_time", ("kube_node_labels",), ""),
    "node_capacity": ("max_over_time", ("kube_node_status_capacity",), ""),
    "cpu": ("rate", ("container_cpu_usage_seconds_total",), _CONTAINERS),
    "memory": ("avg_over_time", ("container_memory_working_set_bytes",), _CONTAINERS),
    "gpu_util": ("avg_over_time", ("DCGM_FI_DEV_GPU_UTIL",), ""),
    "gpu_engine": ("avg_over_time", ("DCGM_FI_PROF_GR_ENGINE_ACTIVE",), ""),
    "hami": ("max_over_time", ("Device_memory_desc_of_container", "hami_container_device_memory_bytes"), ""),
}
_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_OK, _REDIRECT, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 300, 401, 403, 404
_SKEW: Final = timedelta(seconds=30)
_ABSURD: Final = Decimal(10) ** 20  # no quantity of these metrics comes near
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_REMEMBERED: Final = 200_000
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


def read(
    server: Server,
    cluster: str,
    between: tuple[datetime, datetime],
    *,
    step: timedelta = timedelta(minutes=5),
    steps: int = 24,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Batch]:
    """Yield the records of [start, end), `steps` steps at a time; times are cut to whole steps.

    What was yielded is complete: after a failure go on from the last batch's `end`. The end is no later than the
    server's clock. Steps should be at least twice the scrape interval, or rates are unknown.
    Raises SourceError when the server can't be reached, refuses, or doesn't speak the API; ConfigError for settings
    that can't work.
    """
    with _Client(server, now, sleep) as client:
        there = client.clock()
        start, end = _floor(between[0], step), _floor(min(between[1], there), step)
        notes = list(_skewed(there - now(), client.where))
        for begin, stop, series, told in _ahead(client, start, end, step, steps):
            notes += told + _missing(series, client.where)
            batch = records(Window(cluster, begin, stop, step, series, tuple(notes)))
            series.clear()  # while the batch is worked on, the next window's are coming
            yield batch
            del batch
            notes = []


_Answers = tuple[datetime, datetime, dict[str, list[Series]], list[Diagnostic]]


def _ahead(
    client: "_Client", start: datetime, end: datetime, step: timedelta, steps: int
) -> Iterator[_Answers]:
    """Yield windows' answers. The next one's are asked for meanwhile, one question at a time, by one thread."""
    left = threading.Event()

    def ask(begin: datetime) -> _Answers:
        stop = min(begin + step * steps, end)
        series = {name: client.ask(name, begin, stop, step) for name in QUESTIONS if not left.is_set()}
        return begin, stop, series, client.taken()

    if start >= end:
        return
    with ThreadPoolExecutor(1, "prometheus") as pool:
        try:
            coming = pool.submit(ask, start)
            while start < end:
                found = [coming.result()]
                start = found[0][1]
                if start < end:
                    coming = pool.submit(ask, start)
                yield found.pop()  # and keeps nothing of it
        finally:
            left.set()


def connect(
    server: Server,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> "_Client":
    """Return a client for questions of one's own: a context manager. Raises ConfigError for settings that can't work."""
    return _Client(server, now, sleep)


def query(name: str, step: timedelta, match: Mapping[str, str]) -> str:
    """Return the question's PromQL. The offset makes steps half-open: a sample on a border is in one step only."""
    function, metrics, fixed = QUESTIONS[name]
    matchers = [
        *([fixed] if fixed else []),
        *(f"{key}={json.dumps(value)}" for key, value in sorted(match.items())),
    ]
    return " or ".join(
        f"{function}({metric}{{{','.join(matchers)}}}[{int(step.total_seconds())}s] offset 1ms)"
        for metric in metrics
    )


def _floor(when: datetime, step: timedelta) -> datetime:
    if when.tzinfo is None:
        raise ConfigError(
            "a time without a zone", where=str(when), hint="Times are UTC, such as 2026-11-01T00:00:00Z."
        )
    return _EPOCH + (when - _EPOCH) // step * step


def _skewed(skew: timedelta, where: str) -> Iterator[Diagnostic]:
    if abs(skew) > _SKEW:
        yield Diagnostic(
            "clock-skew",
            "warning",
            where,
            f"its clock is {abs(skew.total_seconds()):.0f} s {'ahead of' if skew > timedelta(0) else 'behind'} ours",
            "Times are the server's. Check NTP on both machines.",
        )


def _missing(series: Mapping[str, Sequence[Series]], where: str) -> list[Diagnostic]:
    wanted = (
        (("requests", "running"), "kube-state-metrics", "Without it nobody's requests and owners are known."),
        (("gpu_util", "gpu_engine"), "dcgm-exporter", "Without it no card's use is known."),
        (("cpu", "memory"), "cAdvisor", "Without it the use of CPU and memory isn't known."),
    )
    return [
        Diagnostic("no-metrics", "info", where, f"there is nothing from {whose}", hint)
        for names, whose, hint in wanted
        if not any(series.get(name) for name in names)
    ]


class _Client:
    """The API of one server. Secrets are in headers only: no message has them."""

    def __init__(self, server: Server, now: Callable[[], datetime], sleep: Callable[[float], None]) -> None:
        import httpx

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
        headers = {"Authorization": f"Bearer {server.token}"} if server.token else {}
        if server.tenant:
            headers["X-Scope-OrgID"] = server.tenant
        auth = httpx.BasicAuth(user, password or "") if user and not server.token else None
        self.server, self.now, self.sleep = server, now, sleep
        self.http = httpx.Client(
            headers=headers, auth=auth, timeout=server.timeout, verify=_trust(server.ca_file)
        )
        self.notes: dict[str, Diagnostic] = {}
        self.numbers = _Numbers()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_about: object) -> None:
        self.http.close()

    def clock(self) -> datetime:
        """Return the server's time, which also shows whether it can be asked at all."""
        data = self.get("query", (("query", "time()"),))
        try:
            return _EPOCH + timedelta(seconds=float(data["result"][1]))
        except (KeyError, TypeError, ValueError, IndexError, OverflowError):
            raise self._odd() from None

    def taken(self) -> list[Diagnostic]:
        """Return what was to be told since the last time."""
        told = list(self.notes.values())
        self.notes = {}
        return told

    def ask(self, name: str, start: datetime, end: datetime, step: timedelta) -> list[Series]:
        """Ask for [start, end); where that is too much for the server, for halves of it."""
        expression = query(name, step, self.server.match)
        # The same series may be in both halves: each half is kept, and they are joined where series are.
        return [
            one
            for data in self.ranged(expression, name, (start + step, end), step)
            for one in self._series(data, step)
        ]

    def ranged(
        self, expression: str, what: str, between: tuple[datetime, datetime], step: timedelta
    ) -> Iterator[Any]:
        """Yield answers about the moments first, first + step, …, last; several where one is too much for the server."""
        first, last = between
        asked = (
            ("query", expression),
            ("start", str(int(first.timestamp()))),
            ("end", str(int(last.timestamp()))),
            ("step", str(int(step.total_seconds()))),
            # The server then gives up before we do, and says that it was too much.
            ("timeout", f"{max(1, int(self.server.timeout * 0.9))}s"),
        )
        try:
            yield self.get("query_range", asked)
        except _TooMuchError as error:
            count = (last - first) // step + 1
            if count <= 1:
                raise SourceError(
                    f"too much for one answer, even for one step of {what}: {error}",
                    where=self.where,
                    hint="Match one cluster, make steps shorter, or raise --query.max-samples and --query.timeout.",
                ) from None
            middle = first + step * (count // 2)
            yield from self.ranged(expression, what, (first, middle - step), step)
            yield from self.ranged(expression, what, (middle, last), step)

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
            data = self.get("query", asked)
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
        return self._series(data, timedelta(0))

    def get(self, verb: str, params: tuple[tuple[str, str], ...]) -> Any:  # noqa: ANN401 - JSON
        """Return the answer's data, after as many tries as are allowed."""
        deadline = time.monotonic() + self.server.seconds
        for attempt in range(self.server.tries):
            data, trouble, asked = self._once(verb, params)
            if not trouble:
                return data
            wait = paging.backoff(attempt, random.random()) if asked is None else asked  # noqa: S311 - spreads load
            if attempt + 1 == self.server.tries or time.monotonic() + wait > deadline:
                raise SourceError(
                    f"gave up after {attempt + 1} tries: {trouble}",
                    where=self.where,
                    hint="Is it up, and is that its address? What was read before stays; go on from there later.",
                )
            self.sleep(wait)
        raise ConfigError("no try is allowed", where="tries", hint="Such as tries = 5.")

    def _once(self, verb: str, params: tuple[tuple[str, str], ...]) -> tuple[Any, str, float | None]:
        """Return data, or what is wrong that another try may mend and the wait that the server asks for."""
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
        content = _json(bytes(body))
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
        return content["data"], "", None

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

    def _series(self, data: Any, step: timedelta) -> list[Series]:  # noqa: ANN401 - JSON
        try:
            if data["resultType"] != "matrix":
                raise self._odd(f"{data['resultType']} came instead of a matrix")
            times, numbers = _Times(step), self.numbers
            if len(numbers) > _REMEMBERED:
                numbers.clear()
            return [
                Series(
                    {intern(str(key)): intern(str(value)) for key, value in one["metric"].items()},
                    {
                        times[when]: value
                        for when, text in one["values"]
                        if (value := numbers[text]) is not None
                    },
                )
                for one in data["result"]
            ]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._odd() from None


class _Times(dict[Any, datetime]):
    """Starts of steps by their ends in seconds: all series share them, so that each is made once."""

    def __init__(self, step: timedelta) -> None:
        super().__init__()
        self.step = step

    def __missing__(self, when: Any) -> datetime:  # noqa: ANN401 - JSON
        self[when] = found = _EPOCH + timedelta(seconds=float(when)) - self.step
        return found


class _Numbers(dict[str, Decimal | None]):
    """Values by their text; None for those that are none."""

    def __missing__(self, text: str) -> Decimal | None:
        value = number(text)
        self[text] = found = None if value is None or abs(value) >= _ABSURD else value
        return found


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
