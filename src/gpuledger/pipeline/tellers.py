"""How each kind of telemetry is asked: its settings, checked, and its answer as one stream of `core.telling.Told`."""

import difflib
import shlex
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path
from typing import Any, Final, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gpuledger import registry
from gpuledger.core.serving_metrics import LABELLED, Engine
from gpuledger.core.tags import aliases
from gpuledger.core.telling import Asked, Covered, Memory, Teller, Told
from gpuledger.core.usage import NodeInterval
from gpuledger.core.workload import Attribution
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import ConfigError
from gpuledger.pipeline import serving, snapshots, watched
from gpuledger.pipeline.usage_blocks import Blocks
from gpuledger.telemetry import kubernetes, prometheus, slurm

Interval = tuple[datetime, datetime]
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Ask:
    """A telemetry source as `collect` sees it."""

    tell: Callable[[Asked], Iterator[Told]]
    memory: Memory


def find(type_name: str) -> Ask:
    """Return how to ask a type of telemetry. Raises UsageError for an unknown type, ConfigError for one that can't be asked."""
    if type_name in _OWN:
        return _OWN[type_name]
    module = registry.telemetry(type_name)
    if hasattr(module, "ENGINE"):
        return Ask(partial(_engine, module.ENGINE), "past")
    if not hasattr(module, "tell"):
        raise ConfigError(
            f"{module.TITLE} has no `tell`", where=type_name, hint="docs/telemetry.md says what it does."
        )
    return Ask(cast("Teller", module).tell, getattr(module, "MEMORY", "past"))


class Settings:
    """A section's settings, read one by one; what is left over is an error that names the nearest key."""

    def __init__(self, asked: Asked, *known: str) -> None:
        self.asked, self.values = asked, asked.settings
        for key in self.values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."
                raise self.wrong(key, "there is no such setting", hint)

    def wrong(self, key: str, message: str, hint: str) -> ConfigError:
        """Return the error about one setting."""
        return ConfigError(message, where=f"telemetry.{self.asked.name}.{key}", hint=hint)

    def text(self, key: str) -> str | None:
        """Return a text; None when it isn't set."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, str):
            raise self.wrong(key, "that is no text", f'Such as {key} = "…".')
        return value

    def needed(self, key: str, hint: str) -> str:
        """Return a text that must be there."""
        if (value := self.text(key)) is None:
            raise self.wrong(key, "it is needed", hint)
        return value

    def file(self, key: str) -> str | None:
        """Return a path with its `~` resolved; None when it isn't set."""
        value = self.text(key)
        return None if value is None else str(Path(value).expanduser())

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts, empty when it isn't set."""
        value = self.values.get(key, [])
        if (
            not isinstance(value, Sequence)
            or isinstance(value, str)
            or not all(isinstance(one, str) for one in value)
        ):
            raise self.wrong(key, "that is no list of texts", f'Such as {key} = ["…"].')
        return tuple(value)

    def table(self, key: str) -> dict[str, str]:
        """Return a table of texts, empty when it isn't set."""
        value = self.values.get(key, {})
        if not isinstance(value, Mapping) or not all(isinstance(one, str) for one in value.values()):
            raise self.wrong(key, "that is no table of texts", f'Such as {key} = {{ name = "…" }}.')
        return dict(value)

    def number(self, key: str, default: float) -> float:
        """Return a positive number."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise self.wrong(key, "that is no positive number", f"Such as {key} = {default:g}.")
        return value

    def flag(self, key: str) -> bool:
        """Return whether it is set to true."""
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self.wrong(key, "that is neither true nor false", f"Such as {key} = true.")
        return value

    def span(self, key: str, default: str) -> timedelta:
        """Return a length of time such as "5m", or a number of seconds."""
        value = self.values.get(key, default)
        text = f"{value}s" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        number, unit = text[:-1], text[-1:]
        if not number.isdecimal() or unit not in _UNITS or not int(number):
            raise self.wrong(key, f"{value!r} is no length of time", f'Such as {key} = "{default}".')
        return timedelta(seconds=int(number) * _UNITS[unit])


def _kubernetes(asked: Asked) -> Iterator[Told]:
    found = Settings(asked, "kubeconfig", "context", "cluster", "namespaces", "timeout", "tries")
    options = kubernetes.Options(
        kubeconfig=found.file("kubeconfig"),
        context=found.text("context"),
        cluster=found.text("cluster"),
        namespaces=found.texts("namespaces"),
        attribution=Attribution(known=aliases("Kubernetes", asked.aliases)),
        timeout=found.number("timeout", 30),
        tries=int(found.number("tries", 5)),
    )
    yield from watched.tell(asked, options)


_SERVER: Final = (
    *("url", "token", "username", "password", "tenant", "match", "ca_file", "timeout", "tries"),
    *("seconds", "clear_text", "cluster", "step", "steps"),
)


def _server(found: Settings) -> tuple[prometheus.Server, str]:
    """Read where a Prometheus is, and which cluster it tells of."""
    server = prometheus.Server(
        url=found.needed("url", 'Such as url = "http://prometheus:9090".'),
        token=found.text("token"),
        username=found.text("username"),
        password=found.text("password"),
        tenant=found.text("tenant"),
        match=found.table("match"),
        ca_file=found.file("ca_file"),
        timeout=found.number("timeout", 60),
        tries=int(found.number("tries", 5)),
        seconds=found.number("seconds", 300),
        clear_text=found.flag("clear_text"),
    )
    cluster = found.needed(
        "cluster", "The cluster's id in the ledger: the same as its Kubernetes source has."
    )
    return server, cluster


def _engine(engine: Engine, asked: Asked) -> Iterator[Told]:
    """Ask a Prometheus for what a serving engine tells."""
    found = Settings(asked, *_SERVER, "labels")
    server, cluster = _server(found)
    own = found.table("labels")
    for column in own:
        if column not in LABELLED:
            raise found.wrong(
                "labels", f"{column!r} is no column that a label names", f"There are: {', '.join(LABELLED)}."
            )
    first: dict[str, Any] = {column: (label, *getattr(engine, column)) for column, label in own.items()}
    named = replace(engine, **first)
    step, steps = found.span("step", "5m"), int(found.number("steps", 24))
    reader = serving.Reader(server, cluster, named, step, steps, asked)
    for start, end in days(asked.since, asked.until):
        yield from reader.day(start, end)


def _prometheus(asked: Asked) -> Iterator[Told]:
    found = Settings(asked, *_SERVER)
    server, cluster = _server(found)
    step, steps = found.span("step", "5m"), int(found.number("steps", 24))
    with Blocks() as blocks:
        for start, end in days(asked.since, asked.until):
            told = set[Diagnostic]()
            for batch in prometheus.read(
                server, cluster, (start, end), step=step, steps=steps, now=asked.now
            ):
                asked.progress(f"{asked.name}: {batch.start:%Y-%m-%d %H:%M} to {batch.end:%H:%M}")
                # Of what nobody saw, nothing is stored, so that it is unknown and not idle.
                if len(held := batch.held.without(batch.gaps)):
                    yield blocks.block(held)
                yield from (piece for row in batch.nodes for piece in _without(row, batch.gaps))
                yield from batch.jobs
                # What is missing all day is said once a day.
                yield from (one for one in batch.diagnostics if one not in told)
                told |= set(batch.diagnostics)
                yield Covered(batch.start, batch.end, gaps=batch.gaps)


def days(since: datetime, until: datetime) -> Iterator[Interval]:
    """Cut [since, until) at midnights UTC."""
    start = since.astimezone(UTC)
    while start < until:
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        yield start, min(midnight, until)
        start = midnight


def _without(row: NodeInterval, gaps: Sequence[Interval]) -> Iterator[NodeInterval]:
    """Cut gaps out of an interval."""
    start = row.start
    for begin, end in sorted(gaps):
        if end <= start or begin >= row.end:
            continue
        if start < begin:
            yield replace(row, start=start, end=begin)
        start = end
    if start < row.end:
        yield row if start == row.start and not gaps else replace(row, start=start)


def _slurm(asked: Asked) -> Iterator[Told]:
    found = Settings(asked, "cluster", "prefix", "timeout", "zone", "environment", "dimensions")
    prefix = found.values.get("prefix", [])
    commands = slurm.Commands(
        prefix=tuple(shlex.split(prefix)) if isinstance(prefix, str) else found.texts("prefix"),
        timeout=found.number("timeout", 300),
        environment=found.table("environment"),
    )
    more: dict[str, Any] = {}
    if "dimensions" in found.values:
        more["dimensions"] = {key: tuple(value.split()) for key, value in found.table("dimensions").items()}
    options = slurm.Options(cluster=found.text("cluster"), zone=_zone(found), aliases=asked.aliases, **more)
    for told in slurm.collect(asked.since, asked.until, asked.now, commands=commands, options=options):
        if isinstance(told, slurm.Covered):
            asked.progress(f"{asked.name}: {told.since:%Y-%m-%d}")
            yield Covered(told.since, min(told.until, asked.until), told.complete)
        else:
            yield told


def _zone(found: Settings) -> tzinfo:
    name = found.text("zone")
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise found.wrong(
            "zone", f"there is no time zone {name!r}", 'Such as zone = "Europe/Berlin".'
        ) from error


def _host(asked: Asked, *known: str) -> tuple[Settings, snapshots.Host]:
    """Read what a single host's sources have in common."""
    found = Settings(asked, *known, "cluster", "node", "interval", "timeout", "instance_type", "provider_id")
    node = found.text("node") or socket.gethostname()
    end, length = asked.until, found.span("interval", "1m")
    host = snapshots.Host(
        cluster=found.text("cluster") or node,
        node=node,
        start=max(asked.since, end - length),
        end=end,
        instance_type=found.text("instance_type"),
        provider_id=found.text("provider_id"),
    )
    return found, host


def _dcgm(asked: Asked) -> Iterator[Told]:
    found, host = _host(asked, "url", "file")
    where = found.text("url") or found.file("file")
    if where is None:
        raise found.wrong("url", "it is needed", 'Such as url = "http://host:9400/metrics", or file = "…".')
    yield from snapshots.dcgm_page(host, where, found.number("timeout", 10))
    yield Covered(host.start, host.end)


def _nvidia_smi(asked: Asked) -> Iterator[Told]:
    found, host = _host(asked, "binary")
    yield from snapshots.nvidia(host, found.text("binary") or "nvidia-smi", found.number("timeout", 15))
    yield Covered(host.start, host.end)


def _amd_smi(asked: Asked) -> Iterator[Told]:
    found, host = _host(asked, "binary")
    yield from snapshots.amd(host, found.text("binary") or "amd-smi", found.number("timeout", 15))
    yield Covered(host.start, host.end)


_OWN: Final[Mapping[str, Ask]] = {
    "kubernetes": Ask(_kubernetes, "present"),
    "prometheus": Ask(_prometheus, "past"),
    "slurm": Ask(_slurm, "days"),
    "dcgm": Ask(_dcgm, "past"),
    "nvidia-smi": Ask(_nvidia_smi, "past"),
    "amd-smi": Ask(_amd_smi, "past"),
}
