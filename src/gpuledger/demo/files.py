"""Writes files that are the same bytes for the same input: no clock, no file name, no platform in them."""

import csv
import gzip
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from gpuledger.demo.company import LABEL, Month


@dataclass(frozen=True, slots=True)
class Setting:
    """What every provider's writer gets: where to write, which month, which seed."""

    root: Path
    month: Month
    seed: int


@dataclass(frozen=True, slots=True)
class Written:
    """A data file of the example: path relative to its root with `/`, its number of data rows, its size in bytes."""

    path: str
    provider: str
    rows: int
    size: int


@contextmanager
def text_file(path: Path) -> Iterator[TextIO]:
    """Open a text file for writing, UTF-8, LF; compressed when its name ends in '.gz', without a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix != ".gz":
        with path.open("w", encoding="utf-8", newline="") as plain:
            yield plain
        return
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="") as text,
    ):
        yield text


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """Write a CSV file with a header; returns the number of data rows."""
    count = 0
    with text_file(path) as text:
        out = csv.writer(text, lineterminator="\n")
        out.writerow(header)
        for row in rows:
            out.writerow(row)
            count += 1
    return count


def write_json(path: Path, content: object) -> None:
    """Write one JSON document, indented."""
    with text_file(path) as text:
        json.dump(content, text, indent=2, ensure_ascii=False)
        text.write("\n")


def write_labels(folder: Path, account: str, name: str, names: Mapping[str, str]) -> None:
    """Write what pollers keep beside an API's pages, which don't say whose they are: the account, and names by id."""
    with text_file(folder / "labels.jsonl") as text:
        json.dump({"labels": {"account": {"id": account, "name": name}, "names": names}}, text)
        text.write("\n")


def written(setting: Setting, path: Path, provider: str, rows: int) -> Written:
    """Describe a file that has been written."""
    return Written(path.relative_to(setting.root).as_posix(), provider, rows, path.stat().st_size)


def mark(folder: Path, what: str) -> None:
    """Leave a README and a SYNTHETIC marker in a folder, so that nobody takes its files for real ones."""
    folder.mkdir(parents=True, exist_ok=True)
    with text_file(folder / "README.txt") as text:
        text.write(f"{LABEL}\n\n{what}\n")
    with text_file(folder / "SYNTHETIC") as text:
        text.write(f"{LABEL}\n")
