"""Running a row's own command to give its card back: one confirmation per row, an argument vector, a line in a log.

Only verdicts without a guard can be applied, and only where what was looked at is what the command changes: pods that
the Kubernetes API named, Slurm jobs that Slurm named, machines of an AWS account that was asked. Processes are never
killed from here. What is older than a minute is looked at again before anything is done about it.
"""

import getpass
import json
import os
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gpuledger.errors import ConfigError, UsageError
from gpuledger.pipeline.zombie_find import Inputs

_TIMEOUT: Final = 120.0
STALE: Final = 60.0
_WORDS: Final = 2000
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a row: `done`, `failed`, `declined` or `refused`, and why."""

    gpu: str
    command: str
    result: str
    detail: str = ""


def eligible(row: Row, inputs: Inputs) -> str | None:
    """Return why a row's command must not be run from here; None when it may, once it is confirmed."""
    if not row["reclaim"]:
        return "there is no command for it"
    if row["guard"] is not None or not row["verdict"]:
        return "only verdicts are applied, not candidates, unknown or guarded cards"
    program = shlex.split(row["reclaim"])[0]
    needs = {
        "kubectl": (inputs.kube, "--kube", "kubectl's cluster"),
        "scancel": (inputs.slurm, "--slurm", "Slurm's cluster"),
        "scontrol": (inputs.slurm, "--slurm", "Slurm's cluster"),
        "aws": (bool(inputs.aws), "--aws", "the account"),
    }
    if program not in needs:
        return f"{program} is for you to run: look at the process first"
    asked, option, what = needs[program]
    return None if asked else f"add {option}: it has to be sure that {what} is the one that was looked at"


@dataclass(slots=True)
class Log:
    """One JSON line per intention, answer and result. It is written before anything is done, or nothing is done."""

    path: Path

    def write(self, event: str, row: Row, **more: object) -> None:
        """Append a line. Raises ConfigError when the log can't be written."""
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "event": event,
            "who": who(),
            "gpu": row["gpu"],
            "node": row["node"],
            "state": row["state"],
            "job": row["job"],
            "owner": row["owner"],
            "evidence": row["evidence"],
            "usd_per_hour": None if row["usd_per_hour"] is None else str(row["usd_per_hour"]),
            "command": shlex.split(row["reclaim"]),
            **more,
        }
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ConfigError(
                f"the log can't be written: {error.strerror}; nothing was done",
                where=str(self.path),
                hint="Name a file that can be: --apply-log FILE.",
            ) from error


def who() -> str:
    """Return who runs this, and as whom."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    behind = os.environ.get("SUDO_USER")
    return f"{name}@{socket.gethostname()}" + (f" (sudo by {behind})" if behind else "")


def default_log(environ: Mapping[str, str]) -> Path:
    """Return where the log is unless it is named: the user's state folder."""
    state = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or "/") / ".local" / "state")
    return Path(state) / "gpuledger" / "zombies.jsonl"


def chosen(
    rows: Iterable[Row], inputs: Inputs, named: Iterable[str]
) -> tuple[list[Row], list[tuple[Row, str]]]:
    """Return a row per command that may be run, and those that may not with the reason.

    `named` has cards that were confirmed by their full id: all of them must be among those that may be run.
    Raises UsageError when one isn't.
    """
    may: dict[str, Row] = {}
    not_: list[tuple[Row, str]] = []
    listed = list(rows)
    for row in listed:
        reason = eligible(row, inputs)
        if reason is None:
            may.setdefault(row["reclaim"], row)
        elif row["reclaim"] or row["verdict"]:
            not_.append((row, reason))
    wanted = set(named)
    for gpu in sorted(wanted):
        found = [row for row in listed if row["gpu"] == gpu]
        reason = eligible(found[0], inputs) if found else "no such card was found"
        if reason is not None:
            raise UsageError(
                f"{gpu}: {reason}", where="--yes", hint="Nothing was done. See the table for ids."
            )
    if wanted:
        commands = {row["reclaim"] for row in listed if row["gpu"] in wanted}
        may = {command: row for command, row in may.items() if command in commands}
    return list(may.values()), not_


def run(
    row: Row, log: Log, answer: str, runner: Callable[..., subprocess.CompletedProcess[str]] = subprocess.run
) -> Outcome:
    """Run a row's command as it was shown, without a shell, and log what came of it."""
    command = shlex.split(row["reclaim"])
    log.write("confirmed", row, answer=answer)
    began = time.monotonic()
    try:
        done = runner(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        code: int | None = done.returncode
        said = (done.stdout + done.stderr).strip()
    except subprocess.TimeoutExpired:
        code, said = None, f"no end within {_TIMEOUT:.0f} s: it may or may not have been done"
    except OSError as error:
        code, said = None, f"{command[0]}: {error.strerror}"
    seconds = round(time.monotonic() - began, 3)
    log.write("result", row, exit_code=code, output=said[:_WORDS], seconds=seconds)
    return Outcome(row["gpu"], row["reclaim"], "done" if code == 0 else "failed", said[:_WORDS])
