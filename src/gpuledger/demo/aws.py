"""The AWS bill of the example: a CUR 2.0 data export, delivered twice.

Layout and manifest: docs.aws.amazon.com/cur/latest/userguide/dataexports-export-delivery.html, "create new" delivery:
every refresh keeps a folder of its own, named by its time. The manifest's exact keys are not documented there; those
used here (executionId, dataFiles, columns) are the ones that public readers of such manifests rely on.
"""

import csv
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from functools import partial
from importlib import resources
from typing import Final

from gpuledger.demo import bulk, files
from gpuledger.demo.aws_beside import beside
from gpuledger.demo.aws_commitments import reserved_instances, savings_plan
from gpuledger.demo.aws_lines import PAYER, Line, Lines
from gpuledger.demo.aws_usage import closing, usage
from gpuledger.demo.company import LABEL, ZERO, Month, guid, plain, stream
from gpuledger.demo.truth import Truth

EXPORT: Final = "synthetic-cur2"
PROVIDER: Final = "aws"


def columns() -> dict[str, str]:
    """CUR 2.0 columns of the export in their order, with the type that the manifest states."""
    text = resources.files("gpuledger.demo").joinpath("cur2_columns.csv").read_text("utf-8")
    return {row["name"]: row["type"] for row in csv.DictReader(text.splitlines())}


def run(setting: files.Setting, moment: datetime) -> str:
    """Name of the folder of one refresh: its time and its execution."""
    return f"{moment:%Y%m%dT%H%M%SZ}-{guid(stream(setting.seed, setting.month, f'aws/run/{moment}'))}"


def data_path(setting: files.Setting, moment: datetime, number: int) -> str:
    """Path of a data file of the refresh at that moment, relative to the root."""
    folder = f"{PROVIDER}/{EXPORT}/data/BILLING_PERIOD={setting.month.text}/{run(setting, moment)}"
    return f"{folder}/{EXPORT}-{number:05d}.csv.gz"


def _lines(setting: files.Setting, truth: Truth) -> Iterator[Line]:
    lines = Lines(setting.month, setting.seed)
    saved: dict[tuple[str, str], Decimal] = {}
    before: dict[tuple[str, str], Decimal] = {}
    for part in (
        savings_plan(lines, truth),
        reserved_instances(lines, truth),
        *usage(lines),
        beside(lines, truth),
    ):
        for line in part:
            if discount := line.cells.get("discount_total_discount"):
                key = (line.cells["line_item_usage_account_id"], line.cells["line_item_product_code"])
                saved[key] = saved.get(key, ZERO) - Decimal(discount)
                old = line.before.get("discount_total_discount", discount)
                before[key] = before.get(key, ZERO) - Decimal(old)
            yield line
    yield from closing(lines, saved, before)


def manifest(setting: files.Setting, moment: datetime, parts: dict[str, int]) -> None:
    """Write the manifest of a refresh; `parts` are its data files with their rows."""
    month, execution = setting.month, run(setting, moment)
    path = (
        setting.root
        / PROVIDER
        / EXPORT
        / "metadata"
        / f"BILLING_PERIOD={month.text}"
        / execution
        / f"{EXPORT}-Manifest.json"
    )
    files.write_json(
        path,
        {
            "x_synthetic": LABEL,
            "exportName": EXPORT,
            "exportArn": f"arn:aws:bcm-data-exports:us-east-1:{PAYER}:export/{EXPORT}-00000000-0000-4000-8000-000000000001",
            "executionId": execution.partition("Z-")[2],
            "createdAt": moment.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "billingPeriod": {
                "start": f"{month.start:%Y%m%dT000000.000Z}",
                "end": f"{month.end:%Y%m%dT000000.000Z}",
            },
            "tableConfigurations": {
                "COST_AND_USAGE_REPORT": {
                    "TIME_GRANULARITY": "HOURLY",
                    "INCLUDE_RESOURCES": "TRUE",
                    "INCLUDE_SPLIT_COST_ALLOCATION_DATA": "FALSE",
                    "INCLUDE_IAM_PRINCIPAL_DATA": "TRUE",
                }
            },
            "columns": [{"name": name, "type": kind} for name, kind in columns().items()],
            "contentType": "text/csv",
            "compression": "GZIP",
            "dataFiles": [f"s3://example-synthetic-billing/{part}" for part in parts],
            "x_rowCounts": {f"s3://example-synthetic-billing/{part}": rows for part, rows in parts.items()},
        },
    )


def write(setting: files.Setting, truth: Truth, wanted: int | None) -> list[files.Written]:
    """Write both deliveries. `wanted` data rows, if more than the example has, are filled up with small usage."""
    month: Month = setting.month
    _announce(truth)
    header = list(columns())
    invoice = header.index("bill_invoice_id")
    place = {name: index for index, name in enumerate(header)}
    now, then = (data_path(setting, moment, 1) for moment in (month.second_delivery, month.first_delivery))
    rows = rows_before = 0
    before = ZERO
    with files.text_file(setting.root / now) as final, files.text_file(setting.root / then) as first:
        out, old = csv.writer(final, lineterminator="\n"), csv.writer(first, lineterminator="\n")
        out.writerow(header)
        old.writerow(header)
        for line in _lines(setting, truth):
            cells = [""] * len(header)
            for name, value in line.cells.items():
                cells[place[name]] = value
            out.writerow(cells)
            rows += 1
            truth.add(PROVIDER, now, rows, line.fact)
            if line.late:
                continue
            cells[invoice] = ""
            for name, value in line.before.items():
                cells[place[name]] = value
            old.writerow(cells)
            rows_before += 1
            before += line.fact.billed if line.billed_before is None else line.billed_before
    filler = bulk.fill(
        setting, header, partial(data_path, setting, month.second_delivery), (wanted or 0) - rows
    )
    for part in filler:
        truth.add_bulk(PROVIDER, part.file.path, part.file.rows, part.cost, part.unowned)
    # The filler is the same in both deliveries, and stored once.
    more = {part.file.path: part.file.rows for part in filler}
    manifest(setting, month.first_delivery, {then: rows_before} | more)
    manifest(setting, month.second_delivery, {now: rows} | more)
    before += sum((part.cost for part in filler), ZERO)
    final_total = truth.billed()[PROVIDER]
    truth.incidents["late_correction"] |= {
        "first_delivery": {"file": then, "rows": rows_before + sum(more.values()), "billed": plain(before)},
        "second_delivery": {"file": now, "rows": rows + sum(more.values()), "billed": plain(final_total)},
    }
    return [
        files.written(setting, setting.root / then, PROVIDER, rows_before),
        files.written(setting, setting.root / now, PROVIDER, rows),
        *(part.file for part in filler),
    ]


def _announce(truth: Truth) -> None:
    month = truth.month
    truth.notes["unowned"] = [
        {"account": "444455556666", "kind": "p4d.24xlarge", "instances": 1, "true_owner": "vision-research",
         "clues": "started by the job runner that starts this team's machines, in its account"},
        {"account": "777788889999", "kind": "volume", "instances": 4, "true_owner": "vision-research",
         "clues": "mislead: the account is data-platform's, and the provisioning that made it serves all teams"},
        {"account": "example-sandbox-synthetic", "kind": "a3-highgpu-8g", "instances": 1, "true_owner": "recsys",
         "clues": "none: nothing else in its project has an owner, and no creator is recorded"},
    ]  # fmt: skip
    truth.incident(
        "weekend_run", provider=PROVIDER, kind="usage", what="200 on-demand p4d.24xlarge (8 x A100) without any tag of the company's",
        start=month.weekend_run.isoformat(), hours="11", instances="200", instance_hours="2200", gpu_hours="17600",
        owner=None, account="444455556666", true_owner="llm-pretraining", true_contact="marie@example.com",
        clues="AWS recorded who started it, in an account that is nearly all of vision-research",
    )  # fmt: skip
    truth.incident(
        "abandoned_notebook", provider=PROVIDER, kind="usage", what="a notebook holds a g6e.12xlarge (4 x L40S), unused",
        start=month.notebook.isoformat(), hours="216", gpu_hours="864", owner="edsger@example.com", team="vision-research",
    )  # fmt: skip
    truth.incident(
        "region_price_change", provider=PROVIDER, kind="price", what="g6e.12xlarge in eu-central-1 from 13.1158 to 14.2962 USD/h",
        start=month.price_change.isoformat(), region="eu-central-1", expect="no usage alert: the hours are the same",
    )  # fmt: skip
    truth.incident(
        "late_correction", provider=PROVIDER, kind="restatement",
        what="a second delivery of the month: traffic of the last three days repriced, a correction of the month before added",
        start=month.second_delivery.isoformat(),
    )  # fmt: skip
