"""Speculative decoding is off: a measured gain isn't used."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import job_fact

TITLE = "Speculative decoding is off"
FORMULA = "cost × (1 − 1/gain); low: with half the gain"
NEEDS = (job_fact("speculative-gain", "how much faster a model was measured with speculative decoding"),)
CONFIDENCE = Decimal("0.5")
RISK = "medium"
RELEASES = False
SQL = """
SELECT
    w.label AS scope, a.atom, 1 - 1 / (1 + (g.gain - 1) / 2) AS low, 1 - 1 / g.gain AS high, g.gain
FROM (
    SELECT job_id, try_cast(value AS DOUBLE) AS gain FROM job_fact WHERE key = 'speculative-gain'
) AS g
JOIN atom AS a ON a.job_id = g.job_id AND a.state = 'running'
JOIN work AS w ON w.job_id = g.job_id
LEFT JOIN job_fact AS f ON f.job_id = g.job_id AND f.key = 'speculative-decoding' AND lower(f.value) IN ('on', 'true')
WHERE g.gain > 1 AND f.job_id IS NULL
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"measured {number(seen['gain'], 2)} times as fast with a draft model, and not in use; low: half of that gain, as it shrinks under load",
        "Turn it on (vLLM: --speculative-config) where replicas are not saturated, and measure acceptance.",
    )
