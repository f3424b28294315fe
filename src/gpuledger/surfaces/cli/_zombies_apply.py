"""`gpuledger zombies --apply`: row by row, what it is and what would be run, and nothing without a y."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from gpuledger.errors import UsageError

if TYPE_CHECKING:
    from gpuledger.pipeline.zombies import Inputs, Scan, Settings


_STOPPED: Final = "kubeflow-resource-stopped="


@dataclass(frozen=True, slots=True)
class Choice:
    """What was said beforehand: rows with a y, whether to run nothing, and where to log."""

    yes: tuple[str, ...]
    dry_run: bool
    log: str | None


def applied(
    found: "Scan", inputs: "Inputs", settings: "Settings", choice: Choice, look: Callable[[], "Scan"]
) -> int:
    """Ask and run; return 0 when all that was confirmed was done and nothing failed, 1 otherwise.

    Raises UsageError without a terminal, unless rows were named by --yes.
    """
    from gpuledger.pipeline import zombie_apply

    if settings.at is not None:
        raise UsageError("--at is the past", where="--apply", hint="Leave --at out to act on what is so now.")
    rows, refused = zombie_apply.chosen(found.rows, inputs, choice.yes)
    for row, reason in refused:
        _say(f"not applied: {row['state']} {row['gpu']}: {reason}")
    if choice.dry_run:
        for row in rows:
            _say(f"would run: {row['reclaim']}")
        return 0
    if not choice.yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "nobody is here to confirm each row",
            where="--apply",
            hint="Run it in a terminal, name rows with --yes GPU, or see what it would do with --dry-run.",
        )
    log = zombie_apply.Log(Path(choice.log) if choice.log else zombie_apply.default_log(settings.environ))
    looked, failed = time.monotonic(), 0
    for row in rows:
        _say(f"{row['state']} {row['gpu']}: {_about(row)}")
        _say(f"  {row['reclaim']}")
        if not choice.yes and not click.confirm("  run this?", default=False, err=True):
            log.write("declined", row)
            continue
        if time.monotonic() - looked > zombie_apply.STALE:
            found, looked = look(), time.monotonic()
        if not _still(row, found):
            log.write("refused", row, reason="it is not so any more")
            _say("  it is not so any more: left alone")
            continue
        done = zombie_apply.run(row, log, "--yes" if choice.yes else "y")
        failed += done.result != "done"
        _say(f"  {done.result}{': ' + done.detail if done.detail else ''}")
    _say(f"logged in {log.path}" if rows else "nothing to apply")
    return int(failed > 0)


def _still(row: Any, found: "Scan") -> bool:  # noqa: ANN401 - a row
    """Tell whether a second look says the same; a notebook's command has the time in it."""
    return any(
        one["gpu"] == row["gpu"]
        and one["verdict"]
        and one["reclaim"]
        and one["reclaim"].partition("=")[0] == row["reclaim"].partition("=")[0]
        and (one["reclaim"] == row["reclaim"] or _STOPPED in one["reclaim"])
        for one in found.rows
    )


def _about(row: Any) -> str:  # noqa: ANN401 - a row
    whose = " ".join(str(row[key]) for key in ("job", "owner") if row[key])
    cost = row["usd_per_hour"]
    return ", ".join(part for part in (whose, "" if cost is None else f"${cost}/h", row["evidence"]) if part)


def _say(text: str) -> None:
    click.echo(text, err=True)
