"""Fills the AWS export up to any number of rows with small usage of serverless functions, written by DuckDB.

Rows are made in the engine and streamed to compressed files of a million rows each, with an exact sum. About one
function in seven has no tags.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gpuledger.demo.aws_lines import PAYER, stamp
from gpuledger.demo.company import COMPANY, ZERO, compact, tags
from gpuledger.demo.files import Setting, Written, written

PER_FILE: Final = 1_000_000
_ACCOUNT: Final = "777788889999"

# $1: first number, $2: one past the last, $3: seed, $4: hours of the month, $5: start of the month.
# Multiplication by odd constants spreads the numbers; the engine's own hash may change between versions.
_NUMBERS: Final = """
SELECT
    i,
    i // $4::BIGINT AS fn,
    $5::TIMESTAMP + to_hours(i % $4::BIGINT) AS hour,
    (((((i + $3::BIGINT) * 48271) % 2147483647) % 90000 + 1)::DECIMAL(18, 3) * 0.001::DECIMAL(4, 3))::DECIMAL(18, 10) AS amount
FROM range($1::BIGINT, $2::BIGINT) AS numbers(i)
"""
_PRICED: Final = f"""
SELECT i, fn, hour, amount, ((fn * 48271 + 12345) % 2147483647) % 100 < 15 AS unowned,
    (amount::DECIMAL(28, 10) * 0.0000166667::DECIMAL(10, 10))::DECIMAL(28, 10) AS cost
FROM ({_NUMBERS})
"""


@dataclass(frozen=True, slots=True)
class Filler:
    """A file of small usage, what it costs, and how much of that nobody owns."""

    file: Written
    cost: Decimal
    unowned: Decimal


def _select(header: Sequence[str], setting: Setting) -> str:
    """The export's columns over the priced numbers; what is not listed stays empty."""
    text = "strftime({}, '%Y-%m-%dT%H:%M:%S.000Z')"
    owner = compact(tags("aws", "data-platform")).replace("'", "''")
    fixed = {
        "bill_bill_type": "Anniversary",
        "bill_billing_entity": "AWS",
        "bill_billing_period_start_date": stamp(setting.month.start),
        "bill_billing_period_end_date": stamp(setting.month.end),
        "bill_invoice_id": f"SYNTHETIC-{setting.month.start:%Y%m}",
        "bill_invoicing_entity": "Amazon Web Services, Inc.",
        "bill_payer_account_id": PAYER,
        "bill_payer_account_name": COMPANY,
        "cost_category": "{}",
        "discount": "{}",
        "line_item_blended_rate": "0.0000166667",
        "line_item_currency_code": "USD",
        "line_item_legal_entity": "Amazon Web Services, Inc.",
        "line_item_line_item_description": "AWS Lambda - Total Compute - US East (Northern Virginia)",
        "line_item_line_item_type": "Usage",
        "line_item_operation": "Invoke",
        "line_item_product_code": "AWSLambda",
        "line_item_unblended_rate": "0.0000166667",
        "line_item_usage_account_id": _ACCOUNT,
        "line_item_usage_account_name": "example-platform (synthetic)",
        "line_item_usage_type": "Lambda-GB-Second",
        "pricing_currency": "USD",
        "pricing_public_on_demand_rate": "0.0000166667",
        "pricing_term": "OnDemand",
        "pricing_unit": "Lambda-GB-Second",
        "product": '{"product_name":"AWS Lambda"}',
        "product_location": "US East (N. Virginia)",
        "product_region_code": "us-east-1",
        "product_servicecode": "AWSLambda",
        "product_usagetype": "Lambda-GB-Second",
    }
    made = {name: "'" + value.replace("'", "''") + "'" for name, value in fixed.items()}
    made |= {
        "identity_line_item_id": "md5('synthetic' || i)",
        "identity_time_interval": (
            "strftime(hour, '%Y-%m-%dT%H:%M:%SZ') || '/' || strftime(hour + INTERVAL 1 HOUR, '%Y-%m-%dT%H:%M:%SZ')"
        ),
        "line_item_blended_cost": "cost",
        "line_item_net_unblended_cost": "cost",
        "line_item_resource_id": f"'arn:aws:lambda:us-east-1:{_ACCOUNT}:function:synthetic-' || fn",
        "line_item_unblended_cost": "cost",
        "line_item_usage_amount": "amount",
        "line_item_usage_start_date": text.format("hour"),
        "line_item_usage_end_date": text.format("hour + INTERVAL 1 HOUR"),
        "pricing_public_on_demand_cost": "cost",
        "resource_tags": f"CASE WHEN unowned THEN '{{}}' ELSE '{owner}' END",
    }
    return ", ".join(f"{made.get(name, 'NULL')} AS {name}" for name in header)


def fill(setting: Setting, header: Sequence[str], path: Callable[[int], str], rows: int) -> list[Filler]:
    """Write `rows` rows of small usage; `path` gives a data file's path by its number, of which 1 is taken."""
    if rows <= 0:
        return []
    import duckdb

    select = _select(header, setting)
    start = setting.month.start.replace(tzinfo=None)

    def one(connection: "duckdb.DuckDBPyConnection", first: int) -> Filler:
        last = min(first + PER_FILE, rows)
        target = setting.root / path(first // PER_FILE + 2)
        target.parent.mkdir(parents=True, exist_ok=True)
        name = str(target).replace("'", "''")
        parameters = [first, last, setting.seed, setting.month.hours, start]
        # The numbers are ours; COPY takes no parameter for its file.
        connection.execute(
            f"COPY (SELECT {select} FROM ({_PRICED})) TO '{name}' (FORMAT csv, HEADER, COMPRESSION gzip)",
            parameters,
        )
        total = connection.execute(
            f"SELECT sum(cost), coalesce(sum(cost) FILTER (unowned), 0) FROM ({_PRICED})",
            parameters,
        ).fetchone()
        cost, unowned = total if total is not None else (ZERO, ZERO)
        return Filler(written(setting, target, "aws", last - first), Decimal(cost), Decimal(unowned))

    # Compression of one file keeps one core busy: as many files at once as there are cores.
    with duckdb.connect() as connection, ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda first: one(connection.cursor(), first), range(0, rows, PER_FILE)))
