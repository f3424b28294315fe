"""Bills and the ledger on object stores: moto's S3, azurite's Blob, and Google's XML API played by a server of ours."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from gpuledger.pipeline.ledger import Ledger

HEADER = "BilledCost,BillingAccountId,BillingCurrency,BillingPeriodStart,ChargePeriodStart,ServiceName"
ROW = "{cost},0042,USD,2026-10-01T00:00:00Z,2026-10-03T00:00:00Z,Compute"
# azurite's public, documented development account
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def serve(command: list[str], port: int, cwd: Path) -> subprocess.Popen[bytes]:
    with (cwd / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=cwd, stdout=log, stderr=log)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        if process.poll() is not None:
            break
        time.sleep(0.1)
    process.kill()
    pytest.fail(f"{command[0]} didn't start: {(cwd / 'server.log').read_text('utf-8')[-500:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An S3 bucket in moto's server."""
    pytest.importorskip("moto", reason="pip install 'moto[server]'")
    port = free_port()
    process = serve(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        port,
        tmp_path_factory.mktemp("moto"),
    )
    settings = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        httpx.put(
            f"http://127.0.0.1:{port}/bills",
            headers={
                "Authorization": "AWS4-HMAC-SHA256 Credential=testing/20261001/us-east-1/s3/aws4_request"
            },
        ).raise_for_status()
        yield "s3://bills"
    stop(process)


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A blob container in azurite."""
    azurite = os.environ.get("AZURITE") or shutil.which("azurite-blob")
    if not azurite or not Path(azurite).exists():
        pytest.skip("azurite isn't here: `make servers`, or npm install -g azurite")
    port = free_port()
    folder = tmp_path_factory.mktemp("azurite")
    process = serve(
        [
            azurite,
            "--blobPort",
            str(port),
            "--location",
            str(folder),
            "--skipApiVersionCheck",
            "--silent",
            "--disableTelemetry",
        ],
        port,
        folder,
    )
    settings = {
        "AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1",
        "AZURE_STORAGE_ACCOUNT_KEY": AZURITE_KEY,
        "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/devstoreaccount1",
        "AZURE_ENDPOINT": f"http://127.0.0.1:{port}/devstoreaccount1",
        "AZURE_ALLOW_HTTP": "true",
        "AZURE_STORAGE_ALLOW_HTTP": "true",
        "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{port}",
        "AZURE_STORAGE_USE_EMULATOR": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        make_container(port, "bills")
        yield "az://bills"
    stop(process)


def make_container(port: int, name: str) -> None:
    """Create a container with Shared Key authorisation (learn.microsoft.com, 'Authorize with Shared Key')."""
    import base64
    import hashlib
    import hmac
    from datetime import UTC, datetime
    from email.utils import format_datetime

    when = format_datetime(datetime.now(UTC), usegmt=True)
    headers = {"x-ms-date": when, "x-ms-version": "2021-12-02"}
    canonical = "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()))
    resource = f"/devstoreaccount1/devstoreaccount1/{name}\nrestype:container"
    to_sign = "PUT" + "\n" * 12 + canonical + resource
    digest = hmac.new(base64.b64decode(AZURITE_KEY), to_sign.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey devstoreaccount1:{base64.b64encode(digest).decode()}"
    url = f"http://127.0.0.1:{port}/devstoreaccount1/{name}?restype=container"
    httpx.put(url, headers=headers | {"Content-Length": "0"}).raise_for_status()


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A bucket behind a server of ours that speaks the documented XML API; not Google's service."""
    port = free_port()
    folder = tmp_path_factory.mktemp("gcs")
    process = serve([sys.executable, str(Path(__file__).with_name("gcs_server.py")), str(port)], port, folder)
    key = folder / "key.json"
    key.write_text(
        f'{{"gcs_base_url": "http://127.0.0.1:{port}", "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}}',
        "utf-8",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOOGLE_SERVICE_ACCOUNT", str(key))
        patch.setenv("GOOGLE_SERVICE_ACCOUNT_PATH", str(key))
        yield "gs://bills"
    stop(process)


@pytest.fixture(params=["s3", "azure", "gcs"])
def bucket(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


def upload(url: str, content: str) -> None:
    import obstore

    from gpuledger.pipeline.locations import open_store

    store, key = open_store(url)
    obstore.put(store, key, content.encode())


@pytest.mark.server
def test_bills_and_ledger_in_a_bucket(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "cache", tmp_path / "cache")
    bill, location = f"{bucket}/exports/october/bill.csv", f"{bucket}/ledger"
    ledger = Ledger(location)
    upload(bill, "\n".join([HEADER, ROW.format(cost="1.10"), ROW.format(cost="2.20")]))
    first = ledger.ingest("focus", f"{bucket}/exports/october")
    assert [(row.action, row.billed_cost) for row in first.rows] == [("loaded", Decimal("3.30"))], (
        first.diagnostics
    )
    assert [row.action for row in ledger.ingest("focus", f"{bucket}/exports/october").rows] == ["unchanged"]
    upload(bill, "\n".join([HEADER, ROW.format(cost="4.40")]))
    assert [row.action for row in ledger.ingest("focus", bill).rows] == ["replaced"]
    assert Ledger(location).costs(["ServiceName"], metric="billed").rows == [
        {"ServiceName": "Compute", "cost": Decimal("4.40")}
    ]
    assert Ledger(location).costs(metric="billed", as_of=1).total == Decimal("3.30")
    assert [note["totals"][0]["billed_cost"].rstrip("0") for note in ledger.history()] == ["4.4", "3.3"]


@pytest.mark.server
def test_nothing_there(bucket: str, tmp_path: Path) -> None:
    from gpuledger.errors import SourceError
    from gpuledger.pipeline.locations import open_tree

    with pytest.raises(SourceError) as error:
        open_tree(f"{bucket}/no/such/prefix", tmp_path)
    assert error.value.hint
