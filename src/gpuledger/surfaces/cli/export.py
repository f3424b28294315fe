"""`gpuledger export`: the ledger for other tools."""

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from gpuledger.surfaces.cli._context import Context, pass_context

_TARGETS = ("parquet", "csv", "xlsx", "focus")
_VERSIONS = ("1.0", "1.1", "1.2", "1.3", "1.4")


@click.command(name="export", short_help="Write the ledger for other tools.")
@click.argument("path", metavar="PATH")
@click.option("--to", "target", type=click.Choice(_TARGETS), required=True, help="What to write.")
@click.option(
    "--focus-version", type=click.Choice(_VERSIONS), help="For --to focus (default: as configured, 1.3)."
)
@click.option(
    "--dataset",
    type=click.Choice(["CostAndUsage", "ContractCommitment"]),
    help="One dataset only (default: CostAndUsage, for focus both).",
)
@click.option("--csv", "as_csv", is_flag=True, help="FOCUS as CSV instead of Parquet.")
@click.option("--custom", metavar="COL,…", default="", help="x_ columns that the FOCUS dataset shall have.")
@click.option(
    "--where",
    multiple=True,
    metavar="COL=VALUE",
    help="Only charges with this value (repeatable; COL!=VALUE too).",
)
@click.option("--window", metavar="WINDOW", help="2026-10, 2026-10-01..2026-10-31, 7d, lastmonth.")
@click.option("--group-by", metavar="COL,…", default="", help="Sums by these columns instead of charges.")
@click.option(
    "--metric",
    type=click.Choice(["billed", "effective", "list", "contracted"]),
    default="effective",
    show_default=True,
    help="What --group-by sums.",
)
@click.option("--force", is_flag=True, help="Replace what is at PATH.")
@pass_context
def command(
    context: Context,
    path: str,
    target: str,
    focus_version: str | None,
    dataset: str | None,
    custom: str,
    where: tuple[str, ...],
    window: str | None,
    group_by: str,
    metric: str,
    *,
    as_csv: bool,
    force: bool,
) -> None:
    """Write charges, or sums of them, to PATH.

    focus writes a FOCUS dataset with its metadata: into the folder PATH, or to the file PATH (.parquet, .csv,
    .csv.gz) and others beside it. parquet, csv and xlsx write one file with all columns of the ledger.
    """
    from gpuledger.core import windows
    from gpuledger.pipeline.export import Request, export

    request = Request(
        target=target,  # type: ignore[arg-type]  # click has checked it
        path=Path(path),
        focus_version=focus_version or context.config.ledger.focus_version,
        dataset=dataset,
        where=where,
        window=windows.parse(window, datetime.now(UTC)) if window else None,
        group_by=_names(group_by),
        metric=metric,
        custom=_names(custom),
        csv=as_csv,
        force=force,
    )
    context.progress()(f"writing {path}")
    files = [asdict(file) for file in export(context.ledger(), request)]
    rows = sum(file["rows"] or 0 for file in files)
    context.emit("export", files, totals={"rows": rows, "files": len(files)})


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
