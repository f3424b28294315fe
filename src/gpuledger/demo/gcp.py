"""The Google Cloud bill of the example: rows of the detailed BigQuery export, one JSON object a line.

A machine is several rows (core, RAM, GPU) with one resource name. `cost` is before credits. Rows are appended when
they become known, some of them weeks after the usage.
"""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final, TypeAlias

from gpuledger.demo import files
from gpuledger.demo.company import DAY, GPUS, HOUR, ZERO, busy, stream, tags
from gpuledger.demo.gcp_rows import (
    COMPUTE,
    PROJECTS,
    PROVIDER,
    STORAGE,
    TABLE,
    VERTEX,
    Rows,
    Usage,
    labels,
    number,
    stamp,
)
from gpuledger.demo.truth import Commitment, Fact, Truth

COMMITMENT: Final = "synthetic-cud-n2-0001"
_GIB_SECONDS: Final = 2**30 * 3600

# Machine type: cores, GiB, price of a core hour, of a GiB hour, of a GPU hour; SKUs named as in the public catalogue.
_SHAPES: Final = {
    "a3-highgpu-8g": (
        208,
        1872,
        "A3 Instance",
        Decimal("0.02931"),
        Decimal("0.0025534"),
        Decimal("9.796550569"),
    ),
    "n2-standard-16": (16, 64, "N2 Instance", Decimal("0.031611"), Decimal("0.004237"), None),
}
_Rows: TypeAlias = Iterator[tuple[dict[str, Any], Fact]]


def _credit(kind: str, name: str, amount: Decimal) -> dict[str, Any]:
    return {
        "name": name,
        "amount": number(amount),
        "full_name": name,
        "id": name.lower().replace(" ", "-"),
        "type": kind,
    }


def _machine(make: Rows, kind: str, team: str | None, name: str, when: datetime) -> _Rows:
    """One machine's hour: core, RAM and, where it has them, GPU rows."""
    cores, memory, family, core_price, memory_price, gpu_price = _SHAPES[kind]
    place = f"projects/{PROJECTS[team][0]}/zones/us-central1-a/instances/{name}"
    common = {
        "labels": labels(tags(PROVIDER, team, env="prod" if team else "dev")),
        "system_labels": labels(
            {
                "compute.googleapis.com/cores": str(cores),
                "compute.googleapis.com/machine_spec": kind,
                "compute.googleapis.com/memory": str(memory * 1024),
            }
        ),
        "resource": {"name": name, "global_name": f"//compute.googleapis.com/{place}"},
    }
    size = Decimal(memory)
    parts = {
        f"{family} Core running in Americas": _hours(cores, core_price),
        f"{family} Ram running in Americas": Usage(
            size, "gibibyte hour", memory_price, size * _GIB_SECONDS, "byte-seconds"
        ),
    }
    for sku, used in parts.items():
        cost = used.quantity * used.price
        row = make.row(COMPUTE, sku, team, (when, HOUR), used)
        yield row | common, Fact(cost, cost, resource=True, owned=team is not None)
    if gpu_price is not None:
        model, cards = GPUS[kind]
        cost = cards * gpu_price
        row = make.row(
            COMPUTE,
            f"Nvidia {model} 80GB GPU running in Americas",
            team,
            (when, HOUR),
            _hours(cards, gpu_price),
        )
        hours = Decimal(cards)
        yield (
            row | common,
            Fact(cost, cost, resource=True, owned=team is not None, gpu=model, gpu_hours=hours),
        )


def _hours(count: int, price: Decimal) -> Usage:
    """So many cores or cards for an hour."""
    return Usage(Decimal(count), "hour", price, Decimal(count * 3600), "seconds")


def _gpu_machines(make: Rows) -> _Rows:
    month = make.setting.month
    rng = stream(make.setting.seed, month, "gcp/gpu")
    for index in range(month.hours):
        when = month.hour(index)
        yield from _machine(make, "a3-highgpu-8g", "vision-research", "a3-vision-0", when)
        if busy(when) and rng.random() < 0.6:  # noqa: PLR2004
            yield from _machine(make, "a3-highgpu-8g", None, "a3-trial", when)


def _cpu_machines(make: Rows, truth: Truth) -> _Rows:
    """Two nodes under a committed use discount that covers their cores, one with a sustained use discount."""
    month = make.setting.month
    cores, _, _, core_price, _, _ = _SHAPES["n2-standard-16"]
    fee = Decimal("0.019915")
    truth.commitments[COMMITMENT] = Commitment(
        PROVIDER,
        "Resource-based committed use discount",
        "supporting: CPU cores",
        f"{2 * cores} N2 cores",
        core_price,
        fee,
    )
    for index in range(month.hours):
        when = month.hour(index)
        for node in range(3):
            for row, fact in _machine(make, "n2-standard-16", "data-platform", f"n2-etl-{node}", when):
                cost = fact.billed
                is_core = "Core" in row["sku"]["description"]
                if node < 2 and is_core:  # noqa: PLR2004
                    row["credits"] = [
                        _credit("COMMITTED_USAGE_DISCOUNT", "Committed Usage Discount: CPU", -cost)
                    ]
                    yield row, Fact(ZERO, cores * fee, resource=True, commitment=COMMITMENT)
                elif node == 2:  # noqa: PLR2004
                    less = (cost * Decimal("0.2")).quantize(Decimal("0.000001"))
                    row["credits"] = [_credit("SUSTAINED_USAGE_DISCOUNT", "Sustained Usage Discount", -less)]
                    yield row, Fact(cost - less, cost - less, resource=True)
                else:
                    yield row, fact
        sku = "Commitment v1: N2 Cpu in Americas for 1 Year"
        row = make.row(COMPUTE, sku, "data-platform", (when, HOUR), _hours(2 * cores, fee))
        yield row | {"subscription": {"instance_id": COMMITMENT}}, Fact(2 * cores * fee, ZERO)


def _services(make: Rows) -> _Rows:
    """Vertex AI tokens (no resource), buckets, tax, and usage of the month before that was reported late."""
    month = make.setting.month
    rng = stream(make.setting.seed, month, "gcp/services")
    gemini = (
        ("Gemini 2.5 Flash GA Text Input - Predictions", Decimal("0.0000003"), 60_000_000),
        ("Gemini 2.5 Flash GA Text Output - Predictions", Decimal("0.0000025"), 7_000_000),
        ("Gemini 2.5 Pro Text Input - Predictions", Decimal("0.00000125"), 12_000_000),
        ("Gemini 2.5 Pro Text Output - Predictions", Decimal("0.00001"), 1_500_000),
    )
    for index in range(0, month.hours, 4):
        when = (month.hour(index), 4 * HOUR)
        for sku, price, usual in gemini:
            tokens = Decimal(usual * rng.randint(40, 160) // 100)
            row = make.row(VERTEX, sku, "rag-serving", when, Usage(tokens, "count", price, tokens, "count"))
            row["labels"] = labels(tags(PROVIDER, "rag-serving"))
            yield row, Fact(tokens * price, tokens * price)
    for team in ("vision-research", "data-platform", None):
        name = f"example-{team or 'old'}-synthetic"
        for index in range(month.days):
            gib = Decimal(rng.randint(30_000, 60_000))
            share = (gib / month.days).quantize(Decimal("0.000001"))
            used = Usage(share, "gibibyte month", Decimal("0.02"), gib * 2**30 * 86400, "byte-seconds")
            row = make.row(
                STORAGE, "Standard Storage US Regional", team, (month.start + index * DAY, DAY), used
            )
            row["labels"] = labels(tags(PROVIDER, team))
            row["resource"] = {"name": name, "global_name": f"//storage.googleapis.com/{name}"}
            cost = share * used.price
            yield row, Fact(cost, cost, resource=True, owned=team is not None)
    tax = Decimal("731.56")
    row = make.row(
        COMPUTE, "Tax", None, (month.start, month.end - month.start), Usage(Decimal(1), "", tax, ZERO, "")
    )
    row |= {"cost_type": "tax", "price": None, "usage": None, "project": None, "seller_name": None}
    yield row, Fact(tax, tax)
    for hour in range(6):
        when_late = month.start - (6 - hour) * HOUR
        for row, fact in _machine(make, "a3-highgpu-8g", "vision-research", "a3-vision-0", when_late):
            row["export_time"] = stamp(month.start + 3 * DAY)
            yield row, fact


def write(setting: files.Setting, truth: Truth) -> list[files.Written]:
    """Write the export in three files; the last one holds what was exported after the month's end."""
    make = Rows(setting)
    parts: list[list[tuple[dict[str, Any], Fact]]] = [[], [], []]
    middle, end = stamp(setting.month.start + 15 * DAY), stamp(setting.month.end)
    rng = stream(setting.seed, setting.month, "gcp/late")
    for source in (_gpu_machines(make), _cpu_machines(make, truth), _services(make)):
        for row, fact in source:
            if rng.random() < 0.01:  # noqa: PLR2004  # one row in a hundred is late by days
                row["export_time"] = stamp(
                    setting.month.end + 2 * DAY + timedelta(minutes=rng.randrange(600))
                )
            exported = row["export_time"]
            parts[0 if exported < middle else 1 if exported < end else 2].append((row, fact))
    truth.notes["gcp_late_rows"] = {
        "exported_after_month_end": len(parts[2]),
        "usage_of_the_month_before": 18,
        "what": "rows are appended when they become known: usage days are complete only weeks later",
    }
    found = []
    for index, part in enumerate(parts):
        path = f"{PROVIDER}/{TABLE}/synthetic-billing-{index:012d}.json.gz"
        with files.text_file(setting.root / path) as text:
            for count, (row, fact) in enumerate(part, start=1):
                text.write(json.dumps(row, separators=(",", ":")) + "\n")
                truth.add(PROVIDER, path, count, fact)
        found.append(files.written(setting, setting.root / path, PROVIDER, len(part)))
    return found
