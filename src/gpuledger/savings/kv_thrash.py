"""KV cache too small: requests are put back and computed again."""

from decimal import Decimal

from gpuledger.core.savings import Row, number, percent
from gpuledger.core.savings_needs import KV_USE, PREEMPTIONS

TITLE = "KV cache too small"
FORMULA = "cost × tokens computed again ÷ all; low: prompts only"
NEEDS = (PREEMPTIONS, KV_USE)
CONFIDENCE = Decimal("0.6")
RISK = "low"
RELEASES = False
SQL = """
WITH daily AS (
    SELECT
        job_id, day, sum(preemptions) AS preemptions, max(most_kv) AS kv,
        sum(input_tokens) AS input, sum(output_tokens) AS output, sum(requests) AS requests
    FROM serving_hour
    WHERE job_id IS NOT NULL AND most_kv >= 0.95 AND preemptions > 0 AND requests > 0
    GROUP BY ALL
), again AS (
    SELECT *, preemptions * input / requests AS prompts, preemptions * (input + output / 2) / requests AS most FROM daily
)
SELECT
    w.label AS scope, a.atom, g.prompts / (g.input + g.output + g.prompts) AS low, g.most / (g.input + g.output + g.most) AS high,
    sum(g.preemptions) OVER (PARTITION BY g.job_id) AS preemptions, g.kv
FROM again AS g
JOIN atom AS a ON a.job_id = g.job_id AND a.day = g.day AND a.state = 'running'
JOIN work AS w ON w.job_id = g.job_id
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        f"{number(seen['preemptions'])} preemptions with the cache {percent(seen['kv'])} full: their prompts, and on average half of the output, are computed again",
        "Admit fewer requests at once (--max-num-seqs), quantise the cache (--kv-cache-dtype fp8), or add a replica.",
    )
