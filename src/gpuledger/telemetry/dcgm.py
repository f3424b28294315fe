"""DCGM exporter without a Prometheus: its metrics page, from an address or a file, as facts about cards.

Documented by NVIDIA: dcgm-exporter (labels, default and DCP counters). Needs no Kubernetes; where the exporter maps
pods or Slurm jobs, the facts name the holders. A page is one moment: it makes candidates, never verdicts.
Known to be missing: the profiling counters are off in many set-ups, and then activity is unknown.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gpuledger.core.card_facts import CardFacts, dcgm_cards
from gpuledger.core.exposition import parse
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import SourceError

TYPE: Final = "dcgm"
TITLE: Final = "NVIDIA DCGM exporter"

_LARGEST: Final = 64 * 2**20
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Page:
    """What a metrics page says of cards, and the lines that couldn't be read."""

    cards: tuple[CardFacts, ...]
    diagnostics: tuple[Diagnostic, ...] = ()


def read(location: str | Path, *, timeout: float = 10.0) -> Page:
    """Read a metrics page from an http(s) address or a file. Raises SourceError when it is none."""
    where = str(location)
    return cards_of(
        _fetch(where, timeout) if where.startswith(("http://", "https://")) else _open(where), where
    )


def cards_of(text: str, where: str) -> Page:
    """Read a page's text. Raises SourceError when there is no DCGM metric in it."""
    if text.lstrip()[:1] == "<":
        raise SourceError("that is a web page, no metrics", where=where, hint="The path is usually /metrics.")
    page = parse(text, where)
    if not any(sample.name.startswith("DCGM_") for sample in page.samples):
        others = {sample.name for sample in page.samples}
        raise SourceError(
            f"no DCGM metric among {len(others)} metrics" if others else "no metrics",
            where=where,
            hint="dcgm-exporter serves them on port 9400 below /metrics. A page without any comes while it starts.",
        )
    return Page(tuple(dcgm_cards(page.samples)), page.diagnostics)


def _open(where: str) -> str:
    path = Path(where)
    try:
        if path.stat().st_size > _LARGEST:
            raise SourceError("too large for a metrics page", where=where, hint="Is it the right file?")
        return path.read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise SourceError(
            f"can't be read: {error.strerror}", where=where, hint="Give a file or an address."
        ) from error


def _fetch(where: str, timeout: float) -> str:
    import httpx

    try:
        with httpx.stream("GET", where, timeout=timeout) as answer:
            return _body(answer, where)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        said = str(error) or type(error).__name__
        raise SourceError(
            f"can't be reached: {said}",
            where=where,
            hint="Is the exporter running, and its port (9400) open to you?",
        ) from error


def _body(answer: Any, where: str) -> str:  # noqa: ANN401 - httpx is imported where it is used
    if answer.status_code != _OK:
        raise SourceError(
            f"answered {answer.status_code}",
            where=where,
            hint="The path is usually /metrics, and needs no login.",
        )
    body = b""
    for part in answer.iter_bytes():
        body += part
        if len(body) > _LARGEST:
            raise SourceError("too large for a metrics page", where=where, hint="Is it the right address?")
    return body.decode("utf-8", "replace")
