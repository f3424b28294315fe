"""What a Prometheus knows of cards, asked so that it aggregates: a handful of numbers per card, not its samples.

Every card costs a few instant questions (highest of the last minutes, number of samples); only cards that look idle
are asked about step by step, still inside Prometheus. `history` alone fetches samples, some cards at a time.
"""

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Protocol

from gpuledger.core.card_facts import Holder, canonical, holder, own, slice_of, slice_part
from gpuledger.core.cluster_metrics import owner_edges, root
from gpuledger.core.metric_nodes import resource_name, shown_labels
from gpuledger.core.metric_series import Series, Window
from gpuledger.core.zombies import (
    KEEP_UNTIL,
    PROTECTED,
    History,
    Holding,
    Limits,
    Load,
    Observation,
    history,
)
from gpuledger.pipeline.zombie_holders import Known, Machine, is_notebook

# Metric of activity -> what it counts up to.
ACTIVITY: Final = {"DCGM_FI_PROF_GR_ENGINE_ACTIVE": 1, "DCGM_FI_DEV_GPU_UTIL": 100}
_REQUESTS: Final = (
    *("vllm:request_success_total", "sglang:num_requests_total", "tgi_request_success"),
    "nv_inference_request_success",
)
_NODE_LABELS: Final = ("node", "kubernetes_node", "nodename", "Hostname", "hostname")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE: Final = 250
_GONE: Final = timedelta(hours=1)
_APPEARED: Final = timedelta(minutes=10)

Card = tuple[str, str | None]
Answer = list[tuple[dict[str, str], Decimal]]


class Asks(Protocol):
    """The questions that are asked of a Prometheus."""

    def instant(self, expression: str, at: datetime) -> Answer:
        """Return the series of a vector."""

    def samples(self, selector: str, span: timedelta, at: datetime) -> list[Series]:
        """Return samples as they were scraped."""


@dataclass(slots=True)
class _Seen:
    """What was answered about one card and one of its holders, by question."""

    labels: dict[str, str] = field(default_factory=dict)
    values: dict[str, Decimal] = field(default_factory=dict)

    def take(self, labels: dict[str, str], question: str, value: Decimal) -> None:
        """Keep the highest of what several exporters say, the lowest where that is what was asked for."""
        self.labels = {**self.labels, **labels}
        before = self.values.get(question)
        join = min if question.startswith(("first", "low", "idle")) else max
        self.values[question] = value if before is None else join(before, value)

    def when(self, question: str) -> datetime | None:
        """Return an answer that is a time."""
        value = self.values.get(question)
        return None if value is None else _EPOCH + timedelta(seconds=float(value))


@dataclass(slots=True)
class Metrics:
    """Observations, and what kube-state-metrics knows of pods and nodes. `gone` cards were there and no longer are."""

    cards: list[Observation]
    known: Known | None
    gone: int = 0


@dataclass(slots=True)
class Reader:
    """Asks one Prometheus about [at − look_back, at]."""

    client: Asks
    at: datetime
    look_back: timedelta = timedelta(hours=24)
    limits: Limits = field(default_factory=Limits)
    match: Mapping[str, str] = field(default_factory=dict)
    seen: dict[Card, dict[Holder | None, _Seen]] = field(default_factory=lambda: defaultdict(dict))
    _exporters: dict[str, bool] = field(default_factory=dict)
    _exported: list[str] = field(default_factory=list)

    def read(self) -> Metrics:
        """Return all cards that were measured in the look-back."""
        for metric, scale in ACTIVITY.items():
            self._activity(metric, scale)
        self._rest()
        # Of cards that work nothing more is asked; that saves most of the time.
        asked = sorted({uuid for (uuid, _), parts in self.seen.items() if self._needs_more(parts)})
        for some in _pieces(asked, _AT_ONCE):
            for metric in self._exported:
                self._span(metric, some)
        step = self._interval()
        for some in _pieces(asked, _AT_ONCE):
            for metric in self._exported:
                self._last_busy(metric, ACTIVITY[metric], some, step)
        known, served = self._pods(), self._served()
        sliced = {uuid for uuid, slice_id in self.seen if slice_id is not None}
        cards, gone = [], 0
        for card in sorted(self.seen, key=lambda key: (key[0], key[1] or "")):
            if card[1] is None and card[0] in sliced:
                continue  # its slices are what is held
            one = self._observation(card, served)
            if one.measured_to is not None and self.at - one.measured_to > _GONE:
                gone += 1
            else:
                cards.append(one)
        return Metrics(cards, known, gone)

    def _selector(self, metric: str, uuids: Sequence[str] = ()) -> str:
        parts = [f"{key}={json.dumps(value)}" for key, value in sorted(self.match.items())]
        if uuids:
            # One pattern matches the exporters' UUID label; names from elsewhere are escaped.
            parts.append(f"UUID=~{json.dumps('|'.join(re.escape(uuid) for uuid in uuids))}")
        return f"{metric}{{{','.join(parts)}}}"

    def _ask(self, question: str, expression: str, scale: int = 1) -> None:
        answer = self.client.instant(expression, self.at)
        for labels, _ in answer:
            # A scrape without honorLabels shows `exported_pod`; there a bare `pod` is the exporter's own.
            job = labels.get("job", "")
            self._exporters[job] = self._exporters.get(job, False) or bool(labels.get("exported_pod"))
        for labels, value in answer:
            told = own(labels)
            uuid = told.get("UUID") or (
                f"{told.get('Hostname', '?')}/{told['gpu']}" if told.get("gpu") else None
            )
            if uuid is None or (scale > 1 and not 0 <= value <= scale):
                continue
            by = holder(labels, exported=self._exporters.get(labels.get("job", ""), False))
            parts = self.seen[uuid, slice_of(told)[0]]
            parts.setdefault(by, _Seen()).take(labels, question, value / scale)

    def _activity(self, metric: str, scale: int) -> None:
        selector, back = self._selector(metric), _seconds(self.look_back)
        warn = _seconds(self.limits.warn)
        kind = "util" if scale > 1 else "engine"
        self._ask(f"recent {kind}", f"max_over_time({selector}[{warn}])", scale)
        if not any(f"recent {kind}" in one.values for parts in self.seen.values() for one in parts.values()):
            return  # this metric isn't exported: its other questions cost time and tell nothing
        self._exported.append(metric)
        self._ask(f"count {kind}", f"count_over_time({selector}[{back}])")
        self._ask("last", f"timestamp({selector})")

    def _span(self, metric: str, uuids: Sequence[str]) -> None:
        """Ask when cards were first and last seen, in coarse steps."""
        coarse = max(timedelta(seconds=15), self.look_back / 288)
        # `timestamp` of a bare selector in a subquery is ten times as slow.
        inner = f"last_over_time({self._selector(metric, uuids)}[{int(coarse.total_seconds() * 1000) - 1}ms])"
        over = f"[{_seconds(self.look_back)}:{_seconds(coarse)}]"
        self._ask("last", f"max_over_time(timestamp({inner}){over})")
        self._ask("first", f"min_over_time(timestamp({inner}){over})")

    def _rest(self) -> None:
        """Memory, and what tells that a card which looks full computes nothing."""
        self._ask("memory", f"last_over_time({self._selector('DCGM_FI_DEV_FB_USED')}[10m])")
        spans = (self.limits.warn, self.limits.recommend, self.look_back)
        for span in sorted({span for span in spans if span <= self.look_back}):
            back = _seconds(span)
            util, tensor = "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"
            full = f"min_over_time({self._selector(util)}[{back}])"
            self._ask(f"low util {back}", f"{full} >= 95", 100)
            if not any(
                f"low util {back}" in one.values for parts in self.seen.values() for one in parts.values()
            ):
                return
            power = self._selector("DCGM_FI_DEV_POWER_USAGE")
            self._ask(f"power {back}", f"max_over_time({power}[{back}])")
            self._ask(f"tensor {back}", f"max_over_time({self._selector(tensor)}[{back}])")

    def _last_busy(self, metric: str, scale: int, uuids: Sequence[str], step: timedelta) -> None:
        idle = self.limits.idle * scale
        # Ranges are closed on both ends in some versions: a millisecond less, and no sample is in two steps.
        inner = f"max_over_time({self._selector(metric, uuids)}[{int(step.total_seconds() * 1000) - 1}ms])"
        over = f"[{_seconds(self.look_back)}:{_seconds(step)}]"
        self._ask("busy", f"max_over_time(timestamp({inner} > {idle}){over})")
        self._ask(f"steps {metric}", f"count_over_time({inner}{over})")
        self._ask(f"quiet {metric}", f"count_over_time(({inner} <= {idle}){over})")

    def _needs_more(self, parts: Mapping[Holder | None, _Seen]) -> bool:
        """Tell whether a card looks idle, full without a pause, or isn't measured any more."""
        values = [item for one in parts.values() for item in one.values.items()]
        recent = [value for question, value in values if question.startswith("recent ")]
        full = any(question.startswith("low util") for question, _ in values)
        return full or not recent or max(recent) <= self.limits.idle or "last" not in dict(values)

    def _interval(self) -> timedelta:
        """Return how often cards are scraped, as the counts of samples tell; at most five minutes."""
        found = []
        for parts in self.seen.values():
            for one in parts.values():
                first, last = one.when("first"), one.when("last")
                count = max(one.values.get(f"count {kind}", Decimal(0)) for kind in ("engine", "util"))
                if first is not None and last is not None and count > 10 and last > first:  # noqa: PLR2004
                    found.append((last - first).total_seconds() / float(count - 1))
        middle = sorted(found)[len(found) // 2] if found else 60.0
        return timedelta(seconds=min(300, max(15, round(middle))))

    def _observation(
        self, card: Card, served: Mapping[tuple[str | None, str | None], Decimal]
    ) -> Observation:
        parts = self.seen[card]
        lasts = {by: when for by, one in parts.items() if (when := one.when("last")) is not None}
        newest = max(lasts.values(), default=None)
        present = [by for by, when in lasts.items() if newest is None or newest - when <= self.limits.fresh]
        firsts = {by: when for by, one in parts.items() if (when := one.when("first")) is not None}
        begun = min(firsts.values(), default=None)
        busy = [when for one in parts.values() if (when := one.when("busy")) is not None]
        holders = [by for by in present if by is not None]
        if not holders:
            busy += [when for by, when in lasts.items() if by is not None]  # idle since its last holder left
        labels = next((parts[by].labels for by in present), next(iter(parts.values())).labels)
        told = own(labels)
        name, (_, profile) = told.get("modelName"), slice_of(told)
        return Observation(
            gpu=card[0] if card[1] is None else f"{card[0]}/{card[1]}",
            now=self.at,
            node=next((told[key] for key in _NODE_LABELS if told.get(key)), None),
            gpu_model=canonical(name),
            model_name=name,
            share=Fraction(1) if card[1] is None else slice_part(profile, canonical(name)),
            measured_from=begun,
            measured_to=newest,
            activity=self._recent(card, parts, present),
            last_busy=max(busy, default=None),
            idle_share=_share(parts),
            loads=self._loads(parts),
            memory_used_mib=max(
                (one.values["memory"] for one in parts.values() if "memory" in one.values), default=None
            ),
            holdings=tuple(
                replace(
                    _named(by),
                    started=_appeared(firsts.get(by), begun, self.at - self.look_back),
                    requests=served.get((by.namespace, by.pod)),
                )
                for by in holders
            ),
            why_unknown="GPU_UTIL measures nothing under MIG, and GR_ENGINE_ACTIVE isn't there",
        )

    def _recent(
        self, card: Card, parts: Mapping[Holder | None, _Seen], present: Iterable[Holder | None]
    ) -> Decimal | None:
        kinds = ("recent engine",) if card[1] is not None else ("recent engine", "recent util")
        return max(
            (parts[by].values[kind] for by in present for kind in kinds if kind in parts[by].values),
            default=None,
        )

    def _loads(self, parts: Mapping[Holder | None, _Seen]) -> tuple[Load, ...]:
        found = []
        for span in sorted({self.limits.warn, self.limits.recommend, self.look_back}):
            back = _seconds(span)
            values: dict[str, Decimal] = {}
            for one in parts.values():
                for question in ("low util", "power", "tensor"):
                    if (value := one.values.get(f"{question} {back}")) is not None:
                        values[question] = value
            if "low util" in values:
                found.append(
                    Load(
                        int(span.total_seconds()),
                        values["low util"],
                        values.get("power"),
                        values.get("tensor"),
                    )
                )
        return tuple(found)

    def _served(self) -> dict[tuple[str | None, str | None], Decimal]:
        """Requests in the look-back by pod; a pod that serves and had none has 0."""
        back = _seconds(self.look_back)
        found: dict[tuple[str | None, str | None], Decimal] = defaultdict(Decimal)
        for metric in _REQUESTS:
            for labels, value in self.client.instant(f"increase({self._selector(metric)}[{back}])", self.at):
                told = own(labels)
                found[told.get("namespace"), told.get("pod")] += value
        return found

    def _pods(self) -> Known | None:
        """Return what kube-state-metrics tells of pods with cards and of nodes, None when it isn't there."""
        asked = "kube_pod_container_resource_requests"
        cards = [
            (own(labels), value)
            for labels, value in self.client.instant(f"last_over_time({self._selector(asked)}[5m])", self.at)
            if "gpu" in labels.get("resource", "") or "_mig_" in labels.get("resource", "")
        ]
        nodes = self._labelled("kube_node_labels")
        if not cards and not nodes:
            return None
        series = {
            name: [
                Series(labels, {})
                for labels, _ in self.client.instant(f"last_over_time({self._selector(metric)}[5m])", self.at)
            ]
            for name, metric in (
                ("pod_owner", "kube_pod_owner"),
                ("replicaset_owner", "kube_replicaset_owner"),
                ("job_owner", "kube_job_owner"),
            )
        }
        edges = owner_edges(Window("", self.at, self.at, timedelta(minutes=1), series))
        told: dict[tuple[str | None, str | None], dict[str, str]] = defaultdict(dict)
        for metric in ("kube_pod_labels", "kube_pod_annotations"):
            for labels in self._labelled(metric):
                told[labels.get("namespace"), labels.get("pod")].update(labels)
        starts = {
            (own(labels).get("namespace"), own(labels).get("pod")): _EPOCH + timedelta(seconds=float(value))
            for labels, value in self.client.instant(self._selector("kube_pod_start_time"), self.at)
        }
        known = Known(machines=self._machines(nodes))
        for labels, count in cards:
            space, pod = labels.get("namespace"), labels.get("pod")
            if not pod:
                continue
            kind, name = root(edges, space or "", pod)
            held = _pod(space, pod, (kind, name), told[space, pod], starts.get((space, pod)))
            known.pods[space, pod] = held
            if labels.get("node"):
                known.held[labels["node"]].append((held, count))
        return known

    def _labelled(self, metric: str) -> list[dict[str, str]]:
        answer = self.client.instant(f"last_over_time({self._selector(metric)}[5m])", self.at)
        return [own(labels) for labels, _ in answer]

    def _machines(self, nodes: Iterable[dict[str, str]]) -> dict[str, Machine]:
        labels = {one["node"]: shown_labels(one) for one in nodes if one.get("node")}
        capacity: dict[str, Decimal] = {}
        for said, value in self.client.instant(self._selector("kube_node_status_capacity"), self.at):
            if resource_name(said.get("resource", "")) in {"nvidia.com/gpu", "amd.com/gpu"}:
                capacity[own(said).get("node", "")] = value
        found = {}
        for node in {*labels, *capacity}:
            said = labels.get(node, {})
            spot = said.get("karpenter.sh/capacity-type") or said.get("eks.amazonaws.com/capacityType")
            found[node] = Machine(
                cards=capacity.get(node),
                instance_type=said.get("node.kubernetes.io/instance-type"),
                region=said.get("topology.kubernetes.io/region"),
                spot=None if spot is None else spot.lower() == "spot",
                gpu_model=canonical(said.get("nvidia.com/gpu.product")),
            )
        return found

    def history(
        self, progress: Callable[[str], None] = lambda _: None
    ) -> Iterator[tuple[Observation, History]]:
        """Yield every card and holder of the look-back with its idle runs. Fetches samples, some cards at a time."""
        metric, scale = "DCGM_FI_PROF_GR_ENGINE_ACTIVE", 1
        listed = self.client.instant(
            f"count_over_time({self._selector(metric)}[{_seconds(self.look_back)}])", self.at
        )
        if not listed:
            metric, scale = "DCGM_FI_DEV_GPU_UTIL", 100
            listed = self.client.instant(
                f"count_over_time({self._selector(metric)}[{_seconds(self.look_back)}])", self.at
            )
        uuids = sorted({own(labels).get("UUID", "") for labels, _ in listed} - {""})
        for some in _pieces(uuids, _AT_ONCE):
            progress(f"{some[0]} and {len(some) - 1} more")
            yield from self._histories(self._selector(metric, some), scale)

    def _histories(self, selector: str, scale: int) -> Iterator[tuple[Observation, History]]:
        found: dict[tuple[Card, Holder | None], dict[datetime, Decimal]] = defaultdict(dict)
        labels: dict[tuple[Card, Holder | None], dict[str, str]] = {}
        answer = self.client.samples(selector, self.look_back, self.at)
        exported = any(series.labels.get("exported_pod") for series in answer)
        for series in answer:
            told = own(series.labels)
            key = ((told.get("UUID", ""), slice_of(told)[0]), holder(series.labels, exported=exported))
            labels[key] = told
            for when, value in series.values.items():
                if 0 <= value <= scale:
                    found[key][when] = max(found[key].get(when, Decimal(0)), value / scale)
        for key in sorted(found, key=lambda one: (one[0][0], one[0][1] or "", str(one[1]))):
            summed = history(sorted(found[key].items()), self.limits.idle)
            if summed is None:
                continue
            (uuid, slice_id), by = key
            name = labels[key].get("modelName")
            one = Observation(
                gpu=uuid if slice_id is None else f"{uuid}/{slice_id}",
                now=self.at,
                node=next((labels[key][label] for label in _NODE_LABELS if labels[key].get(label)), None),
                gpu_model=canonical(name),
                model_name=name,
                holdings=() if by is None else (_named(by),),
            )
            yield one, summed


def _pod(
    space: str | None, pod: str, job: tuple[str, str], labels: Mapping[str, str], started: datetime | None
) -> Holding:
    marks = {}
    for name, maimed in ((PROTECTED, "gpuledger_io_protected"), (KEEP_UNTIL, "gpuledger_io_keep_until")):
        for part in ("label_", "annotation_"):
            if (said := labels.get(part + maimed)) is not None:
                marks[name] = said
    owner = next(
        (labels[f"label_{key}"] for key in ("owner", "team", "user") if labels.get(f"label_{key}")), None
    )
    notebook = "label_notebook_name" in labels or is_notebook(job[0], pod, job[1], labels.get("label_app"))
    return Holding(job[1], job[0], space, pod, None, owner, started, notebook, marks, None, live=True)


def _named(by: Holder) -> Holding:
    return Holding(
        job=by.slurm_job,
        kind="Slurm" if by.slurm_job else None,
        namespace=by.namespace,
        pod=by.pod,
        slurm_job=by.slurm_job,
        notebook=is_notebook(None, by.pod, by.container),
    )


def _appeared(first: datetime | None, begun: datetime | None, edge: datetime) -> datetime | None:
    """Return when a holder came to the card, None when it was there before anyone looked."""
    if first is None or begun is None:
        return None
    return first if first - max(edge, begun) > _APPEARED else None


def _share(parts: Mapping[Holder | None, _Seen]) -> Fraction | None:
    """Return the idle part of the time that was measured, by the metric that saw more work."""
    found = []
    for metric in ACTIVITY:
        steps = sum((one.values.get(f"steps {metric}", Decimal(0)) for one in parts.values()), Decimal(0))
        quiet = sum((one.values.get(f"quiet {metric}", Decimal(0)) for one in parts.values()), Decimal(0))
        if steps:
            found.append(Fraction(quiet) / Fraction(steps))
    return min(found, default=None)


def _pieces(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _seconds(span: timedelta) -> str:
    return f"{int(span.total_seconds())}s"


def opened(url: str, environ: Mapping[str, str], *, timeout: float = 30.0) -> Any:  # noqa: ANN401 - a context manager of telemetry
    """Return a client for an address; PROMETHEUS_TOKEN, or PROMETHEUS_USERNAME and PROMETHEUS_PASSWORD, let it in."""
    from gpuledger.telemetry import prometheus

    return prometheus.connect(
        prometheus.Server(
            url,
            token=environ.get("PROMETHEUS_TOKEN") or None,
            username=environ.get("PROMETHEUS_USERNAME") or None,
            password=environ.get("PROMETHEUS_PASSWORD") or None,
            timeout=timeout,
            tries=3,
            seconds=timeout,
        )
    )
