"""The telemetry tables of the ledger: `job`, `node_interval` and `usage_interval`, one row per record.

A unit of these tables is one UTC day of one telemetry source, replaced as a whole: x_BillingPeriod is that day as
YYYY-MM-DD. Intervals that cross midnight are cut there by whoever stores them; a job is in the unit of every day that
it lived in, with what was known then.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gpuledger.core.usage import Job, NodeInterval, UsageInterval
from gpuledger.focus.schema import INSTANT, QUANTITY, TAGS, TEXT, LedgerColumn

DIMENSIONS: Final = (
    "cost_center", "team", "owner", "workload_type", "model", "experiment", "project", "environment", "budget",
)  # fmt: skip

_PARTITIONS: Final = (
    LedgerColumn("x_Source", TEXT, "telemetry source that told (partition)"),
    LedgerColumn("x_BillingPeriod", TEXT, "UTC day as YYYY-MM-DD (partition)"),
    LedgerColumn("x_DeliveryId", TEXT, "reading that brought the row; replaced as a whole (partition)"),
)

JOB: Final = (
    LedgerColumn("job_id", TEXT, "<cluster>/<root uid>, or <cluster>/slurm/<id>@<submitted>"),
    LedgerColumn("cluster", TEXT, "cluster id"),
    LedgerColumn("kind", TEXT, "kind of the root owner, such as Job, RayJob, SlurmJob"),
    LedgerColumn("name", TEXT, "name of the root owner"),
    LedgerColumn("namespace", TEXT, "Kubernetes namespace; null on Slurm"),
    LedgerColumn("state", TEXT, "the platform's own word"),
    LedgerColumn("submitted", INSTANT, "when it was handed in"),
    LedgerColumn("started", INSTANT, "when it first ran"),
    LedgerColumn("ended", INSTANT, "when it ended; null while it lives"),
    LedgerColumn("attempts", "BIGINT", "tries of the same job; null when not known"),
    *(LedgerColumn(name, TEXT, f"attribution dimension {name}") for name in DIMENSIONS),
    LedgerColumn("evidence", TEXT, "JSON: dimension to source, rank (0 strongest) and inferred"),
    LedgerColumn("labels", TAGS, "labels, annotations or comments worth keeping"),
    *_PARTITIONS,
)
NODE_INTERVAL: Final = (
    LedgerColumn("cluster", TEXT, "cluster id"),
    LedgerColumn("node", TEXT, "node name"),
    LedgerColumn("start", INSTANT, "inclusive start"),
    LedgerColumn("end", INSTANT, "exclusive end"),
    LedgerColumn("provider_id", TEXT, "the machine's ResourceId on a bill"),
    LedgerColumn("instance_type", TEXT, "instance type"),
    LedgerColumn("cloud", TEXT, "who rents it out"),
    LedgerColumn("region", TEXT, "region"),
    LedgerColumn("zone", TEXT, "availability zone"),
    LedgerColumn("pool", TEXT, "node pool or partition"),
    LedgerColumn("cpu_cores", QUANTITY, "cores; null when not known"),
    LedgerColumn("memory_gib", QUANTITY, "memory in GiB; null when not known"),
    LedgerColumn("gpu_model", TEXT, "accelerator model"),
    LedgerColumn("gpu_count", QUANTITY, "cards; null when not known"),
    LedgerColumn("spot", "BOOLEAN", "interruptible capacity; null when not known"),
    LedgerColumn("labels", TAGS, "node labels"),
    *_PARTITIONS,
)
USAGE_INTERVAL: Final = (
    LedgerColumn("cluster", TEXT, "cluster id"),
    LedgerColumn("node", TEXT, "node name"),
    LedgerColumn("job_id", TEXT, "job that held it"),
    LedgerColumn("attempt", "BIGINT", "attempt of the job, from 1"),
    LedgerColumn("namespace", TEXT, "Kubernetes namespace"),
    LedgerColumn("pod", TEXT, "pod name"),
    LedgerColumn("pod_uid", TEXT, "pod uid"),
    LedgerColumn("container", TEXT, "container, or Slurm step"),
    LedgerColumn("resource", TEXT, "gpu, cpu, memory, storage or network"),
    LedgerColumn("device", TEXT, "card or volume"),
    LedgerColumn("sharing", TEXT, "whole, mig, time-slicing, mps, hami or dra"),
    LedgerColumn("share_numerator", "BIGINT", "held part of the card: numerator"),
    LedgerColumn("share_denominator", "BIGINT", "held part of the card: denominator"),
    LedgerColumn("requested", QUANTITY, "cards, cores or GiB asked for; null when not known"),
    LedgerColumn("used", QUANTITY, "cards, cores or GiB used on average; null when not known"),
    LedgerColumn("state", TEXT, "running or held"),
    LedgerColumn("start", INSTANT, "inclusive start"),
    LedgerColumn("end", INSTANT, "exclusive end"),
    *_PARTITIONS,
)
TELEMETRY_TABLES: Final[Mapping[str, tuple[LedgerColumn, ...]]] = {
    "job": JOB,
    "node_interval": NODE_INTERVAL,
    "usage_interval": USAGE_INTERVAL,
}


def table_of(record: Job | NodeInterval | UsageInterval) -> str:
    """Name of the table that a record goes into."""
    if isinstance(record, Job):
        return "job"
    return "node_interval" if isinstance(record, NodeInterval) else "usage_interval"


def values_of(record: Job | NodeInterval | UsageInterval) -> dict[str, Any]:
    """Return a record's values by column, without the partition columns."""
    if isinstance(record, Job):
        found = record.dimensions
        return {
            "job_id": record.job_id, "cluster": record.cluster, "kind": record.kind, "name": record.name,
            "namespace": record.namespace, "state": record.state, "submitted": record.submitted,
            "started": record.started, "ended": record.ended, "attempts": record.attempts,
            **{name: found[name].value if name in found else None for name in DIMENSIONS},
            "evidence": json.dumps({
                name: {"source": said.source, "rank": said.rank, "inferred": said.inferred}
                for name, said in found.items()
            }) if found else None,
            "labels": dict(record.labels),
        }  # fmt: skip
    names = [column.name for column in TELEMETRY_TABLES[table_of(record)] if column not in _PARTITIONS]
    if isinstance(record, UsageInterval):
        share = record.share
        parts = {
            "share_numerator": share.numerator if share is not None else None,
            "share_denominator": share.denominator if share is not None else None,
        }
        return {name: parts[name] if name in parts else getattr(record, name) for name in names}
    return {name: dict(record.labels) if name == "labels" else getattr(record, name) for name in names}


def columns_of(table: str) -> Sequence[str]:
    """Column names of a telemetry table that a record fills, in order."""
    return [column.name for column in TELEMETRY_TABLES[table] if column not in _PARTITIONS]
