"""What a text file looks like before we parse it: encoding, delimiter, where the header is, and which column is which."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpuledger.errors import SourceError

_SNIFF_BYTES = 256 * 1024
_BOMS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_PREFACE_LINES = 15
_OWN_NAME = re.compile(r"\S\s*\((\w+)\)\s*$")


@dataclass(frozen=True, slots=True)
class TextShape:
    """How to parse a delimited text file. `skip` lines precede the header; `header` is as written."""

    encoding: str
    delimiter: str
    skip: int
    header: tuple[str, ...]


def normal(name: str) -> str:
    """Fold a header to letters and digits, lower case: `lineItem/UsageType` = `line_item_usage_type`."""
    return re.sub(r"[\W_]+", "", name, flags=re.UNICODE).casefold()


def resolve(header: Sequence[str], columns: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Map canonical column names to positions in the header; a name spelled twice keeps its first place.

    A header in another language may give the vendor's own name in parentheses: `Maßeinheit (UnitOfMeasure)`.
    """
    places: dict[str, int] = {}
    for position, name in enumerate(header):
        places.setdefault(normal(name), position)
    for position, name in enumerate(header):
        if own := _OWN_NAME.search(name):
            places.setdefault(normal(own.group(1)), position)
    found = {}
    for canonical, spellings in columns.items():
        for spelling in (canonical, *spellings):
            if normal(spelling) in places:
                found[canonical] = places[normal(spelling)]
                break
    return found


def text_shape(
    path: Path,
    shown: str,
    columns: Mapping[str, Sequence[str]],
    required: Sequence[str],
    delimiter: str | None = None,
) -> TextShape:
    """Work out encoding, delimiter (unless given) and header line.

    The header is the first of the leading lines that has all required columns, else the first line: some exports
    open with lines about themselves. Raises SourceError for an empty or binary file.
    """
    raw = _head(path, shown)
    if not raw.strip(b"\xef\xbb\xbf\xff\xfe \r\n\t\0"):
        raise SourceError(
            "the file is empty", where=shown, hint="Export it again; nothing in the ledger has changed."
        )
    encoding = _encoding(raw)
    text = raw.decode(encoding, "ignore").lstrip("\ufeff")
    if "\0" in text:
        raise SourceError(
            "not a text file",
            where=shown,
            hint="A bill is CSV, JSON or Parquet; give its file name that suffix.",
        )
    lines = text.splitlines()
    delimiter = delimiter or max(
        ",;\t|", key=lambda mark: max(line.count(mark) for line in lines[:_PREFACE_LINES])
    )
    rows = list(csv.reader(io.StringIO("\n".join(lines[:_PREFACE_LINES])), delimiter=delimiter))
    skip = next((i for i, row in enumerate(rows) if _has(required, resolve(row, columns))), 0)
    return TextShape(encoding, delimiter, skip, tuple(cell.strip() for cell in rows[skip]))


def _has(required: Sequence[str], found: Mapping[str, int]) -> bool:
    return bool(required) and all(set(names.split("|")) & set(found) for names in required)


def _head(path: Path, shown: str) -> bytes:
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path) as handle:
                return handle.read1(_SNIFF_BYTES)
        with path.open("rb") as handle:
            return handle.read(_SNIFF_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise truncated(shown, error) from error


def truncated(shown: str, error: object) -> SourceError:
    """Return the error for a compressed file that ends early or isn't one."""
    return SourceError(
        f"the compressed file is damaged or incomplete ({error})",
        where=shown,
        hint="Download it again; the ledger keeps its last good state.",
    )


def _encoding(raw: bytes) -> str:
    for mark, name in _BOMS:
        if raw.startswith(mark):
            return name
    for cut in range(4):  # the last character may be cut by the sniff length
        try:
            raw[: len(raw) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return "utf-8"
    return "latin-1"
