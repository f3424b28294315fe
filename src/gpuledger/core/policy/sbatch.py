"""Slurm submissions: a batch script's `#SBATCH` lines, or the options of a job, as a submission.

Sources: sbatch(1): options on `#SBATCH` lines up to the first command, long with `=` or a blank, short ones joined or
not; heterogeneous components after `#SBATCH hetjob`; times as minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S.
"""

import re
import shlex
from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Final

from gpuledger.core.comments import pairs
from gpuledger.core.policy.model import Default
from gpuledger.core.policy.submission import Cards, Submission, said_of_tags
from gpuledger.core.usage import Evidence
from gpuledger.core.workload.attribution import DIMENSIONS
from gpuledger.prices.accelerators import accelerator

_SHORT: Final = {
    "A": "account", "G": "gpus", "J": "job-name", "N": "nodes", "a": "array", "n": "ntasks", "p": "partition",
    "q": "qos", "t": "time", "c": "cpus-per-task", "C": "constraint", "M": "clusters",
}  # fmt: skip
_GPUS: Final = re.compile(r"(?:gres[/:])?(?:gpu[:=/])?(?:(?P<type>[A-Za-z][\w.+-]*)[:=])?(?P<count>\d+)")
_GRES: Final = re.compile(r"(?:gres[/:])?gpu(?:[:=](?P<type>[A-Za-z][\w.+-]*))?(?:[:=](?P<count>\d+))?")
_TIME: Final = re.compile(r"(?:(?P<days>\d+)-)?(?P<rest>\d+(?::\d+){0,2})")
_UNLIMITED: Final = frozenset({"infinite", "unlimited", "-1", "0"})
# Where each dimension is read from on Slurm, beside a comment; see docs on Slurm.
FIELDS: Final = {
    **{name: f"{name}=… to #SBATCH --comment" for name in DIMENSIONS},
    "cost_center": "#SBATCH --account=…",
    "deadline": "#SBATCH --time=…",
}


def submission_of_script(text: str, name: str, submitter: str | None = None) -> Submission | None:
    """Return a batch script as a submission; None for text without `#SBATCH` lines. `name` stands in for a job name."""
    components = options_of(text)
    if not components:
        return None
    first = components[0]
    cards: list[Cards] = []
    problems: list[str] = []
    for options in components:
        found, unread = cards_of(options)
        cards += found
        problems += unread
    hours, told = _hours(first)
    return submission(
        first,
        name=first.get("job-name") or name,
        cards=tuple(cards),
        hours=hours,
        problems=(*problems, *told),
        submitter=submitter,
    )


def submission(
    options: Mapping[str, str],
    *,
    name: str,
    cards: tuple[Cards, ...],
    hours: Decimal | None,
    problems: tuple[str, ...] = (),
    submitter: str | None = None,
) -> Submission:
    """Return a Slurm job with these options (long names without dashes) as a submission."""
    offered: dict[Default, Mapping[str, str]] = {}
    if account := options.get("account"):
        offered["account"] = dict.fromkeys(DIMENSIONS, account)
    if submitter:
        offered["submitter"] = dict.fromkeys(DIMENSIONS, submitter)
    if partition := options.get("partition"):
        offered["queue"] = dict.fromkeys(DIMENSIONS, partition)
    return Submission(
        plane="slurm",
        kind="SlurmJob",
        name=name,
        namespace=options.get("account"),  # as the ledger's jobs have it: their runs are told apart by it
        cluster=options.get("clusters"),
        partition=options.get("partition"),
        submitter=submitter,
        cards=cards,
        hours=hours,
        said=_said(options, submitter),
        offered=offered,
        fields=FIELDS,
        problems=problems,
    )


def options_of(text: str) -> list[dict[str, str]]:
    """Return the options of each component of a batch script, by their long names; none without `#SBATCH` lines."""
    found: list[dict[str, str]] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#SBATCH"):
            try:
                words = shlex.split(stripped[len("#SBATCH") :], comments=True)
            except ValueError:
                words = stripped[len("#SBATCH") :].split()
            if not found or words[:1] in (["hetjob"], ["packjob"]):
                found.append({})
            found[-1] |= _options(words)
        elif stripped and not stripped.startswith("#"):
            break
    return found


def _options(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
        elif word.startswith("-") and len(word) > 1:
            name = _SHORT.get(word[1], word[1])
            value = word[2:].removeprefix("=")
            equals = "=" if value else ""
        else:
            continue
        if not equals and place < len(words) and not words[place].startswith("-"):
            value = words[place]
            place += 1
        found[name] = value
    return found


def cards_of(options: Mapping[str, str]) -> tuple[list[Cards], list[str]]:
    """Return the cards that options ask for, of all the tasks of an array that run at once, and what can't be read."""
    nodes = _count(options.get("nodes", "1"))
    tasks = _count(options.get("ntasks", "")) or (nodes or 1) * (
        _count(options.get("ntasks-per-node", "")) or 1
    )
    factors = {
        "gres": nodes,
        "gpus-per-node": nodes,
        "gpus": 1,
        "gpus-per-task": tasks,
        "tres-per-job": 1,
        "tres-per-node": nodes,
        "tres-per-task": tasks,
    }
    at_once = _array(options.get("array"))
    found, problems = [], []
    for name, factor in factors.items():
        for word in filter(None, (one.strip() for one in options.get(name, "").split(","))):
            pattern = _GPUS if name.startswith("gpus") else _GRES
            match = pattern.fullmatch(word)
            if match is None:
                if "gpu" in word.lower() or name.startswith("gpus"):
                    problems.append(f"--{name}={word} can't be read")
                    found.append(Cards(None))
                continue
            if factor is None or at_once is None:
                problems.append(f"how many nodes or tasks --{name} counts for can't be told")
            number = (
                None
                if factor is None or at_once is None
                else Fraction(int(match["count"] or 1) * factor * at_once)
            )
            known = accelerator(match["type"]) if match["type"] else None
            found.append(Cards(number, known.model if known else None))
        if found:
            break  # the same cards said twice are the same cards
    return found, problems


def _count(text: str) -> int | None:
    """Read a number, the larger end of `2-4`; None where it isn't one."""
    match = re.fullmatch(r"(?:\d+-)?(\d+)", text.strip())
    return int(match[1]) if match else None


def _array(text: str | None) -> int | None:
    """Return how many tasks of an array run at once: all of them, or as many as `%N` allows; None when unreadable."""
    if text is None:
        return 1
    body, _, most = text.partition("%")
    total = 0
    for part in body.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part.strip())
        if match is None:
            return None
        first, last, step = int(match[1]), int(match[2] or match[1]), int(match[3] or 1)
        if last < first or step < 1:
            return None
        total += (last - first) // step + 1
    return min(total, int(most)) if most.isdecimal() and int(most) else total


def _hours(options: Mapping[str, str]) -> tuple[Decimal | None, tuple[str, ...]]:
    text = options.get("time")
    if text is None or text.lower() in _UNLIMITED:
        return None, ()
    minutes = minutes_of(text)
    return (None, (f"--time={text} can't be read",)) if minutes is None else (minutes / 60, ())


def minutes_of(text: str) -> Decimal | None:
    """Read a time limit in minutes: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S; None when it isn't one."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        return None
    numbers = [int(part) for part in match["rest"].split(":")]
    if match["days"] is not None:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 3:  # noqa: PLR2004 - H:M:S
        hours, minutes, seconds = numbers
    else:
        hours, (minutes, seconds) = 0, (*numbers, 0)[:2]
    days = int(match["days"] or 0)
    return Decimal((days * 24 + hours) * 3600 + minutes * 60 + seconds) / 60


def _said(options: Mapping[str, str], submitter: str | None) -> dict[str, Evidence]:
    """Return what a comment's pairs say, then Slurm's own fields as telemetry reads them."""
    found = said_of_tags(pairs(options.get("comment")), "comment")
    for name, option in (("cost_center", "account"), ("team", "account"), ("project", "wckey")):
        if given := options.get(option):
            found.setdefault(name, Evidence(given, f"slurm {option}", 2))
    if submitter:
        found.setdefault("owner", Evidence(submitter, "slurm user", 2))
    return found
