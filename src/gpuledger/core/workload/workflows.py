"""Workflows run their pods in turn: what counts is the most that can run at the same time.

Steps run one group after the other, so the largest group counts. Tasks of a graph are put into chains, of each of
which one task can run at a time: a bound that is never too small. Sources: Argo Workflows' field reference
(`steps`, `dag`, `withItems`, `parallelism`), Tekton's Pipeline API (`tasks`, `runAfter`, `finally`).
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

from gpuledger.core.workload.fields import Json, items, kind, mapping, namespace, text, whole
from gpuledger.core.workload.manifests import Finder, Template, below
from gpuledger.core.workload.pods import pod_request

_DEPTH: Final = 32
_TASK: Final = re.compile(r"([A-Za-z0-9_-]+)(?:\.\w+)?")
# A loop over what a step finds out at run time: any number of pods.
_UNKNOWN: Final = 1 << 40

Load = Counter[str]
Weight = tuple[Fraction, ...]


def argo(obj: Json, finder: Finder) -> list[Template]:
    """Return the pods of an Argo Workflow (or CronWorkflow) that can run at once."""
    spec = below(obj, "spec", "workflowSpec") if kind(obj) == "CronWorkflow" else below(obj, "spec")
    reference = text(below(spec, "workflowTemplateRef").get("name"))
    if reference is not None:
        other = finder.refer(("WorkflowTemplate", "ClusterWorkflowTemplate"), namespace(obj), reference)
        spec = {**below(other, "spec"), **spec}
    run = _Argo(
        {text(one.get("name")) or "": one for one in items(spec.get("templates"))},
        spec,
        finder,
        namespace(obj),
    )
    start = text(spec.get("entrypoint"))
    after = text(spec.get("onExit"))
    loads = [run.load(called, ()) for called in (start, after) if called is not None]
    return _templates(
        _cap(_heaviest(loads, run.weight), whole(spec.get("parallelism")), run.weight), run.pods
    )


@dataclass(slots=True)
class _Argo:
    """One workflow, or a library of templates that it calls: templates by name, and the pods of those reached."""

    known: dict[str, Json]
    spec: Json
    finder: Finder
    space: str | None
    pods: dict[str, Json] = field(default_factory=dict)
    prefix: str = ""

    def weight(self, called: str) -> Weight:
        return _weight(self.pods.get(called, {}))

    def load(self, called: str, seen: tuple[str, ...], template: Json | None = None) -> Load:
        """Return the pods, by template, that a template has at once at its largest."""
        own = template if template is not None else self.known.get(called)
        if own is None or self.prefix + called in seen or len(seen) > _DEPTH:
            return self._unknown(
                f"workflow template {called} " + ("isn't known" if own is None else "calls itself")
            )
        inside = (*seen, self.prefix + called)
        if "steps" in own:
            groups = own.get("steps")
            found = [
                _sum(self._call(step, inside) for step in items(group))
                for group in (groups if isinstance(groups, list) else ())
            ]
            return _cap(_heaviest(found, self.weight), whole(own.get("parallelism")), self.weight)
        if "dag" in own:
            tasks = {text(task.get("name")) or "": task for task in items(below(own, "dag").get("tasks"))}
            before = {name: _argo_before(task) & set(tasks) for name, task in tasks.items()}
            loads = {name: self._call(task, inside) for name, task in tasks.items()}
            return _cap(_graph(before, loads, self.weight), whole(own.get("parallelism")), self.weight)
        pod = self._pod(own)
        if pod is None:
            creates = "resource" in own
            return (
                self._unknown(f"{called} creates an object from text, which isn't read")
                if creates
                else Counter()
            )
        self.pods[self.prefix + called] = pod
        return Counter({self.prefix + called: 1})

    def _unknown(self, problem: str) -> Load:
        self.finder.problems.append(problem)
        self.finder.complete = False
        return Counter()

    def _call(self, step: Json, seen: tuple[str, ...]) -> Load:
        reference, inline = below(step, "templateRef"), mapping(step.get("inline"))
        called = text(step.get("template")) or text(step.get("name")) or ""
        if reference:
            load = self._called_elsewhere(reference, seen)
        else:
            load = self.load(called, seen, inline or None)
        times = _times(step)
        return Counter({pod: min(number * times, _UNKNOWN) for pod, number in load.items()})

    def _called_elsewhere(self, reference: Json, seen: tuple[str, ...]) -> Load:
        kinds = (
            ("ClusterWorkflowTemplate",) if reference.get("clusterScope") is True else ("WorkflowTemplate",)
        )
        library = self.finder.refer(kinds, self.space, text(reference.get("name")))
        if library is None:
            return Counter()
        spec = below(library, "spec")
        known = {text(one.get("name")) or "": one for one in items(spec.get("templates"))}
        prefix = f"{text(reference.get('name'))}/"
        other = _Argo(known, spec, self.finder, self.space, self.pods, prefix)
        return other.load(text(reference.get("template")) or "", seen)

    def _pod(self, own: Json) -> Json | None:
        main = [mapping(own[key]) for key in ("container", "script") if mapping(own.get(key))]
        main += items(below(own, "containerSet").get("containers"))
        if not main:
            return None
        spec = {
            "containers": [{"name": "main", **one} for one in [*main, *items(own.get("sidecars"))]],
            "initContainers": items(own.get("initContainers")),
            "nodeSelector": own.get("nodeSelector") or self.spec.get("nodeSelector"),
            "resourceClaims": own.get("resourceClaims"),
        }
        meta = {**below(self.spec, "podMetadata"), **below(own, "metadata")}
        return {"metadata": meta, "spec": spec}


def _times(step: Json) -> int:
    """How often a step runs at once: once, once per item, or any number of times."""
    listed = step.get("withItems")
    if isinstance(listed, list):
        return len(listed)
    sequence = below(step, "withSequence")
    if sequence:
        number = whole(sequence.get("count"))
        return _UNKNOWN if number is None else number
    return _UNKNOWN if "withParam" in step else 1


def _argo_before(task: Json) -> set[str]:
    """Return the tasks that a task waits for, from `dependencies` or the expression `depends`."""
    listed = task.get("dependencies")
    names = {str(one) for one in listed} if isinstance(listed, list) else set()
    return names | set(_TASK.findall(text(task.get("depends")) or ""))


def tekton(obj: Json, finder: Finder) -> list[Template]:
    """Return the pods of a Tekton PipelineRun or TaskRun that can run at once: one pod per task."""
    spec, space = below(obj, "spec"), namespace(obj)
    if kind(obj) == "TaskRun":
        own = _tekton_task(spec, "taskSpec", "taskRef", space, finder)
        return [] if own is None else [Template("task", _tekton_pod(own), 1, 1)]
    pipeline = below(spec, "pipelineSpec")
    if not pipeline:
        found = finder.refer(("Pipeline",), space, text(below(spec, "pipelineRef").get("name")))
        pipeline = below(found, "spec")
    pods: dict[str, Json] = {}
    stages = []
    for key in ("tasks", "finally"):
        tasks = {text(task.get("name")) or "": task for task in items(pipeline.get(key))}
        for called, task in tasks.items():
            own = _tekton_task(task, "taskSpec", "taskRef", space, finder)
            if own is not None:
                pods[called] = _tekton_pod(own)
        before = {
            called: {str(one) for one in _list(task.get("runAfter"))} & set(tasks)
            for called, task in tasks.items()
        }
        loads = {called: Counter({called: 1} if called in pods else {}) for called in tasks}
        stages.append(_graph(before, loads, lambda called: _weight(pods[called])))
    return _templates(_heaviest(stages, lambda called: _weight(pods[called])), pods)


def _tekton_task(holder: Json, inline: str, reference: str, space: str | None, finder: Finder) -> Json | None:
    if below(holder, inline):
        return below(holder, inline)
    found = finder.refer(("Task", "ClusterTask"), space, text(below(holder, reference).get("name")))
    return None if found is None else below(found, "spec")


def _tekton_pod(task: Json) -> Json:
    """All steps are containers of one pod, and ask for their resources together."""
    containers = [
        {
            "name": text(step.get("name")) or "step",
            "image": step.get("image"),
            "resources": step.get("computeResources"),
        }
        for step in [*items(task.get("steps")), *items(task.get("sidecars"))]
    ]
    return {"spec": {"containers": containers}}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _weight(pod: Json) -> Weight:
    """Rank pods by what they hold: cards first, one that can't be told before all others."""
    request = pod_request(pod)
    unknown = Fraction(request.cards is None)
    return (unknown, request.cards or Fraction(0), Fraction(request.cpu_cores), Fraction(request.memory_gib))


def _sum(loads: Iterable[Load]) -> Load:
    total: Load = Counter()
    for load in loads:
        total += load
    return total


def _heaviest(loads: Iterable[Load], weight: Callable[[str], Weight]) -> Load:
    return max(loads, key=lambda load: _rank(load, weight), default=Counter())


def _rank(load: Load, weight: Callable[[str], Weight]) -> Weight:
    columns = [Fraction(0)] * 4
    for pod, number in load.items():
        columns = [column + number * one for column, one in zip(columns, weight(pod), strict=True)]
    return (*columns, Fraction(load.total()))


def _graph(
    before: Mapping[str, set[str]], loads: Mapping[str, Load], weight: Callable[[str], Weight]
) -> Load:
    """Return a load that the tasks of a graph never exceed: of each chain of dependent tasks the heaviest."""
    chains: list[list[str]] = []
    for task in _in_order(before):
        chain = next((chain for chain in chains if _reaches(before, task, chain[-1])), None)
        if chain is None:
            chains.append([task])
        else:
            chain.append(task)
    return _sum(_heaviest([loads[task] for task in chain], weight) for chain in chains)


def _in_order(before: Mapping[str, set[str]]) -> list[str]:
    ordered: list[str] = []
    waiting = list(before)
    while waiting:
        ready = [
            task for task in waiting if before[task] <= set(ordered)
        ] or waiting  # a circle can't run; count it
        ordered += ready
        waiting = [task for task in waiting if task not in ready]
    return ordered


def _reaches(before: Mapping[str, set[str]], task: str, earlier: str) -> bool:
    """Whether a task only starts after an earlier one."""
    seen: set[str] = set()
    waiting = [task]
    while waiting:
        for one in before.get(waiting.pop(), set()) - seen:
            if one == earlier:
                return True
            seen.add(one)
            waiting.append(one)
    return False


def _cap(load: Load, limit: int | None, weight: Callable[[str], Weight]) -> Load:
    """Leave the heaviest pods that a `parallelism` lets run at once."""
    if limit is None or load.total() <= limit:
        return load
    kept: Load = Counter()
    for pod in sorted(load, key=weight, reverse=True):
        kept[pod] = min(load[pod], limit - kept.total())
    return +kept


def _templates(load: Load, pods: Mapping[str, Json]) -> list[Template]:
    found = []
    for pod, number in load.items():
        known = None if number >= _UNKNOWN else number
        found.append(Template(pod, pods[pod], known, known))
    return found
