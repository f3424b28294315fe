"""`policy coverage`: what a webhook's own decision log adds up to."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from tests.surfaces.admission_world import POLICY, job, world
from tests.surfaces.shell import gpuledger

CENTER = "gpuledger.io/cost-center"


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The log of a webhook in audit mode: each job is 8 cards × 2 USD × 10 h = 160 USD."""
    monkeypatch.chdir(tmp_path)
    hook = world(tmp_path, POLICY.replace("enforce", "audit"))
    hook.response(job({CENTER: "CC-1"}, uid="a"))
    hook.response(job({CENTER: "CC-1"}, uid="a"))  # asked again: once
    hook.response(job(uid="b"))
    hook.response(job({CENTER: "CC-1"}, uid="c"), namespace="web")
    hook.response(job(uid="d"), dryRun=True)
    owner = [{"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": "a", "controller": True}]
    hook.response(job({CENTER: "CC-1"}, kind="Pod", uid="p", ownerReferences=owner))
    endless = job({CENTER: "CC-1"}, uid="e")
    del endless["spec"]["activeDeadlineSeconds"]
    hook.response(endless, namespace="web")
    cpu = job(uid="f")
    cpu["spec"]["template"]["spec"]["containers"][0]["resources"] = {}
    hook.response(cpu)
    path = tmp_path / "decisions.log"
    path.write_text(hook.log.getvalue(), "utf-8")
    return path


def test_dollars_that_say_whose_they_are_and_what_would_have_been_refused(log: Path) -> None:
    done = gpuledger("policy", "coverage", log)
    assert done.code == 0, done.err
    first, second = done.document["rows"]
    # 2026-11-24 is in the 48th ISO week.
    assert (first["week"], first["namespace"], first["workloads"], first["usd"]) == (
        "2026-W48",
        "ml",
        2,
        "320",
    )
    assert (first["attributed_usd"], first["attributed_share"]) == ("160", "0.5")
    assert (first["would_refuse"], first["would_refuse_usd"], first["refused"]) == (1, "160", 0)
    assert (second["namespace"], second["workloads"], second["usd"], second["unpriced"]) == (
        "web",
        2,
        "160",
        1,
    )
    totals = done.document["totals"]
    assert (totals["usd"], totals["attributed_usd"]) == ("480", "320")
    assert Decimal(totals["attributed_share"]) == Decimal("0.6667")


def test_what_was_refused_is_not_admitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hook = world(tmp_path)
    hook.response(job(uid="b"))
    Path("d.log").write_text(hook.log.getvalue(), "utf-8")
    (row,) = gpuledger("policy", "coverage", "d.log").document["rows"]
    assert (row["workloads"], row["attributed_share"], row["refused"], row["refused_usd"]) == (
        0,
        None,
        1,
        "160",
    )


def test_exemptions_that_end_soon_are_told(log: Path) -> None:
    today = datetime.now(UTC).date()
    text = ""
    for name, days in (("soon", 10), ("late", 40)):
        text += (
            f'[[exemption]]\nname = "{name}"\nreason = "r"\napproved_by = "ada"\nexpires = {today + timedelta(days)}\n'
            'when = { namespaces = ["x"] }\n'
        )
    Path("gpuledger-policy.toml").write_text(text, "utf-8")
    told = gpuledger("policy", "coverage", log).document["totals"]["exemptions_ending"]
    assert [one["name"] for one in told] == ["soon"]


def test_broken_lines_are_told_and_stop_nothing(log: Path) -> None:
    whole = gpuledger("policy", "coverage", log).document["totals"]
    lines = log.read_text("utf-8").splitlines()
    log.write_text("\n".join(["{", json.dumps({"time": "soon"}), "[]", *lines]) + "\n", "utf-8")
    done = gpuledger("policy", "coverage", log)
    assert done.document["totals"] == whole
    assert [told["source"].rpartition(":")[2] for told in done.document["diagnostics"]] == ["1", "2", "3"]
    missing = gpuledger("policy", "coverage", "none.log")
    assert (missing.code, "Hint:" in missing.err) == (2, True)
