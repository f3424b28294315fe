"""The HTTP server around the application: it says where it listens, and stops on a signal."""

from collections.abc import Sequence
from pathlib import Path

import click
import uvicorn

from gpuledger.pipeline.ledger import Ledger
from gpuledger.surfaces.api.app import Settings, create_app
from gpuledger.surfaces.listening import address, listen

# A page of a stranger can point its own name at 127.0.0.1 (DNS rebinding); it can't use these.
_LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]", "::1")


def run(
    ledger: Ledger,
    host: str,
    port: int,
    *,
    origins: Sequence[str],
    token: str | None,
    loopback: bool,
    otlp: Path | None = None,
) -> None:
    """Serve until a signal comes. Raises UsageError when the address can't be had."""
    hosts = _LOCAL_NAMES if loopback and token is None else None
    app = create_app(ledger, Settings(tuple(origins), token, hosts, otlp))
    listener = listen(host, port, backlog=128)
    click.echo(f"serving http://{address(host, listener)} (also below /model)", err=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    uvicorn.Server(config).run(sockets=[listener])
