"""One policy for every plane: what a workload must say, how large and dear it may be, and who pays, before it runs.

`Policy` is what a policy file says, `Submission` a workload on whichever plane, `decide` the answer to both.
"""

from gpuledger.core.policy.decide import (
    Decision,
    Draw,
    Filled,
    Reason,
    Surroundings,
    budget_of,
    decide,
    matches,
)
from gpuledger.core.policy.estimate import Estimate, History, Rate, Rates, estimate, history_key
from gpuledger.core.policy.model import Budget, Policy
from gpuledger.core.policy.submission import Cards, Submission

__all__ = [
    "Budget",
    "Cards",
    "Decision",
    "Draw",
    "Estimate",
    "Filled",
    "History",
    "Policy",
    "Rate",
    "Rates",
    "Reason",
    "Submission",
    "Surroundings",
    "budget_of",
    "decide",
    "estimate",
    "history_key",
    "matches",
]
