"""Unit economics of training: cost per run, per token and per useful hour, and what of it came to nothing.

*Goodput* is wall time that made lasting progress ÷ wall time of the run; the rest is lost, by the causes of
`core.token_usage.LOSS_CAUSES`. Cost per useful hour = C / useful hours; per useful GPU-hour = C / (G x goodput). A run
that was thrown away is all waste, whatever its goodput.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from gpuledger.core.unit_economics import Basis, Sums, cost, plus, quotient, rounded

_MILLION: Final = 1_000_000
_HOUR: Final = 3600


@dataclass(frozen=True, slots=True)
class RunSums:
    """What adds up of a run, or of several. `money` has its costs, `thrown_away` those of runs that were discarded.

    `judged` are costs of runs of which it is known whether they were. Seconds are wall time.
    """

    money: Sums = field(default_factory=Sums)
    tokens: Decimal | None = None
    steps: Decimal | None = None
    seconds: Decimal | None = None
    useful_seconds: Decimal | None = None
    lost_seconds: Mapping[str, Decimal] = field(default_factory=dict)
    thrown_away: Sums = field(default_factory=Sums)
    judged: Sums = field(default_factory=Sums)

    def __add__(self, other: "RunSums") -> "RunSums":
        """Merge two groups of runs."""
        causes = {*self.lost_seconds, *other.lost_seconds}
        lost = {
            cause: plus(self.lost_seconds.get(cause), other.lost_seconds.get(cause)) or Decimal(0)
            for cause in sorted(causes)
        }
        return RunSums(
            self.money + other.money, plus(self.tokens, other.tokens), plus(self.steps, other.steps),
            plus(self.seconds, other.seconds), plus(self.useful_seconds, other.useful_seconds), lost,
            self.thrown_away + other.thrown_away, self.judged + other.judged,
        )  # fmt: skip


def training_figures(sums: RunSums, basis: Basis) -> dict[str, Any]:
    """All ratios of a run or a group of runs; what nobody told is None."""
    spent, judged = cost(sums.money, basis.cost), cost(sums.judged, basis.cost)
    useful, seconds, cards = sums.useful_seconds, sums.seconds, sums.money.gpu_hours
    wasted = cost(sums.thrown_away, basis.cost) if sums.thrown_away != Sums() else Decimal(0)
    per_card = None
    if spent is not None and cards and useful and seconds:
        per_card = rounded(Fraction(spent) / (Fraction(cards) * Fraction(useful) / Fraction(seconds)))
    lost = {
        cause: rounded(Fraction(spent) * Fraction(amount) / Fraction(seconds))
        for cause, amount in sums.lost_seconds.items()
        if spent is not None and seconds and amount
    }
    return {
        "token_basis": "trained",
        "cost_basis": basis.cost,
        "tokens": sums.tokens,
        "steps": sums.steps,
        "cost": spent,
        "gpu_hours": cards,
        "run_hours": quotient(seconds, _HOUR),
        "useful_hours": quotient(useful, _HOUR),
        "goodput": quotient(useful, seconds),
        "tokens_per_second": quotient(sums.tokens, seconds),
        "tps_per_dollar": None if spent is None else quotient(sums.tokens, _HOUR * spent),
        "cost_per_mtok": None if spent is None else quotient(_MILLION * Fraction(spent), sums.tokens),
        "cost_per_gpu_hour": quotient(spent, cards),
        "cost_per_useful_hour": None if spent is None else quotient(_HOUR * Fraction(spent), useful),
        "cost_per_useful_gpu_hour": per_card,
        "lost_cost": lost,
        "discarded_cost": wasted if judged is not None else None,
        "discarded_share": quotient(wasted, judged),
    }
