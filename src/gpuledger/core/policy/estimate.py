"""What a workload will cost: cards × price × hours, before it runs.

The hours are those of earlier runs of the same job, their median and 90th percentile, and never more than the
workload's own deadline; without earlier runs the deadline is the bound for both. Without either the cost per hour is
all that can be told.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

from gpuledger.core.policy.submission import Cards, Submission

_MICRO: Final = 10**6
ENOUGH: Final = 5  # earlier runs from which quantiles are told


class Rate(NamedTuple):
    """USD per card and hour, and where that is from."""

    usd_per_gpu_hour: Decimal
    basis: str


Rates = Callable[[Cards], Rate | None]


@dataclass(frozen=True, slots=True)
class History:
    """Hours that earlier runs of each job took, by the key of `history_key`."""

    hours: Mapping[tuple[str, str | None, str], Sequence[Decimal]]

    def of(self, submission: Submission) -> Sequence[Decimal]:
        """Return the hours of earlier runs, shortest first; none where there are too few to tell."""
        known = self.hours.get(history_key(submission.kind, submission.namespace, submission.name), ())
        return sorted(known) if len(known) >= ENOUGH else ()


NO_HISTORY: Final = History({})


@dataclass(frozen=True, slots=True)
class Estimate:
    """Dollars, rounded to the cent upwards. None where it can't be told; `basis` says how it came about, or why not."""

    usd_per_hour: Decimal | None
    hours_p50: Decimal | None
    hours_p90: Decimal | None
    cost_p50: Decimal | None
    cost_p90: Decimal | None
    basis: tuple[str, ...]


def history_key(kind: str, namespace: str | None, name: str) -> tuple[str, str | None, str]:
    """Return the key of runs of the same job: its name without the numbers and hashes that runs add to it."""
    words = name.rstrip("-").split("-")
    while len(words) > 1 and _is_of_one_run(words[-1]):
        words.pop()
    return kind, namespace, "-".join(words)


def _is_of_one_run(word: str) -> bool:
    digits = sum(letter.isdigit() for letter in word)
    return word.isdigit() or (5 <= len(word) <= 10 and digits > 0 and word.isalnum() and word.islower())  # noqa: PLR2004 - Kubernetes' random suffixes


def estimate(submission: Submission, rates: Rates, history: History = NO_HISTORY) -> Estimate:
    """Return what a workload will cost. One that asks for no card costs nothing that is told here: all is None."""
    hourly, basis = _hourly(submission, rates)
    p50, p90, told = _hours(submission, history)
    basis = (*basis, *told)
    return Estimate(
        None if hourly is None else cents_up(hourly),
        p50,
        p90,
        None if hourly is None or p50 is None else cents_up(hourly * exact_hours(p50)),
        None if hourly is None or p90 is None else cents_up(hourly * exact_hours(p90)),
        basis,
    )


def _hourly(submission: Submission, rates: Rates) -> tuple[Fraction | None, tuple[str, ...]]:
    if not submission.accelerated:
        return None, ("asks for no card",)
    total, basis = Fraction(0), []
    for card in submission.cards:
        rate = rates(card)
        if card.gpus is None:
            return None, ("how many cards it asks for can't be told",)
        if rate is None:
            return None, (f"no price of {card.model or 'cards whose model is not said'}",)
        total += card.gpus * Fraction(rate.usd_per_gpu_hour)
        basis.append(f"{_number(card.gpus)} × {rate.usd_per_gpu_hour} USD per card-hour ({rate.basis})")
    return total, tuple(dict.fromkeys(basis))


def _hours(
    submission: Submission, history: History
) -> tuple[Decimal | None, Decimal | None, tuple[str, ...]]:
    if submission.serves:
        return None, None, ("runs until it is deleted",)
    limit, known = submission.hours, history.of(submission)
    if known:
        p50, p90 = quantile(known, 50), quantile(known, 90)
        told = f"{len(known)} earlier runs: {_plain(p50)} h, 9 of 10 within {_plain(p90)} h"
        if limit is not None and limit < p90:
            p50, p90, told = min(p50, limit), limit, f"{told}; its deadline is {_plain(limit)} h"
        return p50, p90, (told,)
    if limit is not None:
        return limit, limit, (f"its deadline of {_plain(limit)} h",)
    return None, None, ("neither a deadline nor earlier runs",)


def quantile(ordered: Sequence[Decimal], percent: int) -> Decimal:
    """Return the nearest-rank quantile: a value that was seen."""
    return ordered[-(-len(ordered) * percent // 100) - 1]


def exact_hours(hours: Decimal) -> Fraction:
    """Return the fraction that a decimal of hours stands for: 40 minutes are 2/3 h, not 28 digits of it."""
    return Fraction(hours).limit_denominator(_MICRO)


def cents_up(amount: Fraction) -> Decimal:
    """Round dollars up to the cent: an estimate is never below what it stands for."""
    return Decimal(-(-amount.numerator * 100 // amount.denominator)).scaleb(-2)


def _number(gpus: Fraction) -> str:
    return str(gpus) if gpus.denominator == 1 else f"{float(gpus):.3g}"


def _plain(hours: Decimal) -> str:
    return format(hours.normalize(), "f")
