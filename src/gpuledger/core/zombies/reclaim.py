"""The command that gives a card back: an argument vector, never a text for a shell; none where it would be a guess."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from gpuledger.core.zombies.facts import Finding, Holding, Key

_REPLICAS: Final = frozenset({"Deployment", "StatefulSet", "ReplicaSet", "Rollout"})
Command = tuple[str, ...]


def members(findings: Iterable[Finding]) -> Mapping[Key, Counter[bool]]:
    """Count the pods of each job by whether all their cards have a verdict or are candidates."""
    pods: dict[tuple[Key, str | None], bool] = {}
    for finding in findings:
        for held in finding.observation.holdings:
            place = (held.key, held.pod)
            pods[place] = pods.get(place, True) and (finding.verdict or finding.candidate)
    found: dict[Key, Counter[bool]] = defaultdict(Counter)
    for (key, _), idle in pods.items():
        found[key][idle] += 1
    return found


def reclaim(finding: Finding, counts: Mapping[Key, Counter[bool]]) -> str | None:
    """Return the command as one would type it, names quoted for a shell; None where none is known."""
    found = command(finding, counts)
    return None if found is None else shlex.join(found)


def command(finding: Finding, counts: Mapping[Key, Counter[bool]]) -> Command | None:
    """Return the command that gives the card back, None where none is known."""
    if not (finding.verdict or finding.candidate):
        return None
    one = finding.observation
    kill = ("kill", *(str(pid) for pid in one.processes)) if one.processes else None
    held = next((held for held in one.holdings if held.slurm_job or held.pod or held.command), None)
    if held is None or (finding.state == "orphan" and kill):
        return kill
    if not held.certain:
        return None  # nobody's job is stopped on a guess
    idle_only = not counts.get(held.key, Counter())[False]
    if held.command is not None:
        return held.command if idle_only else None  # a machine is given back as a whole
    if held.slurm_job:
        return ("scancel", held.slurm_job)
    return _kubectl(finding, held, counts.get(held.key, Counter()))


def _kubectl(finding: Finding, held: Holding, counts: Counter[bool]) -> Command:
    space: Command = ("kubectl", "-n", held.namespace) if held.namespace else ("kubectl",)
    pod = (*space, "delete", "pod", held.pod or "")
    if not held.job or not held.kind or held.kind == "Pod" or held.live is False:
        return pod
    thing = f"{held.kind.lower()}/{held.job}"
    if held.kind in _REPLICAS:
        return (*space, "scale", thing, f"--replicas={counts[False]}")
    if held.kind == "Notebook":
        stopped = f"kubeflow-resource-stopped={finding.observation.now:%Y-%m-%dT%H:%M:%SZ}"
        return (*space, "annotate", thing, stopped)
    # A whole job is given up only when all of it is idle.
    return pod if counts[False] else (*space, "delete", thing)
