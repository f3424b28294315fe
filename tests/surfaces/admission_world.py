"""AdmissionReviews as an API server sends them, and a webhook that answers them in this process."""

import asyncio
import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gpuledger.pipeline.leases import Leases
from gpuledger.surfaces.admission.app import Webhook
from gpuledger.surfaces.admission.state import State

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
POLICY = """\
mode = "enforce"
[[require]]
dimension = "cost_center"
values = ["CC-1", "CC-2"]
default_from = ["namespace"]
[[price]]
gpu_model = "H100"
usd_per_gpu_hour = 2
"""


def job(
    labels: dict[str, str] | None = None,
    *,
    kind: str = "Job",
    gpus: object = 8,
    **metadata: Any,  # noqa: ANN401 - keys of metadata
) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": kind,
        "metadata": {
            "name": "train",
            "namespace": "ml",
            **({"labels": labels} if labels else {}),
            **metadata,
        },
        "spec": {
            "activeDeadlineSeconds": 36000,
            "template": {
                "spec": {
                    "nodeSelector": {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"},
                    "containers": [
                        {"name": "a", "image": "x", "resources": {"limits": {"nvidia.com/gpu": gpus}}}
                    ],
                }
            },
        },
    }


def review(obj: object, **request: Any) -> dict[str, Any]:  # noqa: ANN401 - keys of a request
    given = {
        "uid": "r-1", "operation": "CREATE", "namespace": "ml", "name": "train", "dryRun": False,
        "userInfo": {"username": "ada", "groups": ["system:authenticated"]}, "object": obj, "oldObject": None,
    }  # fmt: skip
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": given | request}


def applied(obj: dict[str, Any], patch: list[dict[str, Any]]) -> dict[str, Any]:
    """Apply a JSON Patch of additions and removals (RFC 6902), strictly."""
    changed = json.loads(json.dumps(obj))
    for operation in patch:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        place = changed
        for part in way:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if operation["op"] == "add":
            place[last] = operation["value"]
        else:
            assert operation["op"] == "remove"
            del place[last]
    return dict(changed)


@dataclass
class World:
    """A webhook, its log, and a way to ask it."""

    state: State
    webhook: Webhook
    log: io.StringIO = field(default_factory=io.StringIO)

    def ask(self, body: object, path: str = "/mutate", method: str = "POST") -> tuple[int, dict[str, Any]]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        status, content = asyncio.run(send(self.webhook, raw, path, method))
        return status, json.loads(content) if content.startswith(b"{") else {"text": content.decode()}

    def response(self, obj: object, path: str = "/mutate", **request: Any) -> dict[str, Any]:  # noqa: ANN401 - keys of a request
        status, document = self.ask(review(obj, **request), path)
        assert status == 200, document
        assert (document["kind"], document["apiVersion"]) == ("AdmissionReview", "admission.k8s.io/v1")
        found = document["response"]
        assert found["uid"] == request.get("uid", "r-1")
        return dict(found)

    def entries(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


def world(folder: Path, policy: str = POLICY, leases: Leases | None = None, **state: Any) -> World:  # noqa: ANN401 - fields of State
    path = folder / "policy.toml"
    path.write_text(policy, "utf-8")
    found = State(path, clock=lambda: NOW, **state)
    found.load()
    log = io.StringIO()
    return World(found, Webhook(found, leases, log), log)


async def send(app: Callable[..., Any], body: bytes, path: str, method: str = "POST") -> tuple[int, bytes]:
    """Send one request in two pieces, and wait for what the application began beside it."""
    pieces = [
        {"type": "http.request", "body": body[: len(body) // 2], "more_body": True},
        {"type": "http.request", "body": body[len(body) // 2 :], "more_body": False},
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return pieces.pop(0)

    async def collect(message: dict[str, Any]) -> None:
        sent.append(message)

    await app({"type": "http", "path": path, "method": method}, receive, collect)
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    await asyncio.gather(*others)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent)


def patch_in(response: dict[str, Any]) -> list[dict[str, Any]]:
    return list(json.loads(base64.b64decode(response["patch"]))) if "patch" in response else []
