"""`gpuledger serve`: the HTTP API."""

import os
from pathlib import Path

import click

from gpuledger.surfaces.cli._context import Context, pass_context

_TOKEN = "GPULEDGER_API_TOKEN"  # noqa: S105  # the name of the variable, not a token
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command(name="serve", short_help="Serve OpenCost's HTTP API and Prometheus metrics.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=9003, show_default=True, help="Port; 0 takes a free one."
)
@click.option(
    "--cors", "origins", multiple=True, metavar="ORIGIN", help="Let pages of this origin read (repeatable)."
)
@click.option(
    "--token-env",
    default=_TOKEN,
    show_default=True,
    metavar="NAME",
    help="Environment variable with the bearer token that clients must send; not set: none.",
)
@click.option(
    "--otlp",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Receive OpenTelemetry's GenAI usage at /v1/traces and /v1/metrics (JSON), and keep it there by day.",
)
@pass_context
def command(  # one for each option
    context: Context, host: str, port: int, origins: tuple[str, ...], token_env: str, otlp: Path | None
) -> None:
    """Answer over HTTP what the ledger knows, read only, until stopped.

    In the form of OpenCost's API, at / and /model, so that its page, kubectl-cost and other clients read it; own
    and OpenCost's metrics are at /metrics. See docs/opencost-api.md.
    """
    from gpuledger.surfaces.api.server import run

    ledger = context.ledger()
    ledger.require()
    token = os.environ.get(token_env) or None
    if host not in _LOOPBACK and token is None:
        click.secho(
            f"warning: everyone who reaches {host} can read all costs\n"
            f"  Hint: Set {token_env}, or listen on 127.0.0.1 and forward the port.",
            fg="yellow",
            err=True,
        )
    run(ledger, host, port, origins=origins, token=token, loopback=host in _LOOPBACK, otlp=otlp)
