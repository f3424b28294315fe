"""What a Prometheus knows of cards, asked so that it aggregates: a handful of numbers per card, not its samples.

Of every card one number is asked, the highest activity of the last minutes. All else is asked of those only that look
idle, silent or full for nothing, some at a time: since when by the hour first and then, in that hour, by the minute;
steps are walked inside Prometheus. docs/zombies.md has the questions in words.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Protocol

from gpuledger.core.card_facts import Holder, canonical, holder, own, slice_of, slice_part
from gpuledger.core.metric_series import Series
from gpuledger.core.zombies import Holding, Limits, Load, Observation, board_watts
from gpuledger.pipeline.zombie_holders import is_notebook

ENGINE: Final = "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
UTIL: Final = "DCGM_FI_DEV_GPU_UTIL"
# Metric of activity -> what it counts up to.
ACTIVITY: Final = {ENGINE: 1, UTIL: 100}
_POWER: Final = "DCGM_FI_DEV_POWER_USAGE"
_TENSOR: Final = "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE"
_MEMORY: Final = "DCGM_FI_DEV_FB_USED"
_WHY_SLICE: Final = "GPU_UTIL measures nothing under MIG, and GR_ENGINE_ACTIVE isn't there"
_CARD: Final = "on (UUID, GPU_I_ID, Hostname, gpu)"  # the same card in another metric
_FULL: Final = "95"
_WEAK: Final = Decimal("0.35")
_NODE_LABELS: Final = ("node", "kubernetes_node", "nodename", "Hostname", "hostname")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE: Final = 250
_HOUR: Final = timedelta(hours=1)
_MOMENT: Final = timedelta(minutes=5)  # how far back an instant question looks
_APPEARED: Final = timedelta(minutes=10)

Card = tuple[str, str | None]
Answer = list[tuple[dict[str, str], Decimal]]
Place = tuple[str | None, str | None]


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
        if not self.labels:
            self.labels = labels
        before = self.values.get(question)
        join = min if question.startswith(("first", "low", "idle")) else max
        self.values[question] = value if before is None else join(before, value)

    def when(self, question: str) -> datetime | None:
        """Return an answer that is a time."""
        value = self.values.get(question)
        return None if value is None else _EPOCH + timedelta(seconds=float(value))


@dataclass(slots=True)
class Serving:
    """What counters tell of pods: requests in the look-back, and those whose progress stands still, by pod."""

    requests: Mapping[Place, Decimal] = field(default_factory=dict)
    still: Mapping[Place, Any] = field(default_factory=dict)


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
    _own: dict[str, dict[str, str]] = field(default_factory=dict)

    def cards(self, serving: Serving) -> list[Observation]:
        """Return the cards that were measured in the last hour."""
        self._activity()
        self._silent()
        for some in _pieces(self._asked(), _AT_ONCE):
            for metric in self._exported:
                self._spans(metric, some)
        step = self._interval()
        for metric in self._exported:
            self._last_busy(metric, step)
        for some in _pieces(self._asked(), _AT_ONCE):
            self._ask("memory", f"last_over_time({self.selector(_MEMORY, some)}[10m])")
        self._stalls(serving)
        sliced = {uuid for uuid, slice_id in self.seen if slice_id is not None}
        found = []
        for card in sorted(self.seen, key=lambda key: (key[0], key[1] or "")):
            if card[1] is None and card[0] in sliced:
                continue  # its slices are what is held
            one = self._observation(card, serving)
            if one.measured_to is None or self.at - one.measured_to <= _HOUR:
                found.append(one)
        return found

    def selector(self, metric: str, uuids: Sequence[str] = (), more: Sequence[str] = ()) -> str:
        """Return a metric's series of the cards that are meant; names from elsewhere are escaped."""
        parts = [f"{key}={json.dumps(value)}" for key, value in sorted(self.match.items())]
        if uuids:
            parts.append(f"UUID=~{json.dumps('|'.join(re.escape(uuid) for uuid in uuids))}")
        return f"{metric}{{{','.join([*parts, *more])}}}"

    def _ask(self, question: str, expression: str, scale: int = 1, at: datetime | None = None) -> int:
        """Keep the answers by card and holder; return how many there were."""
        answer = self.client.instant(expression, at or self.at)
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
            parts.setdefault(by, _Seen()).take(told, question, value / scale)
        return len(answer)

    def _activity(self) -> None:
        """Ask each card's highest activity of the last minutes; utilisation only where the engine was idle or unknown."""
        warn = _seconds(self.limits.warn)
        engine = f"max_over_time({self.selector(ENGINE)}[{warn}])"
        if self._ask("recent engine", engine):
            self._exported.append(ENGINE)
        util = f"max_over_time({self.selector(UTIL)}[{warn}])"
        unless = f" unless {_CARD} ({engine} > {self.limits.idle})" if self._exported else ""
        self._ask("recent util", f"{util}{unless}", 100)
        # It may be exported and all cards busy; whether it is there at all costs one number.
        if self.client.instant(f"count({self.selector(UTIL)})", self.at) or not self._exported:
            self._exported.append(UTIL)

    def _silent(self) -> None:
        """Ask what was measured minutes ago and isn't now, and what was measured an hour ago and no more since."""
        warn = _seconds(self.limits.warn)
        hour = _seconds(min(_HOUR, self.look_back))
        for metric in self._exported:
            one = self.selector(metric)
            self._ask("stale", f"timestamp(max_over_time({one}[{warn}]) unless {one})")
            # NaN is no measurement, and a card of which nothing else comes is there all the same.
            told = f"unless {_CARD} (max_over_time({one}[{warn}]) >= 0)"
            self._ask("silent", f"count_over_time({one}[{hour}]) {told}")

    def _asked(self) -> list[str]:
        """Return the cards of which more is asked: those that look idle or aren't measured any more."""
        return sorted({uuid for (uuid, _), parts in self.seen.items() if self._needs_more(parts)})

    def _needs_more(self, parts: Mapping[Holder | None, _Seen]) -> bool:
        recent = [
            value
            for one in parts.values()
            for question, value in one.values.items()
            if question.startswith("recent ") and "stale" not in one.values
        ]
        return not recent or max(recent) <= self.limits.idle

    def _spans(self, metric: str, uuids: Sequence[str]) -> None:
        """Ask when cards and their holders were first and last seen: in coarse steps where it isn't all the time."""
        one, kind = self.selector(metric, uuids), _kind(metric)
        back, here = self.look_back, set(uuids)
        self._ask(f"count {kind}", f"count_over_time({one}[{_seconds(back)}])")
        self._ask("last", f"timestamp({one})")
        self._ask("first", f"timestamp({one} offset {_seconds(max(back - _MOMENT, timedelta(0)))})")
        coarse = max(timedelta(seconds=15), back / 288)
        over = f"[{_seconds(back)}:{_seconds(coarse)}]"
        for question, function in (("last", "max_over_time"), ("first", "min_over_time")):
            missing = sorted(
                {
                    uuid
                    for (uuid, _), parts in self.seen.items()
                    if uuid in here and any(question not in part.values for part in parts.values())
                }
            )
            if missing:
                # `timestamp` of a bare selector in a subquery is ten times as slow.
                inner = f"last_over_time({self.selector(metric, missing)}[{_milliseconds(coarse)}])"
                self._ask(question, f"{function}(timestamp({inner}){over})")

    def _last_busy(self, metric: str, step: timedelta) -> None:
        """Ask when idle cards last worked: the hour of the whole look-back, then the minute of that hour."""
        idle = self.limits.idle * ACTIVITY[metric]
        hours: dict[datetime, set[Card]] = defaultdict(set)
        for some in _pieces(self._asked(), _AT_ONCE):
            highest = f"max_over_time({self.selector(metric, some)}[{_seconds(_HOUR)}])"
            over = f"[{_seconds(self.look_back)}:{_seconds(_HOUR)}]"
            for expression in (
                f"timestamp(({highest}) > {idle})",
                # Steps are whole hours of the clock; the hour up to now isn't one of them.
                f"max_over_time(timestamp({highest} > {idle}){over})",
            ):
                for labels, value in self.client.instant(expression, self.at):
                    told = own(labels)
                    if told.get("UUID"):
                        card = told["UUID"], slice_of(told)[0]
                        hours[_EPOCH + timedelta(seconds=float(value))].add(card)
        refined: set[Card] = set()
        for end in sorted(hours, reverse=True):
            here = hours[end] - refined
            refined |= here
            for some in _pieces(sorted({uuid for uuid, _ in here}), _AT_ONCE):
                # Ranges are closed on both ends in some versions: a millisecond less, and no sample is in two steps.
                inner = f"max_over_time({self.selector(metric, some)}[{_milliseconds(step)}])"
                over = f"[{_seconds(_HOUR)}:{_seconds(step)}]"
                self._ask("busy", f"max_over_time(timestamp({inner} > {idle}){over})", at=end)
            self._at_least(here, end - step)
        for some in _pieces(sorted({uuid for uuid, _ in refined}), _AT_ONCE):
            one, over = self.selector(metric, some), f"[{_seconds(self.look_back)}:{_seconds(step)}]"
            self._ask(f"idle {_kind(metric)}", f"avg_over_time(({one} <= bool {idle}){over})")

    def _at_least(self, cards: Iterable[Card], busy: datetime) -> None:
        """Where the work was in the last step, which is cut off, its minute isn't found: it was then."""
        for card in cards:
            parts = self.seen[card].values()
            if parts and not any("busy" in one.values for one in parts):
                next(iter(parts)).values["busy"] = Decimal(str(busy.timestamp()))

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

    def _stalls(self, serving: Serving) -> None:
        """Ask of cards that look full what they draw and compute: those only that draw little, or whose pods stand still."""
        warn = _seconds(self.limits.warn)

        def full(*more: str) -> str:
            return f"(min_over_time({self.selector(UTIL, more=more)}[{warn}]) >= {_FULL})"

        def draws(*more: str) -> str:
            return f"max_over_time({self.selector(_POWER, more=more)}[{warn}])"

        names: dict[int, set[str]] = defaultdict(set)
        for parts in self.seen.values():
            for one in parts.values():
                name = one.labels.get("modelName", "")
                names[board_watts(canonical(name), name) or 0].add(name)
        dull = f"(max_over_time({self.selector(_TENSOR)}[{warn}]) < 0.01)"
        questions = [f"{full()} and {_CARD} {dull} unless {_CARD} {draws()}"]
        for watts, some in sorted(names.items()):
            which = f"modelName=~{json.dumps('|'.join(re.escape(name) for name in sorted(some)))}"
            if watts:
                questions.append(f"{full(which)} and {_CARD} ({draws(which)} < {_WEAK * watts})")
            else:
                questions.append(f"{full(which)} and {_CARD} {dull}")
        cards = {
            uuid
            for question in questions
            for labels, _ in self.client.instant(question, self.at)
            if (uuid := own(labels).get("UUID"))
        }
        cards |= {
            uuid
            for (uuid, _), parts in self.seen.items()
            if any(by is not None and (by.namespace, by.pod) in serving.still for by in parts)
        }
        self._loads_of(cards)

    def _loads_of(self, cards: Iterable[str]) -> None:
        """Ask extremes over longer and longer spans, of what is still full."""
        left = sorted(cards)
        spans = (self.limits.warn, self.limits.recommend, self.look_back)
        for span in sorted({span for span in spans if span <= self.look_back}):
            back, some = _seconds(span), left
            left = []
            for piece in _pieces(some, _AT_ONCE):
                full = f"min_over_time({self.selector(UTIL, piece)}[{back}]) >= {_FULL}"
                self._ask(f"low util {back}", full, 100)
                self._ask(f"power {back}", f"max_over_time({self.selector(_POWER, piece)}[{back}])")
                self._ask(f"tensor {back}", f"max_over_time({self.selector(_TENSOR, piece)}[{back}])")
                here = set(piece)
                left += sorted(
                    {
                        uuid
                        for (uuid, _), parts in self.seen.items()
                        if uuid in here and any(f"low util {back}" in one.values for one in parts.values())
                    }
                )

    def _observation(self, card: Card, serving: Serving) -> Observation:
        parts = self.seen[card]
        lasts = {by: when for by, one in parts.items() if (when := self._last(one)) is not None}
        newest = max(lasts.values(), default=None)
        present = [by for by, when in lasts.items() if newest is None or newest - when <= self.limits.fresh]
        firsts = {by: when for by, one in parts.items() if (when := one.when("first")) is not None}
        begun = min(firsts.values(), default=None)
        busy = [when for one in parts.values() if (when := one.when("busy")) is not None]
        holders = [by for by in present if by is not None]
        if not holders:
            busy += [when for by, when in lasts.items() if by is not None]  # idle since its last holder left
        told = next((parts[by].labels for by in present), next(iter(parts.values())).labels)
        name, (_, profile) = told.get("modelName"), slice_of(told)
        edge = self.at - self.look_back
        return Observation(
            gpu=card[0] if card[1] is None else f"{card[0]}/{card[1]}",
            now=self.at,
            node=next((told[key] for key in _NODE_LABELS if told.get(key)), None),
            gpu_model=canonical(name),
            model_name=name,
            share=Fraction(1) if card[1] is None else slice_part(profile, canonical(name)),
            measured_from=begun or (None if newest is None else newest - self.limits.warn),
            measured_to=newest,
            activity=_recent(card, parts, present),
            last_busy=max(busy, default=None),
            idle_share=_share(parts, known=begun is not None),
            loads=self._loads(parts),
            memory_used_mib=max(
                (one.values["memory"] for one in parts.values() if "memory" in one.values), default=None
            ),
            holdings=tuple(
                replace(
                    named(by),
                    started=_appeared(firsts.get(by), begun, edge),
                    requests=serving.requests.get((by.namespace, by.pod)),
                    progress=serving.still.get((by.namespace, by.pod)),
                )
                for by in holders
            ),
            why_unknown=_WHY_SLICE if card[1] is not None else "its exporter gives no number, only NaN",
        )

    def _last(self, one: _Seen) -> datetime | None:
        """Return when a card was last seen with a holder; what is measured now isn't asked for its second."""
        told = one.when("last")
        if told is not None:
            return told
        now = any(question.startswith("recent ") for question in one.values) and "stale" not in one.values
        return self.at if now else None

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
                seconds = int(span.total_seconds())
                found.append(Load(seconds, values["low util"], values.get("power"), values.get("tensor")))
        return tuple(found)


def named(by: Holder) -> Holding:
    """Return a holder as an exporter names it."""
    return Holding(
        job=by.slurm_job,
        kind="Slurm" if by.slurm_job else None,
        namespace=by.namespace,
        pod=by.pod,
        slurm_job=by.slurm_job,
        notebook=is_notebook(None, by.pod, by.container),
    )


def node_of(labels: Mapping[str, str]) -> str | None:
    """Return the node that a card's labels name."""
    return next((labels[key] for key in _NODE_LABELS if labels.get(key)), None)


def _recent(
    card: Card, parts: Mapping[Holder | None, _Seen], present: Iterable[Holder | None]
) -> Decimal | None:
    kinds = ("recent engine",) if card[1] is not None else ("recent engine", "recent util")
    return max(
        (parts[by].values[kind] for by in present for kind in kinds if kind in parts[by].values),
        default=None,
    )


def _appeared(first: datetime | None, begun: datetime | None, edge: datetime) -> datetime | None:
    """Return when a holder came to the card, None when it was there before anyone looked."""
    if first is None or begun is None:
        return None
    return first if first - max(edge, begun) > _APPEARED else None


def _share(parts: Mapping[Holder | None, _Seen], *, known: bool) -> Fraction | None:
    """Return the idle part of the time that was measured, by the metric that saw more work: all of it where none did."""
    if not known:
        return None
    found = []
    for kind in ("engine", "util"):
        told = [
            (one.values[f"idle {kind}"], one.values.get(f"count {kind}", Decimal(1)))
            for one in parts.values()
            if f"idle {kind}" in one.values
        ]
        samples = sum((count for _, count in told), Decimal(0))
        if samples:
            found.append(
                sum((Fraction(share) * Fraction(count) for share, count in told), Fraction(0))
                / Fraction(samples)
            )
    return min(found, default=Fraction(1))


def _kind(metric: str) -> str:
    return "util" if metric == UTIL else "engine"


def _pieces(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _seconds(span: timedelta) -> str:
    return f"{int(span.total_seconds())}s"


def _milliseconds(span: timedelta) -> str:
    return f"{int(span.total_seconds() * 1000) - 1}ms"


def opened(url: str, environ: Mapping[str, str], *, timeout: float = 30.0, tries: int = 3) -> Any:  # noqa: ANN401 - a context manager of telemetry
    """Return a client for an address; PROMETHEUS_TOKEN, or PROMETHEUS_USERNAME and PROMETHEUS_PASSWORD, let it in."""
    from gpuledger.telemetry import prometheus

    return prometheus.connect(
        prometheus.Server(
            url,
            token=environ.get("PROMETHEUS_TOKEN") or None,
            username=environ.get("PROMETHEUS_USERNAME") or None,
            password=environ.get("PROMETHEUS_PASSWORD") or None,
            timeout=timeout,
            tries=tries,
            seconds=timeout,
        )
    )
