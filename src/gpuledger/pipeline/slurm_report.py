"""Final costs written back to Slurm: into AdminComment of jobs that ended, where sacct shows them to everybody.

`sacctmgr modify job where jobid=N set admincomment=…` is Slurm's own way (sacctmgr(1)); it takes an operator. What
stands in the comment stays, and our part is replaced: writing twice is writing once. Requeued attempts are one job to
us: their sum stands at the last.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from gpuledger.core.windows import Window
from gpuledger.engines import duckdb
from gpuledger.telemetry.slurm import Commands

_SEPARATOR: Final = "\x1f"
_AT_ONCE: Final = 500  # ids of one question to sacct
_OURS: Final = re.compile(r"(?:;\s*)?gpuledger:cost_usd=[^;]*(?:;gpu_hours=[^;\s]*)?")
# A task of an array and a component of a heterogeneous job has its own record in Slurm, and its own cost. One currency
# and no part without a cost: else what it costs isn't known.
_COSTS: Final = """
    SELECT a.x_JobId AS job_id, a.x_Pod AS display,
        CASE WHEN count(*) = count(a.EffectiveCost) FILTER (a.BillingCurrency = 'USD') THEN sum(a.EffectiveCost) END AS cost,
        sum(a.x_HeldGpuHours) AS gpu_hours
    FROM allocated AS a JOIN jobs AS j ON j.job_id = a.x_JobId
    WHERE contains(a.x_JobId, '/slurm/') AND a.x_Pod IS NOT NULL AND j.ended >= $since AND j.ended < $until
    GROUP BY 1, 2 ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class _Recorded:
    """The last record of a job in accounting."""

    raw: str
    submit: int
    comment: str


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job, task or component cost: `cluster`, the id as Slurm shows it, and the first submission of its job."""

    cluster: str
    display: str
    first: int
    cost: Decimal | None
    gpu_hours: Decimal | None


def costs(con: duckdb.Connection, window: Window) -> list[Cost]:
    """Return what the ledger knows of Slurm jobs that ended in a window."""
    found = con.execute(_COSTS, {"since": window.start, "until": window.end}).fetchall()
    return [_cost(*row) for row in found]


def report(found: Sequence[Cost], commands: Commands, *, dry_run: bool) -> Iterator[dict[str, Any]]:
    """Write costs; yield a row per job, task or component. Raises SourceError when Slurm refuses."""
    for cluster in sorted({one.cluster for one in found}):
        own = [one for one in found if one.cluster == cluster]
        recorded = _recorded(commands, cluster, own)
        for one in own:
            yield _write(one, recorded.get(one.display), commands, dry_run=dry_run)


def comment_with(stood: str, cost: Decimal, gpu_hours: Decimal | None) -> str:
    """Return a comment with the cost in it, in place of an earlier one."""
    ours = f"gpuledger:cost_usd={_plain(cost, 6)}"
    if gpu_hours is not None:
        ours += f";gpu_hours={_plain(gpu_hours, 4)}"
    rest = _OURS.sub("", stood).strip().rstrip(";").strip()
    return f"{rest}; {ours}" if rest else ours


def _plain(number: Decimal, digits: int) -> str:
    text = format(number.quantize(Decimal(1).scaleb(-digits)), "f")
    return text.rstrip("0").rstrip(".")


def _cost(job_id: str, display: str, cost: Decimal | None, hours: Decimal | None) -> Cost:
    cluster, _, rest = job_id.partition("/slurm/")
    return Cost(cluster, display, int(rest.rpartition("@")[2]), cost, hours)


def _write(one: Cost, recorded: _Recorded | None, commands: Commands, *, dry_run: bool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "cluster": one.cluster,
        "job": one.display,
        "cost_usd": one.cost,
        "gpu_hours": one.gpu_hours,
        "state": "written",
        "admin_comment": recorded.comment if recorded else None,
    }
    if recorded is None or recorded.submit < one.first:
        return row | {"state": "not in accounting"}
    if one.cost is None:
        return row | {"state": "cost unknown"}
    comment = comment_with(recorded.comment, one.cost, one.gpu_hours)
    row["admin_comment"] = comment
    if comment == recorded.comment:
        return row | {"state": "unchanged"}
    if dry_run:
        return row | {"state": "would be written"}
    where = ("where", f"jobid={recorded.raw}", f"cluster={one.cluster}")
    _said(commands, "sacctmgr", "-i", "modify", "job", *where, "set", f"admincomment={comment}")
    return row


def _recorded(commands: Commands, cluster: str, wanted: Sequence[Cost]) -> Mapping[str, _Recorded]:
    """Return the last record of each job. An id that Slurm gave to a later job again is left out: it isn't ours."""
    ids = sorted({re.split(r"[_+]", one.display)[0] for one in wanted}, key=int)
    found: dict[str, _Recorded] = {}
    fields = ("JobID", "JobIDRaw", "Submit", "AdminComment")
    for start in range(0, len(ids), _AT_ONCE):
        text = _said(
            commands,
            *("sacct", "-n", "-P", "-X", "-a", f"--delimiter={_SEPARATOR}", "-M", cluster),
            *("-j", ",".join(ids[start : start + _AT_ONCE]), "-o", ",".join(fields)),
        )
        for line in text.splitlines():
            cells = line.split(_SEPARATOR)
            if len(cells) == len(fields) and cells[2].isdecimal():
                found[cells[0]] = _Recorded(cells[1], int(cells[2]), cells[3])
    return found


def _said(commands: Commands, *words: str) -> str:
    with commands.run(*words) as spool:
        if not spool.whole:
            raise spool.error()
        return spool.text()


def ever() -> Window:
    """Return all time."""
    return Window(datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))
