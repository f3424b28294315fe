"""The example's telemetry: who held the machines of its bills, as record files that `ingest --type records` reads.

Machines and their times come from the bills, jobs from `telemetry_clusters`. One cluster's telemetry is missing for
some hours, and another doesn't know how busy its cards are: both are unknown, not idle. The machines of the weekend
run are in no cluster, so that no telemetry sees them.
"""

from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import Final

from gpuledger.demo import files, serving, training
from gpuledger.demo.company import DAY, HOUR
from gpuledger.demo.telemetry_clusters import CLUSTERS
from gpuledger.demo.telemetry_machines import AKS, PROD, RESEARCH, Machine, machines, volumes
from gpuledger.demo.telemetry_plan import Life, Plan, Work
from gpuledger.demo.telemetry_rows import FOLDER, UNMOUNTED, Records
from gpuledger.demo.truth import Truth

SOURCE: Final = "telemetry"
# Persistent volumes by team on the bill: cluster, namespace, claim, and the part of each of its disks that is used.
_CLAIMS: Final = {
    "rag-serving": (PROD, "rag-serving", "vector-index", ("0.81", "0.78", "0.44", "0.43")),
    "vision-research": (RESEARCH, "vision-research", "datasets", ("0.72", "0.66", "0.09", "0.03")),
    "llm-pretraining": (RESEARCH, "pretraining", "old-checkpoints", ("0.97", "0.95", "0.02", "0.02")),
    "": (RESEARCH, "default", "scratch", ("0.38", "0.11", "0.04", "0")),
}
# Of the disks of these claims, those from this one on are mounted nowhere.
_MOUNTED: Final = {"vector-index": 4, "datasets": 2, "old-checkpoints": 0, "scratch": 1}


def _paths(setting: files.Setting, written: list[files.Written]) -> dict[str, list[str]]:
    """Files of the bills that name machines: of two deliveries or exports, the one that states usage in the end."""
    found: dict[str, list[str]] = defaultdict(list)
    for part in written:
        small = part.provider in {"azure", "aws"}
        first = (
            not small
            or "synthetic-actual-cost" in part.path
            or (part.provider == "aws" and part.path.endswith("-00001.csv.gz"))
        )
        if first:
            found[part.provider].append(str(setting.root / part.path))
    # The newest delivery's folder sorts last.
    return {
        "aws": sorted(found["aws"])[-1:],
        **{name: sorted(found[name]) for name in ("azure", "gcp", "neocloud")},
    }


def _disks(plan: Plan, disks: list[tuple[str, str, int]], pools: dict[str, dict[str, list[Machine]]]) -> None:
    """Persistent volumes on the AWS bill: some half empty, some that nothing mounts any more."""
    month = plan.month
    seen: dict[str, int] = defaultdict(int)
    for disk, team, size in disks:
        if team not in _CLAIMS:
            continue
        cluster, namespace, claim, shares = _CLAIMS[team]
        number = seen[team]
        seen[team] += 1
        mounted = number < _MOUNTED[claim]
        state = "Running" if mounted else "ScaledToZero"  # a StatefulSet keeps its volumes
        work = Work(cluster, "StatefulSet", f"{claim}-{number}", namespace, team or None)
        begun = month.start - 80 * DAY
        job = plan.job(work, Life(begun, begun, state=state))
        used = (size * Decimal(shares[number % len(shares)])).quantize(Decimal("0.1"))
        pool = pools[cluster]["rag" if cluster == PROD else "p4d"]
        node = pool[0].node if mounted else UNMOUNTED
        plan.records.volume(job, disk, (month.start, month.end), size, used, node)


def write(setting: files.Setting, truth: Truth, bills: list[files.Written]) -> list[files.Written]:
    """Write the record files and tell the truth about them; `bills` are the files of the bills, already written."""
    month = setting.month
    gap = month.start + 11 * DAY + 9 * HOUR + timedelta(minutes=10)
    records = Records(setting, {AKS: [(gap, gap + 6 * HOUR + timedelta(minutes=20))]})
    plan = Plan(records)
    paths = _paths(setting, bills)
    pools: dict[str, dict[str, list[Machine]]] = defaultdict(lambda: defaultdict(list))
    for machine in machines(setting, paths):
        records.machine(machine)
        pools[machine.cluster][machine.pool].append(machine)
    for cluster, run in CLUSTERS.items():
        run(plan, pools[cluster])
    _disks(plan, volumes(paths["aws"]), pools)
    truth.notes["telemetry"] = records.truth()
    files.mark(
        setting.root / FOLDER,
        "Who held the machines of the bills: records as `ingest --type records` reads them.",
    )
    tokens, deployments = serving.write(records)
    steps, runs = training.write(records)
    truth.notes["unit_economics"] = {"deployments": deployments, "runs": runs}
    return [*records.write(), *tokens, *steps]


__all__ = ["FOLDER", "SOURCE", "write"]
