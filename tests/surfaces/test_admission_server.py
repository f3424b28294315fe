"""The webhook as a process: TLS, renewed certificates, a changed policy, many requests, an end on a signal."""

import asyncio
import contextlib
import json
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from tests.surfaces.admission_world import POLICY, job, review
from tests.surfaces.shell import gpuledger, program

from gpuledger.errors import ConfigError
from gpuledger.surfaces.admission import certificates

CENTER = "gpuledger.io/cost-center"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@dataclass
class Running:
    """A webhook that runs in a process of its own."""

    folder: Path
    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def client(self) -> httpx.Client:
        context = ssl.create_default_context(cafile=str(self.folder / "admission-certs" / "ca.crt"))
        return httpx.Client(base_url=self.url, verify=context, timeout=10)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    (tmp_path / "gpuledger-policy.toml").write_text(POLICY, "utf-8")
    port = free_port()
    with (tmp_path / "err.log").open("wb") as log:
        process = subprocess.Popen(
            [program(), "admission", "serve", "--host", "127.0.0.1", "--port", str(port), "--log", "decisions.log"],
            cwd=tmp_path, stdout=log, stderr=log,
        )  # fmt: skip
    found = Running(tmp_path, process, port)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError, httpx.HTTPError), found.client() as client:
                if client.get("/readyz").status_code == 200:
                    break
            assert process.poll() is None, (tmp_path / "err.log").read_text()
            time.sleep(0.05)
        yield found
    finally:
        process.kill()
        process.wait(10)


def test_over_tls_from_start_to_end(running: Running) -> None:
    with running.client() as client:
        denied = client.post("/mutate", json=review(job())).json()["response"]
        allowed = client.post("/mutate", json=review(job({CENTER: "CC-1"}))).json()["response"]
        assert (denied["allowed"], allowed["allowed"]) == (False, True)
        (running.folder / "gpuledger-policy.toml").write_text(POLICY.replace("enforce", "audit"), "utf-8")
        for _ in range(100):
            if client.post("/mutate", json=review(job())).json()["response"]["allowed"]:
                break
            time.sleep(0.1)
        else:
            pytest.fail("the changed policy wasn't read")
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(15) is not None
    lines = [json.loads(line) for line in (running.folder / "decisions.log").read_text().splitlines()]
    assert [line["decision"] for line in lines[:2]] == ["deny", "allow"]


def test_many_at_once_are_all_answered_and_none_wrongly(running: Running) -> None:
    context = ssl.create_default_context(cafile=str(running.folder / "admission-certs" / "ca.crt"))

    async def ask(client: httpx.AsyncClient, number: int) -> bool:
        labels = {CENTER: "CC-1"} if number % 2 else None
        answer = await client.post("/mutate", json=review(job(labels), uid=f"r-{number}"))
        found = answer.json()["response"]
        assert found["uid"] == f"r-{number}"
        return bool(found["allowed"]) == bool(number % 2)

    async def flood() -> list[bool]:
        async with httpx.AsyncClient(base_url=running.url, verify=context, timeout=30) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(300)))

    assert all(asyncio.run(flood()))


def test_a_client_that_speaks_no_http_or_no_tls_harms_nobody(running: Running) -> None:
    for words in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 100):
        with (
            socket.create_connection(("127.0.0.1", running.port), timeout=5) as raw,
            contextlib.suppress(OSError),
        ):
            raw.sendall(words)
            raw.recv(100)
    idle = [socket.create_connection(("127.0.0.1", running.port), timeout=5) for _ in range(50)]
    with running.client() as client:
        assert client.post("/mutate", json=review(job())).status_code == 200
    for one in idle:
        one.close()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--policy", "none.toml"), "can't be read"),
        ((), "there is no policy"),
        (("--policy", "p.toml", "--cert", "x"), "belong together"),
        (("--policy", "p.toml", "--cert", "p.toml", "--key", "p.toml"), "isn't a certificate"),
        (("--policy", "p.toml", "--leases-env", "NO_SUCH_VARIABLE"), "NO_SUCH_VARIABLE"),
    ],
)
def test_what_it_can_not_start_with_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.toml").write_text(POLICY, "utf-8")
    done = gpuledger("admission", "serve", "--port", free_port(), *words)
    assert done.code == 2
    assert hint in done.err
    assert "Hint:" in done.err


# Certificates


def _names(path: Path) -> set[str]:
    found = x509.load_pem_x509_certificate(path.read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def test_a_certificate_is_kept_until_it_nears_its_end_and_then_renewed(tmp_path: Path) -> None:
    files = certificates.ensure(tmp_path, ["a.svc", "127.0.0.1"], NOW)
    assert _names(files.certificate) == {"a.svc", "127.0.0.1"}
    assert files.key.stat().st_mode & 0o077 == 0
    first = files.certificate.read_bytes()
    certificates.ensure(tmp_path, ["a.svc", "127.0.0.1"], NOW + timedelta(days=59))
    assert files.certificate.read_bytes() == first
    certificates.ensure(tmp_path, ["a.svc", "127.0.0.1"], NOW + timedelta(days=61))
    assert certificates.ends(files.certificate) > NOW + timedelta(days=150)


def test_other_names_need_another_certificate(tmp_path: Path) -> None:
    certificates.ensure(tmp_path, ["a.svc"], NOW)
    files = certificates.ensure(tmp_path, ["b.svc"], NOW)
    assert _names(files.certificate) == {"b.svc"}


def test_an_old_authority_is_replaced_and_both_are_trusted_meanwhile(tmp_path: Path) -> None:
    files = certificates.ensure(tmp_path, ["a.svc"], NOW)
    (first,) = x509.load_pem_x509_certificates(files.bundle.read_bytes())
    later = NOW + timedelta(days=3650 - 100)
    certificates.ensure(tmp_path, ["a.svc"], later)
    bundle = x509.load_pem_x509_certificates(files.bundle.read_bytes())
    assert bundle[1] == first
    assert bundle[0] != first
    served = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    served.verify_directly_issued_by(bundle[0])


def test_what_is_no_certificate_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.pem"
    path.write_text("hello", "utf-8")
    with pytest.raises(ConfigError, match="isn't a certificate"):
        certificates.ends(path)
