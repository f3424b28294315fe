"""Kubernetes: jobs, nodes and what pods asked for, from the API server itself.

`collect` lists a cluster once; `watching` keeps up with it. Records say what was *requested*: what was used is for
other sources to tell. Needs get, list and watch on pods and nodes, and as much of the rest as is allowed.

Known to be missing: pods that were deleted before anyone looked; which card of several a pod has, unless DRA, HAMi
or KAI say so.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime

from gpuledger.core.usage import Job, NodeInterval, UsageInterval
from gpuledger.core.workload import Attribution, Records, Timeline
from gpuledger.core.workload.attribution import DEFAULT
from gpuledger.core.workload.fields import Json, metadata, text
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import ConfigError
from gpuledger.telemetry.kubernetes import access
from gpuledger.telemetry.kubernetes.api import Api, ForbiddenError, NotFoundError
from gpuledger.telemetry.kubernetes.cluster import Watcher, observe

__all__ = ["TITLE", "TYPE", "Options", "Record", "cluster_id", "collect", "connect", "records", "watching"]

TYPE = "kubernetes"
TITLE = "Kubernetes API server (pods, nodes, jobs of any kind)"

Record = Job | NodeInterval | UsageInterval | Diagnostic


@dataclass(frozen=True, slots=True)
class Options:
    """Which cluster, and how to read it.

    `cluster` is its id in the ledger; the default is the cluster's name in the kubeconfig, and inside a cluster the
    uid of its namespace kube-system. `namespaces` restricts what is read to some, for accounts that may read no more.
    """

    kubeconfig: str | None = None
    context: str | None = None
    cluster: str | None = None
    namespaces: Sequence[str] = ()
    attribution: Attribution = DEFAULT
    timeout: float = 30.0
    tries: int = 5
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


def connect(options: Options) -> Api:
    """Return the API of the cluster that is meant. Raises ConfigError when it isn't told how to reach it."""
    found = access.find(options.kubeconfig, options.context, options.environ)
    return Api(found, timeout=options.timeout, tries=options.tries)


def cluster_id(api: Api, options: Options) -> str:
    """Return the cluster's id in the ledger. Raises ConfigError when neither settings nor cluster tell one."""
    if options.cluster or api.access.name:
        return options.cluster or api.access.name or ""
    try:
        system: Json = api.get("/api/v1/namespaces/kube-system", what="namespaces")
    except (ForbiddenError, NotFoundError) as error:
        raise ConfigError(
            "the cluster has no name here",
            where=api.access.where,
            hint='Set one, such as cluster = "prod-eu".',
        ) from error
    return text(metadata(system).get("uid")) or api.access.server


def collect(
    since: datetime, until: datetime, *, options: Options | None = None, api: Api | None = None
) -> Iterator[Record]:
    """Yield what the cluster still knows of [since, until): jobs, nodes, what pods held, and diagnostics last.

    What runs now ends now. Raises ConfigError for settings, SourceError when the API can't be reached or pods can't
    be read.
    """
    options = options or Options()
    with _using(api, options) as used:
        timeline = Timeline(cluster_id(used, options), options.attribution)
        troubles = observe(used, timeline, options.namespaces)
        yield from records(timeline.records(since, until))
        yield from troubles
        yield from _clock(used)


@contextmanager
def watching(*, options: Options | None = None, api: Api | None = None) -> Iterator[Watcher]:
    """Watch a cluster: call `update` of what is yielded, then `timeline.records` for any window since the start.

    Raises as `collect` does. When it ends, the API's connections are closed, which ends its watches.
    """
    options = options or Options()
    with _using(api, options) as used:
        timeline = Timeline(cluster_id(used, options), options.attribution)
        with Watcher(used, timeline, options.namespaces) as watcher:
            yield watcher


@contextmanager
def _using(api: Api | None, options: Options) -> Iterator[Api]:
    """Use an API that was given, or one of our own that is closed afterwards."""
    own = api if api is not None else connect(options)
    try:
        yield own
    finally:
        if api is None:
            own.close()


def records(found: Records) -> Iterator[Record]:
    """Yield a timeline's records one by one: nodes, jobs, usage, diagnostics."""
    yield from found.nodes
    yield from found.jobs
    yield from found.usages
    yield from found.diagnostics


def _clock(api: Api) -> Iterator[Diagnostic]:
    if api.offset:
        yield Diagnostic(
            "clock-skew",
            "warning",
            api.access.where,
            f"this machine's clock differs from the API server's by {api.offset.total_seconds():.0f} s",
            "The server's clock was used. Synchronise this machine's.",
        )
