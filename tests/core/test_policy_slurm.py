"""Slurm's job_submit.lua decides and speaks as the policy does: a generated table, run by a real Lua 5.1."""

import random
import re
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.lua_policy import job_desc, run

from gpuledger.core.policy import Decision, History, Policy, Rate, Submission, Surroundings, decide
from gpuledger.core.policy.model import Budget, Calendar, Exemption, Limit, Mode, Price, Require, Scope, When
from gpuledger.core.policy.render import Setting
from gpuledger.core.policy.render.lua_patterns import CannotSayError, of_regex, of_shell
from gpuledger.core.policy.render.slurm import Left, cache, render
from gpuledger.core.policy.sbatch import options_of, submission_of_script
from gpuledger.pipeline.policy_prices import rates
from gpuledger.surfaces.admission.review import price_line

TUESDAY = datetime(2026, 11, 24, 12, 30, tzinfo=UTC)
SATURDAY = datetime(2026, 11, 28, 3, tzinfo=UTC)
RESETS = datetime(2026, 12, 1, tzinfo=UTC)
REGISTERS = {"centers": frozenset({"CC-4100", "CC-4200", "CC-4300", "research"})}
LEARNT = {"A100": Decimal("1.234567")}
HISTORY = History({("SlurmJob", "CC-4100", "train"): [Decimal(n) / 2 for n in range(1, 11)]})
LEFT = {"pretraining": Decimal("100.00"), "small": Decimal("1.50")}
CENTER = Require(dimension="cost_center", register="centers", default_from=("namespace", "account"))
TEAM = Require(dimension="team", pattern=r"[a-z][a-z0-9-]{1,20}|CC-\d{4}", when=When(min_gpus=Decimal(4)))
PROJECT = Require(
    dimension="project", values=("apollo", "gemini"), default="apollo", when=When(partitions=("tr*",))
)
BUDGETS = (
    Budget(name="pretraining", owner="ada@example.com", amount_usd=Decimal(200), match={"team": "llm"}),
    Budget(
        name="small", owner="bob", amount_usd=Decimal(2), match={"cost_center": "CC-4200"}, on_exceed="warn"
    ),
)
LIMITS = (
    Limit(name="large", max_gpus=Decimal(16), max_hours=Decimal("36.5"), when=When(names=("train*", "x?"))),
    Limit(
        name="dear", max_cost_usd=Decimal("99.99"), max_gpu_hours=Decimal(48), when=When(submitters=("amy",))
    ),
    Limit(name="weekend", deadline="off-hours"),
)
EXEMPTIONS = (
    Exemption(
        name="old",
        when=When(names=("legacy*",)),
        rules=("team", "large"),
        reason="r",
        approved_by="a",
        expires=date(2026, 11, 24),
    ),
    Exemption(
        name="over", when=When(names=("train*",)), reason="r", approved_by="a", expires=date(2026, 11, 23)
    ),
)
PRICES = (Price(gpu_model="H100", usd_per_gpu_hour=Decimal("2.10")),)
SCOPES = (
    Scope(name="interactive", when=When(partitions=("debug",)), mode="warn"),
    Scope(name="big", when=When(min_gpus=Decimal(8), without_gpus=True), mode="enforce"),
)


def policies() -> list[Policy]:
    modes: tuple[Mode, ...] = ("off", "audit", "warn", "enforce")
    whole = [
        Policy(
            mode=mode,
            require=(CENTER, TEAM, PROJECT),
            limit=LIMITS,
            exemption=EXEMPTIONS,
            budget=BUDGETS,
            price=PRICES,
        )
        for mode in modes
    ]
    scoped = replace(whole[1], scope=SCOPES)
    berlin = Calendar(timezone="America/New_York", opens=9, closes=17, holidays=(date(2026, 11, 24),))
    return [
        *whole,
        scoped,
        replace(whole[3], calendar=berlin, price=(Price(usd_per_gpu_hour=Decimal("1.999999")),)),
        Policy(
            mode="enforce",
            require=(
                Require(
                    dimension="experiment",
                    when=When(without_gpus=True),
                    default_from=("submitter",),
                    values=("amy", "ada"),
                ),
            ),
        ),
    ]


def script(rng: random.Random) -> str:
    pick = rng.choice
    options = {
        "account": pick([None, "CC-4100", "CC-4200", "CC-4101", "research", "it's", "CC-41"]),
        "comment": pick([None, None, "team=llm", "gpuledger:team=llm;budget=pretraining", "squad=Bad Team", "team=llm,Cost-Centre=CC-4300", "budget=nope team=x1", "free words", "Project_Name=apollo; stage=prod"]),
        "wckey": pick([None, None, "gemini", "apollo", "mars"]),
        "job-name": pick([None, "train", "train-17", "legacy-2", "xy", "train-a1b2c3"]),
        "partition": pick(["train", "debug", "train"]),
        "time": pick([None, "40", "2:20:00", "36:30:00", "2-0", "600", "1"]),
        "nodes": pick([None, None, "2", "1-3"]),
        "array": pick([None, None, None, "0-7%2", "1,4-8:2"]),
    }  # fmt: skip
    cards = pick([
        ("gres", "gpu:h100:4"), ("gres", "gpu:2"), ("gres", "gpu"), ("gpus", "8"), ("gpus", "h100:3"), ("gpus", "a100:16"),
        ("gpus-per-node", "a100:4"), ("gpus-per-task", "1"), ("gres", "shard:4"), None, ("gpus", "nvidia_h200:1"),
    ])  # fmt: skip
    if cards:
        options[cards[0]] = cards[1]
    if cards and cards[0] == "gpus-per-task":
        options[pick(["ntasks", "ntasks-per-node"])] = pick(["4", "8"])
    lines = [f'#SBATCH --{name}="{value}"' for name, value in options.items() if value is not None]
    return "\n".join(["#!/bin/sh", *lines, "srun train"])


def cache_text(now: datetime) -> str:
    learnt = {model: Rate(price, "your bills of 30 days") for model, price in LEARNT.items()}
    left = [Left(name, usd, now - timedelta(minutes=5), RESETS) for name, usd in LEFT.items()]
    return cache(learnt, HISTORY, left, now)


def expected(decision: Decision, submission: Submission) -> tuple[int, list[str]]:
    broken = [reason.text for reason in decision.reasons if reason.lifted_by is None]
    told: list[str] = []
    if decision.mode == "off":
        return 0, []
    if decision.outcome == "deny":
        told.append("gpuledger: " + " ".join(broken))
    elif decision.outcome == "warn":
        told += [f"gpuledger: {text}" for text in broken]
    if submission.accelerated:
        told.append(f"gpuledger: {price_line(submission, decision)}")
    return (-1 if decision.outcome == "deny" else 0), [
        *told,
        *(f"gpuledger: {note}" for note in decision.notes),
    ]


@pytest.mark.parametrize("number", range(len(policies())))
@pytest.mark.parametrize("now", [TUESDAY, SATURDAY], ids=["tuesday", "saturday"])
def test_the_script_decides_and_speaks_as_the_policy_does(number: int, now: datetime, tmp_path: Path) -> None:
    policy = policies()[number]
    rng = random.Random(f"{number} {now}")
    around = Surroundings(
        now=now,
        rates=rates(policy, LEARNT, now.date()),
        history=HISTORY,
        registers=REGISTERS,
        left=lambda budget: LEFT[budget.name],
    )
    files = {
        **render(policy, Setting(now=now, registers=REGISTERS)).files,
        "gpuledger-cache.lua": cache_text(now),
    }
    cases, answers = [], []
    for _ in range(40):
        text, user = script(rng), rng.choice(["amy", "zoe"])
        submission = submission_of_script(text, "run.sh", user)
        assert submission is not None
        answers.append((text, expected(decide(policy, submission, around), submission)))
        # Alone: what the script admits lessens what is left for the next, which `decide` isn't told here.
        job = job_desc(options_of(text)[0], "run.sh", user)
        cases.append({"now": int(now.timestamp()), "job": job, "alone": True})
    found = run(tmp_path, files, cases)
    assert len(found) == len(answers)
    for (text, wanted), one in zip(answers, found, strict=True):
        assert (one["code"], one["told"]) == wanted, text


def test_the_table_has_every_outcome_and_rule() -> None:
    """What the comparison above compares is worth comparing."""
    seen, rules = set(), set()
    for number, policy in enumerate(policies()):
        rng = random.Random(f"{number} {SATURDAY}")
        around = Surroundings(
            now=SATURDAY,
            rates=rates(policy, LEARNT, SATURDAY.date()),
            history=HISTORY,
            registers=REGISTERS,
            left=lambda budget: LEFT[budget.name],
        )
        for _ in range(40):
            submission = submission_of_script(script(rng), "run.sh", rng.choice(["amy", "zoe"]))
            assert submission is not None
            decision = decide(policy, submission, around)
            seen.add((decision.mode, decision.outcome))
            rules |= {reason.rule for reason in decision.reasons}
            rules |= {reason.lifted_by for reason in decision.reasons if reason.lifted_by}
    assert seen >= {
        ("off", "allow"),
        ("audit", "allow"),
        ("warn", "warn"),
        ("warn", "allow"),
        ("enforce", "deny"),
        ("enforce", "allow"),
    }
    assert rules >= {
        "cost_center",
        "team",
        "project",
        "large",
        "dear",
        "weekend",
        "pretraining",
        "small",
        "budget",
        "experiment",
    }


ENFORCED = Policy(mode="enforce", require=(CENTER,), budget=BUDGETS, price=PRICES)


def job(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of a job
    given = {
        "account": "CC-4100",
        "comment": "team=llm",
        "tres_per_node": "gres:gpu:h100:4",
        "time_limit": 300,
        "name": "a",
        "user_name": "amy",
    }
    return {key: value for key, value in {**given, **changes}.items() if value is not None}


def files_at(now: datetime) -> dict[str, Any]:
    return {
        **render(ENFORCED, Setting(now=now, registers=REGISTERS)).files,
        "gpuledger-cache.lua": cache_text(now),
    }


def test_a_budget_is_never_overshot_between_refreshes_and_starts_anew(tmp_path: Path) -> None:
    """Each takes 4 × 2.10 × 5 = 42 USD of 100: two fit. In the next month 200 USD are there, for four."""
    then = int(TUESDAY.timestamp())
    later = int(RESETS.timestamp())
    cases = [{"now": moment, "job": job()} for moment in [then] * 3 + [later] * 5]
    assert [one["code"] for one in run(tmp_path, files_at(TUESDAY), cases)] == [0, 0, -1, 0, 0, 0, 0, -1]
    # The journal outlives slurmctld, and a newer cache that knows of the first ones makes room.
    assert [one["code"] for one in run(tmp_path, {}, [{"now": later + 60, "job": job()}])] == [-1]
    fresh = cache(
        {},
        History({}),
        [
            Left(
                "pretraining",
                Decimal("60.00"),
                RESETS + timedelta(seconds=30),
                datetime(2027, 1, 1, tzinfo=UTC),
            )
        ],
        RESETS,
    )
    answers = run(tmp_path, {"gpuledger-cache.lua": fresh}, [{"now": later + 60, "job": job()}] * 2)
    assert [one["code"] for one in answers] == [0, -1]
    assert (
        "budget pretraining has 18.00 USD left, this needs 42.00 USD. Ask ada@example.com, or wait for the next month."
        in answers[1]["told"][0]
    )
    assert (tmp_path / "gpuledger-journal").read_text() == f"{later + 60}\t42000000\tpretraining\n"


def test_what_is_admitted_stands_in_the_administrators_comment(tmp_path: Path) -> None:
    policy = replace(ENFORCED, require=(CENTER, replace(PROJECT, when=When())))
    files = {
        **render(policy, Setting(now=TUESDAY, registers=REGISTERS)).files,
        "gpuledger-cache.lua": cache_text(TUESDAY),
    }
    (one,) = run(tmp_path, files, [{"now": int(TUESDAY.timestamp()), "job": job(admin_comment="mine")}])
    assert (
        one["comment"]
        == "mine; gpuledger:decision=allow;project=apollo;draws_on=pretraining;reserved_usd=42.00"
    )


def test_a_budget_that_cannot_be_asked_refuses_unless_the_policy_says_otherwise(tmp_path: Path) -> None:
    case = {"now": int(TUESDAY.timestamp()), "job": job()}
    script_and_policy = render(ENFORCED, Setting(now=TUESDAY, registers=REGISTERS)).files
    (one,) = run(tmp_path, script_and_policy, [case])
    assert one["code"] == -1
    assert (
        one["told"][0]
        == "gpuledger: budget pretraining of ada@example.com can't be asked at the moment. Try again."
    )
    mild = render(replace(ENFORCED, without_store="allow"), Setting(now=TUESDAY, registers=REGISTERS)).files
    (one,) = run(tmp_path, mild, [case])
    assert one["code"] == 0


def test_without_a_policy_nothing_passes_and_a_broken_one_leaves_the_old(tmp_path: Path) -> None:
    now = int(TUESDAY.timestamp())
    files = files_at(TUESDAY)
    (one,) = run(tmp_path, {"job_submit.lua": files["job_submit.lua"]}, [{"now": now, "job": job()}])
    assert one["code"] == -1
    assert "the policy can't be read" in one["told"][-1]
    lacking = job(account=None)
    off = render(replace(ENFORCED, mode="off"), Setting(now=TUESDAY)).files["gpuledger-policy.lua"]
    cases = [
        {"now": now, "job": lacking},
        {"now": now + 6, "job": lacking, "write": {"gpuledger-policy.lua": "return {"}},
        {"now": now + 12, "job": lacking, "write": {"gpuledger-policy.lua": off}},
        {"now": now + 13, "job": lacking, "write": {"gpuledger-policy.lua": files["gpuledger-policy.lua"]}},
        {"now": now + 18, "job": lacking},
    ]
    answers = run(tmp_path, files, cases)
    assert [one["code"] for one in answers] == [-1, -1, 0, 0, -1]  # looked at every five seconds
    assert answers[1]["told"][0].startswith("ERROR gpuledger: the policy can't be read, the old one stays: ")
    assert answers[1]["told"][1:] == answers[0]["told"]


def test_a_mistake_in_a_job_is_refused_not_passed(tmp_path: Path) -> None:
    (one,) = run(
        tmp_path,
        files_at(TUESDAY),
        [{"now": int(TUESDAY.timestamp()), "job": job(tres_per_node="gres:gpu:x:y:1", account=None)}],
    )
    assert one["code"] == -1


def test_a_queued_job_keeps_its_cost_centre(tmp_path: Path) -> None:
    now = int(TUESDAY.timestamp())
    before = {**job(), "user_id": 1000}
    cases = [
        {"now": now, "job": {"account": "CC-4200"}, "before": before},
        {"now": now, "job": {"account": "CC-4200"}, "before": before, "uid": 0},
        {"now": now, "job": {"priority": 3, "time_limit": 0xFFFFFFFE}, "before": before},
    ]
    answers = run(tmp_path, files_at(TUESDAY), cases)
    assert [one["code"] for one in answers] == [-1, 0, 0]
    assert (
        "cost_center can't be changed from 'CC-4100' to 'CC-4200' while the workload lives"
        in answers[0]["told"][0]
    )


@pytest.mark.parametrize("version", ["lua5.3", "lua5.4"])
def test_other_versions_of_lua_say_the_same(version: str, tmp_path: Path) -> None:
    if (interpreter := shutil.which(version)) is None:
        pytest.skip(f"no {version}")
    rng = random.Random(3)
    cases = [
        {
            "now": int(SATURDAY.timestamp()),
            "job": job_desc(options_of(script(rng))[0], "run.sh", "amy"),
            "alone": True,
        }
        for _ in range(100)
    ]
    files = {
        **render(policies()[3], Setting(now=SATURDAY, registers=REGISTERS)).files,
        "gpuledger-cache.lua": cache_text(SATURDAY),
    }
    assert run(tmp_path, files, cases, interpreter) == run(tmp_path, files, cases)


PATTERNS = [
    r"CC-\d{4}", r"[a-z][a-z0-9-]*", r"(?:team|squad)-[a-z]+", r"a?b+c*", r"[^-\]x]{1,3}", r"x.y", r"(a|b(c|d)?)e", r"\w+@example\.com",
    r"^abc$", r"%d+", r"[\w.]+", r"a{2,}", r"(x)?y", r"a|", r"[]a]+", r"a-b", r"(?P<n>ab)c",
]  # fmt: skip


@given(
    st.lists(st.text("abcdexy-%]@.0149CMs", max_size=8), min_size=30, max_size=30), st.sampled_from(PATTERNS)
)
def test_a_pattern_that_lua_can_say_means_the_same(values: list[str], pattern: str) -> None:
    """Compared through a reading of Lua's patterns as regular expressions: only `%x` and its `-` differ in what is made."""
    made = [re.sub(r"%(.)", lambda match: re.escape(match[1]), one) for one in of_regex(pattern)]
    for value in [*values, "CC-4100", "a@example.com", "abc", "team-x"]:
        fits = any(re.search(f"\\A(?:{one[1:-1]})\\Z", value) for one in made)
        assert fits == bool(re.fullmatch(pattern, value)), (made, value)


@pytest.mark.parametrize(
    "pattern", [r"(ab)+", r"(?i)abc", r"a(?=b)", r"(a)\1", r"\bx", r"[é]x", r"é+", r"a{300}", r"(^a|b)c"]
)
def test_a_pattern_that_lua_cannot_say_is_told(pattern: str) -> None:
    with pytest.raises(CannotSayError):
        of_regex(pattern)


def test_shell_patterns() -> None:
    assert [of_shell("a-*"), of_shell("x?.y")] == ["^a%-.*$", "^x[^\x80-\xbf][\x80-\xbf]*%.y$"]
    with pytest.raises(CannotSayError):
        of_shell("[ab]")


def test_what_the_script_cannot_do_is_marked_in_the_notes_and_in_the_file() -> None:
    policy = Policy(
        require=(replace(TEAM, pattern="(ab)+"), replace(CENTER, when=When(names=("[ab]*",)))),
        scope=(Scope(name="s", when=When(names=("[x]",)), mode="off"),),
    )
    made = render(policy, Setting(now=TUESDAY, registers=REGISTERS))
    assert [(note.rule, note.state) for note in made.notes] == [
        ("team", "partly"),
        ("cost_center", "not enforced"),
        ("s", "not enforced"),
    ]
    text = made.files["gpuledger-policy.lua"]
    assert isinstance(text, str)
    assert all(f"-- {note.text}\n" in text for note in made.notes)
