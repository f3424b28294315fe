"""Prometheus, or what speaks its HTTP API (Thanos, Mimir, VictoriaMetrics): usage records of a Kubernetes cluster.

Documented by Prometheus: "HTTP API" (`/api/v1/query`, `/api/v1/query_range`). Reads what kube-state-metrics, cAdvisor,
dcgm-exporter and HAMi's monitor put there; every question asks for the mean over a step, so that a gap in scraping
is a gap here too, and no value is carried over it. Counters go through `rate`, which knows their resets.
Known to be missing: init containers' requests, volumes, network; owners beyond what kube-state-metrics tells (a
TrainJob above a JobSet); HAMi's utilisation, whose unit differs between its versions.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final

from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import ConfigError
from gpuledger.telemetry.prometheus.client import Client, Question, Server

if TYPE_CHECKING:
    from gpuledger.core.cluster_metrics import Batch
    from gpuledger.core.metric_grid import Grid

__all__ = ["QUESTIONS", "TITLE", "TYPE", "Server", "connect", "query", "read"]

TYPE: Final = "prometheus"
TITLE: Final = "Prometheus with kube-state-metrics, cAdvisor and dcgm-exporter"

_CONTAINERS: Final = 'container!="",container!="POD"'
# Question -> function, metrics, fixed matchers. Metrics of several names are renamings between versions.
QUESTIONS: Final[Mapping[str, tuple[str, tuple[str, ...], str]]] = {
    "phase": ("max_over_time", ("kube_pod_status_phase",), 'phase=~"Pending|Running"'),
    "running": ("avg_over_time", ("kube_pod_container_status_running",), ""),
    "requests": ("max_over_time", ("kube_pod_container_resource_requests",), ""),
    "restarts": ("max_over_time", ("kube_pod_container_status_restarts_total",), ""),
    "pod_info": ("max_over_time", ("kube_pod_info",), ""),
    "pod_start": ("max_over_time", ("kube_pod_start_time",), ""),
    "pod_end": ("max_over_time", ("kube_pod_completion_time",), ""),
    "pod_labels": ("max_over_time", ("kube_pod_labels",), ""),
    "pod_owner": ("max_over_time", ("kube_pod_owner",), ""),
    "replicaset_owner": ("max_over_time", ("kube_replicaset_owner",), ""),
    "job_owner": ("max_over_time", ("kube_job_owner",), ""),
    "node_info": ("max_over_time", ("kube_node_info",), ""),
    "node_labels": ("max_over_time", ("kube_node_labels",), ""),
    "node_capacity": ("max_over_time", ("kube_node_status_capacity",), ""),
    "cpu": ("rate", ("container_cpu_usage_seconds_total",), _CONTAINERS),
    "memory": ("avg_over_time", ("container_memory_working_set_bytes",), _CONTAINERS),
    "gpu_util": ("avg_over_time", ("DCGM_FI_DEV_GPU_UTIL",), ""),
    "gpu_engine": ("avg_over_time", ("DCGM_FI_PROF_GR_ENGINE_ACTIVE",), ""),
    "hami": ("max_over_time", ("Device_memory_desc_of_container", "hami_container_device_memory_bytes"), ""),
}
# What doesn't change while a thing lives, or tells times itself, is asked for once for all of a window.
_ONCE: Final = frozenset(
    {"pod_info", "pod_start", "pod_end", "pod_labels", "pod_owner", "replicaset_owner", "job_owner"}
)
_SKEW: Final = timedelta(seconds=30)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# Questions on their way at the same time: the server works on one while it sends the answer to another.
_AT_ONCE: Final = 2
# Windows that are asked for before they are needed, so that the server is never waited for by turns.
_AHEAD: Final = 2


def read(
    server: Server,
    cluster: str,
    between: tuple[datetime, datetime],
    *,
    step: timedelta = timedelta(minutes=5),
    steps: int = 24,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> "Iterator[Batch]":
    """Yield the records of [start, end), `steps` steps at a time; times are cut to whole steps.

    What was yielded is complete: after a failure go on from the last batch's `end`. The end is no later than the
    server's clock. Steps should be at least twice the scrape interval, or rates are unknown.
    Raises SourceError when the server can't be reached, refuses, or doesn't speak the API; ConfigError for settings
    that can't work.
    """
    from gpuledger.core.cluster_metrics import records
    from gpuledger.core.metric_grid import Window

    with Client(server, now, sleep) as client:
        there = client.clock()
        start, end = _floor(between[0], step), _floor(min(between[1], there), step)
        notes = list(_skewed(there - now(), client.where))
        for begin, stop, series in _ahead(client, start, end, step, steps):
            notes += client.taken() + _missing(series, client.where)
            batch = records(Window(cluster, begin, stop, step, series, tuple(notes)))
            series.clear()  # while the batch is worked on, the next windows' are coming
            yield batch
            del batch
            notes = []


def _ahead(
    client: Client, start: datetime, end: datetime, step: timedelta, steps: int
) -> "Iterator[tuple[datetime, datetime, dict[str, Grid]]]":
    """Yield windows' answers. While one is worked on, the next ones' are coming."""
    left = threading.Event()
    match = client.server.match
    questions = [Question(name, step, partial(query, name, match=match), name in _ONCE) for name in QUESTIONS]

    def ask(question: Question, begin: datetime, stop: datetime) -> "Grid | None":
        return None if left.is_set() else client.ask(question, begin, stop)

    with ThreadPoolExecutor(_AT_ONCE, "prometheus") as pool:

        def asked() -> "Iterator[tuple[datetime, datetime, dict[str, Future[Grid | None]]]]":
            begin = start
            while begin < end:
                stop = min(begin + step * steps, end)
                yield begin, stop, {one.name: pool.submit(ask, one, begin, stop) for one in questions}
                begin = stop

        coming = asked()
        try:
            windows = deque(islice(coming, _AHEAD))
            while windows:
                begin, stop, futures = windows.popleft()
                found = {name: grid for name, one in futures.items() if (grid := one.result()) is not None}
                del futures
                windows.extend(islice(coming, 1))
                yield begin, stop, found
        finally:
            left.set()


def connect(
    server: Server,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> Client:
    """Return a client for questions of one's own: a context manager. Raises ConfigError for settings that can't work."""
    return Client(server, now, sleep)


def query(name: str, step: timedelta, match: Mapping[str, str]) -> str:
    """Return the question's PromQL. The offset makes steps half-open: a sample on a border is in one step only."""
    function, metrics, fixed = QUESTIONS[name]
    matchers = [
        *([fixed] if fixed else []),
        *(f"{key}={json.dumps(value)}" for key, value in sorted(match.items())),
    ]
    return " or ".join(
        f"{function}({metric}{{{','.join(matchers)}}}[{int(step.total_seconds())}s] offset 1ms)"
        for metric in metrics
    )


def _floor(when: datetime, step: timedelta) -> datetime:
    if when.tzinfo is None:
        raise ConfigError(
            "a time without a zone", where=str(when), hint="Times are UTC, such as 2026-11-01T00:00:00Z."
        )
    return _EPOCH + (when - _EPOCH) // step * step


def _skewed(skew: timedelta, where: str) -> Iterator[Diagnostic]:
    if abs(skew) > _SKEW:
        yield Diagnostic(
            "clock-skew",
            "warning",
            where,
            f"its clock is {abs(skew.total_seconds()):.0f} s {'ahead of' if skew > timedelta(0) else 'behind'} ours",
            "Times are the server's. Check NTP on both machines.",
        )


def _missing(series: "Mapping[str, Grid]", where: str) -> list[Diagnostic]:
    wanted = (
        (("requests", "running"), "kube-state-metrics", "Without it nobody's requests and owners are known."),
        (("gpu_util", "gpu_engine"), "dcgm-exporter", "Without it no card's use is known."),
        (("cpu", "memory"), "cAdvisor", "Without it the use of CPU and memory isn't known."),
    )
    return [
        Diagnostic("no-metrics", "info", where, f"there is nothing from {whose}", hint)
        for names, whose, hint in wanted
        if not any(series[name].labels for name in names)
    ]
