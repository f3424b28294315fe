"""Rules about commitments, regions and models behind an API. Amounts are dollars of a day unless days are told."""
# ruff: noqa: ANN401  # columns of a charge

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from tests.savings.world import T0, World, bill, calls, check_found, check_sound, machine, near, served

SP = "arn:sp/1"


def used(cost: str, on_demand: str, hours: tuple[float, float] = (0, 24), **more: Any) -> dict[str, Any]:
    return machine(
        cost, hours, CommitmentDiscountId=SP, CommitmentDiscountStatus="Used", CommitmentDiscountType="Savings Plan",
        PricingCategory="Committed", ContractedCost=Decimal(on_demand), **more,
    )  # fmt: skip


def unused(cost: str, hours: tuple[float, float] = (0, 24)) -> dict[str, Any]:
    """Committed and idle: of no machine, as savings plans are billed."""
    return bill(
        cost, hours, CommitmentDiscountId=SP, CommitmentDiscountStatus="Unused", CommitmentDiscountType="Savings Plan",
        PricingCategory="Committed", ContractedCost=Decimal(0),
    )  # fmt: skip


def hourly(cost: str, days: int, **more: Any) -> list[dict[str, Any]]:
    return [machine(cost, (hour, hour + 1), **more) for hour in range(24 * days)]


def api(hours: tuple[int, int], **more: Any) -> list[dict[str, Any]]:
    """Tokens of a deployment behind an API, as a gateway tells."""
    given = {"provider": "openai", "job_id": None, "cluster": None, "namespace": None, "pod": None}
    return served(hours, **{**given, **more})


def elsewhere(cost: str, hours: tuple[float, float] = (0, 24), **more: Any) -> dict[str, Any]:
    """A machine of the same kind in another account, whose price on demand is known by the hour."""
    return machine(
        cost, hours, **{"ResourceId": "i-2", "ResourceName": "trial-2", "SubAccountId": "43", **HOURS, **more}
    )


ENDS = {"ContractCommitmentId": SP, "ContractCommitmentPeriodEnd": T0 + timedelta(days=30)}
# A commitment at 72 % of the price on demand, idle for half of the day.
HOURS = {
    "PricingUnit": "Hours",
    "PricingQuantity": Decimal(24),
    "ServiceName": "Amazon Elastic Compute Cloud",
}
HALF = [used("720", "1000", (0, 12)), unused("720", (12, 24))]
OTHER = elsewhere("800")
UNITS = [
    bill(
        "240", ServiceProviderName="Microsoft", ResourceId="/accounts/gpt-east", x_ServiceTier="provisioned",
        PricingUnit="Unit-Hours", PricingQuantity=Decimal(240),
    )
]  # fmt: skip
STEADY = {
    "gpt-5": {"tokens-per-minute-per-unit": 1000, "unit-hour-price": "0.01", "minimum-units": 1},
}
CLAUDE = {"ServiceProviderName": "Anthropic", "model": "claude-sonnet-4-5"}

FOUND = {
    "stranded-commitment": ("stranded-commitment", World(HALF, jobs=[]), f"commitment {SP}", "0", "720"),
    # From noon on 720 idle dollars could carry 1000 on demand; there are 400 from noon on, in an account that doesn't share.
    "on-demand-beside-idle": (
        "on-demand-beside-idle", World([*HALF, OTHER], jobs=[]), f"trial beside commitment {SP}", "400", "400",
    ),
    # The idle hours carry no more than 1000 of the 2000 after noon.
    "on-demand-beside-idle: more than fits": (
        "on-demand-beside-idle",
        World([*HALF, elsewhere("4000")], jobs=[]),
        f"trial beside commitment {SP}", "1000", "1000",
    ),
    # 15 days at 10 an hour, each hour: 360 × (10 − 0.7 × 10).
    "under-commitment": (
        "under-commitment",
        World(hourly("10", 15), jobs=[], facts={"AWS": {"commitment-ratio": "0.7"}}, days=15),
        "on-demand p5 in AWS us-east-1", "1080", "1080",
    ),
    # Ten days at 20, five at 4: nine of ten hours have 4: 360 × 4 × 0.4. The best level is 20, present in 2/3 of hours,
    # more than the ratio of 0.6: 240 × 20 + 120 × 4 − 0.6 × 20 × 360.
    "under-commitment: levels": (
        "under-commitment",
        World(
            [*hourly("20", 10), *[machine("4", (hour, hour + 1)) for hour in range(240, 360)]], jobs=[],
            facts={"AWS": {"commitment-ratio": "0.6"}}, days=15,
        ),
        "on-demand p5 in AWS us-east-1", "576", "960",
    ),
    # 1000 on demand for 720 of what is used: 280 less nothing idle.
    "expiring-commitment": (
        "expiring-commitment", World([used("720", "1000")], jobs=[], commitments=[ENDS]), f"commitment {SP}", "0", "280",
    ),
    # 10 an hour there, 16 here.
    "cheaper-region: paid there already": (
        "cheaper-region",
        World(
            [
                machine("384", PricingQuantity=Decimal(24), RegionId="eu-central-1", x_InstanceType="own.large", x_GpuModel=None),
                machine("240", PricingQuantity=Decimal(24), x_InstanceType="own.large", x_GpuModel=None),
            ],
            jobs=[],
        ),
        "own.large in AWS eu-central-1", "0", "144",
    ),
    # A card-hour of an H100 of 80 GiB for 4 here, for 3 at another provider.
    "cheaper-region: another provider": (
        "cheaper-region",
        World(
            [
                machine("768", PricingQuantity=Decimal(24), x_GpuHours=Decimal(192), x_GpuMemoryGiB=Decimal(80), x_InstanceType="own.a"),
                machine(
                    "576", PricingQuantity=Decimal(24), x_GpuHours=Decimal(192), x_GpuMemoryGiB=Decimal(80), x_InstanceType="b",
                    ServiceProviderName="Neo", RegionId="r",
                ),
            ],
            jobs=[],
        ),
        "own.a in AWS us-east-1", "0", "192",
    ),
    # The same tokens of the same model for 100 in one region and 80 in another.
    "cheaper-region: a model": (
        "cheaper-region",
        World(
            [
                calls("100", "input", 1000, "gpt-4.1", ServiceProviderName="Microsoft", RegionId="westeurope"),
                calls("80", "input", 1000, "gpt-4.1", ServiceProviderName="Microsoft", RegionId="eastus2"),
            ],
            jobs=[],
        ),
        "gpt-4.1 input in Microsoft westeurope", "0", "20",
    ),
    # 10 M tokens in and 5 M out of gpt-4.1 at 2 and 8 dollars a million: 60 of 240; twice as many: 120.
    "ptu-to-payg": (
        "ptu-to-payg",
        World(
            UNITS, jobs=[],
            tokens=api((9, 10), deployment="gpt-east", model="gpt-4.1", input_tokens=Decimal(10_000_000), output_tokens=Decimal(5_000_000)),
        ),
        "provisioned throughput gpt-east", "120", "180",
    ),
    # The deployment has another name than the resource, and half of the input came from the cache, at 0.50 a million:
    # 5 × 2 + 5 × 0.5 + 5 × 8 = 52.50.
    "ptu-to-payg: named in the configuration": (
        "ptu-to-payg",
        World(
            UNITS, jobs=[], facts={"gpt-east": {"deployment": "chat", "model": "gpt-4.1"}},
            tokens=api(
                (9, 10), deployment="chat", model="ours", input_tokens=Decimal(10_000_000),
                cached_input_tokens=Decimal(5_000_000), output_tokens=Decimal(5_000_000),
            ),
        ),
        "provisioned throughput gpt-east", "135", "187.5",
    ),
    # 120,000 tokens in each hour are 2000 a minute: two units, 0.48 a day, carry what costs 24.
    "payg-to-ptu": (
        "payg-to-ptu",
        World(
            [calls("24", "input", 2_880_000)], jobs=[], facts=STEADY,
            tokens=api((0, 24), deployment="gpt-5", model="gpt-5", input_tokens=Decimal(120_000)),
        ),
        "gpt-5 at OpenAI", "11.76", "23.52",
    ),
    # An evaluation may wait, as its name says; half the price.
    "batch-api": ("batch-api", World([calls("100", "input", 1000, SubAccountId="proj_evals")], jobs=[]), "gpt-5 by proj_evals", "0", "50"),
    "batch-api: told": (
        "batch-api",
        World([calls("100", "input", 1000)], jobs=[], facts={"proj-a": {"latency-tolerant": True}}),
        "gpt-5 by proj-a", "50", "50",
    ),
    # 80 % of input repeats, as told, and none is cached. Claude's read price is a tenth of its input price, its write
    # price 1.25 of it; ten calls to a life, as nobody shows another: 0.8 × (1 − (0.125 + 0.09)) of 100; low: half.
    "prompt-caching: told": (
        "prompt-caching",
        World(
            [calls("100", "input", 1000, **CLAUDE)], jobs=[], facts={"proj-a": {"prefix-share": "0.8"}},
        ),
        "claude-sonnet-4-5 by proj-a", "31.4", "62.8",
    ),
    # Another caller reads 60 % from the cache, three reads to a write, so four calls: 1 − (1.25/4 + 0.1 × 3/4).
    "prompt-caching: a peer": (
        "prompt-caching",
        World(
            [
                calls("100", "input", 1000, **CLAUDE),
                calls("20", "input", 200, SubAccountId="b", **CLAUDE), calls("6", "cache_read", 600, SubAccountId="b", **CLAUDE),
                calls("25", "cache_write", 200, SubAccountId="b", **CLAUDE),
            ],
            jobs=[],
        ),
        "claude-sonnet-4-5 by proj-a", "0", "36.75",
    ),
    # gpt-5-mini costs a fifth of gpt-5 for each kind of token.
    "model-downgrade": (
        "model-downgrade",
        World(
            [calls("100", "input", 1000), calls("50", "output", 50)], jobs=[],
            facts={"gpt-5": {"cheaper-model": "gpt-5-mini"}},
        ),
        "gpt-5 by proj-a", "0", "120",
    ),
    "model-downgrade: evaluated": (
        "model-downgrade",
        World(
            [calls("100", "input", 1000)], jobs=[],
            facts={"gpt-5": {"cheaper-model": "gpt-5-mini", "quality-passed": True}},
        ),
        "gpt-5 by proj-a", "80", "80",
    ),
    # One hour of 24 with answers ten times as long: 9000 of 33,000 tokens of what was paid for output.
    "output-excess": (
        "output-excess",
        World(
            [calls("330", "output", 33_000), calls("100", "input", 1000)], jobs=[],
            tokens=[
                *api((0, 23), model="gpt-5-2025-08-07", requests=Decimal(10), output_tokens=Decimal(1000)),
                *api((23, 24), model="gpt-5-2025-08-07", requests=Decimal(10), output_tokens=Decimal(10_000)),
            ],
        ),
        "gpt-5 output", "0", "90",
    ),
    "failed-calls": (
        "failed-calls",
        World(
            [calls("100", "input", 1000)], jobs=[],
            tokens=api((0, 1), model="gpt-5", requests=Decimal(95), failed_requests=Decimal(5)),
        ),
        "gpt-5 at OpenAI", "0", "5",
    ),
    "context-bloat": (
        "context-bloat",
        World(
            [calls("100", "input", 1000), calls("50", "output", 50)], jobs=[], facts={"proj-a": {"unused-context-share": "0.4"}},
        ),
        "gpt-5 by proj-a", "20", "40",
    ),
    "duplicate-calls": (
        "duplicate-calls",
        World(
            [calls("100", "input", 1000), calls("60", "output", 50)], jobs=[], facts={"gpt-5": {"duplicate-call-share": "0.1"}},
        ),
        "gpt-5 by proj-a", "8", "16",
    ),
}  # fmt: skip
SOUND = {
    "on-demand-beside-idle: another family": (
        "on-demand-beside-idle", World([*HALF, elsewhere("800", x_InstanceType="p4d.24xlarge")], jobs=[]),
    ),
    "on-demand-beside-idle: at another time": (
        "on-demand-beside-idle", World([*HALF, elsewhere("800", (0, 12))], jobs=[]),
    ),
    "on-demand-beside-idle: not applied for a reason that the bill doesn't tell": (
        "on-demand-beside-idle", World([*HALF, elsewhere("800", SubAccountId="42")], jobs=[]),
    ),
    "under-commitment: beside an idle commitment": (
        "under-commitment", World([*HALF, *hourly("10", 15)], jobs=[], days=15),
    ),
    "under-commitment: at night only": (
        "under-commitment",
        World(
            [machine("10", (24 * day, 24 * day + 8)) for day in range(15)], jobs=[],
            facts={"AWS": {"commitment-ratio": "0.7"}}, days=15,
        ),
    ),
    "under-commitment: too short a time": (
        "under-commitment", World(hourly("10", 10), jobs=[], facts={"AWS": {"commitment-ratio": "0.7"}}, days=10),
    ),
    "expiring-commitment: far off": (
        "expiring-commitment",
        World([used("720", "1000")], jobs=[], commitments=[{**ENDS, "ContractCommitmentPeriodEnd": T0 + timedelta(days=200)}]),
    ),
    "expiring-commitment: a loss": ("expiring-commitment", World(HALF, jobs=[], commitments=[ENDS])),
    "cheaper-region": ("cheaper-region", World([machine("384", PricingQuantity=Decimal(24), x_InstanceType="own.large")], jobs=[])),
    "ptu-to-payg": (
        "ptu-to-payg",
        World(
            UNITS, jobs=[],
            tokens=api((9, 10), deployment="gpt-east", model="gpt-4.1", input_tokens=Decimal(100_000_000), output_tokens=Decimal(50_000_000)),
        ),
    ),
    "ptu-to-payg: no price is known": (
        "ptu-to-payg",
        World(UNITS, jobs=[], tokens=api((9, 10), deployment="gpt-east", model="ours", input_tokens=Decimal(1), output_tokens=Decimal(1))),
    ),
    "payg-to-ptu: not steady": (
        "payg-to-ptu",
        World(
            [calls("24", "input", 2_880_000)], jobs=[], facts=STEADY,
            tokens=api((0, 12), model="gpt-5", input_tokens=Decimal(240_000), requests=Decimal(1), output_tokens=Decimal(0)),
        ),
    ),
    "batch-api": ("batch-api", World([calls("100", "input", 1000)], jobs=[])),
    "batch-api: is batch": ("batch-api", World([calls("100", "input", 1000, SubAccountId="proj_evals", x_ServiceTier="batch")], jobs=[])),
    "batch-api: must not wait": (
        "batch-api",
        World([calls("9", "input", 1, SubAccountId="proj_evals")], jobs=[], facts={"proj_evals": {"latency-tolerant": False}}),
    ),
    "prompt-caching": ("prompt-caching", World([calls("100", "input", 1000, **CLAUDE)], jobs=[])),
    "model-downgrade": (
        "model-downgrade",
        World([calls("100", "input", 1000, "gpt-5-mini")], jobs=[], facts={"gpt-5-mini": {"cheaper-model": "gpt-5"}}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_is_found(name: str) -> None:
    check_found(*FOUND[name])


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_found_where_nothing_is_wasted(name: str) -> None:
    check_sound(*SOUND[name])


def test_a_commitment_that_is_all_used_is_not_stranded() -> None:
    (row,) = World([used("720", "1000")], jobs=[]).ask("stranded-commitment", show_all=True).rows
    assert row["status"] == "nothing of the kind"


def test_idle_hours_that_jobs_move_onto_are_not_stranded_as_well() -> None:
    """400 on demand take 288 of the 720 idle dollars: 432 stay stranded."""
    world = World([*HALF, OTHER], jobs=[])
    rows = {row["rule"]: row for row in world.ask("stranded-commitment", "on-demand-beside-idle").rows}
    assert near(rows["on-demand-beside-idle"]["saving_high"], "400")
    assert near(rows["stranded-commitment"]["saving_high"], "432")
    assert near(rows["stranded-commitment"]["alone_high"], "720")
    assert rows["stranded-commitment"]["covered_by"] == ["on-demand-beside-idle"]
