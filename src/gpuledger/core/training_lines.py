"""Events of a training run while its log is read: what each line adds to what was known, and the files that hold them."""

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

Event = dict[str, Any]


def run_of(shown: str) -> str:
    """Name a run after its log's folder, or else after the file: the logs of its attempts lie together."""
    path = PurePosixPath(shown)
    return path.parent.name or path.name.partition(".")[0]


def write(
    files: Sequence[tuple[str, Path]], out: Path, read: Callable[[Iterable[str]], Iterable[Event]]
) -> int:
    """Write the events of logs as JSON lines; return how many there are. Logs are text, whatever bytes are in them."""
    count = 0
    with out.open("w", encoding="utf-8") as lines:
        for shown, path in files:
            with path.open(encoding="utf-8", errors="replace") as log:
                for event in read(log):
                    moment = event["t"]
                    text = moment.isoformat() if isinstance(moment, datetime) else moment
                    lines.write(json.dumps({**event, "t": text, "run_id": run_of(shown)}, default=str) + "\n")
                    count += 1
    return count
