"""GPU Zombie Finder: gather what is at hand, combine it, price it, rank it. Needs no ledger and no configuration.

Sources that fail are told and done without; what nobody measures is unknown. Nothing is changed anywhere.
"""

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gpuledger.core.card_facts import CardFacts
from gpuledger.core.zombies import Holding, Limits, Load, Observation, judge
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import GpuledgerError
from gpuledger.pipeline.zombie_cluster import Cluster
from gpuledger.pipeline.zombie_find import RUN, Inputs, detect, prometheus_of_cluster
from gpuledger.pipeline.zombie_holders import Known, Machine, from_kubernetes, from_slurm, joined, merged
from gpuledger.pipeline.zombie_metrics import Reader, opened
from gpuledger.pipeline.zombie_rates import Rates
from gpuledger.pipeline.zombie_rows import Pricing, rows_of, totals_of
from gpuledger.pipeline.zombie_watch import Memory

if TYPE_CHECKING:
    from gpuledger.pipeline.zombie_aws import Cards

__all__ = ["RUN", "Inputs", "Memory", "Scan", "Settings", "detect", "scan"]

_LARGEST: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Settings:
    """Thresholds, price and time. `at` looks back from a moment in the past, which only Prometheus and AWS can.

    `rates` gives the ledger's own rates when they are needed, and what is to be told of it. `progress` names counters
    that move while one's own jobs get on.
    """

    limits: Limits = field(default_factory=Limits)
    price: Decimal | None = None
    look_back: timedelta = timedelta(hours=24)
    at: datetime | None = None
    show_all: bool = False
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    match: Mapping[str, str] = field(default_factory=dict)
    progress: tuple[str, ...] = ()
    rates: Callable[[], tuple[Rates | None, list[Diagnostic]]] | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """Rows as the command line prints them, dearest first. `seen` is False when no card's state could be told."""

    rows: list[dict[str, Any]]
    totals: dict[str, Any]
    diagnostics: tuple[Diagnostic, ...]
    seen: bool
    failed: bool


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
    for where in inputs.serving:
        cards = gathered.serving(where, cards, memory)
    if memory is not None:
        cards = [memory.remember(one, settings.limits) for one in cards]
    found = judge(cards, settings.limits)
    rates = None
    if settings.rates is not None and settings.price is None and cards:
        rates, told = settings.rates()
        gathered.notes += told
    rows = rows_of(found, known, Pricing(settings.price, rates, gathered.machines))
    shown = [row for row in rows if settings.show_all or row["state"] != "busy"]
    totals = totals_of(rows, time.monotonic() - began)
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
    machines: dict[str, Machine] = field(default_factory=dict)
    failed: bool = False

    def all(self, inputs: Inputs) -> None:
        """Ask every input; those that know more of a card come first."""
        if inputs.prometheus:
            url = inputs.prometheus
            self._tried("prometheus", lambda: self._prometheus(url))
        elif inputs.kube and inputs.find:
            self._found()
        for where in inputs.dcgm:
            self._tried(where, partial(self._dcgm, where))
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
        for account in inputs.aws:
            self._tried("AWS", partial(self._aws, account))

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
        with opened(url, self.settings.environ) as client:
            self._metrics(client)

    def _found(self) -> None:
        """Look for the cluster's Prometheus. That there is none isn't a failure: nobody asked for it."""
        try:
            with prometheus_of_cluster(self.settings.environ, self.progress) as client:
                if client is None:
                    said, hint = "no Prometheus found in the cluster", "Name it: --prometheus URL."
                else:
                    said, hint = f"found a Prometheus in the cluster: {client.where}", ""
                    self._metrics(client)
                self.notes.append(Diagnostic("zombies-found-prometheus", "info", "kubernetes", said, hint))
        except GpuledgerError as error:
            told = Diagnostic(
                "zombies-found-prometheus",
                "warning",
                error.where or "kubernetes",
                f"the cluster's Prometheus could not be asked: {error.message}",
                "Name it: --prometheus URL, or kubectl port-forward to it.",
            )
            self.notes.append(told)

    def _metrics(self, client: Any) -> None:  # noqa: ANN401 - telemetry's client
        settings = self.settings
        there = client.clock()
        if settings.at is None:
            skew = abs((there - datetime.now(UTC)).total_seconds())
            self.now = there  # its samples are dated by it
            if skew > 30:  # noqa: PLR2004
                self._warn(
                    "clock-skew",
                    client.where,
                    f"its clock is {skew:.0f} s off ours",
                    "Times are the server's. Check NTP on both machines.",
                )
        reader = Reader(client, self.now, settings.look_back, settings.limits, settings.match)
        cluster = Cluster(reader, settings.progress)
        found = reader.cards(cluster.serving())
        known = cluster.known()
        self.notes += client.taken()
        if not found:
            self._warn(
                "zombies-no-cards",
                client.where,
                "no DCGM metric of any card in the last hour",
                "Is dcgm-exporter scraped? Without it no card's use is known.",
            )
        elif known is None and not any(one.holdings for one in found):
            self._warn(
                "zombies-no-holders",
                client.where,
                "its metrics name no pod, and kube-state-metrics isn't there: nobody knows whose the cards are",
                "Add --kube or --slurm, or let dcgm-exporter map pods (DCGM_EXPORTER_KUBERNETES=true).",
            )
        if known is not None:
            self.known.append(known)
        for one in found:
            self.cards[one.gpu] = one

    def _warn(self, code: str, where: object, message: str, hint: str) -> None:
        self.notes.append(Diagnostic(code, "warning", str(where), message, hint))

    def _aws(self, named: str) -> None:
        from gpuledger.pipeline.zombie_aws import account

        settings = self.settings
        now = settings.at or datetime.now(UTC)
        found = account(named, settings.environ, now, settings.look_back, settings.limits)
        for what, ask in (
            ("EC2 instances", found.instances),
            ("SageMaker endpoints", found.endpoints),
            ("SageMaker notebooks", found.notebooks),
        ):
            self._tried(f"{found.where}: {what}", partial(self._machines, ask, found.where, what))

    def _machines(self, ask: "Callable[[], Iterator[Cards]]", where: str, what: str) -> None:
        """Take a cloud's machines. What a cluster or an exporter tells better is left to it."""
        nodes = {one.node for one in self.cards.values()} | {
            node for known in self.known for node in known.machines
        }
        count = elsewhere = 0
        for one in ask():
            count += 1
            if one.aliases & nodes:
                elsewhere += 1
                self.machines.update(dict.fromkeys(one.aliases, one.machine))
                continue
            for card in one.cards:
                self.cards[card.gpu] = card
                self.machines[card.node or ""] = one.machine
        seen = f", {elsewhere} of them nodes seen elsewhere too" if elsewhere else ""
        self.notes.append(
            Diagnostic("zombies-account", "info", where, f"{count} {what} with GPUs that run{seen}", "")
        )

    def serving(self, where: str, cards: list[Observation], memory: Memory | None) -> list[Observation]:
        """Take what a model server's page says into the cards of whose it is."""
        from gpuledger.pipeline import zombie_serving

        whose, sign, place = where.rpartition("=")
        if not sign or whose.startswith(("http:", "https:")):
            whose, place = "", where
        found = cards

        def ask() -> None:
            nonlocal found
            page = zombie_serving.read(place)
            self.notes += page.diagnostics
            earlier = None if memory is None else memory.pages
            found, placed = zombie_serving.applied(cards, whose, page, datetime.now(UTC), earlier)
            if not placed:
                self._warn(
                    "zombies-whose-page",
                    place,
                    f"no card of {whose or 'one machine alone'} is seen: the page is left out",
                    "Say whose it is: --serving NAMESPACE/POD=URL.",
                )

        self._tried(place, ask)
        return found

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
