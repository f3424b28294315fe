"""The text that exporters serve: Prometheus' exposition format 0.0.4 and OpenMetrics 1.0, as samples.

Sources: Prometheus documentation, "Exposition formats"; OpenMetrics 1.0, "Text format". Quoted (UTF-8) metric and
label names of Prometheus 3 are read too. Exemplars are left out. One bad line never stops the others.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from gpuledger.diagnostics import Diagnostic

_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?")
_UNKNOWN: Final = frozenset(
    {"nan", "+nan", "-nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"}
)
_ESCAPES: Final = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Further off than this a timestamp is a mistake of units, and datetime has no such year.
_SECONDS: Final = Decimal(10) ** 11


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: `value` is None for NaN and infinities, which are no quantities. `time` is None when it isn't said."""

    name: str
    labels: Mapping[str, str]
    value: Decimal | None
    time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Exposition:
    """The samples of a text, and the lines that are none (`bad-line`)."""

    samples: tuple[Sample, ...]
    diagnostics: tuple[Diagnostic, ...] = ()


def parse(text: str, source: str) -> Exposition:
    """Read a whole text; `source` names the file or address in diagnostics."""
    unit = 1 if re.search(r"^# EOF\s*\Z", text, re.MULTILINE) else 1000
    samples, problems = [], []
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            samples.append(_sample(stripped, unit))
        except ValueError as error:
            problems.append(
                Diagnostic(
                    "bad-line",
                    "error",
                    f"{source}:{number}",
                    f"not a sample: {error}",
                    "The other lines are read. Look at what the exporter serves.",
                )
            )
    return Exposition(tuple(samples), tuple(problems))


def number(text: str) -> Decimal | None:
    """Read a sample's value: None for NaN and infinities. Raises ValueError for what is no number at all."""
    if _NUMBER.fullmatch(text):
        return Decimal(text)
    if text.lower() in _UNKNOWN:
        return None
    raise ValueError(f"{text[:40]!r} is no number")


def _sample(line: str, unit: int) -> Sample:
    found = _NAME.match(line)
    name, at = (found[0], found.end()) if found else ("", 0)
    rest = line[at:].lstrip()
    labels: dict[str, str] = {}
    if rest.startswith("{"):
        inner, labels, end = _labels(rest)
        name, rest = name or inner, rest[end:]
    if not name:
        raise ValueError("no metric name")
    words = rest.split("#", 1)[0].split()
    if len(words) not in {1, 2}:
        raise ValueError("after the name comes one value, and perhaps a time")
    return Sample(name, labels, number(words[0]), _time(words[1], unit) if len(words) > 1 else None)


def _labels(text: str) -> tuple[str, dict[str, str], int]:
    """Return the quoted metric name if there is one, the labels, and the position after the closing brace."""
    labels: dict[str, str] = {}
    name, at = "", 1
    while True:
        at = _skip(text, at, ", \t")
        if text[at : at + 1] == "}":
            return name, labels, at + 1
        quoted = _QUOTED.match(text, at)
        found = quoted or _NAME.match(text, at)
        if found is None:
            raise ValueError("the labels don't end")
        key = _plain(quoted[1]) if quoted else found[0]
        at = _skip(text, found.end(), " \t")
        if text[at : at + 1] != "=":
            if not quoted or name:
                raise ValueError(f"the label {key} has no value")
            name = key
            continue
        value = _QUOTED.match(text, _skip(text, at + 1, " \t"))
        if value is None:
            raise ValueError(f"the value of label {key} isn't quoted, or doesn't end")
        if key in labels:
            raise ValueError(f"the label {key} comes twice")
        labels[key] = _plain(value[1])
        at = value.end()


def _skip(text: str, at: int, blanks: str) -> int:
    while at < len(text) and text[at] in blanks:
        at += 1
    return at


def _plain(text: str) -> str:
    return re.sub(r'\\[n"\\]', lambda found: _ESCAPES[found[0]], text)


def _time(text: str, unit: int) -> datetime:
    seconds = number(text)
    if seconds is None or abs(seconds) >= _SECONDS * unit:
        raise ValueError(f"{text[:40]!r} is no time")
    try:
        return _EPOCH + timedelta(microseconds=int(seconds * 1_000_000 / unit))
    except OverflowError:
        raise ValueError(f"{text[:40]!r} is no time") from None
