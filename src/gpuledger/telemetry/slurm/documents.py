"""JSON of `sacct --json`, `squeue --json`, `sinfo --json` and `scontrol show nodes --json`, read one element at a time.

Forms: openapi v0.0.37/38 (Slurm 21.08, 22.05) and data_parser v0.0.39 to v0.0.46 (Slurm 23.02 to 26.11), as Slurm's
own field tables have them: states became lists, numbers became {set, infinite, number}, wckey became an object. A
month of `sacct --json` is gigabytes: only one job is in memory at a time.
"""

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, Protocol

from gpuledger.telemetry.slurm import notation
from gpuledger.telemetry.slurm.records import Allocation, Notes, Options, Step

_CHUNK: Final = 1 << 18
_SPACE: Final = " \t\r\n"
# An error this near to the end of what was read may come from its ending there.
_NEAR: Final = 16
# No job is that long: a text without end is damaged.
_MOST: Final = 1 << 28


class _Cut(Exception):  # noqa: N818 - the text isn't wrong, it only ends
    """The text ends inside a value."""


class Readable(Protocol):
    """Text that is read in pieces."""

    def read(self, size: int, /) -> str:
        """Return up to `size` characters; empty at the end."""
        ...


class _Text:
    """A JSON text that is read as far as it is needed."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._text = ""
        self._place = 0
        self._decoder = json.JSONDecoder()

    def _more(self, size: int = _CHUNK) -> bool:
        more = self._stream.read(size)
        self._text = self._text[self._place :] + more
        self._place = 0
        return bool(more)

    def peek(self) -> str:
        """Return the next character that isn't white space; empty at the end."""
        while True:
            while self._place < len(self._text):
                if self._text[self._place] not in _SPACE:
                    return self._text[self._place]
                self._place += 1
            if not self._more():
                return ""

    def take(self, wanted: str) -> None:
        """Pass over a character."""
        found = self.peek()
        if not found:
            raise _Cut
        if found != wanted:
            raise ValueError(f"{wanted!r} expected, {found!r} found")
        self._place += 1

    def value(self) -> Any:  # noqa: ANN401 - whatever JSON holds
        """Read one value whole."""
        if not self.peek():
            raise _Cut
        size = _CHUNK
        while True:
            try:
                found, end = self._decoder.raw_decode(self._text, self._place)
            except json.JSONDecodeError as error:
                # A string's error is told at its start, any other where it is.
                in_string = error.msg.startswith("Unterminated string")
                if len(self._text) > _MOST or not (in_string or error.pos > len(self._text) - _NEAR):
                    raise ValueError(error.msg) from error
                if not self._more(size):
                    raise _Cut from error
                size *= 2
                continue
            # A number may go on in the next chunk.
            if end == len(self._text) and isinstance(found, int | float) and self._more():
                continue
            self._place = end
            return found


def elements(stream: Readable, keys: tuple[str, ...], notes: Notes) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of the list under one of `keys` of the document, or the objects of JSON lines.

    Slurm's own `errors` are noted as `slurm-said`; a text that ends early, or goes wrong, as `slurm-truncated`.
    """
    text = _Text(stream)
    try:
        while text.peek():
            yield from _document(text, keys, notes)
    except _Cut:
        notes.add(
            "slurm-truncated",
            "error",
            "the JSON ends early: the answer isn't whole",
            notes.source,
            "Ask Slurm again.",
        )
    except ValueError as error:
        notes.add(
            "slurm-truncated",
            "error",
            "the JSON is damaged: the rest isn't read",
            str(error),
            "Ask Slurm again.",
        )


def _document(text: _Text, keys: tuple[str, ...], notes: Notes) -> Iterator[Mapping[str, Any]]:
    line: dict[str, Any] = {}
    text.take("{")
    while text.peek() != "}":
        key = text.value()
        text.take(":")
        if key in keys and text.peek() == "[" and not line.keys() & {"job_id", "name"}:
            yield from _list(text)
        else:
            value = text.value()
            line[key] = value
            if key == "errors" and isinstance(value, list):
                for error in value:
                    notes.add("slurm-said", "error", "Slurm answered with an error", json.dumps(error)[:200])
        if text.peek() == ",":
            text.take(",")
    text.take("}")
    if line.keys() & {"job_id", "name"}:
        yield line


def _list(text: _Text) -> Iterator[Mapping[str, Any]]:
    text.take("[")
    while text.peek() != "]":
        value = text.value()
        if isinstance(value, dict):
            yield value
        if text.peek() == ",":
            text.take(",")
        elif not text.peek():
            raise _Cut
    text.take("]")


def accounted(stream: Readable, options: Options, notes: Notes) -> Iterator[Allocation]:
    """Yield the attempts of `sacct --json`."""
    yield from _read(stream, options, notes, _accounted)


def scheduled(stream: Readable, options: Options, notes: Notes) -> Iterator[Allocation]:
    """Yield the jobs of `squeue --json`: what the controller knows, each node's part included."""
    yield from _read(stream, options, notes, _scheduled)


def _read(stream: Readable, options: Options, notes: Notes, read: Any) -> Iterator[Allocation]:  # noqa: ANN401 - one of the two below
    for job in elements(stream, ("jobs",), notes):
        try:
            yield read(job, options)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            notes.add("slurm-bad-row", "error", "a job can't be read", f"job {job.get('job_id')}: {error!r}")


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _identity(job: Mapping[str, Any], array: Mapping[str, Any], het: Mapping[str, Any]) -> dict[str, Any]:
    """Tell which job it is: an array's task, a heterogeneous job's component, or one of its own."""
    raw = int(job["job_id"])
    array_id, task_id = notation.number(array.get("job_id")) or 0, notation.number(array.get("task_id"))
    het_id, part = notation.number(het.get("job_id")) or 0, notation.number(het.get("job_offset"))
    if array_id:
        label = f"{array_id}_{task_id}" if task_id is not None else f"{array_id}_[{_text(array.get('task'))}]"
        return {"raw": raw, "root": array_id, "display": label, "kind": "SlurmArray"}
    if het_id:
        return {"raw": raw, "root": het_id, "display": f"{het_id}+{part or 0}", "kind": "SlurmHetJob"}
    return {"raw": raw, "root": raw, "display": str(raw), "kind": "SlurmJob"}


def _accounted(job: Mapping[str, Any], options: Options) -> Allocation:
    time, array, het = job["time"], job.get("array") or {}, job.get("het") or {}
    comment = job.get("comment") or {}
    state, _ = notation.state(job["state"]["current"])
    wckey, by_default = _wckey(job.get("wckey"))
    by = job.get("kill_request_user")
    association = job.get("association") or {}
    return Allocation(
        **_identity(job, array, het),
        cluster=_text(job.get("cluster")) or options.cluster or "slurm",
        state=state,
        submit=int(time["submission"]),
        start=_moment(time.get("start")),
        end=_moment(time.get("end")),
        tres=_tres((job.get("tres") or {}).get("allocated")),
        nodes=_text(job.get("nodes")),
        name=_text(job.get("name")),
        account=_text(job.get("account")),
        user=_text(job.get("user")) or _text(association.get("user")),
        wckey=wckey,
        wckey_by_default=by_default,
        qos=_text(job.get("qos")),
        partition=_text(job.get("partition")),
        reservation=_text((job.get("reservation") or {}).get("name") or ""),
        comment=_text(comment.get("job")),
        admin_comment=_text(comment.get("administrator")),
        cancelled_by=str(by) if by not in {None, ""} and state == "CANCELLED" else None,
        elapsed=notation.number(time.get("elapsed")),
        suspended=notation.number(time.get("suspended")) or 0,
        restarts=notation.number(job.get("restart_cnt")),
        sluid=_text(job.get("sluid")),
        steps=[_step(step) for step in job.get("steps") or []],
    )


def _step(step: Mapping[str, Any]) -> Step:
    tres = step.get("tres") or {}
    total = {
        (item["type"], item.get("name") or ""): notation.number(item["count"])
        for item in (tres.get("requested") or {}).get("total") or []
    }
    cpu, memory = total.get(("cpu", "")), total.get(("mem", ""))
    place = step.get("nodes") or {}
    own = step.get("step") or {}
    # '7.batch' since 23.11, 'batch' in 22.05, an object of numbers in between
    name = own.get("name") if isinstance(own.get("id"), Mapping) else own.get("id")
    return Step(
        name=_text(name).rsplit(".", 1)[-1],
        nodes=_text(place.get("range")) or ",".join(place.get("list") or []),
        ended=_moment((step.get("time") or {}).get("end")) is not None,
        tres=_tres(tres.get("allocated")),
        cpu_seconds=None if cpu is None else Decimal(cpu) / 1000,
        memory_bytes=memory,
    )


def _tres(items: Any) -> Mapping[str, int]:  # noqa: ANN401 - JSON
    if isinstance(items, str):
        return notation.allocated(items)
    found = {}
    for item in items or []:
        name = f"{item['type']}/{item['name']}" if item.get("name") else item["type"]
        count = notation.number(item.get("count"))
        if count is not None:
            found[name] = count
    return found


def _wckey(value: object) -> tuple[str, bool]:
    if isinstance(value, Mapping):
        return _text(value.get("wckey")), "ASSIGNED_DEFAULT" in (value.get("flags") or [])
    text = _text(value)
    return text.removeprefix("*"), text.startswith("*")


def _moment(value: object) -> int | None:
    return notation.number(value) or None


def _submitted(value: object) -> int:
    moment = _moment(value)
    if moment is None:
        raise ValueError("no time of submission")
    return moment


def _scheduled(job: Mapping[str, Any], options: Options) -> Allocation:
    state, _ = notation.state(job["job_state"])
    begun = state not in {"PENDING", "CONFIGURING"}
    wckey, by_default = _wckey(job.get("wckey"))
    nodes = _text(job.get("nodes")) if begun else ""
    array = {
        "job_id": job.get("array_job_id"),
        "task_id": job.get("array_task_id"),
        "task": job.get("array_task_string"),
    }
    het = {"job_id": job.get("het_job_id"), "job_offset": job.get("het_job_offset")}
    details = job.get("gres_detail") or []
    placement = {
        node: _placed(detail) for node, detail in zip(notation.nodes(nodes), details, strict=False) if detail
    }
    return Allocation(
        **_identity(job, array, het),
        cluster=_text(job.get("cluster")) or options.cluster or "slurm",
        state=state,
        submit=_submitted(job["submit_time"]),
        start=_moment(job.get("start_time")) if begun else None,
        # The end of an unfinished job is when its time limit ends it.
        end=None
        if state in {"PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "STOPPED"}
        else _moment(job.get("end_time")),
        tres=notation.allocated(_text(job.get("tres_alloc_str"))) if begun else {},
        nodes=nodes,
        name=_text(job.get("name")),
        account=_text(job.get("account")),
        user=_text(job.get("user_name")),
        wckey=wckey,
        wckey_by_default=by_default,
        qos=_text(job.get("qos")),
        partition=_text(job.get("partition")),
        reservation=_text(job.get("resv_name")),
        comment=_text(job.get("comment")),
        admin_comment=_text(job.get("admin_comment")),
        restarts=notation.number(job.get("restart_cnt")),
        placement=placement if len(placement) == len(details) else {},
    )


def _placed(detail: str) -> dict[str, int]:
    """Read one node's `gpu:h100:2(IDX:0-1)` as AllocTRES would tell it."""
    return {f"gres/{name}": count for name, count in notation.gres(detail).items()}
