"""`/metrics`: what machines and jobs cost per hour, what is idle or has no owner, how old the data is.

Rates are those of the newest hour that a cluster has charges for, and are left out when that is more than two days
ago: an old rate is no rate. Labels avoid `job` and `instance` as names of ours, which Prometheus takes for the target
scraped. OpenCost's names stand beside ours where they mean the same: price per core, GiB and card of a node, and what
containers hold.
"""

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from gpuledger import __version__
from gpuledger.core.metrics_text import CONTENT_TYPE, Family, text
from gpuledger.core.opencost.windows import Span
from gpuledger.engines.duckdb import Connection
from gpuledger.pipeline.ledger import Ledger
from gpuledger.surfaces.api.snapshot import Snapshot

__all__ = ["CONTENT_TYPE", "Counters", "exposition"]

_OLDEST: Final = timedelta(days=2)
_HOUR: Final = timedelta(hours=1)
_CURRENCY: Final = "USD"

# A charge's part of one hour: charges by the day or month count evenly over their period.
_CHARGES: Final = """WITH newest AS (
    SELECT x_Cluster AS cluster, date_trunc('hour', max(ChargePeriodEnd) - INTERVAL 1 MICROSECOND) AS hour
    FROM allocated WHERE x_Cluster IS NOT NULL AND x_Node IS NOT NULL AND ChargePeriodEnd <= $now
        AND ChargePeriodStart >= $since
    GROUP BY ALL
), charge AS (
    SELECT a.*, n.hour, 3600000000 / epoch_us(a.ChargePeriodEnd - a.ChargePeriodStart) AS share
    FROM allocated AS a JOIN newest AS n ON a.x_Cluster = n.cluster
    WHERE a.ChargePeriodStart <= n.hour AND a.ChargePeriodEnd > n.hour AND a.ChargePeriodStart >= $since
        AND a.ChargePeriodEnd > a.ChargePeriodStart
)
"""
_RATES: Final = f"""{_CHARGES}SELECT
    c.x_Cluster, c.x_Node, c.hour, c.BillingCurrency,
    CASE WHEN c.x_JobId IS NULL THEN coalesce(c.x_AllocationState, 'unknown') ELSE 'job' END AS state,
    c.x_JobId, coalesce(c.x_Namespace, j.namespace) AS namespace, j.kind, j.name, j.team, j.cost_center, j.owner,
    j.workload_type, j.model, any_value(c.ResourceId) AS provider_id, any_value(c.x_InstanceType) AS instance_type,
    any_value(c.RegionId) AS region,
    sum(CAST(c.EffectiveCost AS DOUBLE) * c.share), sum(CAST(c.x_GpuCost AS DOUBLE) * c.share),
    sum(CAST(c.x_CpuCost AS DOUBLE) * c.share), sum(CAST(c.x_MemoryCost AS DOUBLE) * c.share)
FROM charge AS c LEFT JOIN api_job AS j ON c.x_JobId = j.job_id
GROUP BY ALL ORDER BY ALL"""
_NODES: Final = """SELECT cluster, node, arg_max(CAST(cpu_cores AS DOUBLE), "start"),
    arg_max(CAST(memory_gib AS DOUBLE), "start"), arg_max(CAST(gpu_count AS DOUBLE), "start"),
    arg_max(spot, "start"), arg_max(gpu_model, "start"), arg_max(pool, "start")
FROM node_interval WHERE "end" > $since AND "start" <= $now GROUP BY ALL ORDER BY ALL"""
_HELD: Final = """SELECT u.cluster, u.node, u.namespace, u.pod, u.container, a.resource, sum(a.held)
FROM api_usage AS a JOIN api_user AS u ON a."user" = u.id
WHERE a."start" = $hour AND u.cluster = $cluster AND u.pod <> '' GROUP BY ALL ORDER BY ALL"""
# Volumes that one job claims: of shared ones nobody says how large they are.
_VOLUMES: Final = f"""{_CHARGES}, claim AS (
    SELECT u.cluster, u.device, max(CAST(u.requested AS DOUBLE)) AS gib
    FROM usage_interval AS u JOIN newest AS n USING (cluster)
    WHERE u.resource = 'storage' AND u.device IS NOT NULL AND u."start" <= n.hour AND u."end" > n.hour
    GROUP BY ALL HAVING count(DISTINCT u.job_id) = 1
)
SELECT c.x_Cluster, v.device, any_value(c.ResourceId), max(c.hour),
    sum(CAST(c.EffectiveCost AS DOUBLE) * c.share) / max(v.gib)
FROM charge AS c JOIN claim AS v ON v.cluster = c.x_Cluster
    AND lower(parse_filename(c.ResourceId)) = lower(parse_filename(v.device))
WHERE c.ServiceCategory = 'Storage' AND c.x_Node IS NULL AND v.gib > 0 AND c.BillingCurrency = '{_CURRENCY}'
GROUP BY ALL ORDER BY ALL"""
_UNOWNED: Final = """SELECT coalesce(a.x_Cluster, ''), a.BillingCurrency,
    CASE WHEN a.x_JobId IS NULL THEN coalesce(a.x_AllocationState, 'charge') ELSE 'job' END AS state,
    sum(a.EffectiveCost)
FROM allocated AS a LEFT JOIN api_job AS j ON a.x_JobId = j.job_id
WHERE a.ChargePeriodStart >= $month AND a.ChargePeriodStart < $now
    AND coalesce(a.x_CostCenter, a.x_Team, a.x_Owner, a.x_Project, j.cost_center, j.team, j.owner, j.project) IS NULL
GROUP BY ALL ORDER BY ALL"""
# Charges by the month end long after they are known: their start counts.
_NEWEST: Final = """max(CASE WHEN ChargePeriodEnd <= ChargePeriodStart + INTERVAL 1 DAY
    THEN ChargePeriodEnd ELSE ChargePeriodStart END)"""
_ENDS: Final = f"""SELECT x_Source, 'bill', {_NEWEST} FROM cost_and_usage
    WHERE x_CostStatus IS DISTINCT FROM 'Estimated' GROUP BY ALL
UNION ALL SELECT x_Source, 'estimate', {_NEWEST} FROM estimated_cost GROUP BY ALL
UNION ALL SELECT x_Source, 'telemetry', max("end") FROM node_interval GROUP BY ALL
ORDER BY ALL"""


class Counters:
    """Requests answered, by route and status."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: Counter[tuple[str, int]] = Counter()

    def add(self, route: str, status: int) -> None:
        """Count one answer."""
        with self._lock:
            self._answers[route, status] += 1

    def family(self) -> Family:
        """Return the counts."""
        family = Family(
            "gpuledger_http_requests_total", "counter", "Requests answered since the server started."
        )
        with self._lock:
            for (route, status), count in sorted(self._answers.items()):
                family.add(count, route=route, code=str(status))
        return family


def exposition(con: Connection, snapshot: Snapshot, ledger: Ledger, now: datetime, counters: Counters) -> str:
    """Return all metrics as text. What only the ledger's state decides is computed once an hour and state."""
    hour = now.replace(minute=0, second=0, microsecond=0)
    key = f"metrics {hour.isoformat()}"
    with snapshot.lock:
        kept = snapshot.kept.get(key)
    if kept is None:
        kept = (text(_of_state(con, snapshot, now)), con.execute(_ENDS).fetchall())
        with snapshot.lock:
            for old in [name for name in snapshot.kept if name.startswith("metrics ")]:
                del snapshot.kept[old]
            snapshot.kept[key] = kept
    body, ends = kept
    return body + text([*_present(ends, snapshot, ledger, now), counters.family()])


def _present(
    ends: Sequence[tuple[str, str, datetime | None]], snapshot: Snapshot, ledger: Ledger, now: datetime
) -> Iterable[Family]:
    lag = Family(
        "gpuledger_source_lag_seconds",
        "gauge",
        "Seconds between the end of a source's newest record and now.",
    )
    for source, kind, end in ends:
        lag.add(None if end is None else (now - end).total_seconds(), source=source, kind=kind)
    info = Family("gpuledger_build_info", "gauge", "Version of gpuledger; the value is 1.")
    info.add(1, version=__version__)
    version = Family("gpuledger_ledger_version", "gauge", "Version of each table of the ledger that is read.")
    for table, number in snapshot.versions:
        version.add(number, table=table)
    sources = Family("gpuledger_configured_sources", "gauge", "Billing sources in the configuration.")
    sources.add(len(ledger.config.sources))
    return lag, info, version, sources


def _of_state(con: Connection, snapshot: Snapshot, now: datetime) -> list[Family]:
    since = now - _OLDEST - timedelta(days=31)  # charges by the month began that long before
    rows = con.execute(_RATES, {"now": now, "since": since}).fetchall()
    recent = [row for row in rows if row[2] >= now - _OLDEST]
    names = ("cluster", "node", "hour", "currency", "state", "job_id", "namespace", "kind", "name", "team",
             "cost_center", "owner", "workload_type", "model", "provider_id", "instance_type", "region", "total",
             "gpu", "cpu", "ram")  # fmt: skip
    told = [dict(zip(names, row, strict=True)) for row in recent]
    nodes = con.execute(_NODES, {"now": now, "since": now - _OLDEST}).fetchall()
    volumes = Family("pv_hourly_cost", "gauge", "Cost per hour of each GiB of the volume.")
    for cluster, device, resource, hour, cost in con.execute(
        _VOLUMES, {"now": now, "since": since}
    ).fetchall():
        if hour >= now - _OLDEST:
            volumes.add(
                cost, cluster=cluster, persistentvolume=device, volumename=device, provider_id=resource
            )
    return [*_jobs(told), *_machines(told, nodes), volumes, *_held(con, snapshot, told), *_unowned(con, now)]


def _jobs(told: Sequence[Mapping[str, Any]]) -> list[Family]:
    cost = Family("gpuledger_job_cost_usd_per_hour", "gauge", "What a job costs per hour, in US dollars.")
    other = Family("gpuledger_job_cost_per_hour", "gauge", "What a job costs per hour, in another currency.")
    labels = ("cluster", "namespace", "kind", "team", "cost_center", "owner", "workload_type", "model")
    sums: dict[tuple[str, str], tuple[dict[str, str | None], float]] = {}
    for row in told:
        if row["state"] == "job" and row["total"] is not None:
            key = (row["job_id"], row["currency"])
            known = {"job_id": row["job_id"], "job_name": row["name"], **{name: row[name] for name in labels}}
            sums[key] = (known, sums.get(key, (known, 0.0))[1] + row["total"])
    for (_, currency), (known, value) in sorted(sums.items(), key=lambda pair: str(pair[0])):
        if currency == _CURRENCY:
            cost.add(value, **known)
        else:
            other.add(value, **known, currency=currency)
    return [cost, other]


def _machines(told: Sequence[Mapping[str, Any]], nodes: Sequence[tuple[Any, ...]]) -> list[Family]:
    ours = Family("gpuledger_node_cost_usd_per_hour", "gauge", "What a node costs per hour, in US dollars.")
    idle = Family(
        "gpuledger_idle_cost_usd_per_hour", "gauge", "What nobody holds of a node, per hour, in US dollars."
    )
    unknown = Family(
        "gpuledger_unknown_cost_usd_per_hour", "gauge",
        "Cost per hour of a node at times that telemetry says nothing of, in US dollars.",
    )  # fmt: skip
    hour = Family(
        "gpuledger_cost_hour_timestamp_seconds",
        "gauge",
        "Start of the hour that a cluster's rates are of, as Unix time.",
    )
    shape = {(row[0], row[1]): row[2:] for row in nodes}
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    for row in told:
        if row["node"] is None or row["currency"] != _CURRENCY:
            continue
        there = sums.setdefault((row["cluster"], row["node"]), {"about": row})
        for name in ("total", "gpu", "cpu", "ram"):
            if row[name] is not None:
                there[name] = there.get(name, 0.0) + row[name]
        if row["state"] in {"idle", "unknown"} and row["total"] is not None:
            there[row["state"]] = there.get(row["state"], 0.0) + row["total"]
    theirs = _opencost_nodes(sums, shape)
    for (cluster, node), found in sorted(sums.items()):
        about = found["about"]
        of_node = shape.get((cluster, node))
        pool, model = (of_node[5], of_node[4]) if of_node else (None, None)
        ours.add(
            found.get("total"), cluster=cluster, node=node, pool=pool, gpu_model=model,
            instance_type=about["instance_type"], region=about["region"], provider_id=about["provider_id"],
        )  # fmt: skip
        idle.add(found.get("idle"), cluster=cluster, node=node, pool=pool, gpu_model=model)
        unknown.add(found.get("unknown"), cluster=cluster, node=node, pool=pool, gpu_model=model)
    for cluster, at in sorted({(row["cluster"], row["hour"]) for row in told}):
        hour.add(int(at.timestamp()), cluster=cluster)
    return [ours, idle, unknown, hour, *theirs]


def _opencost_nodes(
    sums: Mapping[tuple[str, str], Mapping[str, Any]], shape: Mapping[tuple[str, str], tuple[Any, ...]]
) -> list[Family]:
    total = Family("node_total_hourly_cost", "gauge", "Total cost of the node per hour.")
    cpu = Family("node_cpu_hourly_cost", "gauge", "Cost per hour of each core of the node.")
    ram = Family("node_ram_hourly_cost", "gauge", "Cost per hour of each GiB of memory of the node.")
    gpu = Family("node_gpu_hourly_cost", "gauge", "Cost per hour of each accelerator of the node.")
    count = Family("node_gpu_count", "gauge", "Accelerators of the node.")
    spot = Family("kubecost_node_is_spot", "gauge", "Whether the node is interruptible capacity.")
    for (cluster, node), found in sorted(sums.items()):
        about = found["about"]
        labels = {
            "cluster": cluster, "instance": node, "node": node, "instance_type": about["instance_type"],
            "region": about["region"], "provider_id": about["provider_id"],
        }  # fmt: skip
        total.add(found.get("total"), **labels)
        cores, memory, cards, is_spot = shape.get((cluster, node), (None,) * 4)[:4]
        for family, part, size in ((cpu, "cpu", cores), (ram, "ram", memory), (gpu, "gpu", cards)):
            if found.get(part) is not None and size:
                family.add(found[part] / size, **labels)
        count.add(cards, **labels)
        spot.add(None if is_spot is None else int(is_spot), **labels)
    return [total, cpu, ram, gpu, count, spot]


def _held(con: Connection, snapshot: Snapshot, told: Sequence[Mapping[str, Any]]) -> list[Family]:
    families = {
        "cpu": Family(
            "container_cpu_allocation", "gauge", "Cores held by the container, averaged over the hour."
        ),
        "memory": Family(
            "container_memory_allocation_bytes", "gauge", "Bytes of memory held by the container."
        ),
        "gpu": Family(
            "container_gpu_allocation", "gauge", "Accelerators held by the container, averaged over the hour."
        ),
    }
    for cluster, hour in sorted({(row["cluster"], row["hour"]) for row in told}):
        snapshot.load(Span(hour, hour + _HOUR))
        for row in con.execute(_HELD, {"hour": hour, "cluster": cluster}).fetchall():
            family = families.get(row[5])
            if family is None or row[6] is None:
                continue
            value = row[6] * 2**30 if row[5] == "memory" else row[6]
            family.add(
                value,
                cluster=row[0],
                node=row[1],
                instance=row[1],
                namespace=row[2],
                pod=row[3],
                container=row[4],
            )
    return list(families.values())


def _unowned(con: Connection, now: datetime) -> list[Family]:
    family = Family(
        "gpuledger_unattributed_cost_usd", "gauge",
        "Cost of this month, UTC, that no cost centre, team, owner or project is known for, in US dollars.",
    )  # fmt: skip
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for cluster, currency, state, amount in con.execute(_UNOWNED, {"now": now, "month": month}).fetchall():
        if currency == _CURRENCY and isinstance(amount, Decimal):
            family.add(amount, cluster=cluster, state=state)
    return [family]
