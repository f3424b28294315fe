"""An OTLP/HTTP receiver for GenAI usage: JSON messages of traces and metrics, kept as a file a day.

Source: OpenTelemetry, "OTLP Specification", OTLP/HTTP with JSON encoding. What is kept is usage alone (`core.otlp`), in
`DIR/YYYY-MM-DD.jsonl`, which a telemetry source of type otel-genai with that path reads. Messages are bounded, and so is
a day: beyond that a sender is told to stop (429), and nothing else is lost.
"""

import asyncio
import json
import os
import zlib
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from gpuledger.core import otlp
from gpuledger.errors import ConfigError
from gpuledger.surfaces.api.answers import Json, failure

MESSAGE: Final = 16 << 20  # bytes, unpacked
DAY: Final = 1 << 30
_KINDS: Final[Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any] | None]]] = {
    "/v1/traces": otlp.traces,
    "/v1/metrics": otlp.metrics,
}


class Refusal(Exception):  # noqa: N818  # an answer, no error of ours
    """An answer other than success: its code, what is wrong and what to do."""

    def __init__(self, code: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


def routes(folder: Path, clock: Callable[[], datetime], *, day: int = DAY) -> APIRouter:
    """Return the receiver's routes. Raises ConfigError when the folder can't be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"can't be made: {error.strerror}",
            where=str(folder),
            hint="Give a folder that can be written to.",
        ) from error
    found, lock = APIRouter(), asyncio.Lock()

    async def receive(request: Request) -> Response:
        try:
            content = _parsed(request, await _body(request))
            kept = _KINDS[request.url.path](content)
            if kept is not None:
                async with lock:
                    await asyncio.to_thread(_append, folder / f"{clock():%Y-%m-%d}.jsonl", kept, day)
        except Refusal as refused:
            return failure(refused.code, refused.message, hint=refused.hint)
        except (TypeError, AttributeError, KeyError):
            return failure(400, "that isn't an OTLP message", hint="Send JSON in the form of OTLP/HTTP.")
        return Json({"partialSuccess": {}})

    for path in _KINDS:
        found.post(path)(receive)
    return found


async def _body(request: Request) -> bytes:
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise Refusal(415, "only JSON is read", "Set OTEL_EXPORTER_OTLP_PROTOCOL=http/json.")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MESSAGE:
            raise Refusal(413, "the message is too large", f"Send batches below {MESSAGE >> 20} MiB.")
    return bytes(body)


def _parsed(request: Request, body: bytes) -> Mapping[str, Any]:
    try:
        if request.headers.get("content-encoding") == "gzip":
            unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            body = unpacker.decompress(body, MESSAGE + 1)
            if len(body) > MESSAGE:
                raise Refusal(413, "the message is too large", f"Send batches below {MESSAGE >> 20} MiB.")
        content = json.loads(body)
    except (ValueError, zlib.error, RecursionError) as error:
        raise Refusal(400, "the message is no JSON", "Set OTEL_EXPORTER_OTLP_PROTOCOL=http/json.") from error
    if not isinstance(content, Mapping):
        raise Refusal(400, "the message is no object", "Send JSON in the form of OTLP/HTTP.")
    return content


def _append(path: Path, kept: Mapping[str, Any], largest: int) -> None:
    """Add a line in one write, so that whoever reads meanwhile finds whole lines."""
    line = (json.dumps(kept, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        if os.fstat(handle).st_size + len(line) > largest:
            raise Refusal(429, "the day's file is full", "Send metrics instead of traces, or sample them.")
        os.write(handle, line)
    finally:
        os.close(handle)
