"""2,000 on-demand jobs, 744 hours, 50 commitments: ours against a greedy assignment and bare HiGHS on the same numbers.

The world is synthetic and seeded: jobs of 12 families in 4 regions and 20 accounts, a third of them all month, the
others in one or several runs; commitments are savings plans of one family and region, some of any family, and
reservations, idle by a random walk; a third of the jobs may run in any region. The greedy baseline gives the dearest job
its best place first. Bare HiGHS is one linear program with a variable for each job, hour and commitment that fits, and
no condition that a job stays in one place: its optimum bounds every assignment, and it names no move.
"""

import json
import random
import subprocess
import sys
import time
from decimal import Decimal

from benchmarks._measure import python
from gpuledger.core.rebalance import Demand, Option, Supply, greedy, rebalance

JOBS, HOURS, COMMITMENTS = 2000, 744, 50
LIMIT_SECONDS, LIMIT_GAP = 30.0, Decimal("0.01")


def world(
    jobs: int = JOBS, hours: int = HOURS, commitments: int = COMMITMENTS, seed: int = 7
) -> tuple[list[Supply], list[Demand]]:
    """Return supplies and demands; the same seed gives the same world."""
    rng = random.Random(seed)
    prices = [Decimal(rng.randint(100, 9900)) / 100 for _ in range(12)]
    kinds = []
    supplies = []
    for number in range(commitments):
        family, region = rng.randrange(12), rng.randrange(4)
        kind = "any" if number % 12 == 0 else "reserved" if number % 3 == 0 else "family"
        size = rng.randint(10, 60)
        rate = Decimal(rng.randint(50, 80)) / 100
        level, idle = size // 2, {}
        for hour in range(hours):
            level = max(0, min(size, level + rng.choice((-1, 0, 0, 1))))
            idle[hour] = Decimal(level) if kind == "reserved" else level * prices[family] * rate
        kinds.append((kind, family, region, rate))
        supplies.append(Supply(f"commitment-{number}", idle))
    return supplies, [_job(rng, number, hours, prices, kinds) for number in range(jobs)]


def _job(
    rng: random.Random,
    number: int,
    hours: int,
    prices: list[Decimal],
    kinds: list[tuple[str, int, int, Decimal]],
) -> Demand:
    family, region, roams = rng.randrange(12), rng.randrange(4), number % 3 == 0
    if number % 3 == 1:
        when = list(range(hours))
    else:
        when = []
        at = rng.randrange(hours // 2)
        while at < hours:
            until = min(hours, at + rng.randint(4, 120))
            when += range(at, until)
            at = until + rng.randint(10, 300)
    options = []
    for supply, (kind, wanted, place, rate) in enumerate(kinds):
        fits = kind == "any" or (wanted == family and (place == region or roams))
        if fits:
            where = "" if kind == "any" or place == region else f"region-{place}"
            by_quantity = kind == "reserved"
            options.append(Option(supply, Decimal(1) if by_quantity else rate, where, by_quantity))
    price = prices[family]
    return Demand(
        f"job-{number}", tuple(when), (price,) * len(when), (Decimal(1),) * len(when), tuple(options)
    )


def bare(supplies: list[Supply], demands: list[Demand]) -> float:
    """Return the value of one linear program over all jobs, hours and commitments."""
    import numpy as np
    from scipy.optimize import linprog
    from scipy.sparse import csr_array

    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    limits: list[float] = []
    upper: dict[tuple[int, int], int] = {}
    for demand in demands:
        for cost, quantity, hour in zip(demand.cost, demand.quantity, demand.hours, strict=True):
            row = len(limits)
            limits.append(float(cost))
            for option in demand.options:
                at = (option.supply, hour)
                if at not in upper:
                    upper[at] = len(limits)
                    limits.append(float(supplies[option.supply].idle[hour]))
                rate = float(option.share) * (float(quantity / cost) if option.by_quantity else 1.0)
                rows += [row, upper[at]]
                columns += [len(columns) // 2] * 2
                values += [1.0, rate]
    count = len(columns) // 2
    matrix = csr_array((values, (rows, columns)), shape=(len(limits), count))
    return float(-linprog(-np.ones(count), A_ub=matrix, b_ub=limits, method="highs").fun)


def one(name: str) -> None:
    """Run one of the three and print what it came to."""
    supplies, demands = world()
    began, worked = time.perf_counter(), time.process_time()
    if name == "bare":
        found: dict[str, object] = {"saved": bare(supplies, demands)}
    else:
        plan = (rebalance if name == "ours" else greedy)(supplies, demands)
        found = {"saved": float(plan.saved), "gap": float(plan.gap), "moves": len(plan.moves)}
    took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - worked}
    print(json.dumps(found | took))


def main() -> int:
    """Measure all three; 1 when the time or the gap is over its budget."""
    results = {}
    for name in ("ours", "greedy", "bare"):
        command = python(f"from benchmarks.commitments import one; one({name!r})")
        results[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(name, results[name], flush=True)
    ours = results["ours"]
    return int(ours["seconds"] > LIMIT_SECONDS or ours["gap"] > LIMIT_GAP)


if __name__ == "__main__":
    sys.exit(main())
