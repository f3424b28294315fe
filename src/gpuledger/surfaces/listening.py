"""The address that a server listens on."""

import socket

from gpuledger.errors import UsageError


def listen(host: str, port: int, backlog: int) -> socket.socket:
    """Take an address. Raises UsageError when it can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=backlog)
    except OSError as error:
        raise UsageError(
            f"can't listen on {host}:{port} ({error.strerror or error})",
            hint="Choose another with --port, or 0 for a free one.",
        ) from error


def address(host: str, listener: socket.socket) -> str:
    """Write an address as it stands in a URL, with the port that was taken."""
    return f"{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
