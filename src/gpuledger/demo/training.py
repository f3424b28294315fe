"""The example's training telemetry: tokens, steps and goodput of runs by the hour, and one run that was thrown away.

Synthetic throughout, in the words of Google's ml-goodput-measurement. A run tells while its job runs; what the job
holds beside that (a gang that waits) costs and makes nothing.
"""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from gpuledger.core.usage import Job, UsageInterval
from gpuledger.demo import files
from gpuledger.demo.company import HOUR
from gpuledger.demo.serving import exact, job_cost, named, steps
from gpuledger.demo.telemetry_machines import AKS, CKS, GKE, SLURM, Span, joined
from gpuledger.demo.telemetry_rows import FOLDER, Records, packed

# Cluster, job, model, tokens a second of the whole run, seconds of a step.
_RUNS: Final = (
    (AKS, "atlas-70b", "atlas-70b", 31_200, "9.5"),
    (CKS, "atlas-moe", "atlas-moe", 58_000, "4.25"),
    (SLURM, "pretrain-atlas-7b", "atlas-7b", 152_000, "2.75"),
)
_SAM: Final = "sam-train-"
THROWN_AWAY: Final = "sam-train-6"


def _running(records: Records, job: Job) -> tuple[Span, ...]:
    rows = (
        row for row in records.rows
        if isinstance(row, UsageInterval) and row.job_id == job.job_id and row.resource == "gpu" and row.state == "running"
    )  # fmt: skip
    # Pods of a gang run together: the same spans, once.
    return joined(sorted({(row.start, row.end) for row in rows}))


def _hours(job: Job, span: Span, *, again: bool) -> Iterator[dict[str, Any]]:
    """Rows of one stretch: its start costs time, each hour saves a checkpoint, after a failure work is done again."""
    for number, (start, end) in enumerate(steps(span, HOUR)):
        seconds = (end - start) // timedelta(seconds=1)
        lost = {"checkpoint_save": 54, "data_loading": 18}
        if number == 0:
            lost["startup"] = 420
            if again:
                lost |= {"checkpoint_restore": 95, "wasted_progress": 840}
        left, kept = seconds, {}
        for cause, wanted in lost.items():
            kept[cause] = min(wanted, left)
            left -= kept[cause]
        yield {
            "cluster": job.cluster, "job_id": job.job_id, "run_id": job.name, "name": job.name, "start": start, "end": end,
            "useful_seconds": left, "lost_seconds": {cause: str(amount) for cause, amount in kept.items() if amount},
            "checkpoints": 1,
        }  # fmt: skip


def write(records: Records) -> tuple[list[files.Written], list[dict[str, Any]]]:
    """Write `training_interval`, and return the truth about each run."""
    rows: list[dict[str, Any]] = []
    truth = []
    runs = [(named(records, cluster, name), model, rate, step) for cluster, name, model, rate, step in _RUNS]
    sam = sorted((job for job in records.jobs.values() if job.cluster == GKE and job.name.startswith(_SAM)), key=lambda job: job.job_id)  # fmt: skip
    for job, model, rate, step in [*runs, *((job, "sam-l", None, "1.6") for job in sam)]:
        mine = []
        for number, span in enumerate(_running(records, job)):
            mine += list(_hours(job, span, again=number > 0))
        thrown = job.name == THROWN_AWAY
        for row in mine:
            useful = Decimal(row["useful_seconds"])
            row["model"] = model
            row["steps"] = int(useful / Decimal(step))
            row["step_seconds_sum"] = useful
            row["discarded"], row["checkpoint_used"] = thrown, not thrown
            if rate is not None:
                row["tokens"] = int(useful * rate)
        rows += mine
        truth.append(_true(records, job, mine, thrown=thrown))
    path = records.setting.root / FOLDER / "training_interval.jsonl.gz"
    packed(path, rows)
    return [files.written(records.setting, path, FOLDER, len(rows))], truth


def _true(records: Records, job: Job, rows: list[dict[str, Any]], *, thrown: bool) -> dict[str, Any]:
    seconds = sum((row["end"] - row["start"]) // timedelta(seconds=1) for row in rows)
    useful = sum(row["useful_seconds"] for row in rows)
    found = {
        "run_id": job.name, "job_id": job.job_id, "run_seconds": str(seconds), "useful_seconds": str(useful),
        "tokens": str(sum(row["tokens"] for row in rows)) if rows and "tokens" in rows[0] else None, "discarded": thrown,
    }  # fmt: skip
    if job.cluster == GKE:  # machines that no commitment covers
        found["cost"] = exact(job_cost(records, job))
    return found
