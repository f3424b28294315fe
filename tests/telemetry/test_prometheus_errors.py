"""What goes wrong between us and a Prometheus, played by a local server: each with its hint, and no secret told."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from gpuledger.core.cluster_metrics import Batch
from gpuledger.errors import ConfigError, GpuledgerError, SourceError
from gpuledger.telemetry import prometheus

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
FROM = NOW - timedelta(hours=1)


def good(result: object, kind: str = "matrix", **more: object) -> Response:
    body = {"status": "success", "data": {"resultType": kind, "result": result}, **more}
    return Response(json.dumps(body), content_type="application/json")


def clock(when: datetime = NOW) -> Response:
    return good([when.timestamp(), str(when.timestamp())], "scalar")


def trouble(status: int, kind: str, said: str) -> Response:
    return Response(json.dumps({"status": "error", "errorType": kind, "error": said}), status)


class Played:
    """A server that answers the clock, and range queries as it is told. It keeps what it was asked."""

    def __init__(self, server: HTTPServer, answer: Any) -> None:  # noqa: ANN401 - a response or a function
        self.asked: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.slept: list[float] = []
        self.url = server.url_for("").rstrip("/")
        server.clear()

        def handle(request: Request) -> Response:
            self.headers.append(dict(request.headers))
            if request.path == "/api/v1/query":
                return clock()
            asked = {key: values[0] for key, values in parse_qs(request.query_string.decode()).items()}
            self.asked.append(asked)
            found = answer if isinstance(answer, Response) else answer(asked, len(self.asked))
            assert isinstance(found, Response)
            return found

        server.expect_request("/api/v1/query").respond_with_handler(handle)
        server.expect_request("/api/v1/query_range").respond_with_handler(handle)

    def read(self, now: datetime = NOW, until: datetime = NOW, **settings: Any) -> list[Batch]:  # noqa: ANN401
        server = prometheus.Server(self.url, **{"tries": 3, "timeout": 5, **settings})
        return list(prometheus.read(server, "c", (FROM, until), now=lambda: now, sleep=self.slept.append))


def test_nothing_there_is_said(httpserver: HTTPServer) -> None:
    (batch,) = Played(httpserver, good([])).read()
    assert (batch.start, batch.end, batch.usage) == (FROM, NOW, ())
    assert [found.code for found in batch.diagnostics] == ["no-metrics"] * 3 + ["telemetry-gap"]


def test_busy_servers_are_asked_again_as_they_wish(httpserver: HTTPServer) -> None:
    def answer(_asked: object, number: int) -> Response:
        busy = trouble(429, "", "slow down")
        busy.headers["Retry-After"] = "7"
        return busy if number == 1 else trouble(503, "unavailable", "starting") if number == 2 else good([])

    played = Played(httpserver, answer)
    assert len(played.read()) == 1
    assert 7 in played.slept
    assert len(played.slept) == 2
    assert len(played.asked) == len(prometheus.QUESTIONS) + 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (trouble(503, "unavailable", "starting"), "gave up after 3 tries: it answered 503: starting"),
        (Response("<html>Bad gateway</html>", 502), "it answered 502"),
        (
            Response('{"status":"success","data":{"resu', content_type="application/json"),
            "the answer ends early",
        ),
        (Response("<!DOCTYPE html><title>Grafana</title>"), "a web page came instead of JSON"),
        (Response("", 302, {"Location": "https://login"}), "leads elsewhere"),
        (Response("no", 404), "no /api/v1"),
        (trouble(400, "bad_data", "parse error"), "answered 400: parse error"),
        (Response('{"status":"success"}'), "isn't the API"),
        (Response("[]"), "isn't the API"),
        (good([], "vector"), "vector came instead"),
        (good([{"metric": {}, "values": [[1, "seven"]]}]), "isn't the API"),
        (good([{"metric": {}}]), "isn't the API"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_answers_that_are_none(httpserver: HTTPServer, answer: Response, said: str) -> None:
    with pytest.raises(SourceError, match=said) as caught:
        Played(httpserver, answer).read()
    assert caught.value.hint
    assert caught.value.where == httpserver.url_for("").rstrip("/")


def test_a_refusal_names_no_secret(httpserver: HTTPServer) -> None:
    secrets: list[dict[str, Any]] = [{"token": "s3cret"}, {"username": "me", "password": "s3cret"}]
    for settings in secrets:
        with pytest.raises(ConfigError, match=r"refused us \(401\)") as caught:
            Played(httpserver, Response("", 401)).read(**settings)
        assert "s3cret" not in str(caught.value)
        assert caught.value.hint
    assert "s3cret" not in repr(prometheus.Server("http://x", token="s3cret", password="s3cret"))  # noqa: S106 - made up


def test_secrets_and_tenant_are_sent(httpserver: HTTPServer) -> None:
    played = Played(httpserver, good([]))
    played.read(token="abc", tenant="blue", match={"cluster": 'a"b'})  # noqa: S106 - made up
    assert all(sent["Authorization"] == "Bearer abc" for sent in played.headers)
    assert played.headers[-1]["X-Scope-Orgid"] == "blue"
    assert all('cluster="a\\"b"' in asked["query"] for asked in played.asked)
    played = Played(httpserver, good([]))
    played.read(username="u", password="p")  # noqa: S106 - made up
    assert played.headers[-1]["Authorization"] == "Basic dTpw"


def test_secrets_do_not_travel_in_clear_text() -> None:
    for url in ("http://prometheus.example:9090", "http://me:pw@prometheus.example"):
        with pytest.raises(ConfigError, match="clear text") as caught:
            next(prometheus.read(prometheus.Server(url, token="x"), "c", (FROM, NOW)))  # noqa: S106 - made up
        assert "pw" not in str(caught.value)


def test_an_address_that_is_none_or_where_nobody_listens() -> None:
    with pytest.raises(ConfigError, match="not an address"):
        next(prometheus.read(prometheus.Server("prometheus:9090"), "c", (FROM, NOW)))
    server = prometheus.Server("http://127.0.0.1:9", tries=2)
    with pytest.raises(SourceError, match="gave up after 2 tries: ConnectError"):
        next(prometheus.read(server, "c", (FROM, NOW), sleep=lambda _: None))
    with pytest.raises(ConfigError, match="without a zone"):
        Unzoned.read()


class Unzoned:
    """A time that isn't one, checked before anything is asked."""

    @staticmethod
    def read() -> None:
        prometheus._floor(datetime(2026, 1, 1), timedelta(minutes=5))  # noqa: DTZ001 - that is the point


@pytest.mark.parametrize(
    "too_much",
    [
        trouble(
            422, "execution", "query processing would load too many samples into memory in query execution"
        ),
        trouble(503, "timeout", "query timed out in expression evaluation"),
        good([{"metric": {"x": "y" * 5000}, "values": []}]),
    ],
    ids=["samples", "timeout", "bytes"],
)
def test_too_much_at_once_is_asked_in_halves(httpserver: HTTPServer, too_much: Response) -> None:
    def answer(asked: dict[str, str], _number: int) -> Response:
        points = (int(asked["end"]) - int(asked["start"])) // 300 + 1
        if "status_running" in asked["query"] and points > 3:
            return too_much
        return good([])

    played = Played(httpserver, answer)
    assert len(played.read(largest=4000)) == 1
    parts = [(int(one["start"]), int(one["end"])) for one in played.asked if "status_running" in one["query"]]
    small = sorted(part for part in parts if (part[1] - part[0]) // 300 + 1 <= 3)
    covered = [when for start, end in small for when in range(start, end + 1, 300)]
    assert covered == list(range(int(FROM.timestamp()) + 300, int(NOW.timestamp()) + 1, 300)), (
        "each step once"
    )
    with pytest.raises(SourceError, match="even for one step of phase"):
        Played(httpserver, too_much).read(largest=4000)


def test_a_server_that_does_not_answer_is_given_up(httpserver: HTTPServer) -> None:
    def answer(_asked: object, _number: int) -> Response:
        time.sleep(0.6)
        return good([])

    with pytest.raises(SourceError, match=r"gave up after 2 tries: no answer within 0\.3 s"):
        Played(httpserver, answer).read(timeout=0.3, tries=2)


def test_a_clock_that_is_off_is_told_and_the_future_is_not_asked_for(httpserver: HTTPServer) -> None:
    (batch,) = Played(httpserver, good([])).read(
        now=NOW + timedelta(minutes=2), until=NOW + timedelta(hours=9)
    )
    assert batch.end == NOW
    assert batch.diagnostics[0].code == "clock-skew"
    assert "120 s behind ours" in batch.diagnostics[0].message


def test_partial_answers_are_told_once(httpserver: HTTPServer) -> None:
    (batch,) = Played(httpserver, good([], warnings=["store 7 is down"])).read()
    assert [found.message for found in batch.diagnostics if found.code == "partial-answer"] == [
        "store 7 is down"
    ]


def test_what_was_yielded_before_a_failure_is_complete(httpserver: HTTPServer) -> None:
    def answer(_asked: object, number: int) -> Response:
        return good([]) if number <= len(prometheus.QUESTIONS) + 3 else trouble(500, "internal", "broken")

    played = Played(httpserver, answer)
    server = prometheus.Server(played.url, tries=2)
    batches = prometheus.read(server, "c", (FROM, NOW), steps=6, now=lambda: NOW, sleep=lambda _: None)
    assert next(batches).end == NOW - timedelta(minutes=30)
    with pytest.raises(GpuledgerError, match="broken"):
        next(batches)
