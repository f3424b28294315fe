"""moto's server for tests: AWS' APIs, imitated. Its data are put there by requests of our own client."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpuledger.core.aws_signing import Credentials
from gpuledger.pipeline.aws import AwsClient

KEYS = Credentials("testing", "testing")


@contextmanager
def moto(folder: Path, **more: str) -> Iterator[dict[str, str]]:
    """Yield the environment in which AWS is this server."""
    pytest.importorskip("moto", reason="pip install 'moto[s3]' flask flask-cors")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (folder / "moto.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, env={**os.environ, **more})
    try:
        for _ in range(300):
            assert process.poll() is None, (folder / "moto.log").read_text()
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": KEYS.access_key,
            "AWS_SECRET_ACCESS_KEY": KEYS.secret_key,
            "AWS_REGION": "us-east-1",
            "HOME": str(folder),
        }
    finally:
        process.terminate()
        process.wait(20)


def client(environ: dict[str, str], service: str, region: str = "us-east-1") -> AwsClient:
    return AwsClient(service, region, KEYS, environ)


def measure(
    environ: dict[str, str],
    namespace: str,
    metric: str,
    samples: list[tuple[datetime, float]],
    **dimensions: str,
) -> None:
    """Put samples into CloudWatch."""
    for start in range(0, len(samples), 100):
        params = {"Namespace": namespace}
        for place, (when, value) in enumerate(samples[start : start + 100], 1):
            here = f"MetricData.member.{place}"
            params |= {
                f"{here}.MetricName": metric,
                f"{here}.Value": str(value),
                f"{here}.Timestamp": when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
            for index, (name, text) in enumerate(dimensions.items(), 1):
                params |= {
                    f"{here}.Dimensions.member.{index}.Name": name,
                    f"{here}.Dimensions.member.{index}.Value": text,
                }
        client(environ, "monitoring").query("PutMetricData", params)
