"""The HTTPS server around the webhook: certificates that are renewed while it runs, and what it reads anew."""

import asyncio
import gc
import json
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import uvicorn

from gpuledger.errors import ConfigError
from gpuledger.surfaces.admission import certificates, review
from gpuledger.surfaces.admission.app import Webhook
from gpuledger.surfaces.admission.state import State
from gpuledger.surfaces.listening import address, listen

log = logging.getLogger("gpuledger.admission")
_CONNECTIONS: Final = 512  # more than an API server opens; the others are told to come back
_FILES_SECONDS: Final = 2.0
_SLOW_SECONDS: Final = 30.0
_YOUNG: Final = 50_000


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificates: given files, or a folder in which ours are made for these names."""

    certificate: Path | None
    key: Path | None
    folder: Path
    hosts: Sequence[str]

    def files(self, state: State) -> certificates.Files:
        """Return the files to serve with, made or renewed if they are ours."""
        if self.certificate is not None and self.key is not None:
            certificates.ends(self.certificate)
            return certificates.Files(self.certificate, self.key, self.certificate)
        return certificates.ensure(self.folder, self.hosts, state.clock())


def run(webhook: Webhook, state: State, tls: Tls, host: str, port: int) -> None:
    """Serve until a signal comes. Raises UsageError when the address can't be had, ConfigError for certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    files = _load(context, tls, state)
    listener = listen(host, port, backlog=1024)
    config = uvicorn.Config(
        webhook,
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=75,
        lifespan="off",
        ssl_certfile=str(files.certificate),
        ssl_keyfile=str(files.key),
    )
    config.load()
    config.ssl = context  # ours, so that a renewed certificate is served from the next connection on
    server = uvicorn.Server(config)
    click.echo(
        f"admission on https://{address(host, listener)} (/mutate, /validate), mode "
        f"{state.memory.policy.mode}; caBundle: {files.bundle}",
        err=True,
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(server, webhook, state, context, tls, listener))


def _load(context: ssl.SSLContext, tls: Tls, state: State) -> certificates.Files:
    files = tls.files(state)
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"can't be used: {error}",
            where=str(files.certificate),
            hint="Do certificate and key belong together?",
        ) from error
    return files


async def _serve(
    server: uvicorn.Server,
    webhook: Webhook,
    state: State,
    context: ssl.SSLContext,
    tls: Tls,
    listener: socket.socket,
) -> None:
    await asyncio.to_thread(state.refresh_namespaces)
    await asyncio.to_thread(webhook.refresh_left)
    _warm_up(state)
    # What is loaded now lives for ever: the collector needn't look at it again and again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 20, 50)
    webhook.ready = True
    tasks = [
        asyncio.create_task(_every(_FILES_SECONDS, state.reload)),
        asyncio.create_task(_every(_SLOW_SECONDS, lambda: _slow(webhook, state, context, tls))),
    ]
    try:
        await server.serve(sockets=[listener])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _warm_up(state: State) -> None:
    """Decide once on a job of no consequence: what is imported and cached on first use isn't the first caller's wait."""
    spec = {"containers": [{"name": "a", "resources": {"limits": {"nvidia.com/gpu": 1}}}]}
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "a"},
        "spec": {"template": {"spec": spec}},
    }
    asked = {"uid": "warm-up", "operation": "CREATE", "object": job}
    body = json.dumps({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": asked})
    review.respond(review.read(body.encode(), state.memory, state.clock()), state.memory, mutate=True)


def _slow(webhook: Webhook, state: State, context: ssl.SSLContext, tls: Tls) -> None:
    state.refresh_namespaces()
    webhook.refresh_left()
    try:
        _load(context, tls, state)
    except ConfigError as error:
        log.error("the certificate stays as it was: %s", error)  # noqa: TRY400 - told in words


async def _every(seconds: float, work: Callable[[], object]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            await asyncio.to_thread(work)
        except Exception:
            log.exception("something couldn't be read anew; it is tried again")
