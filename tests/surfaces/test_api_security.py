"""Who may read: tokens, names of this machine, origins; and errors that tell nothing but what helps."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tests.pipeline.allocation_world import World
from tests.surfaces.api_world import DAY, client, world

from gpuledger.errors import LedgerError
from gpuledger.surfaces.api.app import Settings
from gpuledger.surfaces.api.snapshot import Snapshots

TOKEN = "correct-horse"  # noqa: S105  # made up


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("api"))


@pytest.fixture
def guarded(made: World) -> Iterator[TestClient]:
    with client(made, Settings(token=TOKEN, cors=("https://page.example",))) as http:
        yield http


@pytest.mark.parametrize("header", [None, "", "Bearer ", "Bearer wrong", TOKEN, f"Basic {TOKEN}", "Bearer é"])
def test_without_the_token_nothing_is_told(guarded: TestClient, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    for path in ("/allocation", "/model/assets", "/metrics", "/openapi.json", "/nope"):
        answer = guarded.get(path, params={"window": DAY}, headers=headers)  # type: ignore[arg-type]  # bytes are allowed
        assert (answer.status_code, answer.json()["code"]) == (401, 401)
        assert answer.headers["www-authenticate"] == "Bearer"


def test_with_the_token(guarded: TestClient) -> None:
    answer = guarded.get("/allocation", params={"window": DAY}, headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert guarded.get("/healthz").status_code == 200


def test_origins(made: World, guarded: TestClient) -> None:
    asks = {"Origin": "https://page.example", "Authorization": f"Bearer {TOKEN}"}
    assert (
        guarded.get("/healthz", headers=asks).headers["access-control-allow-origin"] == "https://page.example"
    )
    stranger = guarded.get("/healthz", headers={"Origin": "https://stranger.example"})
    assert "access-control-allow-origin" not in stranger.headers
    preflight = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    assert guarded.options("/allocation", headers={**asks, **preflight}).status_code == 200
    with client(made) as http:
        assert "access-control-allow-origin" not in http.get("/healthz", headers=asks).headers


def test_only_names_of_this_machine(made: World) -> None:
    with client(made, Settings(hosts=("localhost", "127.0.0.1"))) as http:
        assert http.get("/healthz", headers={"Host": "localhost:9003"}).status_code == 200
        assert http.get("/healthz", headers={"Host": "127.0.0.1"}).status_code == 200
        refused = http.get("/healthz", headers={"Host": "rebound.example:9003"})
        assert (refused.status_code, refused.json()["status"]) == (403, "error")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(made: World, method: str) -> None:
    with client(made) as http:
        answer = http.request(method, "/allocation", params={"window": DAY})
        assert (answer.status_code, answer.json()["code"]) == (405, 405)


def test_unknown_routes_are_json(made: World) -> None:
    with client(made) as http:
        assert http.get("/nothing").json()["code"] == 404


def test_a_failure_has_no_traceback(
    made: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Snapshots) -> None:
        raise RuntimeError("/secret/path")

    def broken(_: Snapshots) -> None:
        raise LedgerError("the ledger is gone", where="/secret/path", hint="Bring it back.")

    with client(made) as http:
        monkeypatch.setattr(Snapshots, "versions", fail)
        answer = http.get("/allocation", params={"window": DAY})
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert "secret" in caplog.text
        monkeypatch.setattr(Snapshots, "versions", broken)
        told = http.get("/healthz").json()
        assert (told["code"], told["message"], told["hint"]) == (500, "the ledger is gone", "Bring it back.")


def test_text_from_bills_cannot_break_the_answer(tmp_path: Path) -> None:
    with client(world(tmp_path)) as http:
        for value in ("'; DROP TABLE api_cost; --", '"', "\\", "%", "日本", "${x}", "$p0"):
            quoted = value.replace("\\", "\\\\").replace('"', '\\"')
            answer = http.get("/allocation", params={"window": DAY, "filter": f'label[{value}]:"{quoted}"'})
            assert answer.json()["data"] == [{}]
        assert http.get("/allocation", params={"window": DAY}).json()["data"][0]
