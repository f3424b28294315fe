"""What every verb shares: where the ledger is, the configuration, and how results are printed."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import UsageError

if TYPE_CHECKING:
    from gpuledger.config import Config
    from gpuledger.pipeline.ledger import Ledger

FORMATS = ("table", "json", "csv")
Row = Mapping[str, Any]


@dataclass(slots=True)
class Context:
    """Global options. `output` None: table on a terminal, json otherwise."""

    location: str | None
    config_path: str | None
    output: str | None
    debug: bool = False
    _config: "Config | None" = field(default=None, repr=False)

    @property
    def format(self) -> str:
        """Return the output format that applies."""
        return self.output or ("table" if sys.stdout.isatty() else "json")

    @property
    def config(self) -> "Config":
        """Read the configuration, once."""
        if self._config is None:
            from gpuledger.config import load

            self._config = load(self.config_path)
        return self._config

    def ledger(self) -> "Ledger":
        """Open the ledger that options, environment or configuration name."""
        from gpuledger.pipeline.ledger import Ledger
        from gpuledger.pipeline.locations import is_remote

        location = self.location or self.config.ledger.location
        if "://" in location and not is_remote(location):
            raise UsageError(
                f"no ledger can be at a {location.split('://', 1)[0]}:// address",
                where=location,
                hint="Use a folder, or s3://, az://, abfs:// or gs://.",
            )
        return Ledger(location, self.config)

    def progress(self) -> Callable[[str], None]:
        """Return a function that tells a person what is going on; silent when nobody watches."""
        if not sys.stderr.isatty():
            return lambda _: None
        return lambda text: click.secho(f"  {text}", err=True, dim=True)

    def emit(
        self,
        command: str,
        rows: Iterable[Row],
        *,
        totals: Mapping[str, Any] | None = None,
        diagnostics: Sequence[Diagnostic] = (),
        title: str | None = None,
    ) -> None:
        """Print a result in the chosen format. Diagnostics are part of JSON; elsewhere they go to standard error."""
        rows = [dict(row) for row in rows]
        if self.format == "json":
            document = {
                "schema_version": 1,
                "command": command,
                "rows": rows,
                "totals": dict(totals or {}),
                "diagnostics": [told.as_dict() for told in diagnostics],
            }
            click.echo(json.dumps(document, default=plain, ensure_ascii=False, indent=2))
            return
        if self.format == "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerows(rows[:1])
            writer.writerows([[_cell(value) for value in row.values()] for row in rows])
        else:
            from gpuledger.surfaces.cli._table import show

            show(rows, totals or {}, title)
        for told in diagnostics:
            tell(told)


def tell(told: Diagnostic) -> None:
    """Print one diagnostic for a person, on standard error."""
    colour = {"error": "red", "warning": "yellow", "info": "blue"}[told.severity]
    click.secho(f"{told.severity} [{told.code}] {told.source}: {told.message}", fg=colour, err=True)
    if told.hint:
        click.secho(f"  Hint: {told.hint}", dim=True, err=True)


def plain(value: object) -> object:
    """Turn a value into JSON: exact decimals as strings without exponent, times as RFC 3339 UTC."""
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"no JSON form for {type(value).__name__}")


def decimal_text(value: Decimal) -> str:
    """Write all digits of a decimal, without exponent and without trailing zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=plain, ensure_ascii=False)
    return plain(value) if isinstance(value, (Decimal, date)) else value


pass_context = click.make_pass_decorator(Context)
