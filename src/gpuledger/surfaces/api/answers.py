"""The envelope of every answer, and errors as JSON: what was wrong, with which parameter, and what to do."""

import json
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse

from gpuledger.core.opencost import BadParameterError
from gpuledger.errors import GpuledgerError, UsageError


class Json(JSONResponse):
    """JSON without NaN: a figure that is none is null."""

    def render(self, content: object) -> bytes:
        """Write the content; figures that JSON has no words for are an error of ours."""
        return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def success(data: object, warning: str | None = None) -> Json:
    """Return an answer that succeeded."""
    body: dict[str, Any] = {"code": 200, "status": "success", "data": data}
    if warning:
        body["warning"] = warning
    return Json(body)


def failure(code: int, message: str, *, parameter: str | None = None, hint: str | None = None) -> Json:
    """Return an answer that failed. `data` is null, as clients expect the key."""
    body: dict[str, Any] = {"code": code, "status": "error", "data": None, "message": message}
    body.update({key: value for key, value in (("parameter", parameter), ("hint", hint)) if value})
    return Json(body, status_code=code, headers={"WWW-Authenticate": "Bearer"} if code == 401 else None)  # noqa: PLR2004  # HTTP


def of_error(error: Exception) -> Json:
    """Return the answer of a failure; what isn't ours to explain is told without detail."""
    if isinstance(error, BadParameterError):
        return failure(400, f"{error.parameter}: {error.message}", parameter=error.parameter, hint=error.hint)
    if isinstance(error, UsageError):
        return failure(400, error.message, hint=error.hint)
    if isinstance(error, GpuledgerError):
        return failure(500, error.message, hint=error.hint)
    return failure(500, "gpuledger could not answer this request", hint="Its log says why.")


def parameters(request: Request) -> Mapping[str, str]:
    """Return the query's parameters. Raises BadParameterError for one that is given twice."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in found and found[name] != value:
            raise BadParameterError(name, "it is given twice")
        found[name] = value
    return found
