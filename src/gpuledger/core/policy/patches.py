"""What an admission writes on an object: dimensions on it and its pod templates, and who asked, as a JSON Patch.

RFC 6902 (JSON Patch) with RFC 6901 pointers. Applying a patch and asking again gives no further patch.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gpuledger.core.policy.manifests import label_of
from gpuledger.core.workload.attribution import PREFIX, REQUESTED_BY
from gpuledger.core.workload.fields import Json, kind, labels, mapping

Patch = list[dict[str, Any]]

# Label values, Kubernetes "Labels and Selectors": at most 63 characters, alphanumeric at both ends.
LABEL: Final = "[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_LABEL: Final = re.compile(LABEL)
_DEPTH: Final = 24
# Kinds whose pod templates can't be changed once they exist.
FIXED: Final = frozenset(
    {"Pod", "Job", "JobSet", "TrainJob", "RayJob", "PyTorchJob", "TFJob", "MPIJob", "XGBoostJob", "Workflow"}
)
_REQUESTED: Final = f"{PREFIX}requested-by"


def patch_of(
    obj: Json,
    values: Mapping[str, str],
    propagated: Mapping[str, str],
    requested_by: str | None,
    *,
    created: bool,
) -> Patch:
    """Return the patch that writes dimensions on an object, those to propagate on its pod templates, and who asked.

    `values` are dimensions to write on the object, `propagated` those that its templates must have. Templates that
    can't change any more are left alone.
    """
    own = _written(values)
    if requested_by is not None:
        own["annotations"][_REQUESTED] = requested_by
    operations = _additions("", obj, own)
    if requested_by is not None and labels(obj).get(REQUESTED_BY) not in {None, requested_by}:
        operations.append({"op": "remove", "path": f"/metadata/labels/{_escaped(REQUESTED_BY)}"})
    if propagated and (created or kind(obj) not in FIXED):
        passed_on = _written(propagated)
        for path, template in templates_below(obj):
            operations += _additions(path, template, passed_on)
    return operations


def _written(values: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return dimensions as they are written: as labels, where a value can be one, else as annotations."""
    found: dict[str, dict[str, str]] = {"labels": {}, "annotations": {}}
    for name, value in values.items():
        found["labels" if _LABEL.fullmatch(value) else "annotations"][label_of(name)] = value
    return found


def _additions(path: str, holder: Json, wanted: Mapping[str, Mapping[str, str]]) -> Patch:
    """Return the operations that give an object or template what it lacks, as few as there can be."""
    own = holder.get("metadata")
    if not isinstance(own, Mapping):
        whole = {where: dict(values) for where, values in wanted.items() if values}
        return [{"op": "add", "path": f"{path}/metadata", "value": whole}] if whole else []
    operations: Patch = []
    for where, values in wanted.items():
        present = own.get(where)
        if not isinstance(present, Mapping):
            if values:
                operations.append({"op": "add", "path": f"{path}/metadata/{where}", "value": dict(values)})
            continue
        operations += [
            {"op": "add", "path": f"{path}/metadata/{where}/{_escaped(key)}", "value": value}
            for key, value in values.items()
            if present.get(key) != value
        ]
    return operations


def templates_below(value: object, path: str = "", depth: int = 0) -> Iterator[tuple[str, Json]]:
    """Yield the pod templates below an object with their JSON pointers; the object itself, if a Pod, isn't one."""
    if depth > _DEPTH:
        return
    if isinstance(value, list):
        for place, item in enumerate(value):
            yield from templates_below(item, f"{path}/{place}", depth + 1)
    if not isinstance(value, Mapping):
        return
    if depth and isinstance(mapping(value.get("spec")).get("containers"), list):
        yield path, value
        return
    for key, item in value.items():
        if isinstance(key, str) and key not in {"metadata", "status"}:
            yield from templates_below(item, f"{path}/{_escaped(key)}", depth + 1)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
