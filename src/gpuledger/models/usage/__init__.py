"""What pods held, once, however many sources told of them: Kubernetes says what was asked for, Prometheus what was used.

    sql = usage_current(con, "usage_interval")      # a SELECT with the columns of the relation
    ids = job_aliases("usage_interval")             # job_id as a monitor says it -> current_id, the scheduler's

A row is a monitor's when its delivery says so (`prometheus-…`, not `kubernetes-…`) or, in files of records, when its job
is known by names only. All others are a scheduler's, or of no pod, and stay as they are. The join rule, by cluster and
pod uid:

- The scheduler's job ids win, also for pods of the same job that only the monitor saw.
- Where the scheduler tells of the pod, attempt and state are its own, and `requested` is in its rows only; the
  monitor's rows of that time carry `used`. CPU and memory come without a container, as the scheduler has them, so that
  Σ requested and Σ used are those of the pod. max(Σ requested, Σ used) is its one claim.
- GPU: the monitor's rows that name a device carry device, share and use beside the scheduler's row without one;
  the larger of both is the one claim (`models.allocation` does that). The monitor's rows without a device are left
  out. Where the scheduler itself names devices, its rows are the claim, and the monitor's are left out.
- Where only one of them tells of a pod, or of a part of its time, its rows count as they are.
"""

from hashlib import sha256
from importlib.resources import files
from typing import Final

from gpuledger.core.contracts import Connection

_NAMED: Final = "contains(substr(job_id, length(cluster) + 2), '/')"
# True for a monitor's row, false for a scheduler's, null for one of no pod.
_MONITOR: Final = f"""(CASE
    WHEN pod_uid IS NULL THEN NULL
    WHEN starts_with(x_DeliveryId, 'kubernetes-') THEN false
    ELSE starts_with(x_DeliveryId, 'prometheus-') OR {_NAMED}
END)"""


def usage_current(con: Connection, usage: str = "usage_interval") -> str:
    """Return a SELECT of what was held, each claim once. `usage` is a relation with the columns of `usage_interval`.

    Looks at the relation first: where only one kind of source tells of pods, it is returned as it is. Else two small
    tables of what the scheduler says are made in the connection's database, which the query reads.
    """
    row = con.execute(
        f"SELECT coalesce(bool_or({_MONITOR}), false), coalesce(bool_or(NOT {_MONITOR}), false) FROM {usage}"
    ).fetchone()
    if row is None or not all(row):
        return f"SELECT * FROM {usage}"
    which = sha256(usage.encode()).hexdigest()[
        :12
    ]  # a relation's tables are made anew, not more and more of them
    span, alias = f"usage_span_{which}", f"usage_alias_{which}"
    con.execute(f"CREATE OR REPLACE TABLE {span} AS {_sql('span').format(usage=usage, monitor=_MONITOR)}")
    con.execute(f"CREATE OR REPLACE TABLE {alias} AS {job_aliases(usage)}")
    return _sql("current").format(usage=usage, monitor=_MONITOR, span=span, alias=alias)


def job_aliases(usage: str = "usage_interval") -> str:
    """Return a SELECT of `job_id` as a monitor has it and `current_id`, which the scheduler has for the same pods."""
    return _sql("aliases").format(usage=usage, monitor=_MONITOR)


def _sql(name: str) -> str:
    return files("gpuledger.models.usage").joinpath(f"{name}.sql").read_text("utf-8")
