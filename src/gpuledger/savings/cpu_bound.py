"""Cards wait for cores: the cores are full and the cards wait."""

from decimal import Decimal

from gpuledger.core.savings import Row, percent
from gpuledger.core.savings_needs import CPU_USE, GPU_USE

TITLE = "Cards wait for cores"
FORMULA = "cost × (1 − card use ÷ 80 %), where cores are at their limit"
NEEDS = (GPU_USE, CPU_USE)
CONFIDENCE = Decimal("0.4")
RISK = "low"
RELEASES = False
SQL = """
WITH core AS (
    SELECT job_id, CAST("start" AS DATE) AS day, max(CAST(used AS DOUBLE) / CAST(requested AS DOUBLE)) AS cores
    FROM held_usage
    WHERE resource = 'cpu' AND used IS NOT NULL AND requested > 0
    GROUP BY ALL
), busy AS (
    SELECT job_id, day, sum(level * card_hours) / sum(card_hours) AS level FROM card_use WHERE level IS NOT NULL GROUP BY ALL
)
SELECT w.label AS scope, a.atom, 0 AS low, 1 - b.level / 0.8 AS high, max(b.level) OVER (PARTITION BY b.job_id) AS level, c.cores
FROM busy AS b
JOIN core AS c ON c.job_id = b.job_id AND c.day = b.day AND c.cores >= 0.95
JOIN atom AS a ON a.job_id = b.job_id AND a.day = b.day AND a.state = 'running'
JOIN work AS w ON w.job_id = b.job_id
WHERE b.level < 0.4
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"cores were at {percent(seen['cores'])} of what was asked for while cards were at most {percent(seen['level'])} busy; low is 0 until it was tried",
        "Give it more cores or workers for loading data, or move preprocessing off the machine with cards.",
    )
