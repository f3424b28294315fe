"""A model server's own metrics page, without a Prometheus: how many requests it served, and whether it serves now.

A page is one moment of counters that began with the process. A server that served anything since is a warm replica;
looked at again (`--watch`), only what was added since the first look counts. Whose page it is has to be told, unless
all cards are of one machine. Sources: the metrics documentation of vLLM, SGLang, TGI and Triton.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final

from gpuledger.core.exposition import Exposition, parse
from gpuledger.core.zombies import RESIDENT_MIB, Holding, Observation, Progress
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import SourceError
from gpuledger.pipeline.zombie_cluster import PROGRESS, REQUESTS

_RUNNING: Final = (
    "vllm:num_requests_running",
    "sglang:num_running_reqs",
    "tgi_batch_current_size",
    "num_requests_running",
)
_LARGEST: Final = 64 * 2**20
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class Page:
    """What a page says: requests served since the process began, those that run now, and the tokens it made."""

    served: Decimal | None
    running: Decimal | None
    tokens: Decimal | None
    diagnostics: tuple[Diagnostic, ...] = ()


@dataclass(slots=True)
class Earlier:
    """What earlier looks of this process saw on pages: with it, a counter since the start becomes one since then."""

    first: dict[str, tuple[datetime, Decimal]] = field(default_factory=dict)
    moved: dict[str, tuple[datetime, Decimal]] = field(default_factory=dict)


def read(where: str) -> Page:
    """Read a page from an http(s) address or a file. Raises SourceError when no model server's metrics are there."""
    page = parse(_text(where), where)
    served, running = _sum(page, REQUESTS), _sum(page, _RUNNING)
    if served is None and running is None:
        raise SourceError(
            "no metric of a model server that we know",
            where=where,
            hint="vLLM, SGLang, TGI, Triton and NIM serve them below /metrics.",
        )
    return Page(served, running, _sum(page, PROGRESS), page.diagnostics)


def applied(
    cards: Iterable[Observation], whose: str, page: Page, now: datetime, earlier: Earlier | None
) -> tuple[list[Observation], bool]:
    """Return the cards, those of `[NAMESPACE/]POD` (or of the only machine) knowing what their server served.

    The flag is False when it can't be told whose page it is.
    """
    cards = list(cards)
    space, _, pod = whose.rpartition("/")
    if whose:
        mine = [
            one
            for one in cards
            if any(held.pod == pod and space in {"", held.namespace} for held in one.holdings)
        ]
    else:
        mine = cards if len({one.node for one in cards}) == 1 else []
    if not mine:
        return cards, False
    requests, progress = _counted(whose, page, now, earlier)
    names = {id(one) for one in mine}

    def told(held: Holding) -> Holding:
        if whose and (held.pod != pod or space not in {"", held.namespace}):
            return held
        return replace(held, requests=requests, progress=progress)

    found = []
    for one in cards:
        if id(one) not in names:
            found.append(one)
        elif one.holdings:
            found.append(replace(one, holdings=tuple(told(held) for held in one.holdings)))
        elif one.processes or (one.memory_used_mib or 0) > RESIDENT_MIB:
            # Nobody told who has the card; the server on this machine is one that may.
            server = Holding(job="model server", live=True, requests=requests, progress=progress)
            found.append(replace(one, holdings=(server,)))
        else:
            found.append(one)
    return found, True


def _counted(
    whose: str, page: Page, now: datetime, earlier: Earlier | None
) -> tuple[Decimal | None, Progress | None]:
    """Return requests since the first look, or since the start at a first look, and how long no token came."""
    served = page.served
    if page.running:
        served = max(served or Decimal(0), page.running)
    if earlier is None:
        return served, None
    began, before = earlier.first.setdefault(whose, (now, page.served or Decimal(0)))
    if began != now and page.served is not None and not page.running and page.served >= before:
        served = page.served - before
    if page.tokens is None:
        return served, None
    when, tokens = earlier.moved.setdefault(whose, (now, page.tokens))
    if page.tokens != tokens:
        when = now
        earlier.moved[whose] = (now, page.tokens)
    return served, Progress("its tokens", max(timedelta(0), now - when))


def _sum(page: Exposition, names: Iterable[str]) -> Decimal | None:
    known = set(names)
    values = [one.value for one in page.samples if one.name in known and one.value is not None]
    return sum(values, Decimal(0)) if values else None


def _text(where: str) -> str:
    if not where.startswith(("http://", "https://")):
        try:
            if Path(where).stat().st_size > _LARGEST:
                raise SourceError("too large for a metrics page", where=where, hint="Is it the right file?")
            return Path(where).read_bytes().decode("utf-8", "replace")
        except OSError as error:
            raise SourceError(
                f"can't be read: {error.strerror}", where=where, hint="Give a file or an address."
            ) from error
    import httpx

    try:
        answer = httpx.get(where, timeout=10.0)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceError(
            f"can't be reached: {str(error) or type(error).__name__}",
            where=where,
            hint="Is the server running, and its port open to you?",
        ) from error
    if answer.status_code != _OK or len(answer.content) > _LARGEST:
        raise SourceError(
            f"answered {answer.status_code}",
            where=where,
            hint="The path is usually /metrics, without a login.",
        )
    return answer.text
