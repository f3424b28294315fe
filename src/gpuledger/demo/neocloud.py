"""The neocloud bill of the example: a usage file with prices, in columns that no connector knows by name.

Instance types are CoreWeave's names; the file's form is invented: neoclouds send spreadsheets of all kinds, which is
what the column map `neocloud_columns.toml` is for.
"""

from collections.abc import Iterator
from decimal import Decimal
from importlib import resources
from typing import Final

from gpuledger.demo import files
from gpuledger.demo.company import COMPANY, GPUS, LIST_PRICE, busy, compact, plain, stream, tags
from gpuledger.demo.truth import Fact, Truth

PROVIDER: Final = "neocloud"
COLUMNS: Final = (
    "date_hour", "org_id", "org_name", "project", "region", "cluster", "node", "product", "sku", "instance_type", "quantity",
    "unit", "rate_usd", "cost_usd", "currency", "labels", "invoice",
)  # fmt: skip
_NODES: Final = (
    ("gd-8xh100ib-i128", "llm-pretraining", "h100-0", "always"),
    ("gd-8xh100ib-i128", "llm-pretraining", "h100-1", "always"),
    ("gd-8xa100-i128", "agents-platform", "a100-0", "always"),
    ("gd-8xl40s-i128", "recsys", "l40s-0", "always"),
    ("gd-8xl40s-i128", None, "l40s-1", "busy"),
)


def columns_map() -> str:
    """Return the column map as TOML, for a `[sources.<name>]` table of gpuledger.toml."""
    return resources.files("gpuledger.demo").joinpath("neocloud_columns.toml").read_text("utf-8")


def _rows(setting: files.Setting) -> Iterator[tuple[tuple[str, ...], Fact]]:
    month = setting.month
    rng = stream(setting.seed, month, "neocloud")
    for kind, team, node, pattern in _NODES:
        rate = LIST_PRICE[kind]
        model, cards = GPUS[kind]
        for index in range(month.hours):
            when = month.hour(index)
            if pattern == "busy" and not busy(when):
                continue
            quantity = Decimal(1) if rng.random() < 0.97 else Decimal(rng.randint(1, 19)) / 20  # noqa: PLR2004
            cost = quantity * rate
            row = (
                when.strftime("%Y-%m-%dT%H:00:00Z"), "org-synthetic", COMPANY, team or "default", "US-EAST-04", "example-cks",
                node, "GPU Instance", f"gpu-{kind}", kind, plain(quantity), "instance-hour", plain(rate), plain(cost), "USD",
                compact(tags(PROVIDER, team)), f"SYN-{month.start:%Y%m}",
            )  # fmt: skip
            yield (
                row,
                Fact(
                    cost, cost, resource=True, owned=team is not None, gpu=model, gpu_hours=quantity * cards
                ),
            )
    for index in range(month.hours):
        when = month.hour(index)
        size = Decimal(40960 + index * 8)
        rate = Decimal("0.00009589")
        cost = size * rate
        row = (
            when.strftime("%Y-%m-%dT%H:00:00Z"), "org-synthetic", COMPANY, "llm-pretraining", "US-EAST-04", "example-cks",
            "shared-vast", "Distributed File Storage", "dfs-standard", "", plain(size), "GiB-hour", plain(rate), plain(cost), "USD",
            compact(tags(PROVIDER, "llm-pretraining")), f"SYN-{month.start:%Y%m}",
        )  # fmt: skip
        yield row, Fact(cost, cost, resource=True)


def write(setting: files.Setting, truth: Truth) -> list[files.Written]:
    """Write the usage file and the column map."""
    path = f"{PROVIDER}/synthetic-usage-{setting.month.text}.csv"
    rows = []
    for row, fact in _rows(setting):
        rows.append(row)
        truth.add(PROVIDER, path, len(rows), fact)
    count = files.write_csv(setting.root / path, COLUMNS, rows)
    with files.text_file(setting.root / PROVIDER / "columns.toml") as text:
        text.write(columns_map())
    return [files.written(setting, setting.root / path, PROVIDER, count)]
