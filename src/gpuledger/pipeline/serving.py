"""What serving engines tell a Prometheus, window by window: exact gains of counters, means of gauges.

A counter's last value of each step is asked for, not its `increase`, which Prometheus extrapolates. The difference of
two steps is exact unless the counter was reset or is new; for those steps, and the targets that had it, the samples
themselves are asked for. All of it becomes samples of `models.token_samples`.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from gpuledger.core.serving_metrics import Engine, rules
from gpuledger.core.telling import Asked, Block, Covered, Told
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import SourceError
from gpuledger.models.token_samples import Downsampler
from gpuledger.telemetry import prometheus

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BACK: Final = 12  # steps before the window, to know counters' last values
_TARGETS: Final = 100  # in one question
_SHAPE: Final = "{'metric': 'MAP(VARCHAR, VARCHAR)', 'values': 'VARCHAR[][]'}"
_SERIES: Final = """SELECT hash(metric::VARCHAR) AS s, any_value(metric['__name__']) AS name, any_value(metric) AS labels
FROM answer GROUP BY 1"""
_SAMPLES: Final = """SELECT hash(metric::VARCHAR) AS s, CAST(round(CAST(one[1] AS DOUBLE) * 1000000) AS BIGINT) AS t, CAST(one[2] AS DOUBLE) AS v
FROM (SELECT metric, unnest("values") AS one FROM answer) WHERE isfinite(TRY_CAST(one[2] AS DOUBLE))"""


@dataclass(slots=True)
class Reader:
    """Asks one server for one engine's metrics, day after day."""

    server: prometheus.Server
    cluster: str
    engine: Engine
    step: timedelta
    steps: int
    asked: Asked
    known: set[str] = field(default_factory=set)

    def day(self, since: datetime, until: datetime) -> Iterator[Told]:
        """Yield what is known of [since, until), which is within a day, and that it was told."""
        con = duckdb.connect()
        make = Downsampler(con, [self.engine], cluster=self.cluster, step=self.step)
        self.known.clear()
        with (
            prometheus.connect(self.server, self.asked.now) as client,
            TemporaryDirectory(prefix="gpuledger-") as folder,
        ):
            start = _floor(since, self.step)
            end = _floor(min(until, client.clock()), self.step)
            begin, rows = start, 0
            while begin < end:
                stop = min(begin + self.step * self.steps, end)
                self.asked.progress(f"{self.asked.name}: {begin:%Y-%m-%d %H:%M} to {stop:%H:%M}")
                first = begin - self.step * _BACK if begin == start else begin + self.step
                block = self._window(client, con, make, (first, begin, stop), Path(folder))
                yield from client.taken()
                if block is not None:
                    rows += block.rows
                    yield block
                yield Covered(begin, stop)
                begin = stop
            if start < end and not rows:
                yield Diagnostic(
                    "no-metrics", "info", client.where, f"there is nothing from {self.engine.provider}",
                    "Is it scraped, and does `match` let its series through? docs/token-telemetry.md lists what is read.",
                )  # fmt: skip
        con.close()

    def _window(
        self,
        client: Any,  # noqa: ANN401 - the client of telemetry.prometheus
        con: duckdb.Connection,
        make: Downsampler,
        span: tuple[datetime, datetime, datetime],
        folder: Path,
    ) -> Block | None:
        """Ask for the moments first … stop, and write the intervals that end after `begin`."""
        first, begin, stop = span
        lines = folder / "answer.jsonl"
        with lines.open("w", encoding="utf-8") as out:
            for labels, values in self._answers(client, first, begin, stop):
                out.write(
                    json.dumps({"metric": dict(sorted(labels.items())), "values": values}, default=str) + "\n"
                )
        if not lines.stat().st_size:
            return None
        con.execute(f"CREATE OR REPLACE TEMP TABLE answer AS FROM read_json({duckdb.literal(lines)}, format = 'newline_delimited', columns = {_SHAPE}, maximum_object_size = 67108864)")  # fmt: skip
        make.span(_SAMPLES, _SERIES)
        path = folder / f"{int(begin.timestamp())}.parquet"
        row = con.execute(
            f"COPY (FROM ({make.rows()}) WHERE \"end\" > TIMESTAMPTZ '{begin.isoformat()}') TO {duckdb.literal(path)} (FORMAT parquet)"
        ).fetchone()
        return Block("token_interval", path, int(row[0])) if row and row[0] else None

    def _answers(
        self,
        client: Any,  # noqa: ANN401 - the client of telemetry.prometheus
        first: datetime,
        begin: datetime,
        stop: datetime,
    ) -> Iterator[tuple[dict[str, str], list[Any]]]:
        """Yield series as the server has them, values as [seconds, text]."""
        present = self._present(client, first, stop)
        doubted = _Doubted()
        for name, kind in present.items():
            function = "last_over_time" if kind == "counter" else "avg_over_time"
            for labels, values in self._ask(client, function, name, (first, stop)):
                told = {**labels, "__name__": name}
                yield told, values
                if kind == "counter":
                    self._unheard(told, values, begin, doubted)
            if kind == "counter" and not name.endswith("_bucket"):
                expression = f"resets({self._selector(name)}[{2 * self._seconds}s] offset 1ms) > 0"
                for data in client.ranged(expression, name, (max(first, begin + self.step), stop), self.step):
                    for labels, values in _series(data):
                        doubted.add(labels, (when for when, _ in values))
        counters = [name for name, kind in present.items() if kind == "counter"]
        for at, targets in doubted.by_time():
            yield from self._raw(client, counters, at, targets)

    def _present(self, client: Any, first: datetime, stop: datetime) -> dict[str, str]:  # noqa: ANN401 - see above
        """Return the names that there are, and their kinds, so that the others needn't be asked for."""
        kinds = {rule.name: rule.kind for rule in rules(self.engine)}
        seconds = int((stop - first + self.step).total_seconds())
        expression = f"count by (__name__) (last_over_time({self._selector(*kinds)}[{seconds}s] offset 1ms))"
        found = {labels["__name__"] for labels, _ in client.instant(expression, stop)}
        return {name: kind for name, kind in kinds.items() if name in found}

    def _ask(
        self,
        client: Any,  # noqa: ANN401 - see above
        function: str,
        name: str,
        between: tuple[datetime, datetime],
    ) -> Iterator[tuple[dict[str, str], list[Any]]]:
        # The offset makes steps half-open: a sample on a border is in one step only.
        expression = f"{function}({self._selector(name)}[{self._seconds}s] offset 1ms)"
        for data in client.ranged(expression, name, between, self.step):
            yield from _series(data)

    def _unheard(
        self, labels: Mapping[str, str], values: Iterable[Any], begin: datetime, doubted: "_Doubted"
    ) -> None:
        """Note when a counter is there for the first time: its first sample of that step isn't its last."""
        key = json.dumps(sorted(labels.items()))
        if key in self.known:
            return
        self.known.add(key)
        when = next((at for at, _ in values), None)
        if when is not None and float(when) > begin.timestamp():
            doubted.add(labels, [when])

    def _raw(
        self,
        client: Any,  # noqa: ANN401 - see above
        names: list[str],
        at: datetime,
        targets: "list[tuple[str, str]]",
    ) -> Iterator[tuple[dict[str, str], list[Any]]]:
        """Yield the samples of some targets in the two steps before a moment, as they were scraped."""
        for place in range(0, len(targets), _TARGETS):
            several = targets[place : place + _TARGETS]
            by_label: dict[str, list[str]] = defaultdict(list)
            for label, value in several:
                by_label[label].append(value)
            for label, found in by_label.items():
                chosen = f"{label}=~{json.dumps('|'.join(map(_plain, found)))}" if label else ""
                selector = self._selector(*names, more=chosen)
                span = timedelta(seconds=2 * self._seconds)
                for one in client.samples(selector, span, at - timedelta(milliseconds=1)):
                    yield (
                        dict(one.labels),
                        [[_seconds(when), str(value)] for when, value in one.values.items()],
                    )

    @property
    def _seconds(self) -> int:
        return int(self.step.total_seconds())

    def _selector(self, *names: str, more: str = "") -> str:
        which = f"={json.dumps(names[0])}" if len(names) == 1 else f"=~{json.dumps('|'.join(names))}"
        own = [f"{key}={json.dumps(value)}" for key, value in sorted(self.server.match.items())]
        return "{" + ",".join([f"__name__{which}", *own, *([more] if more else [])]) + "}"


class _Doubted:
    """Steps and targets whose counters can't be told from their last values alone."""

    def __init__(self) -> None:
        self._found: dict[int, set[tuple[str, str]]] = defaultdict(set)

    def add(self, labels: Mapping[str, str], times: Iterable[Any]) -> None:
        label = next((name for name in ("instance", "pod") if labels.get(name)), "")
        for when in times:
            self._found[int(float(when))].add((label, labels.get(label, "")))

    def by_time(self) -> Iterator[tuple[datetime, list[tuple[str, str]]]]:
        for when, targets in sorted(self._found.items()):
            yield _EPOCH + timedelta(seconds=when), sorted(targets)


def _series(data: Any) -> Iterator[tuple[dict[str, str], list[Any]]]:  # noqa: ANN401 - JSON
    try:
        for one in data["result"]:
            yield {str(key): str(value) for key, value in one["metric"].items()}, one["values"]
    except (KeyError, TypeError, AttributeError):
        raise SourceError(
            "that isn't the API of Prometheus",
            where="query_range",
            hint="Give the address below which /api/v1/query is.",
        ) from None


def _seconds(when: datetime) -> float:
    return (when - _EPOCH) / timedelta(seconds=1)


def _plain(text: str) -> str:
    """Escape what a regular expression of RE2 would read."""
    return "".join(f"\\{mark}" if mark in r"\.+*?()|[]{}^$" else mark for mark in text)


def _floor(when: datetime, step: timedelta) -> datetime:
    return _EPOCH + (when - _EPOCH) // step * step
