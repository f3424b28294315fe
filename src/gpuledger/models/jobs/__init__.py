"""The job ledger: one row per job, with what it held, what that cost, and whose it is.

Relations that are read: `jobs`, `job_charge` (rows of the model `job_cost`), `held_usage` and `seen_node` (usage and
node intervals), `job_alias` (what a monitor calls jobs that the scheduler tells of). `hold` says how the interval of a usage row in a window becomes card-hours.
"""

from functools import cache
from importlib.resources import files
from typing import Final

# Card-hours are counted in 63e9 units a card times microseconds, as in `gpuledger.models.allocation`.
SERVICES: Final = (
    "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "RayService", "InferenceService", "LeaderWorkerSet", "Rollout",
)  # fmt: skip
FAILED: Final = ("failed", "error", "node_fail", "out_of_memory", "boot_fail", "oomkilled", "evicted")


@cache
def query(name: str, *, model: bool = False) -> str:
    """Return an SQL file of this package, or the model of that name."""
    folder = "gpuledger.models" if model else "gpuledger.models.jobs"
    return files(folder).joinpath(f"{name}.sql").read_text("utf-8").rstrip()
