"""What collection keeps, replaces and throws away, by sources that say what a test wants; and how the doctor sees it."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.test_collect import DAY, at, codes, ledger_of, rows
from tests.pipeline.test_object_stores import s3

from gpuledger.config import Config
from gpuledger.core.telling import Asked, Covered, Told
from gpuledger.core.usage import Job, UsageInterval
from gpuledger.errors import SourceError
from gpuledger.pipeline import tellers
from gpuledger.pipeline.collect import collect, held_days
from gpuledger.pipeline.doctor import examine
from gpuledger.pipeline.ledger import Ledger

__all__ = ["s3"]
pytestmark = pytest.mark.server


class Scripted:
    """A telemetry source that says what the test wants."""

    def __init__(self, *answers: list[Told | Exception]) -> None:
        self.answers, self.asked = list(answers), list[Asked]()

    def tell(self, asked: Asked) -> Iterator[Told]:
        self.asked.append(asked)
        for told in self.answers.pop(0):
            if isinstance(told, Exception):
                raise told
            yield told


def held_gpu(start: datetime, end: datetime, name: str = "a") -> UsageInterval:
    return UsageInterval("c", "n", f"c/slurm/{name}@1", "gpu", start, end, Decimal(1))


def scripted(monkeypatch: pytest.MonkeyPatch, memory: Any, *answers: list[Told | Exception]) -> Scripted:  # noqa: ANN401
    source = Scripted(*answers)
    monkeypatch.setattr(tellers, "find", lambda _: tellers.Ask(source.tell, memory))
    return source


def test_records_after_the_last_whole_part_are_thrown_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_of(tmp_path, s={"type": "any"})
    scripted(
        monkeypatch, "past",
        [held_gpu(at(1), at(2)), Covered(at(0), at(2)), held_gpu(at(2), at(3), "half"), Job("c/j", "c", "K", "n", None), SourceError("down")],
    )  # fmt: skip
    report = collect(ledger, ["s"], at(0), at(5))
    assert codes(report) == {"collect-failed"}
    assert rows(ledger, "SELECT job_id FROM usage_interval") == [("c/slurm/a@1",)]
    assert rows(ledger, "SELECT count(*) FROM job") == [(0,)]


def test_an_incomplete_day_never_replaces_what_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_of(tmp_path, s={"type": "any"})
    first, second = at(24), at(25)
    source = scripted(
        monkeypatch, "days",
        [held_gpu(at(1), at(2)), Covered(at(0), first), held_gpu(first, second), Covered(first, second)],
        [Covered(at(0), first, complete=False), held_gpu(first, at(26), "b"), Covered(first, at(26))],
    )  # fmt: skip
    collect(ledger, ["s"], at(0), second, now=lambda: second)
    report = collect(ledger, ["s"], at(0), at(26), now=lambda: at(26))
    assert codes(report) == {"telemetry-kept"}
    assert rows(ledger, "SELECT x_BillingPeriod, job_id FROM usage_interval ORDER BY 1") == [
        ("2026-11-02", "c/slurm/a@1"),
        ("2026-11-03", "c/slurm/b@1"),
    ]
    assert held_days(ledger.store, "s")[DAY.date()].complete
    source.answers.append([])
    collect(ledger, ["s"], until=at(27), now=lambda: at(27))
    assert source.asked[-1].since == first  # the last day isn't over, and is told anew as a whole


def test_a_day_is_complete_when_it_was_told_after_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = ledger_of(tmp_path, s={"type": "any"})
    late = at(24) + timedelta(seconds=5)
    scripted(monkeypatch, "days", [held_gpu(at(1), at(2)), Covered(at(0), at(24))])
    collect(ledger, ["s"], at(0), at(24), now=lambda: late)
    assert not held_days(ledger.store, "s")[DAY.date()].complete


def test_the_doctor_tells_how_far_behind_a_source_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = {
        "s": {"type": "slurm"},
        "new": {"type": "dcgm"},
        "p": {"type": "prometheus", "token_env": "NOT_SET"},
    }
    ledger = ledger_of(tmp_path, odd={"type": "slrum"}, **sources)
    scripted(monkeypatch, "past", [held_gpu(at(1), at(2)), Covered(at(0), at(2), gaps=((at(1.5), at(2)),))])
    collect(ledger, ["s"], at(0), at(2), now=lambda: at(2))
    checks = {one.check: one for one in examine(ledger, at(7))}
    behind = checks["telemetry s"]
    assert behind.state == "warn"
    assert behind.detail.startswith(
        "up to 2026-11-02 02:00Z (5 h ago), 1 rows of 1 days, last delivery slurm-20261102T"
    )
    assert behind.detail.endswith("30 min of 2026-11-02 are unknown")
    assert "nothing is collected yet" in checks["telemetry new"].detail
    assert checks["telemetry p"].detail == "the environment variable NOT_SET is not set"
    assert "Did you mean slurm?" in checks["telemetry odd"].hint
    assert {one.check: one for one in examine(ledger, at(2.5))}["telemetry s"].state == "ok"


def test_an_object_store_keeps_what_came_before(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    ledger = Ledger(f"{s3}/telemetry", Config.model_validate({"telemetry": {"s": {"type": "any"}}}))
    source = scripted(
        monkeypatch, "past",
        [held_gpu(at(1), at(2)), Covered(at(0), at(2))], [held_gpu(at(2), at(3), "b"), Covered(at(2), at(3))],
    )  # fmt: skip
    collect(ledger, ["s"], at(0), at(2), now=lambda: at(2))
    collect(ledger, ["s"], until=at(3), now=lambda: at(3))
    assert source.asked[-1].since == at(2)
    assert rows(ledger, "SELECT job_id FROM usage_interval ORDER BY 1") == [
        ("c/slurm/a@1",),
        ("c/slurm/b@1",),
    ]
