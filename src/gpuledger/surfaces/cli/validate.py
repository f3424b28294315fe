"""`gpuledger validate`: FOCUS conformance."""

from contextlib import suppress

import click

from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import UsageError
from gpuledger.surfaces.cli._context import Context, pass_context

_VERSIONS = ("1.0", "1.1", "1.2", "1.3", "1.4")


@click.command(name="validate", short_help="Check FOCUS conformance.")
@click.argument("path", required=False, metavar="[PATH_OR_URL]")
@click.option(
    "--focus-version", type=click.Choice(_VERSIONS), help="Rules to check (default: as configured, 1.3)."
)
@click.option(
    "--dataset",
    type=click.Choice(["CostAndUsage", "ContractCommitment"]),
    help="Default: told from the columns.",
)
@click.option(
    "--capability",
    "capabilities",
    multiple=True,
    metavar="NAME",
    help="What the provider supports (default: seen in the data).",
)
@pass_context
def command(
    context: Context,
    path: str | None,
    focus_version: str | None,
    dataset: str | None,
    capabilities: tuple[str, ...],
) -> int:
    """Check files, or without PATH the ledger, against every machine-checkable rule of a FOCUS version.

    Lists the rules that failed with an example row and what to do. Exit code 1 when a MUST fails.
    """
    from gpuledger.pipeline import validation

    version = focus_version or context.config.ledger.focus_version
    _refuse_unknown(capabilities, version)
    declared = capabilities or None
    told: list[Diagnostic] = []
    if path is None:
        report = validation.validate_ledger(
            context.ledger(), focus_version=version, dataset=dataset, capabilities=declared
        )
    else:
        cache = context.ledger().cache
        report, told = validation.validate_files(
            path, cache, focus_version=version, dataset=dataset, capabilities=declared
        )
    rows = report.failures()
    if context.format == "table":
        rows = [{**row, "example_row": _short(row["example_row"])} for row in rows]
    context.emit(
        "validate",
        rows,
        totals=report.totals(),
        diagnostics=told,
        title=f"FOCUS {version}, {report.dataset}: rules that failed",
    )
    return 1 if report.violations else 0


def _refuse_unknown(capabilities: tuple[str, ...], version: str) -> None:
    """A misspelled capability would skip rules in silence."""
    from gpuledger.focus.model import model

    known: set[str] = set()
    for dataset in ("CostAndUsage", "ContractCommitment"):
        with suppress(UsageError):  # a dataset that the version lacks
            known |= model(dataset, version).capabilities
    if unknown := sorted(set(capabilities) - known):
        raise UsageError(
            f"FOCUS {version} knows no capability {unknown[0]!r}",
            hint=f"There are: {', '.join(sorted(known))}.",
        )


def _short(example: dict[str, object] | None) -> str:
    if not example:
        return ""
    values = example.get("values")
    cells = ", ".join(f"{name}={value}" for name, value in values.items()) if isinstance(values, dict) else ""
    return f"row {example.get('row')}: {cells}"[:160]
