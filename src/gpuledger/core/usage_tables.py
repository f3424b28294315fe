"""The telemetry tables of the ledger, one row per record: who held what, and what came of it.

A unit of these tables is one UTC day of one telemetry source, replaced as a whole: x_BillingPeriod is that day as
YYYY-MM-DD. Intervals that cross midnight are cut there by whoever stores them; a job is in the unit of every day that
it lived in, with what was known then.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gpuledger.core.token_usage import TokenInterval, TrainingInterval
from gpuledger.core.usage import Job, NodeInterval, UsageInterval
from gpuledger.focus.schema import INSTANT, MONEY, QUANTITY, TAGS, TEXT, LedgerColumn

Record = Job | NodeInterval | UsageInterval | TokenInterval | TrainingInterval

# Quantities by name: histogram buckets by upper bound, lost time by cause.
QUANTITIES: Final = f"MAP(VARCHAR, {QUANTITY})"

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
TOKEN_INTERVAL: Final = (
    LedgerColumn("cluster", TEXT, "cluster id; null for an API"),
    LedgerColumn("namespace", TEXT, "Kubernetes namespace"),
    LedgerColumn("deployment", TEXT, "serving app, model group of a gateway, or model of an API"),
    LedgerColumn(
        "job_id", TEXT, "job that served; null when the source doesn't tell (the view `tokens` asks usage)"
    ),
    LedgerColumn("pod", TEXT, "replica"),
    LedgerColumn("provider", TEXT, "engine such as vllm, or the API's company"),
    LedgerColumn("model", TEXT, "model as the source names it"),
    LedgerColumn("role", TEXT, "prefill, decode or both"),
    LedgerColumn("team", TEXT, "team that called"),
    LedgerColumn("owner", TEXT, "person or key that called"),
    LedgerColumn("start", INSTANT, "inclusive start"),
    LedgerColumn("end", INSTANT, "exclusive end"),
    LedgerColumn("input_tokens", QUANTITY, "input tokens, those from a cache included"),
    LedgerColumn("cached_input_tokens", QUANTITY, "of these, read from a cache"),
    LedgerColumn("cache_write_tokens", QUANTITY, "of these, written to a cache that is paid for"),
    LedgerColumn("output_tokens", QUANTITY, "output tokens, reasoning included"),
    LedgerColumn("reasoning_tokens", QUANTITY, "of these, reasoning"),
    LedgerColumn("requests", QUANTITY, "requests that succeeded"),
    LedgerColumn("failed_requests", QUANTITY, "requests that did not"),
    LedgerColumn("good_requests", QUANTITY, "requests within their service level"),
    LedgerColumn("good_output_tokens", QUANTITY, "output tokens of these"),
    LedgerColumn("running", QUANTITY, "requests in work, mean"),
    LedgerColumn("waiting", QUANTITY, "requests in the queue, mean"),
    LedgerColumn("kv_cache_usage", QUANTITY, "part of the KV cache in use, 0 to 1, mean"),
    LedgerColumn("preemptions", QUANTITY, "requests put back for lack of KV cache"),
    LedgerColumn("ttft_seconds_sum", QUANTITY, "time to first token, sum"),
    LedgerColumn("ttft_seconds_count", QUANTITY, "observations in that sum"),
    LedgerColumn("tpot_seconds_sum", QUANTITY, "time per output token, sum"),
    LedgerColumn("tpot_seconds_count", QUANTITY, "observations in that sum"),
    LedgerColumn("ttft_buckets", QUANTITIES, "upper bound in seconds to observations up to it"),
    LedgerColumn("tpot_buckets", QUANTITIES, "the same of time per output token"),
    LedgerColumn("spend", MONEY, "what the gateway says it cost; no bill"),
    LedgerColumn("spend_currency", TEXT, "currency of that (ISO 4217)"),
    *_PARTITIONS,
)
TRAINING_INTERVAL: Final = (
    LedgerColumn("cluster", TEXT, "cluster id"),
    LedgerColumn("job_id", TEXT, "job that ran it; null when the source doesn't tell"),
    LedgerColumn("run_id", TEXT, "the run, as its log or tracker calls it"),
    LedgerColumn("name", TEXT, "readable name of the run"),
    LedgerColumn("model", TEXT, "model that was trained"),
    LedgerColumn("start", INSTANT, "inclusive start"),
    LedgerColumn("end", INSTANT, "exclusive end"),
    LedgerColumn("tokens", QUANTITY, "tokens consumed by all ranks together"),
    LedgerColumn("steps", QUANTITY, "steps"),
    LedgerColumn("step_seconds_sum", QUANTITY, "time in these steps"),
    LedgerColumn("useful_seconds", QUANTITY, "wall time that made lasting progress"),
    LedgerColumn("lost_seconds", QUANTITIES, "the rest by cause, as core/token_usage.py names them"),
    LedgerColumn("loss", QUANTITY, "last loss"),
    LedgerColumn("flops_per_token", QUANTITY, "floating point operations per token, as the log says"),
    LedgerColumn("checkpoints", QUANTITY, "checkpoints saved"),
    LedgerColumn("last_checkpoint_step", "BIGINT", "step of the last of them"),
    LedgerColumn("checkpoint_used", "BOOLEAN", "whether a checkpoint was ever restored or served"),
    LedgerColumn("discarded", "BOOLEAN", "whether the run's result was thrown away"),
    *_PARTITIONS,
)
# Who held what; charges are allocated by these.
HOLDING_TABLES: Final[Mapping[str, tuple[LedgerColumn, ...]]] = {
    "job": JOB,
    "node_interval": NODE_INTERVAL,
    "usage_interval": USAGE_INTERVAL,
}
TELEMETRY_TABLES: Final[Mapping[str, tuple[LedgerColumn, ...]]] = {
    **HOLDING_TABLES,
    "token_interval": TOKEN_INTERVAL,
    "training_interval": TRAINING_INTERVAL,
}
_TABLE_OF: Final[Mapping[type, str]] = {
    Job: "job",
    NodeInterval: "node_interval",
    UsageInterval: "usage_interval",
    TokenInterval: "token_interval",
    TrainingInterval: "training_interval",
}


def table_of(record: Record) -> str:
    """Name of the table that a record goes into."""
    return _TABLE_OF[type(record)]


def values_of(record: Record) -> dict[str, Any]:
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
    found_values = ((name, getattr(record, name)) for name in names)
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in found_values}


def columns_of(table: str) -> Sequence[str]:
    """Column names of a telemetry table that a record fills, in order."""
    return [column.name for column in TELEMETRY_TABLES[table] if column not in _PARTITIONS]
