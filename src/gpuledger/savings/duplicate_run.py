"""The same run twice: configuration and data are those of an earlier run."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import job_fact

TITLE = "The same run twice"
FORMULA = "cost of runs with a fingerprint that an earlier run has"
NEEDS = (job_fact("run-hash", "a fingerprint of each run's code, configuration and data"),)
CONFIDENCE = Decimal("0.5")
RISK = "low"
RELEASES = False
SQL = """
WITH run AS (
    SELECT f.job_id, f.value AS hash, row_number() OVER (PARTITION BY f.value ORDER BY w.started, f.job_id) AS nth
    FROM job_fact AS f
    JOIN work AS w ON w.job_id = f.job_id
    WHERE f.key = 'run-hash'
)
SELECT concat('run-hash ', left(r.hash, 16)) AS scope, a.atom, 0 AS low, 1 AS high, r.hash, max(r.nth) OVER (PARTITION BY r.hash) - 1 AS again
FROM run AS r
JOIN atom AS a ON a.job_id = r.job_id AND a.state = 'running'
WHERE r.nth > 1
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"{number(seen['again'])} runs with the fingerprint of an earlier one; low is 0: it may have been on purpose",
        "Look results up by fingerprint before launching; vary the seed where repetition is wanted.",
    )
