"""Low goodput: time of a run that made no lasting progress."""

from decimal import Decimal

from gpuledger.core.savings import Row, percent
from gpuledger.core.savings_needs import GOODPUT

TITLE = "Low goodput"
FORMULA = "cost × (target − goodput) ÷ target; low: only progress that was lost again"
NEEDS = (GOODPUT,)
CONFIDENCE = Decimal("0.7")
RISK = "low"
RELEASES = False
SQL = """
WITH run AS (
    SELECT
        job_id, sum(seconds) AS elapsed, CAST(sum(useful_seconds) AS DOUBLE) AS useful,
        CAST(coalesce(sum(lost_seconds['wasted_progress']), 0) + coalesce(sum(lost_seconds['recovery']), 0) + coalesce(sum(lost_seconds['checkpoint_restore']), 0) AS DOUBLE) AS undone
    FROM training
    WHERE job_id IS NOT NULL AND useful_seconds IS NOT NULL
    GROUP BY job_id
), cause AS (
    SELECT job_id, arg_max(cause, lost) AS cause, max(lost) AS lost
    FROM (
        SELECT job_id, entry.key AS cause, sum(entry.value) AS lost
        FROM (SELECT job_id, unnest(map_entries(lost_seconds)) AS entry FROM training)
        GROUP BY ALL
    )
    GROUP BY job_id
), said AS (
    SELECT *, useful / elapsed AS goodput, ({goodput} - useful / elapsed) / {goodput} AS gap FROM run WHERE elapsed > 0
)
SELECT
    w.label AS scope, a.atom, s.gap AS touched, least(s.gap, s.undone / s.elapsed) AS low, s.gap AS high, s.goodput, c.cause, CAST(c.lost AS DOUBLE) / s.elapsed AS part
FROM said AS s
LEFT JOIN cause AS c ON c.job_id = s.job_id
JOIN atom AS a ON a.job_id = s.job_id AND a.state = 'running'
JOIN work AS w ON w.job_id = s.job_id
WHERE s.gap > 0
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    most = (
        f"most is lost to {seen['cause'].replace('_', ' ')} ({percent(seen['part'])})"
        if seen["cause"]
        else "the log tells no causes"
    )
    return (
        f"{percent(seen['goodput'])} of the time made progress; {most}",
        {
            "data_loading": "Prefetch and shard the input, and keep it near the cards.",
            "startup": "Keep images and compiled kernels on the machines.",
            "checkpoint_save": "Save asynchronously, or less often.",
            "wasted_progress": "Save more often, and find what fails.",
        }.get(seen["cause"] or "", "Look at the causes of lost time in the training log."),
    )
