"""The webhook as an ASGI application: bounded in size and time, and never a 500.

`/mutate` and `/validate` take AdmissionReviews; `/healthz`, `/readyz` and `/metrics` are for the cluster. ASGI itself
is enough: a framework would add to every request and give nothing that is used here.
"""

import asyncio
import json
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import replace
from typing import Any, Final, TextIO

from gpuledger.core.metrics_text import CONTENT_TYPE, Family
from gpuledger.core.policy import Reason
from gpuledger.errors import GpuledgerError
from gpuledger.pipeline.leases import Leases, LeaseStoreError, Reservation
from gpuledger.surfaces.admission import review
from gpuledger.surfaces.admission.state import State

log = logging.getLogger("gpuledger.admission")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LARGEST: Final = 8 << 20  # etcd takes objects of 1.5 MiB; a review holds two and more
_READ_SECONDS: Final = 5.0
_RESERVE_SECONDS: Final = 1.5
_CONFIRMED: Final = 4096
_JSON: Final = "application/json"


class TooMuch(Exception):  # noqa: N818 - it is an answer to the caller
    """The request is too large or too slow; the message says which."""


class Webhook:
    """The application. `leases` None: budgets can't be reserved, so what draws on one follows `without_store`."""

    def __init__(self, state: State, leases: Leases | None = None, decisions: TextIO | None = None) -> None:
        self._state = state
        self._leases = leases
        self._decisions = decisions
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._seconds = 0.0
        self._slowest = 0.0
        self._rejected: Counter[str] = Counter()
        self._store_failures = 0
        self._confirmed: OrderedDict[str, None] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self.ready = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        if path in {"/mutate", "/validate"}:
            if method != "POST":
                await _send(send, 405, {"error": "POST an AdmissionReview"})
                return
            await self._review(receive, send, mutate=path == "/mutate")
        elif path == "/healthz":
            await _send(send, 200, {"status": "ok"})
        elif path == "/readyz":
            await _send(send, 200 if self.ready else 503, {"ready": self.ready})
        elif path == "/metrics":
            text = "".join(f"{line}\n" for family in self._families() for line in family.lines())
            await _send(send, 200, text, CONTENT_TYPE)
        else:
            await _send(send, 404, {"error": "there are /mutate, /validate, /healthz, /readyz and /metrics"})

    async def _review(self, receive: Receive, send: Send, *, mutate: bool) -> None:
        began = time.perf_counter()
        try:
            body = await asyncio.wait_for(_body(receive), _READ_SECONDS)
        except (TooMuch, TimeoutError) as error:
            self._rejected["too large" if isinstance(error, TooMuch) else "too slow"] += 1
            code, told = (413, str(error)) if isinstance(error, TooMuch) else (408, "the body took too long")
            await _send(send, code, {"error": told})
            return
        memory, now = self._state.memory, self._state.clock()
        try:
            asked = review.read(body, memory, now)
            if asked.reserves and mutate:
                asked = await self._reserve(asked)
            elif asked.owner is not None:
                self._confirm(asked.owner)
            response = review.respond(asked, memory, mutate=mutate)
        except review.NotAReview as error:
            self._rejected["not a review"] += 1
            await _send(send, 400, {"error": str(error)})
            return
        except Exception:
            # A defect of ours must not decide by accident: the API server follows its failurePolicy.
            log.exception("a request couldn't be decided")
            self._rejected["defect"] += 1
            await _send(send, 422, {"error": "gpuledger couldn't decide on this object; its log says why"})
            return
        await _send(send, 200, response)
        self._note(asked, response, time.perf_counter() - began)

    async def _reserve(self, asked: review.Asked) -> review.Asked:
        """Let the budget grant a lease. Only what draws on a budget waits for this, and not for long."""
        decision = asked.decision
        if decision is None or decision.draw is None or decision.draw.needs is None:
            return asked
        budget = decision.draw.budget
        try:
            found = await self._granted(asked.key, asked.holder, decision.draw)
        except (LeaseStoreError, TimeoutError) as error:
            self._store_failures += 1
            log.error("a lease couldn't be reserved: %s", str(error) or "no answer in time")  # noqa: TRY400 - told in words
            if self._state.memory.policy.without_store == "allow":
                return asked
            told = f"budget {budget.name} of {budget.owner} can't be asked at the moment"
            return review.refused(asked, Reason(budget.name, told, "Try again."))
        self._state.left[budget.name] = found.left_usd - (decision.draw.needs if found.granted else 0)
        asked = replace(asked, decision=replace(decision, draw=decision.draw._replace(left=found.left_usd)))
        if found.granted:
            return asked
        return review.refused(asked, review.overdrawn(decision.draw._replace(left=found.left_usd)))

    async def _granted(self, key: str, holder: str, draw: review.Draw) -> Reservation:
        if self._leases is None:
            raise LeaseStoreError("no store of leases is configured", hint="Give --leases URL.")
        assert draw.needs is not None  # noqa: S101 - `reserves` says so
        call = asyncio.to_thread(
            self._leases.reserve, key, holder, draw.budget, draw.needs, self._state.clock()
        )
        return await asyncio.wait_for(call, _RESERVE_SECONDS)

    def _confirm(self, owner: str) -> None:
        """Note, beside the requests, that an admitted workload came into being."""
        if self._leases is None or owner in self._confirmed:
            return
        self._confirmed[owner] = None
        if len(self._confirmed) > _CONFIRMED:
            self._confirmed.popitem(last=False)
        leases = self._leases

        async def confirm() -> None:
            try:
                await asyncio.to_thread(leases.confirm, owner)
            except LeaseStoreError as error:
                self._store_failures += 1
                self._confirmed.pop(owner, None)
                log.error("a lease couldn't be confirmed: %s", error)  # noqa: TRY400 - told in words

        task = asyncio.create_task(confirm())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _note(self, asked: review.Asked, response: dict[str, Any], seconds: float) -> None:
        outcome = asked.decision.outcome if asked.decision else "allow"
        mode = asked.decision.mode if asked.decision else "off"
        self._counts[str(asked.request.get("operation")), outcome, mode] += 1
        self._seconds += seconds
        self._slowest = max(self._slowest, seconds)
        if self._decisions is not None and (asked.decision is not None or asked.problem is not None):
            entry = review.log_entry(asked, response, self._state.clock(), seconds)
            self._decisions.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def _families(self) -> list[Family]:
        asked = Family("gpuledger_admission_requests_total", "counter", "AdmissionReviews answered.")
        for (operation, outcome, mode), count in sorted(self._counts.items()):
            asked.add(count, operation=operation, decision=outcome, mode=mode)
        rejected = Family(
            "gpuledger_admission_rejected_total", "counter", "Requests that were no review, or too much."
        )
        for reason, count in sorted(self._rejected.items()):
            rejected.add(count, reason=reason)
        plain: list[tuple[str, Any, str, float]] = [
            ("duration_seconds_sum", "counter", "Seconds that reviews took in all.", self._seconds),
            ("duration_seconds_count", "counter", "Reviews that were timed.", self._counts.total()),
            ("duration_seconds_max", "gauge", "The slowest review since the start.", self._slowest),
            ("policy_reloads_total", "counter", "Times that a new policy was read.", self._state.reloads),
            (
                "policy_failures_total",
                "counter",
                "Times that something couldn't be read anew.",
                self._state.failures,
            ),
            (
                "store_failures_total",
                "counter",
                "Times that the store of leases failed.",
                self._store_failures,
            ),
        ]
        families = [asked, rejected]
        for name, kind, words, value in plain:
            family = Family(f"gpuledger_admission_{name}", kind, words)
            family.add(value)
            families.append(family)
        return families

    def refresh_left(self) -> None:
        """Ask the store what budgets have left, for answers that reserve nothing (dry runs, updates)."""
        if self._leases is None:
            return
        for budget in self._state.memory.policy.budget:
            try:
                self._state.left[budget.name] = self._leases.left(budget, self._state.clock())
            except GpuledgerError as error:
                self._store_failures += 1
                log.error("budgets can't be read: %s", error)  # noqa: TRY400 - told in words
                return


async def _body(receive: Receive) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise TooMuch("the client went away")
        part = message.get("body", b"")
        size += len(part)
        if size > LARGEST:
            raise TooMuch(f"the body is larger than {LARGEST >> 20} MiB")
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


async def _send(send: Send, status: int, content: dict[str, Any] | str, kind: str = _JSON) -> None:
    body = (content if isinstance(content, str) else json.dumps(content)).encode()
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
