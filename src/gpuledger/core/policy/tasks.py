"""Task files of launchers as submissions: SkyPilot tasks and Ray job specifications.

Sources: SkyPilot's task YAML reference (`resources.accelerators`, `num_nodes`, `any_of`, `labels`, `service`)
and Ray's job submission API (`entrypoint_num_gpus`, `entrypoint_resources`, `metadata`).
"""

import re
from decimal import Decimal
from fractions import Fraction
from typing import Final

from gpuledger.core.policy.submission import Cards, Submission, said_of_tags
from gpuledger.core.workload.attribution import DIMENSIONS
from gpuledger.core.workload.fields import Json, at, items, mapping, quantity, text, texts, whole
from gpuledger.prices.accelerators import accelerator, gpu_type

_SKY_KEYS: Final = frozenset({"resources", "num_nodes", "run", "setup", "service", "file_mounts", "workdir"})
_ACCELERATOR: Final = re.compile(r"(?P<name>[^:]+)(?::(?P<count>\d+(?:\.\d+)?))?")


def submission_of_task(document: Json, name: str) -> Submission | None:
    """Return a SkyPilot task or a Ray job specification as a submission; None for any other document."""
    if text(document.get("entrypoint")) and "apiVersion" not in document:
        return _ray(document, name)
    if isinstance(document.get("resources"), dict) and set(document) & _SKY_KEYS - {"resources"}:
        return _sky(document, name)
    return None


def _ray(spec: Json, name: str) -> Submission:
    gpus = quantity(spec.get("entrypoint_num_gpus"))
    kind = at(spec, "entrypoint_resources", "accelerator_type")
    known = accelerator(str(kind)) if kind else None
    cards = (Cards(Fraction(gpus), known.model if known else None),) if gpus else ()
    return Submission(
        plane="kubernetes",
        kind="RayJobSpec",
        name=text(spec.get("submission_id")) or text(spec.get("job_id")) or name,
        cards=cards,
        said=said_of_tags(texts(spec.get("metadata")), "metadata"),
        fields={dimension: f"{dimension} to metadata" for dimension in DIMENSIONS}
        | {"deadline": "a deadline on the RayJob or cluster that runs it"},
        problems=("only what the entry point asks for is told; what its tasks ask for is not",),
    )


def _sky(task: Json, name: str) -> Submission:
    resources = mapping(task.get("resources"))
    problems: list[str] = []
    choices = [
        mapping({**resources, **one})
        for one in items(resources.get("any_of")) + items(resources.get("ordered"))
    ]
    nodes = whole(task.get("num_nodes")) or 1
    replicas = at(task, "service", "replica_policy", "max_replicas") or at(task, "service", "replicas")
    times = nodes * (whole(replicas) or 1)
    found = [_cards(one, times, problems) for one in choices or [resources]]
    hours = _promised_hours(task)
    return Submission(
        plane="cloud",
        kind="SkyPilotTask",
        name=text(task.get("name")) or name,
        # Of several choices the one with the most cards: nobody knows yet which one it will be.
        cards=max(found, key=lambda cards: sum((card.gpus or 0 for card in cards), Fraction(0))),
        hours=hours,
        serves="service" in task,
        said=said_of_tags(texts(resources.get("labels")) | texts(task.get("envs")), "label"),
        fields={dimension: f"{dimension} to resources.labels" for dimension in DIMENSIONS}
        | {"deadline": "a time limit; a task has none of its own"},
        problems=tuple(problems),
    )


def _cards(resources: Json, times: int, problems: list[str]) -> tuple[Cards, ...]:
    region = text(resources.get("region"))
    told = resources.get("accelerators")
    if isinstance(told, (list, tuple)):
        told = told[0] if told else None
    pairs = (
        [(str(key), quantity(count)) for key, count in told.items()]
        if isinstance(told, dict)
        else [_pair(told)]
        if isinstance(told, str)
        else []
    )
    instance_type = text(resources.get("instance_type"))
    if not pairs and instance_type and (known := gpu_type(instance_type)):
        number = None if known.gpu_count is None else known.gpu_count * times
        return (Cards(number, known.gpu_model, instance_type, region),)
    cards = []
    for called, count in pairs:
        named = accelerator(called.replace("-", " "))
        if count is None:
            problems.append(f"accelerators {called}: how many isn't told")
        cards.append(
            Cards(
                None if count is None else Fraction(count) * times,
                named.model if named else None,
                None,
                region,
            )
        )
    return tuple(cards)


def _pair(said: str) -> tuple[str, Decimal | None]:
    match = _ACCELERATOR.fullmatch(said.strip())
    return (said, None) if match is None else (match["name"], Decimal(match["count"] or 1))


def _promised_hours(task: Json) -> Decimal | None:
    """Return what a label of ours promises: a task ends when its command does, and says nothing of when."""
    promised = quantity(at(task, "resources", "labels", "gpuledger.io/max-hours"))
    return promised if promised is not None and promised > 0 else None
