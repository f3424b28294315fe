"""What the example uses on AWS: machines, incidents, storage, traffic, Bedrock tokens, and what closes the bill.

Bedrock: Anthropic models arrive as marketplace lines ("Claude … (Amazon Bedrock Edition)", usage in millions of
tokens, direction in the usage type), Amazon's own models as AmazonBedrock lines in thousands of tokens.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Final

from gpuledger.demo.aws_lines import (
    EDP,
    TEN,
    Line,
    Lines,
    Machine,
    Meter,
    created_by,
    days,
    sku,
    stamp,
    ten,
)
from gpuledger.demo.company import DAY, HOUR, LIST_PRICE, ZERO, Month, busy, compact, identifier, stream, tags
from gpuledger.demo.truth import Fact

PROVIDER: Final = "aws"
_PROD, _RESEARCH, _PLATFORM = "111122223333", "444455556666", "777788889999"
_HEX: Final = "0123456789abcdef"
_USUAL_RATE: Final = Decimal("13.1158")
_RAISED_RATE: Final = Decimal("14.2962")
ONE: Final = Decimal(1)
_REPRICED: Final = (
    "line_item_unblended_cost", "line_item_blended_cost", "line_item_net_unblended_cost", "line_item_unblended_rate",
    "line_item_net_unblended_rate", "line_item_blended_rate", "line_item_line_item_description", "discount", "discount_total_discount",
    "pricing_public_on_demand_cost", "pricing_public_on_demand_rate",
)  # fmt: skip

# Team (None: nobody), instance type, how many, how it is used, account, region.
_FLEET: Final = (
    ("vision-research", "p4d.24xlarge", 2, "jobs", _RESEARCH, "us-east-1"),
    (None, "p4d.24xlarge", 1, "jobs", _RESEARCH, "us-east-1"),
    ("rag-serving", "g6e.12xlarge", 5, "always", _PROD, "us-east-1"),
    ("recsys", "g6e.48xlarge", 1, "always", _PROD, "us-east-1"),
    ("vision-research", "g6e.xlarge", 10, "busy", _RESEARCH, "us-east-1"),
    (None, "g6e.xlarge", 2, "busy", _RESEARCH, "us-east-1"),
)
# Who started what, as AWS records it: people, a job runner, and the provisioning that all teams share. Marie of
# llm-pretraining started the weekend run, in the research account.
_TERRAFORM: Final = created_by("terraform-shared")
_CREATED: Final = {
    ("vision-research", "p4d.24xlarge"): created_by("svc-trainer", "IAMUser"),
    (None, "p4d.24xlarge"): created_by("svc-trainer", "IAMUser"),
    ("vision-research", "g6e.xlarge"): created_by("edsger@example.com"),
    ("llm-pretraining", "volume"): created_by("marie@example.com"),
}
_STORAGE: Final = (("llm-pretraining", 9000), ("rag-serving", 2500), ("vision-research", 6000), (None, 3000))
_CLAUDE: Final = (  # usage type, its words in the description, dollars per million tokens, usual millions per hour
    ("InputTokenCount", "Million Input Tokens", Decimal(3), 90),
    ("OutputTokenCount", "Million Response Tokens", Decimal(15), 14),
    ("CacheReadInputTokenCount", "Million Cache Read Input Tokens", Decimal("0.3"), 160),
    ("CacheWriteInputTokenCount", "Million Cache Write Input Tokens", Decimal("3.75"), 6),
)


def _machine(lines: Lines, name: str, kind: str, account: str, owner: dict[str, str], region: str) -> Machine:
    rng = stream(lines.seed, lines.month, f"aws/{name}")
    return Machine(f"i-0{identifier(rng, _HEX, 16)}", kind, account, owner, region)


def running(month: Month, seed: int, name: str, pattern: str) -> Iterator[tuple[datetime, Decimal]]:
    """Hours of the month in which a machine ran, with the part of the hour."""
    rng = stream(seed, month, f"aws/running/{name}")
    left, on = 0, False
    for index in range(month.hours):
        moment = month.hour(index)
        if pattern == "always":
            yield moment, ONE
        elif pattern == "busy":
            if busy(moment) and rng.random() < 0.8:  # noqa: PLR2004
                yield moment, (Decimal(rng.randint(20, 60)) / 60).quantize(TEN)
        else:
            part = ONE
            if left == 0:
                on = not on
                left = rng.randint(12, 60) if on else rng.randint(4, 24)
                part = (Decimal(rng.randint(5, 60)) / 60).quantize(TEN)
            left -= 1
            if on:
                yield moment, part


def _fleet(lines: Lines) -> Iterator[Line]:
    for team, kind, count, pattern, account, region in _FLEET:
        for number in range(count):
            name = f"{team}/{kind}/{number}"
            owner = tags(PROVIDER, team, user_name=f"{kind.split('.')[0]}-{number}", user_env="prod")
            owner |= _CREATED.get((team, kind), _TERRAFORM)
            machine = _machine(lines, name, kind, account, owner, region)
            for moment, part in running(lines.month, lines.seed, name, pattern):
                yield lines.on_demand(machine, moment, part)


def _incidents(lines: Lines) -> Iterator[Line]:
    month = lines.month
    for number in range(200):
        tagless = created_by("marie@example.com")
        machine = _machine(lines, f"weekend/{number}", "p4d.24xlarge", _RESEARCH, tagless, "us-east-1")
        for hour in range(11):
            yield lines.on_demand(machine, month.weekend_run + hour * HOUR, ONE, incident="weekend_run")
    owner = tags(PROVIDER, "vision-research", user_name="notebook-edsger", user_env="dev")
    owner |= created_by("edsger@example.com")
    machine = _machine(lines, "notebook", "g6e.12xlarge", _RESEARCH, owner, "us-east-1")
    for hour in range(9 * 24):
        yield lines.on_demand(machine, month.notebook + hour * HOUR, ONE, incident="abandoned_notebook")
    for number in range(2):
        owner = tags(PROVIDER, "rag-serving", user_name=f"rag-eu-{number}", user_env="prod") | _TERRAFORM
        machine = _machine(lines, f"eu/{number}", "g6e.12xlarge", _PROD, owner, "eu-central-1")
        for index in range(month.hours):
            moment = month.hour(index)
            if moment < month.price_change:
                yield lines.on_demand(machine, moment, ONE, rate=_USUAL_RATE)
            else:
                yield lines.on_demand(
                    machine,
                    moment,
                    ONE,
                    rate=_RAISED_RATE,
                    incident="region_price_change",
                    usual_rate=_USUAL_RATE,
                )


def _spot(lines: Lines) -> Iterator[Line]:
    owner = tags(PROVIDER, "data-platform", user_name="spot-etl", user_env="prod") | _TERRAFORM
    machine = _machine(lines, "spot", "g6e.xlarge", _PLATFORM, owner, "us-east-1")
    rng = stream(lines.seed, lines.month, "aws/spot-price")
    for moment, part in running(lines.month, lines.seed, "spot", "jobs"):
        rate = Decimal(rng.randint(6200, 8100)) / 10000
        line = lines.on_demand(machine, moment, part, rate=rate)
        line.cells.update(
            line_item_usage_type="SpotUsage:g6e.xlarge",
            product_usagetype="SpotUsage:g6e.xlarge",
            product_sku=sku("SpotUsage:g6e.xlarge")["product_sku"],
            pricing_rate_code="",
            line_item_operation="RunInstances:SV001",
            line_item_line_item_description="g6e.xlarge Linux/UNIX Spot Instance-hour in US East (Virginia)",
            pricing_term="",
            pricing_public_on_demand_rate=ten(LIST_PRICE["g6e.xlarge"]),
            pricing_public_on_demand_cost=ten((part * LIST_PRICE["g6e.xlarge"]).quantize(TEN)),
        )
        yield line


def _storage(lines: Lines) -> Iterator[Line]:
    disk = Meter("AmazonEC2", "EBS:VolumeUsage.gp3", "CreateVolume-Gp3", Decimal("0.08"), "GB-Mo")
    bucket = Meter("AmazonS3", "TimedStorage-ByteHrs", "StandardStorage", Decimal("0.023"), "GB-Mo")
    out = Meter("AWSDataTransfer", "DataTransfer-Out-Bytes", "RunInstances", Decimal("0.09"), "GB")
    tier = Meter("AWSDataTransfer", "DataTransfer-Out-Bytes", "RunInstances", Decimal("0.085"), "GB")
    rng = stream(lines.seed, lines.month, "aws/storage")
    late = lines.month.end - 3 * DAY
    for team, size in _STORAGE:
        owner = tags(PROVIDER, team) | _CREATED.get((team, "volume"), _TERRAFORM)
        payer = (_PLATFORM if team is None else _PROD, owner)
        volumes = [f"vol-0{identifier(rng, _HEX, 16)}" for _ in range(4)]
        name = f"example-synthetic-{team or 'scratch'}"
        for when in days(lines.month):
            share = Decimal(size + rng.randint(0, 400)) / lines.month.days
            for volume in volumes:
                yield lines.metered(disk, volume, when, (share / 4).quantize(TEN), payer)
            yield lines.metered(bucket, name, when, (share * 12).quantize(TEN), payer)
            traffic = Decimal(rng.randint(40_000, 900_000)) / 1000
            if when[0] < late:
                yield lines.metered(out, volumes[0], when, traffic, payer)
                continue
            # The last three days were first stated at the first tier's price.
            line, old = (lines.metered(meter, volumes[0], when, traffic, payer) for meter in (tier, out))
            fact = Fact(
                line.fact.billed, line.fact.effective, resource=True, owned=line.fact.owned,
                incident="late_correction", injected=line.fact.billed - old.fact.billed,
            )  # fmt: skip
            before = {name: old.cells[name] for name in _REPRICED}
            yield Line(line.cells, fact, before, billed_before=old.fact.billed)


def _bedrock(lines: Lines) -> Iterator[Line]:
    rng = stream(lines.seed, lines.month, "aws/bedrock")
    role = f"arn:aws:sts::{_PROD}:assumed-role/synthetic-agents/session"
    profile = f"arn:aws:bedrock:us-east-1:{_PROD}:application-inference-profile/synthagents1"
    payer = (_PROD, tags(PROVIDER, "agents-platform"))
    nova = (("input", Decimal("0.0008")), ("output", Decimal("0.0032")))
    for index in range(lines.month.hours):
        when = (lines.month.hour(index), HOUR)
        level = Decimal(rng.randint(60, 140)) / (100 if busy(when[0]) else 400)
        for word, text, rate, usual in _CLAUDE:
            meter = Meter(
                "synth2exampleclaudesonnet45",
                f"USE1-MP:USE1_{word}_Global-Units",
                "Usage",
                rate,
                "Units",
                discounted=False,
            )
            amount = (Decimal(usual) / 50 * level).quantize(Decimal("1e-6"))
            yield lines.metered(
                meter, profile, when, amount, payer,
                bill_billing_entity="AWS Marketplace",
                line_item_iam_principal=role,
                line_item_line_item_description=f"AWS Marketplace software usage|us-east-1|{text}",
                product=compact({"product_name": "Claude Sonnet 4.5 (Amazon Bedrock Edition)"}),
            )  # fmt: skip
        for word, rate in nova:
            meter = Meter(
                "AmazonBedrock",
                f"USE1-NovaPro-{word}-tokens",
                "InvokeModelInference",
                rate,
                "1K tokens",
                discounted=False,
            )
            yield lines.metered(
                meter, "", when, Decimal(rng.randint(900, 9000)), (_PLATFORM, {}),
                line_item_iam_principal=f"arn:aws:iam::{_PLATFORM}:role/synthetic-etl",
                product=compact({"product_name": "Amazon Bedrock", "model": "Nova Pro", "inferenceType": f"{word.capitalize()} tokens"}),
                product_product_family="Amazon Bedrock",
            )  # fmt: skip


def closing(
    lines: Lines, saved: Mapping[tuple[str, str], Decimal], before: Mapping[tuple[str, str], Decimal]
) -> Iterator[Line]:
    """Discount programme, tax, credit, and a correction of the month before.

    `saved` is what the programme takes off per account and product, `before` what it took off in the first delivery.
    """
    for (account, code), discount in saved.items():
        cells = lines.monthly(
            "EdpDiscount", account, -discount, ZERO, line_item_product_code=code,
            line_item_line_item_description=f"Enterprise Discount Program Discount for {code} ({EDP:.0%}, synthetic)",
        )  # fmt: skip
        cells.update(discount="{}", discount_total_discount="")
        first = ten(-before[account, code])
        old = {"line_item_unblended_cost": first, "line_item_blended_cost": first}
        yield Line(cells, Fact(ZERO, ZERO), old if before[account, code] != discount else {})
    for account, tax in ((_PROD, Decimal("1984.27")), (_RESEARCH, Decimal("611.08"))):
        cells = lines.monthly(
            "Tax", account, tax, line_item_product_code="AmazonEC2", line_item_tax_type="USSalesTax",
            line_item_line_item_description="Tax for product code AmazonEC2", line_item_legal_entity="Amazon Web Services, Inc.",
        )  # fmt: skip
        yield Line(cells, Fact(tax, tax))
    credit = Decimal(-5000)
    cells = lines.monthly(
        "Credit",
        _PROD,
        credit,
        line_item_product_code="AmazonEC2",
        line_item_line_item_description="Synthetic promotional credit",
    )
    yield Line(cells, Fact(credit, credit))
    refund = Decimal("-412.35")
    cells = lines.monthly(
        "Refund", _PLATFORM, refund, line_item_product_code="AmazonS3", line_item_usage_type="TimedStorage-ByteHrs",
        line_item_operation="StandardStorage",
        line_item_line_item_description="Correction of storage charged twice in the month before (synthetic)",
        line_item_usage_start_date=stamp(lines.month.start - 2 * DAY),
        line_item_usage_end_date=stamp(lines.month.start - DAY),
    )  # fmt: skip
    yield Line(cells, Fact(refund, refund, incident="late_correction"), late=True)


def usage(lines: Lines) -> Iterable[Iterator[Line]]:
    """All usage that no commitment covers."""
    return _fleet(lines), _incidents(lines), _spot(lines), _storage(lines), _bedrock(lines)
