"""Rules about training runs. A run costs 2400 on a day, on eight H100 on demand."""
# ruff: noqa: ANN401  # fields of an interval or world

from decimal import Decimal
from math import sqrt
from typing import Any

import pytest
from tests.savings.world import World, check_found, check_sound, job, part, trained

J = "PyTorchJob c/ml/j"
DAY = part("2400")
RUN = job(kind="PyTorchJob", workload_type="training")
SPOT = {"p5.48xlarge": {"spot-ratio": "0.4"}}
# Dense BF16 operations of eight H100 in a day: 8 cards, 989.4 TFLOP/s each, as NVIDIA's data sheet states them.
WHOLE = 8 * 86_400 * 989_400_000_000_000


def world(*training: dict[str, Any], **more: Any) -> World:
    return World(**{"charges": [DAY], "jobs": [RUN], "training": training, **more})


def saved(checkpoints: int, seconds_each: int, attempts: int) -> World:
    """A day's run with that many checkpoints and attempts."""
    lost = {"checkpoint_save": checkpoints * seconds_each}
    told = trained(checkpoints=Decimal(checkpoints), useful_seconds=Decimal(80000), lost_seconds=lost)
    return world(told, jobs=[{**RUN, "attempts": attempts}])


def losses(*values: str) -> list[dict[str, Any]]:
    return [trained((hour, hour + 1), loss=Decimal(value)) for hour, value in enumerate(values)]


def ranks(*steps: int) -> list[dict[str, Any]]:
    """A log for each rank, with 100 steps that took so many seconds together."""
    return [
        trained(run_id=f"r-rank{rank}", steps=Decimal(100), step_seconds_sum=Decimal(seconds))
        for rank, seconds in enumerate(steps)
    ]


def computed(share: str, who: str = "j", **more: Any) -> dict[str, Any]:
    return trained(job_id=who, tokens=Decimal(1000), flops_per_token=WHOLE * Decimal(share) / 1000, **more)


def young(every: float, pause: float, mtbf: float) -> float:
    """Waste at an interval beyond that at Young's: δ/τ + τ/(2M) − √(2δ/M)."""
    return pause / every + every / (2 * mtbf) - sqrt(2 * pause / mtbf)


FOUND = {
    # An hour between checkpoints, ten minutes to start: 1 − 0.4 × (1 + λ × 2/3 h), λ = 0.1 and 0.01 an hour.
    "spot-training": ("spot-training", world(trained(checkpoints=Decimal(24)), facts=SPOT), J, "1376", "1433.6"),
    # One interruption an hour, as told: 1 − 0.4 × (1 + 2/3) at both ends.
    "spot-training: interruptions told": (
        "spot-training",
        world(
            trained(checkpoints=Decimal(24)),
            facts={"p5.48xlarge": {"spot-ratio": "0.4", "interruptions-per-hour": 1}},
        ),
        J, "800", "800",
    ),
    # Every 600 s for 30 s, four failures in a day; low: half or twice as many.
    "checkpoint-interval": (
        "checkpoint-interval", saved(144, 30, 5), J,
        str(2400 * min(young(600, 30, 10800), young(600, 30, 43200))), str(2400 * young(600, 30, 21600)),
    ),
    # Half of the time made progress, the target is 0.9: 4/9; a tenth of the time was progress lost again.
    "low-goodput": (
        "low-goodput",
        world(trained(useful_seconds=Decimal(43200), lost_seconds={"data_loading": 30000, "wasted_progress": 8640})),
        J, "240", "1066.666666667",
    ),
    # Steps of 1, 1, 1.2 and 2 s: all wait for 2 s, the median is 1.1 s.
    "straggler": ("straggler", world(*ranks(100, 100, 120, 200)), J, "960", "1080"),
    # 20 % where another run of another model has 40 %: half, and nothing for sure.
    "low-mfu": (
        "low-mfu",
        World(
            [DAY, part("2400", job="k")], [RUN, job("k", kind="PyTorchJob")],
            training=[computed("0.2", model="small"), computed("0.4", "k", model="large")],
        ),
        J, "0", "1200",
    ),
    "low-mfu: the same model": (
        "low-mfu",
        World(
            [DAY, part("2400", job="k")], [RUN, job("k", kind="PyTorchJob")],
            training=[computed("0.2", model="m"), computed("0.4", "k", model="m")],
        ),
        J, "1200", "1200",
    ),
    # The target is 50 %: 1 − 0.2/0.5, half of it for sure.
    "low-mfu: a target": (
        "low-mfu", world(computed("0.2"), facts={"j": {"mfu-target": "0.5"}}), J, "720", "1440",
    ),
    "discarded-run": ("discarded-run", world(trained(discarded=True)), J, "2400", "2400"),
    "discarded-run: never used": (
        "discarded-run", world(trained(checkpoint_used=False), days=9), J, "0", "2400",
    ),
    # The last gain is in the fourth hour; then 20 hours, of which 15 after five more, 10 after ten.
    "early-stop": ("early-stop", world(*losses("4", "3", "2", "1", *["1"] * 20)), J, "1000", "1500"),
}  # fmt: skip
SOUND = {
    "spot-training": (
        "spot-training",
        world(
            trained(checkpoints=Decimal(24)), facts=SPOT,
            charges=[part("2400", PricingCategory="Dynamic"), part("1", job="k")], jobs=[RUN, job("k")],
        ),
    ),
    "checkpoint-interval": ("checkpoint-interval", saved(72, 30, 5)),  # every 1200 s, Young's is 1138 s
    "checkpoint-interval: it never failed": ("checkpoint-interval", saved(144, 30, 1)),
    "low-goodput": ("low-goodput", world(trained(useful_seconds=Decimal(80000)))),
    "straggler": ("straggler", world(*ranks(100, 101, 100, 102))),
    "low-mfu": ("low-mfu", world(computed("0.4"))),
    "discarded-run": ("discarded-run", world(trained(checkpoint_used=True, discarded=False), days=9)),
    "discarded-run: it may still be used": ("discarded-run", world(trained(checkpoint_used=False), days=5)),
    "early-stop": ("early-stop", world(*losses(*(str(24 - hour) for hour in range(24))))),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_is_found(name: str) -> None:
    check_found(*FOUND[name])


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_found_where_nothing_is_wasted(name: str) -> None:
    check_sound(*SOUND[name])


def test_the_largest_cause_of_lost_time_is_named() -> None:
    (row,) = FOUND["low-goodput"][1].ask("low-goodput").rows
    assert "50 % of the time made progress; most is lost to data loading (34.7 %)" in row["evidence"]
