"""A real Prometheus for tests: synthetic samples, made into blocks by promtool, served on a free loopback port.

All samples of a test session are in one server; a test finds its own by the label `scene`.
"""

import shutil
import socket
import subprocess
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

START = datetime(2026, 11, 2, 8, tzinfo=UTC)
SCRAPE = 60
MISSING = "no Prometheus: apt-get install -y --no-install-recommends prometheus"


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


class Samples:
    """Samples in the making, scraped once a minute, a quarter of a minute past it."""

    def __init__(self, scene: str) -> None:
        self.scene = scene
        self.lines: dict[str, list[str]] = defaultdict(list)

    def add(
        self,
        name: str,
        value: float | Callable[[int], float],
        minutes: range | list[int] = range(60),
        **labels: str,
    ) -> None:
        said = ",".join(f'{key}="{text}"' for key, text in sorted({**labels, "scene": self.scene}.items()))
        self.lines[name] += [
            f"{name}{{{said}}} {value(minute) if callable(value) else value} {at(minute).timestamp() + 15}"
            for minute in minutes
        ]


@contextmanager
def serve(folder: Path, scenes: list[Samples]) -> Iterator[str]:
    """Yield the address of a server that has the samples."""
    if not shutil.which("prometheus") or not shutil.which("promtool"):
        pytest.skip(MISSING)
    lines: dict[str, list[str]] = defaultdict(list)
    for scene in scenes:
        for name, more in scene.lines.items():
            lines[name] += more
    text = folder / "samples.om"
    text.write_text("".join(f"{line}\n" for more in lines.values() for line in more) + "# EOF\n")
    data = folder / "data"
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(text), str(data)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    (folder / "prometheus.yml").write_text("global: {}\n")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [
        *("prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={data}"),
        *(
            f"--web.listen-address=127.0.0.1:{port}",
            "--storage.tsdb.retention.time=100y",
            "--log.level=error",
        ),
    ]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            _ready(f"http://127.0.0.1:{port}", server, folder / "log")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(20)


def _ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as answer:  # noqa: S310 - ours, on the loopback
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"Prometheus doesn't get ready: {log.read_text()}")
