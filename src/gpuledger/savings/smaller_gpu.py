"""A smaller card would do: the same model is served by a smaller card of yours for less."""

from decimal import Decimal

from gpuledger.core.savings import Row, number
from gpuledger.core.savings_needs import RATES

TITLE = "A smaller card would do"
FORMULA = "cost − ⌈peak ÷ (headroom × capacity there)⌉ × a replica's price there, whole replicas; low: at twice the peak"
NEEDS = (RATES,)
CONFIDENCE = Decimal("0.5")
RISK = "medium"
RELEASES = False
SQL = """
SELECT o.label AS scope, a.atom, o.now, o.other, o.needed, o.rate, o.peak, o.low_total, o.high_total
FROM other_card AS o
JOIN atom AS a ON a.job_id = o.job_id AND a.state = 'running'
WHERE o.smaller
"""


def tell(seen: Row) -> tuple[str, str]:
    """Say what was seen and what to do."""
    return (
        (
            f"{seen['other']} of yours serves the same model at up to {number(seen['rate'], 1)} tokens/s a replica; the peak of "
            f"{number(seen['peak'], 1)} on {seen['now']} needs {number(seen['needed'])} of them; low: at twice that peak"
        ),
        f"Try it on {seen['other']}; `gpuledger compare-hardware` weighs service levels and headroom first.",
    )
