"""JSON of Slurm in all its forms, streamed. Synthetic: shapes as Slurm's field tables and a real 22.05 have them."""

import io
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.telemetry.slurm_rows import T0, at, read

from gpuledger.telemetry.slurm import documents
from gpuledger.telemetry.slurm.records import Notes, Options


def maybe(number: int | None) -> dict[str, Any]:
    """Return a number as data_parser writes it since Slurm 23.02."""
    return {"set": number is not None, "infinite": False, "number": number or 0}


def tres(**amounts: int) -> list[dict[str, Any]]:
    found = []
    for name, count in amounts.items():
        kind, _, rest = name.partition("__")
        found.append({"type": kind, "name": rest.replace("_", ":"), "id": 1, "count": count})
    return found


def old_job(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a job as Slurm 22.05 writes it."""
    return {
        "account": "research",
        "comment": {"administrator": None, "job": "team=nlp", "system": None},
        "array": {"job_id": 0, "task": None, "task_id": None},
        "association": {"user": "amy"},
        "cluster": "lab",
        "time": {"elapsed": 100, "end": T0 + 100, "start": T0, "submission": T0 - 10, "suspended": 0},
        "het": {"job_id": 0, "job_offset": None},
        "job_id": 7,
        "name": "job",
        "nodes": "gpu[1-2]",
        "partition": "train",
        "qos": "normal",
        "kill_request_user": None,
        "reservation": {"id": 0, "name": 0},
        "state": {"current": "COMPLETED", "reason": "None"},
        "steps": [
            {
                "nodes": {"list": ["gpu1"], "count": 1, "range": "gpu1"},
                "time": {"end": T0 + 100, "start": T0},
                "step": {"job_id": 7, "id": "batch", "name": "batch"},
                "tres": {
                    "requested": {"total": tres(cpu=150_000, mem=1 << 30)},
                    "allocated": tres(cpu=3, gres__gpu=3),
                },
            }
        ],
        "tres": {"allocated": tres(cpu=4, mem=2048, node=2, gres__gpu=4, gres__gpu_h100=4)},
        "user": "amy",
        "wckey": "*exp42",
    } | more


def new_job(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """Return a job as Slurm 26.05 writes it."""
    job = old_job()
    job |= {
        "array": {"job_id": 0, "task": "", "task_id": maybe(None)},
        "het": {"job_id": 0, "job_offset": maybe(None)},
        "kill_request_user": "",
        "restart_cnt": 0,
        "reservation": {"id": 0, "name": "", "requested": ""},
        "sluid": "s6Z4YEW2CKXX00",
        "state": {"current": ["COMPLETED"], "reason": "None"},
        "wckey": {"wckey": "exp42", "flags": ["ASSIGNED_DEFAULT"]},
    }
    job["steps"][0]["step"] = {"id": "7.batch", "name": "batch", "stderr": ""}
    job["steps"][0]["time"] = {"end": maybe(T0 + 100), "start": maybe(T0)}
    job["time"] |= {"limit": maybe(10), "planned": maybe(3)}
    return job | more


def document(*jobs: dict[str, Any], **more: Any) -> str:  # noqa: ANN401 - JSON
    return json.dumps(
        {"jobs": list(jobs), "meta": {"plugin": {"data_parser": "v0.0.45"}}, "errors": [], "warnings": []}
        | more
    )


@pytest.mark.parametrize("job", [old_job(), new_job()], ids=["22.05", "26.05"])
def test_forms(tmp_path: Path, job: dict[str, Any]) -> None:
    told = read(tmp_path, document(job))
    assert told.ids == [f"lab/slurm/7@{T0 - 10}"]
    assert {name: (one.value, one.source) for name, one in told.jobs[0].dimensions.items()} == {
        "cost_center": ("research", "slurm account"),
        "team": ("nlp", "slurm comment: team"),
        "owner": ("amy", "slurm user"),
        "project": ("exp42", "slurm wckey (default)"),
    }
    assert told.gpus() == [("7", "gpu1", 3, 0, 100), ("7", "gpu2", 1, 0, 100)]
    assert {
        (str(one.resource), one.node): (one.requested, one.used)
        for one in told.usage
        if one.resource != "gpu"
    } == {
        ("cpu", "gpu1"): (Decimal(3), Decimal("1.5")),
        ("cpu", "gpu2"): (Decimal(1), None),
        ("memory", "gpu1"): (Decimal(1), Decimal(1)),
        ("memory", "gpu2"): (Decimal(1), None),
    }


def test_a_string_of_resources_and_an_object_for_the_step(tmp_path: Path) -> None:
    job = new_job(tres={"allocated": "cpu=4,gres/gpu=4"})
    job["steps"][0]["step"] = {"id": {"job_id": 7, "step_id": maybe(4294967291)}, "name": "batch"}
    assert read(tmp_path, document(job)).gpus() == [("7", "gpu1", 3, 0, 100), ("7", "gpu2", 1, 0, 100)]


def test_arrays_components_and_what_waits(tmp_path: Path) -> None:
    one = "cpu=1,gres/gpu=1"
    jobs = [
        new_job(
            job_id=8,
            array={"job_id": 3, "task": "", "task_id": maybe(0)},
            tres={"allocated": one},
            nodes="gpu1",
        ),
        new_job(
            job_id=3,
            array={"job_id": 3, "task": "1-5", "task_id": maybe(None)},
            state={"current": ["PENDING"]},
            tres={},
            nodes="",
        ),
        new_job(job_id=6, het={"job_id": 5, "job_offset": maybe(1)}, tres={"allocated": one}, nodes="gpu2"),
        old_job(job_id=5, het={"job_id": 5, "job_offset": 0}, tres={"allocated": one}, nodes="gpu1"),
    ]
    told = read(tmp_path, document(*jobs))
    assert told.gpus() == [("3_0", "gpu1", 1, 0, 100), ("5+1", "gpu2", 1, 0, 100), ("5+0", "gpu1", 1, 0, 100)]
    assert {job.kind: job.state for job in told.jobs} == {"SlurmArray": "PENDING", "SlurmHetJob": "COMPLETED"}


def test_a_running_job_has_no_end(tmp_path: Path) -> None:
    job = new_job(state={"current": ["RUNNING"]})
    job["time"] |= {"end": 0, "elapsed": 3}
    told = read(tmp_path, document(job))
    assert told.gpus()[0][3:] == (0, 1000)
    assert told.jobs[0].ended is None


def test_json_lines(tmp_path: Path) -> None:
    told = read(tmp_path, "".join(json.dumps(new_job(job_id=number)) + "\n" for number in range(1, 4)))
    assert len(told.jobs) == 3


def test_one_damaged_job_does_not_stop_the_others(tmp_path: Path) -> None:
    told = read(
        tmp_path,
        document(
            new_job(job_id=1),
            new_job(job_id=2, time={}),
            new_job(job_id=3, tres={"allocated": [{}]}),
            new_job(job_id=4),
        ),
    )
    assert {one.pod for one in told.usage} == {"1", "4"}
    assert told.codes == ["slurm-bad-row"]
    assert "2 times" in told.diagnostics[0].message


def test_errors_of_slurm_are_told(tmp_path: Path) -> None:
    told = read(tmp_path, document(errors=[{"description": "database is away", "error_number": 7000}]))
    assert told.codes == ["slurm-said"]
    assert "database is away" in told.diagnostics[0].message


def test_a_document_that_ends_early_tells_what_it_has(tmp_path: Path) -> None:
    text = document(*(new_job(job_id=number) for number in range(1, 5)))
    for cut in (len(text) // 2, len(text) - 1, len(text) - 150):
        told = read(tmp_path, text[:cut])
        assert told.codes == ["slurm-truncated"]
        assert len(told.jobs) >= 1


@pytest.mark.parametrize(
    "text", ['{"jobs": [}', '{"jobs": [{"job_id": 1,, }]}', '{"jobs": nothing at all, and then more text}']
)
def test_a_document_that_is_damaged(tmp_path: Path, text: str) -> None:
    told = read(tmp_path, text)
    assert told.codes == ["slurm-truncated"]


class _Trickle:
    """Text that comes in pieces of any size."""

    def __init__(self, text: str, size: int) -> None:
        self._text = io.StringIO(text)
        self._size = size
        self.most = 0

    def read(self, _: int, /) -> str:
        return self._text.read(self._size)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_pieces_may_cut_anywhere(size: int) -> None:
    jobs = [{"job_id": 123, "x": [1, -2.5e3, 'a\\"b', None, True, "ü"]}, {"job_id": 45}]
    text = json.dumps({"meta": 12345, "jobs": jobs, "last": 67}, ensure_ascii=False, indent=1)
    notes = Notes("test")
    assert list(documents.elements(_Trickle(text, size), ("jobs",), notes)) == jobs
    assert list(notes.diagnostics()) == []


def test_only_one_job_is_in_memory() -> None:
    class Endless:
        """A document of ten million jobs, of which nobody reads the end."""

        def __init__(self) -> None:
            self.given = 0

        def read(self, _: int, /) -> str:
            self.given += 1
            return '{"jobs": [{"job_id": 1}' if self.given == 1 else ', {"job_id": 2}' * 1000

    stream = Endless()
    found: Iterator[Any] = documents.elements(stream, ("jobs",), Notes("test"))
    for _ in range(5000):
        next(found)
    assert stream.given < 20


def test_what_the_controller_tells() -> None:
    live = {
        "account": "research",
        "job_id": 16,
        "name": "two",
        "job_state": ["RUNNING"],
        "nodes": "gpu[1-2]",
        "gres_detail": ["gpu:h100:2(IDX:0-1)", "gpu:h100:1(IDX:0)"],
        "tres_alloc_str": "cpu=2,mem=200M,node=2,gres/gpu=3,gres/gpu:h100=3",
        "start_time": maybe(T0),
        "end_time": maybe(T0 + 86_400 * 365),
        "submit_time": maybe(T0 - 5),
        "array_job_id": maybe(0),
        "array_task_id": maybe(None),
        "het_job_id": maybe(0),
        "restart_cnt": 2,
        "user_name": "amy",
        "wckey": "*exp42",
    }
    waits = live | {
        "job_id": 17,
        "job_state": ["PENDING"],
        "start_time": maybe(T0 + 3600),
        "nodes": "",
        "gres_detail": [],
    }
    notes = Notes("squeue")
    running, pending = documents.scheduled(io.StringIO(document(live, waits)), Options(cluster="lab"), notes)
    assert (running.start, running.end, running.restarts) == (T0, None, 2)
    assert running.placement == {"gpu1": {"gres/gpu:h100": 2}, "gpu2": {"gres/gpu:h100": 1}}
    assert (pending.start, pending.tres) == (None, {})
    assert list(notes.diagnostics()) == []
    assert at(0).timestamp() == T0
