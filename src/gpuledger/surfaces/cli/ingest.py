"""`gpuledger ingest`: deliveries into the ledger."""

import difflib
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from gpuledger.errors import UsageError
from gpuledger.surfaces.cli._context import Context, pass_context

if TYPE_CHECKING:
    from gpuledger.core.windows import Window
    from gpuledger.pipeline.ingest import Report

_KEYS = (
    "source",
    "billing_period",
    "delivery_id",
    "rows",
    "billed_cost",
    "effective_cost",
    "currency",
    "action",
)


def _types(ctx: click.Context, _param: click.Parameter, value: bool) -> None:  # click's signature
    if value:
        from gpuledger import registry
        from gpuledger.pipeline import token_files

        for name in token_files.kinds():
            click.echo(f"{name:18} {registry.telemetry(name).TITLE}")
        for connector in registry.sources():
            click.echo(f"{connector.TYPE:18} {connector.TITLE}")
        ctx.exit()


@click.command(name="ingest", short_help="Read bills into the ledger.")
@click.argument("names", metavar="[NAME… | PATH_OR_URL…]", nargs=-1)
@click.option(
    "--type", "type_name", metavar="TYPE", help="Kind of bill at PATH_OR_URL; --list-types shows all."
)
@click.option(
    "--source",
    metavar="NAME",
    help="Name of the source; deliveries of a source replace each other by billing period.",
)
@click.option("--map", "mapping", metavar="FILE|NAME", help="Column map for --type columns.")
@click.option(
    "--force", is_flag=True, help="Load even what the ledger holds already, or a newer delivery of."
)
@click.option(
    "--validate/--no-validate",
    default=True,
    show_default=True,
    help="Check charges against the FOCUS rules on the way in.",
)
@click.option(
    "--window",
    metavar="SPAN",
    help="For telemetry by NAME: the time to ask for, such as 7d or 2026-11-01..2026-11-03, instead of all that is new.",
)
@click.option(
    "--list-types",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_types,
    help="List the kinds of bill.",
)
@pass_context
def command(
    context: Context,
    names: tuple[str, ...],
    type_name: str | None,
    source: str | None,
    mapping: str | None,
    window: str | None,
    *,
    force: bool,
    validate: bool,
) -> int:
    """Read bills and telemetry: configured sources by NAME (all without any), or any PATH_OR_URL with --type.

    A delivery replaces what the same source delivered for the same billing period before, in one transaction.
    Telemetry goes on where it stopped, day by day; its billing_period is the day.
    """
    from gpuledger.core import windows
    from gpuledger.pipeline.ingest import Report

    ledger, report = context.ledger(), Report()
    if type_name:
        if not names:
            raise UsageError("no path given", hint="gpuledger ingest --type TYPE PATH_OR_URL")
        settings = {"map": mapping} if mapping else {}
        for path in names:
            if _is_telemetry(type_name):
                report.extend(_files(context, type_name, path, source, force=force))
                continue
            report.extend(
                ledger.ingest(
                    type_name,
                    path,
                    source=source,
                    force=force,
                    settings=settings,
                    validate=validate,
                    progress=context.progress(),
                )
            )
    else:
        if source or mapping:
            raise UsageError(
                "--source and --map go with --type", hint="Configured sources have them in gpuledger.toml."
            )
        span = windows.parse(window, datetime.now(UTC)) if window else None
        for name in _configured(context, names):
            progress = context.progress()
            if name in context.config.telemetry:
                report.extend(_telemetry(context, name, span, force=force))
            else:
                report.extend(
                    ledger.ingest_configured(name, force=force, validate=validate, progress=progress)
                )
    rows = [{key: asdict(row)[key] for key in _KEYS} for row in report.rows]
    context.emit(
        "ingest", rows, totals={"rows": sum(row["rows"] for row in rows)}, diagnostics=report.diagnostics
    )
    refused = [told for told in report.diagnostics if told.code in {"delivery-rejected", "collect-failed"}]
    if refused and not any(row.action != "rejected" for row in report.rows):
        return 3
    return 1 if any(told.severity == "error" for told in report.diagnostics) else 0


def _is_telemetry(type_name: str) -> bool:
    from gpuledger import registry

    return type_name in registry.telemetry_names() and type_name not in registry.source_names()


# Imported only where they are asked for: a bill needs no cluster's client.
def _files(context: Context, type_name: str, path: str, source: str | None, *, force: bool) -> "Report":
    from gpuledger.pipeline import token_files

    ledger, progress = context.ledger(), context.progress()
    return token_files.ingest(ledger, type_name, path, source=source, force=force, progress=progress)


def _telemetry(context: Context, name: str, span: "Window | None", *, force: bool) -> "Report":
    from gpuledger.pipeline.collect import collect

    since, until = (span.start, span.end) if span else (None, None)
    return collect(context.ledger(), [name], since, until, context.progress(), force=force)


def _configured(context: Context, names: tuple[str, ...]) -> tuple[str, ...]:
    known = {**context.config.sources, **context.config.telemetry}
    if unknown := [name for name in names if name not in known]:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(known)}."
        raise UsageError(
            f"no source {unknown[0]!r} in the configuration",
            hint=hint if known else "For a path, add --type TYPE.",
        )
    if not known:
        raise UsageError(
            "no sources are configured", hint="gpuledger init, or gpuledger ingest --type TYPE PATH_OR_URL."
        )
    return names or tuple(known)
