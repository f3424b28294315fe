"""GPU Zombie Finder: gather what is at hand, combine it, price it, rank it. Needs no ledger and no configuration.

Sources that fail are told and done without; what nobody measures is unknown. Nothing is changed anywhere.
"""

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from gpuledger.core.card_facts import CardFacts
from gpuledger.core.zombies import (
    IDLE_STATES,
    Finding,
    Holding,
    Limits,
    Load,
    Observation,
    judge,
    members,
    reclaim,
)
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import GpuledgerError
from gpuledger.pipeline.zombie_cluster import Cluster
from gpuledger.pipeline.zombie_holders import Known, from_kubernetes, from_slurm, joined, merged
from gpuledger.pipeline.zombie_metrics import Reader, opened
from gpuledger.pipeline.zombie_prices import card_price, wasted

RUN: Final = ""  # an input that is a tool to run, not a file to read
_LARGEST: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Inputs:
    """What to look at. `nvidia_smi` and `amd_smi` are files, or RUN; None: leave it out."""

    prometheus: str | None = None
    kube: bool = False
    slurm: bool = False
    nvidia_smi: str | None = None
    amd_smi: str | None = None
    dcgm: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(
            self.prometheus
            or self.kube
            or self.slurm
            or self.nvidia_smi is not None
            or self.amd_smi is not None
            or self.dcgm
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """Thresholds, price and time. `at` looks back from a moment in the past, which only Prometheus can."""

    limits: Limits = field(default_factory=Limits)
    price: Decimal | None = None
    look_back: timedelta = timedelta(hours=24)
    at: datetime | None = None
    show_all: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    match: Mapping[str, str] = field(default_factory=dict)
    progress: tuple[str, ...] = ()


@dataclass(slots=True)
class Memory:
    """What earlier looks of the same process saw: with it, repeated single looks become a look-back."""

    first: dict[str, datetime] = field(default_factory=dict)
    busy: dict[str, datetime] = field(default_factory=dict)
    last: dict[str, datetime] = field(default_factory=dict)

    def remember(self, one: Observation, limits: Limits) -> Observation:
        """Return the observation with what was seen of its card before; a long pause between looks forgets it."""
        if one.measured_from is not None or one.activity is None:
            return one
        last = self.last.get(one.gpu)
        if last is None or one.now - last > limits.fresh:
            self.first[one.gpu] = one.now
            self.busy.pop(one.gpu, None)
        self.last[one.gpu] = one.now
        if one.activity > limits.idle:
            self.busy[one.gpu] = one.now
        if self.first[one.gpu] == one.now:
            return one
        return replace(
            one,
            measured_from=self.first[one.gpu],
            measured_to=one.now,
            last_busy=self.busy.get(one.gpu),
            loads=tuple(load for load in one.loads if load.seconds),  # one look isn't steadiness
        )


@dataclass(frozen=True, slots=True)
class Scan:
    """Rows as the command line prints them, dearest first. `seen` is False when no card's state could be told."""

    rows: list[dict[str, Any]]
    totals: dict[str, Any]
    diagnostics: tuple[Diagnostic, ...]
    seen: bool
    failed: bool


def detect(environ: Mapping[str, str]) -> tuple[Inputs, list[Diagnostic]]:
    """Look for what is at hand, and tell what was looked for."""
    kubeconfig = environ.get("KUBECONFIG") or str(Path(environ.get("HOME", "/")) / ".kube" / "config")
    found = {
        "nvidia-smi": bool(shutil.which("nvidia-smi", path=environ.get("PATH"))),
        "amd-smi or rocm-smi": any(
            shutil.which(tool, path=environ.get("PATH")) for tool in ("amd-smi", "rocm-smi")
        ),
        "a kubeconfig or a pod's service account": bool(environ.get("KUBERNETES_SERVICE_HOST"))
        or any(Path(part).is_file() for part in kubeconfig.split(os.pathsep) if part),
        "Slurm (sinfo)": bool(shutil.which("sinfo", path=environ.get("PATH"))),
        "PROMETHEUS_URL": bool(environ.get("PROMETHEUS_URL")),
    }
    nvidia, amd, kube, slurm, prometheus = found.values()
    there = ", ".join(name for name, yes in found.items() if yes) or "nothing"
    missing = ", ".join(name for name, yes in found.items() if not yes) or "nothing"
    told = Diagnostic(
        "zombies-looked-for",
        "info" if any(found.values()) else "warning",
        "zombies",
        f"found {there}; did not find {missing}",
        "Name more with --prometheus URL, --dcgm URL, --kube, --slurm, --nvidia-smi FILE or --amd-smi FILE.",
    )
    return (
        Inputs(
            prometheus=environ.get("PROMETHEUS_URL") if prometheus else None,
            kube=kube,
            slurm=slurm,
            nvidia_smi=RUN if nvidia else None,
            amd_smi=RUN if amd else None,
        ),
        [told],
    )


def scan(
    inputs: Inputs,
    settings: Settings | None = None,
    *,
    memory: Memory | None = None,
    progress: Callable[[str], None] = lambda _: None,
    notes: Iterable[Diagnostic] = (),
) -> Scan:
    """Look at all inputs once. A source that fails is a diagnostic; only usage errors are raised."""
    began = time.monotonic()
    settings = settings or Settings()
    now = settings.at or datetime.now(UTC)
    gathered = _Gathered(now, settings, progress, list(notes))
    gathered.all(inputs)
    known = merged(gathered.known)
    cards = joined(gathered.cards.values(), known, gathered.now)
    if memory is not None:
        cards = [memory.remember(one, settings.limits) for one in cards]
    found = judge(cards, settings.limits)
    rows = _rows(found, known, settings)
    shown = [row for row in rows if settings.show_all or row["state"] != "busy"]
    totals = _totals(rows, time.monotonic() - began)
    return Scan(
        shown,
        totals,
        tuple(gathered.notes),
        seen=totals["gpus"] > totals["unknown"],
        failed=gathered.failed,
    )


@dataclass(slots=True)
class _Gathered:
    """What the sources said so far. The same card from several of them is one card."""

    now: datetime
    settings: Settings
    progress: Callable[[str], None]
    notes: list[Diagnostic]
    cards: dict[str, Observation] = field(default_factory=dict)
    known: list[Known] = field(default_factory=list)
    failed: bool = False

    def all(self, inputs: Inputs) -> None:
        """Ask every input; those that know more of a card come first."""
        if inputs.prometheus:
            url = inputs.prometheus
            self._tried("prometheus", lambda: self._prometheus(url))
        for where in inputs.dcgm:
            self._tried(where, lambda where=where: self._dcgm(where))  # type: ignore[misc]
        if inputs.nvidia_smi is not None:
            tool = inputs.nvidia_smi
            self._tried("nvidia-smi", lambda: self._nvidia(tool))
        if inputs.amd_smi is not None:
            tool = inputs.amd_smi
            self._tried("amd-smi", lambda: self._amd(tool))
        if inputs.kube:
            self._tried("kubernetes", lambda: self._scheduler(from_kubernetes))
        if inputs.slurm:
            self._tried("slurm", lambda: self._scheduler(from_slurm))

    def _tried(self, source: str, ask: Callable[[], None]) -> None:
        self.progress(f"asking {source}")
        try:
            ask()
        except GpuledgerError as error:
            self.failed = True
            where = f"{source} ({error.where})" if error.where and error.where != source else source
            self.notes.append(
                Diagnostic("zombies-source-failed", "error", where, error.message, error.hint or "")
            )

    def _prometheus(self, url: str) -> None:
        settings = self.settings
        with opened(url, settings.environ) as client:
            there = client.clock()
            if settings.at is None:
                skew = abs((there - datetime.now(UTC)).total_seconds())
                self.now = there  # its samples are dated by it
                if skew > 30:  # noqa: PLR2004
                    self.notes.append(
                        Diagnostic(
                            "clock-skew",
                            "warning",
                            url_shown(client),
                            f"its clock is {skew:.0f} s off ours",
                            "Times are the server's. Check NTP on both machines.",
                        )
                    )
            reader = Reader(client, self.now, settings.look_back, settings.limits, settings.match)
            cluster = Cluster(reader, settings.progress)
            found = reader.cards(cluster.serving())
            known = cluster.known()
            self.notes += client.taken()
            if not found:
                self.notes.append(
                    Diagnostic(
                        "zombies-no-cards",
                        "warning",
                        url_shown(client),
                        "no DCGM metric of any card in the time looked back on",
                        "Is dcgm-exporter scraped? Without it no card's use is known.",
                    )
                )
            if known is not None:
                self.known.append(known)
        for one in found:
            self.cards[one.gpu] = one

    def _dcgm(self, where: str) -> None:
        from gpuledger.telemetry import dcgm

        page = dcgm.read(where)
        self.notes += page.diagnostics
        self._facts(page.cards, None, None)

    def _nvidia(self, tool: str) -> None:
        from gpuledger.telemetry import nvidia_smi

        if tool == RUN:
            report, node = nvidia_smi.read(), socket.gethostname()
        else:
            text, node = _text(tool), ""
            if text.lstrip().startswith("<"):
                report = nvidia_smi.from_xml(text, tool)
            else:
                report = nvidia_smi.Report(tuple(nvidia_smi.cards_from_csv(text, tool)))
        # Inside a container the tool sees no process: an empty list proves nothing.
        processes: dict[tuple[str | None, str | None], tuple[int, ...]] = {}
        for one in report.processes:
            key = (one.card, one.slice_id)
            processes[key] = (*processes.get(key, ()), one.pid)
        self._facts(report.cards, node or None, processes)

    def _amd(self, tool: str) -> None:
        from gpuledger.telemetry import amd_smi

        if tool != RUN:
            text = _text(tool)
            rocm = '"card' in text and '"gpu"' not in text
            cards = tuple(amd_smi.from_rocm_smi(text, tool) if rocm else amd_smi.from_amd_smi(text, tool))
            self._facts(cards, None, None)
            return
        path = self.settings.environ.get("PATH")
        cards = amd_smi.read() if shutil.which("amd-smi", path=path) else amd_smi.read_rocm()
        self._facts(cards, socket.gethostname(), None)

    def _scheduler(self, ask: Callable[[datetime], tuple[Known, list[Diagnostic]]]) -> None:
        known, notes = ask(datetime.now(UTC))
        self.notes += notes
        self.known.append(known)
        if not self.cards and not known.machines:
            self.notes.append(
                Diagnostic(
                    "zombies-no-cards",
                    "warning",
                    "scheduler",
                    "it has no node with cards",
                    "Is it the right cluster?",
                )
            )

    def _facts(
        self,
        cards: Iterable[CardFacts],
        node: str | None,
        processes: Mapping[tuple[str | None, str | None], tuple[int, ...]] | None,
    ) -> None:
        cards = list(cards)
        sliced = {card.uuid for card in cards if card.slice_id is not None}
        for card in cards:
            if card.slice_id is None and card.sliced and card.uuid in sliced:
                continue  # a parent's slices are what is held
            one = _observation(card, node, self.now)
            pids = None if processes is None else processes.get((card.uuid, card.slice_id))
            known = self.cards.get(one.gpu)
            base = one if known is None else known
            self.cards[one.gpu] = replace(base, processes=pids) if pids else base


def url_shown(client: Any) -> str:  # noqa: ANN401 - telemetry's client
    """Return the server's address without what lets one in."""
    return str(client.where)


def _observation(card: CardFacts, node: str | None, now: datetime) -> Observation:
    where = card.node or node
    name = card.uuid or f"{where or 'card'}/{card.index}"
    measured = [value for value in (card.utilisation, card.engine_active) if value is not None]
    blind = card.sliced or card.slice_id is not None
    return Observation(
        gpu=name if card.slice_id is None else f"{name}/{card.slice_id}",
        now=now,
        node=where,
        gpu_model=card.model,
        model_name=card.model_name,
        share=card.share,
        activity=None if card.sliced else max(measured, default=None),
        loads=(Load(0, card.utilisation, card.power_watts, card.tensor_active),)
        if card.utilisation is not None
        else (),
        memory_used_mib=card.memory_used_mib,
        holdings=tuple(
            Holding(
                job=held.slurm_job,
                kind="Slurm" if held.slurm_job else None,
                namespace=held.namespace,
                pod=held.pod,
                slurm_job=held.slurm_job,
            )
            for held in card.holders
        ),
        why_unknown="under MIG only DCGM's GR_ENGINE_ACTIVE tells its activity" if blind else "",
    )


def _text(path: str) -> str:
    try:
        if Path(path).stat().st_size > _LARGEST:
            raise GpuledgerError("too large", where=path, hint="Is it the right file?")
        return Path(path).read_bytes().decode("utf-8", "replace")
    except OSError as error:
        raise GpuledgerError(
            f"can't be read: {error.strerror}", where=path, hint="Give a file of the tool's output."
        ) from error


def _rows(found: list[Finding], known: Known | None, settings: Settings) -> list[dict[str, Any]]:
    counts = members(found)
    rows = [_row(finding, known, settings, reclaim(finding, counts)) for finding in found]
    _whole_nodes(rows, known)
    order = {"unknown": 1, "busy": 2}
    rows.sort(
        key=lambda row: (
            order.get(row["state"], 0),
            row["guard"] is not None,
            row["candidate"],
            -(row["wasted_usd"] or 0),
            -(row["usd_per_hour"] or 0),
            row["gpu"],
        )
    )
    return rows


def _row(finding: Finding, known: Known | None, settings: Settings, command: str | None) -> dict[str, Any]:
    one = finding.observation
    machine = known.machines.get(one.node) if known is not None and one.node else None
    price = card_price(one, machine, settings.price, one.now.date())
    zombie = finding.state in IDLE_STATES
    seconds = None if finding.idle is None or not zombie else int(finding.idle.total_seconds())
    held = one.holdings
    return {
        "gpu": one.gpu,
        "node": one.node,
        "gpu_model": one.gpu_model or one.model_name,
        "state": finding.state,
        "since": finding.since if zombie else None,
        "idle_seconds": seconds,
        "usd_per_hour": price.usd_per_hour,
        "wasted_usd": wasted(price.usd_per_hour, seconds),
        "job": _joined(_job(one) for one in held),
        "owner": _joined(one.owner for one in held),
        "evidence": finding.evidence,
        "reclaim": command,
        "verdict": finding.verdict,
        "candidate": finding.candidate,
        "advice": finding.advice,
        "guard": finding.guard,
        "pattern": finding.pattern,
        "namespace": _joined(one.namespace for one in held),
        "pod": _joined(one.pod for one in held),
        "price_basis": price.basis,
    }


def _job(held: Holding) -> str | None:
    if held.slurm_job:
        return held.slurm_job
    return f"{held.kind}/{held.job}" if held.job and held.kind else held.job or held.pod


def _joined(words: Iterable[str | None]) -> str | None:
    return ", ".join(dict.fromkeys(word for word in words if word)) or None


def _whole_nodes(rows: list[dict[str, Any]], known: Known | None) -> None:
    """A machine is given back as a whole: where all its cards are unallocated, say how."""
    import shlex

    for node, machine in known.machines.items() if known is not None else ():
        there = [row for row in rows if row["node"] == node]
        if there and all(row["state"] == "unallocated" for row in there):
            name = shlex.quote(node)
            for row in there:
                row["reclaim"] = (
                    f"scontrol update NodeName={name} State=POWER_DOWN"
                    if machine.slurm
                    else f"kubectl drain {name} --ignore-daemonsets"
                )


def _totals(rows: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Sum up. Where no card's state could be told, there are not 0 zombies: nobody knows how many."""
    zombies = [row for row in rows if row["verdict"] or row["candidate"]]
    seen = any(row["state"] != "unknown" for row in rows)
    return {
        "gpus": len(rows),
        "zombies": len(zombies) if seen else None,
        "usd_per_hour": _sum(zombies, "usd_per_hour") if seen else None,
        "wasted_usd": _sum(zombies, "wasted_usd") if seen else None,
        "verdicts": sum(row["verdict"] for row in rows),
        "candidates": sum(row["candidate"] for row in rows),
        "guarded": sum(row["guard"] is not None for row in rows),
        "busy": sum(row["state"] == "busy" for row in rows),
        "unknown": sum(row["state"] == "unknown" for row in rows),
        "unpriced": sum(row["usd_per_hour"] is None for row in zombies),
        "scan_seconds": Decimal(str(round(seconds, 3))),
    }


def _sum(rows: list[dict[str, Any]], key: str) -> Decimal | None:
    """Add what is known; None where there is something and none of it is known."""
    known = [row[key] for row in rows if row[key] is not None]
    return sum(known, Decimal(0)) if known or not rows else None
