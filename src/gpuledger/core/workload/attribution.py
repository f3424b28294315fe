"""Whose job it is and what for: dimensions of a job, each with the evidence for it, the strongest first.

Ranks: 0 a `gpuledger.io/*` label or annotation, 1 another label by a known spelling, 2 another annotation, 3 a label or annotation of
the namespace, 4 the configured default of the namespace, 5 the queue, 6 who submitted it, 7 kind, image and command
line, 8 a configured rule. What nobody said in so many words (ranks 5 to 8, but for who submitted it) is inferred.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final

from gpuledger.core.tags import TagAliases, aliases, normalized
from gpuledger.core.usage import Evidence
from gpuledger.core.workload.fields import (
    Json,
    annotations,
    items,
    kind,
    labels,
    mapping,
    name,
    namespace,
    text,
)
from gpuledger.core.workload.manifests import templates

DIMENSIONS: Final = (
    *(
        "cost_center",
        "team",
        "owner",
        "workload_type",
        "model",
        "experiment",
        "project",
        "environment",
        "budget",
    ),
)
WORKLOAD_TYPES: Final = (
    *("training", "fine-tuning", "inference", "batch-inference", "evaluation", "notebook", "agent", "ci"),
)
PREFIX: Final = "gpuledger.io/"
REQUESTED_BY: Final = f"{PREFIX}requested-by"

# How our own labels are spelled, without the prefix.
_OWN: Final = {
    **{name: (name.replace("_", "-"),) for name in DIMENSIONS},
    "cost_center": ("cost-center", "cost-centre"),
}
_QUEUES: Final = (
    *("kueue.x-k8s.io/queue-name", "kai.scheduler/queue", "runai/queue", "volcano.sh/queue-name"),
    *("scheduling.volcano.sh/queue-name", "yunikorn.apache.org/queue", "queue"),
)
# Labels and annotations by which a controller says who asked; the requester of a namespace is the weakest.
_SUBMITTERS: Final = (
    *(REQUESTED_BY, "requested-by", "createdBy", "created-by", "submitted-by", "hub.jupyter.org/username"),
    *(
        "workflows.argoproj.io/creator-email",
        "workflows.argoproj.io/creator",
        "pipelines.kubeflow.org/created-by",
    ),
    *("run.ai/username", "runai/user", "toolchain.dev.openshift.com/creator"),
)
_NAMESPACE_SUBMITTERS: Final = ("openshift.io/requester", "field.cattle.io/creatorId")
# Labels with a fixed meaning beside those of core.tags.
_MORE_ALIASES: Final = {
    "experiment": ("katib.kubeflow.org/experiment", "mlflow-experiment"),
    "model": ("serving.kserve.io/model", "llm-d.ai/model", "modelName"),
}
_TYPES_ALIASES: Final = ("workload_type", "workloadType", "job_type", "task_type")
# Other words for types of workloads.
TYPE_WORDS: Final = {
    "finetuning": "fine-tuning",
    "finetune": "fine-tuning",
    "serving": "inference",
    "train": "training",
    "batch": "batch-inference",
    "eval": "evaluation",
}
_BUDGETS: Final = ("budget", "budget_id", "budget_code")

_BESIDE_TAGS: Final = {
    dimension: tuple(normalized(alias) for alias in names)
    for dimension, names in {**_MORE_ALIASES, "workload_type": _TYPES_ALIASES, "budget": _BUDGETS}.items()
}
_KINDS: Final = {
    **dict.fromkeys(
        ("PyTorchJob", "TFJob", "MPIJob", "XGBoostJob", "PaddleJob", "JAXJob", "MXJob", "TrainJob"),
        "training",
    ),
    **dict.fromkeys(
        ("InferenceService", "LLMInferenceService", "RayService", "LeaderWorkerSet"), "inference"
    ),
    **dict.fromkeys(("Notebook", "DataScienceNotebook"), "notebook"),
    **dict.fromkeys(
        ("EphemeralRunner", "EphemeralRunnerSet", "AutoscalingRunnerSet", "PipelineRun", "TaskRun"), "ci"
    ),
}
_IMAGES: Final = (
    (
        r"vllm|sglang|text-generation-inference|tritonserver|\bnim/|llama\.cpp|ollama|tensorrt-llm|\btgi\b",
        "inference",
    ),
    (r"jupyter|notebook|code-server|rstudio", "notebook"),
    (r"actions-runner|gitlab-runner|buildkite|kaniko", "ci"),
    (r"axolotl|llama-?factory|unsloth|torchtune|\btrl\b|\bpeft\b", "fine-tuning"),
    (r"lm-?eval|evaluation-harness|lighteval", "evaluation"),
)
_MODEL_FLAGS: Final = re.compile(
    r"^--(?:model|served-model-name|model-path|model-name|model-id|model_name_or_path|model-name-or-path)(?:=(.+))?$"
)
_MODEL_ENV: Final = ("MODEL_NAME", "MODEL_ID", "HF_MODEL_ID", "MODEL", "SERVED_MODEL_NAME")
_ENV: Final = {"experiment": ("MLFLOW_EXPERIMENT_NAME", "WANDB_SWEEP_ID"), "project": ("WANDB_PROJECT",)}


@dataclass(frozen=True, slots=True)
class Rule:
    """A configured rule: where all patterns match, the dimensions have these values.

    Patterns (`*` and `?`) are for `cluster`, `namespace`, `kind`, `name`, `queue`, `submitter` and `image`, or
    `label:<key>`; `to` maps dimensions to values.
    """

    when: Mapping[str, str]
    to: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Attribution:
    """How dimensions are found: aliases of tag keys, defaults per namespace pattern, and rules in their order."""

    known: TagAliases = field(default_factory=lambda: aliases("Kubernetes"))
    defaults: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    rules: Sequence[Rule] = ()


DEFAULT: Final = Attribution()


def dimensions(
    objects: Sequence[Json],
    own_namespace: Json | None = None,
    using: Attribution = DEFAULT,
    cluster: str = "",
) -> dict[str, Evidence]:
    """Return the best value of each dimension of a job; a dimension without any is left out.

    `objects` are the job's known objects from its root down to a pod (`Root.objects`), `own_namespace` the Namespace
    object if known.
    """
    found: dict[str, Evidence] = {}
    for dimension, evidence in candidates(objects, own_namespace, using, cluster):
        if dimension not in found or evidence.rank < found[dimension].rank:
            found[dimension] = evidence
    return {dimension: found[dimension] for dimension in DIMENSIONS if dimension in found}


def candidates(
    objects: Sequence[Json],
    own_namespace: Json | None = None,
    using: Attribution = DEFAULT,
    cluster: str = "",
) -> Iterator[tuple[str, Evidence]]:
    """Yield every value that something says about a job, with its evidence; of one rank, the best comes first."""
    space = next((found for obj in objects if (found := namespace(obj))), None)
    yield from said(objects, using.known)
    if own_namespace is not None:
        yield from _said(own_namespace, "namespace ", (3, 3, 3), using.known)
    for pattern, values in using.defaults.items():
        if space is not None and fnmatchcase(space, pattern):
            yield from _told(values, f"default of namespaces {pattern}", 4, inferred=True)
    queue, submitter = _first(objects, _QUEUES), _first(objects, _SUBMITTERS)
    if queue:
        yield "team", Evidence(queue[1], f"queue ({queue[0]})", 5, inferred=True)
    if submitter is None and own_namespace is not None:
        submitter = _first([own_namespace], _NAMESPACE_SUBMITTERS)
    if submitter:
        yield "owner", Evidence(submitter[1], f"submitter ({submitter[0]})", 6)
    yield from _guessed(objects)
    facts = _facts(objects, space, queue, submitter, cluster)
    for number, rule in enumerate(using.rules, 1):
        if rule.when and all(_matches(facts, key, pattern) for key, pattern in rule.when.items()):
            yield from _told(rule.to, f"rule {number}", 8, inferred=True)


def said(objects: Sequence[Json], known: TagAliases = DEFAULT.known) -> Iterator[tuple[str, Evidence]]:
    """Yield what a job's objects and their pod templates say themselves: labels and annotations, ranks 0 to 2."""
    for obj in objects:
        yield from _said(obj, "", (0, 1, 2), known)
    for obj in objects:
        before: object = None
        for template in () if kind(obj) == "Pod" else templates(obj):
            own = template.template.get("metadata")
            if own and own != before:  # a job's templates mostly say the same
                yield from _said({**template.template, "kind": f"{kind(obj)} template"}, "", (0, 1, 2), known)
            before = own


def containers(objects: Iterable[Json]) -> list[Json]:
    """Return the containers of a job: of its templates, or of its pod."""
    return [
        container
        for obj in objects
        for template in templates(obj)
        for container in items(mapping(template.template.get("spec")).get("containers"))
    ]


def _said(
    obj: Json, place: str, ranks: tuple[int, int, int], known: TagAliases
) -> Iterator[tuple[str, Evidence]]:
    """Yield what labels and annotations of one object say; `ranks` are for our label, another label, an annotation."""
    where = f"{kind(obj)} {name(obj)}".strip()
    own, others, annotated = ranks
    labelled, noted = labels(obj), annotations(obj)
    for tags, sort, rank in ((labelled, "label", own), (noted, "annotation", own)):
        for dimension, spellings in _OWN.items() if tags else ():
            for spelling in spellings:
                if value := _value(dimension, tags.get(PREFIX + spelling)):
                    yield dimension, Evidence(value, f"{place}{sort} {PREFIX}{spelling} of {where}", rank)
    for tags, sort, rank in ((labelled, "label", others), (noted, "annotation", annotated)):
        plain = [
            key
            for key in tags
            if key not in _QUEUES and key not in _SUBMITTERS and not key.startswith(PREFIX)
        ]
        for dimension, keys in _keys(tuple(plain), known).items() if plain else ():
            for key in keys:
                if value := _value(dimension, tags[key]):
                    yield dimension, Evidence(value, f"{place}{sort} {key} of {where}", rank)


@lru_cache(maxsize=4096)
def _keys(plain: tuple[str, ...], known: TagAliases) -> dict[str, tuple[str, ...]]:
    """Return the keys that spell a dimension, best first."""
    more = TagAliases(_BESIDE_TAGS, known.prefixes).resolve(plain)
    found = known.resolve(plain)
    return {
        dimension: (*more.get(dimension, ()), *found.get(dimension, ()))
        for dimension in DIMENSIONS
        if dimension in more or dimension in found
    }


def spellings(dimension: str, known: TagAliases = DEFAULT.known) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return how a dimension is spelled: our own keys, and the normalised words of others, best first."""
    own = tuple(PREFIX + spelling for spelling in _OWN[dimension])
    return own, (*_BESIDE_TAGS.get(dimension, ()), *known.by_name.get(dimension, ()))


def other_meaning() -> frozenset[str]:
    """Return keys that say a queue or who submitted, whatever words they have in common with a dimension."""
    return frozenset((*_QUEUES, *_SUBMITTERS))


def _value(dimension: str, given: str | None) -> str | None:
    """Return a value as the ledger spells it; a type of workload that doesn't exist is no value."""
    if given is None or dimension != "workload_type":
        return given
    word = re.sub(r"[\s_]+", "-", given.strip().lower())
    return TYPE_WORDS.get(word, word) if word else None


def _told(
    values: Mapping[str, str], source: str, rank: int, *, inferred: bool
) -> Iterator[tuple[str, Evidence]]:
    for dimension, value in values.items():
        if dimension in DIMENSIONS and value:
            yield dimension, Evidence(value, source, rank, inferred)


def _first(objects: Iterable[Json], keys: Sequence[str]) -> tuple[str, str] | None:
    """Return the first of the keys that an object, or a template in it, carries as label or annotation."""
    for obj in objects:
        for one in (obj, *(template.template for template in templates(obj))):
            tags = {**annotations(one), **labels(one)}
            for key in keys:
                if value := tags.get(key):
                    return key, value
    return None


def _guessed(objects: Sequence[Json]) -> Iterator[tuple[str, Evidence]]:
    """Yield what kind, image and command line suggest."""
    for obj in objects:
        if (sort := _KINDS.get(kind(obj))) is not None:
            yield "workload_type", Evidence(sort, f"kind {kind(obj)}", 7, inferred=True)
            break
    for container in containers(objects):
        image = text(container.get("image")) or ""
        for pattern, sort in _IMAGES:
            if re.search(pattern, image, re.IGNORECASE):
                yield "workload_type", Evidence(sort, f"image {image}", 7, inferred=True)
                break
        for flag, model in _flags(container):
            yield "model", Evidence(model, f"argument {flag}", 7, inferred=True)
        env = {text(one.get("name")): text(one.get("value")) for one in items(container.get("env"))}
        for dimension, variables in {"model": _MODEL_ENV, **_ENV}.items():
            for variable in variables:
                if value := env.get(variable):
                    yield dimension, Evidence(value, f"environment variable {variable}", 7, inferred=True)


def _flags(container: Json) -> Iterator[tuple[str, str]]:
    """Yield the arguments that name a model, also inside a shell's one-line script; `vllm serve NAME` too."""
    words: list[str] = []
    for key in ("command", "args"):
        listed = container.get(key)
        words += (
            [word for one in listed if isinstance(one, str) for word in one.split()]
            if isinstance(listed, list)
            else []
        )
    for place, word in enumerate(words):
        following = words[place + 1] if place + 1 < len(words) else ""
        if found := _MODEL_FLAGS.match(word):
            value = (found[1] or following).strip("'\"\\")
            if value and not value.startswith(("-", "$")):
                yield word.split("=")[0], value
        elif (
            word == "serve"
            and place
            and words[place - 1].endswith("vllm")
            and re.match(r"[\w./-]+$", following)
        ):
            yield "vllm serve", following


def _facts(
    objects: Sequence[Json],
    space: str | None,
    queue: tuple[str, str] | None,
    submitter: tuple[str, str] | None,
    cluster: str,
) -> dict[str, list[str]]:
    facts = {
        "cluster": [cluster],
        "namespace": [space or ""],
        "kind": [kind(obj) for obj in objects[:1]],
        "name": [name(obj) for obj in objects[:1]],
        "queue": [queue[1]] if queue else [],
        "submitter": [submitter[1]] if submitter else [],
        "image": [text(container.get("image")) or "" for container in containers(objects)],
    }
    for obj in objects[::-1]:
        facts.update({f"label:{key}": [value] for key, value in labels(obj).items()})
    return facts


def _matches(facts: Mapping[str, list[str]], key: str, pattern: str) -> bool:
    return any(fnmatchcase(value, pattern) for value in facts.get(key, ()))
