"""A real browser, headless, driven over its debugging pipe: no driver, no port, no network."""

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pytest


class Browser:
    """One page of a browser. `requests` are the addresses that it asked for."""

    def __init__(self, read: BinaryIO, write: BinaryIO) -> None:
        self._read, self._write = read, write
        self._number, self._rest, self._session = 0, b"", ""
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network"):
            self.call(f"{domain}.enable")

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._read.fileno(), 1 << 20)
            assert part, "the browser went away"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        method = found.get("method")
        if method == "Network.requestWillBeSent":
            self.requests.append(found["params"]["request"]["url"])
        elif method == "Runtime.exceptionThrown" or (
            method == "Runtime.consoleAPICalled" and found["params"]["type"] in {"error", "warning"}
        ):
            self.complaints.append(json.dumps(found["params"]))
        return found

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call a method of the DevTools protocol."""
        self._number += 1
        said = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            said["sessionId"] = self._session
        self._write.write(json.dumps(said).encode() + b"\0")
        self._write.flush()
        while (answer := self._message()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, address: str, width: int = 1280, height: int = 900) -> None:
        """Load a page and wait until it is there."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )  # fmt: skip
        self.call("Page.navigate", url="about:blank")  # else a new fragment loads nothing
        self.call("Page.navigate", url=address)
        while self.run("document.readyState + location.href.slice(0, 5)") != f"complete{address[:5]}":
            pass

    def run(self, script: str) -> Any:  # noqa: ANN401 - JavaScript's value
        """Return what a script gives; promises are awaited."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Press a key, as a person does."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def picture(self, path: Path) -> None:
        """Save what the page looks like."""
        told = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(told["data"]))


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Start a browser with its profile in a folder; skip the test where there is none."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here: install the package chromium")
    theirs, ours = os.pipe()
    mine, answers = os.pipe()
    words = [
        program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        f"--user-data-dir={folder}", "--remote-debugging-pipe", "about:blank",
    ]  # fmt: skip
    # The browser reads from 3 and writes to 4; both may be taken, so the ends go through numbers that are free.
    onto = (
        "import fcntl, os, sys; ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 50) for end in sys.argv[1:3]]; "
        "os.dup2(ends[0], 3); os.dup2(ends[1], 4); os.execv(sys.argv[3], sys.argv[3:])"
    )
    shell = [sys.executable, "-c", onto, str(theirs), str(answers), *words]
    with subprocess.Popen(
        shell, pass_fds=(theirs, answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as run:  # fmt: skip
        os.close(theirs)
        os.close(answers)
        with os.fdopen(mine, "rb") as read, os.fdopen(ours, "wb") as write:
            try:
                yield Browser(read, write)
            finally:
                run.terminate()
            run.wait(20)
