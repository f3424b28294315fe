"""What an admission writes on an object: dimensions on it and its pod templates, and who asked, as a JSON Patch.

RFC 6902 (JSON Patch) with RFC 6901 pointers. Applying a patch and asking again gives no further patch.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from gpuledger.core.policy.manifests import label_of
from gpuledger.core.workload.attribution import PREFIX, REQUESTED_BY
from gpuledger.core.workload.fields import Json, annotations, kind, labels, mapping, metadata

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
    found = _Patch()
    found.add("", obj, values)
    if requested_by is not None and annotations(obj).get(REQUESTED_BY) != requested_by:
        found.annotate("", obj, {_REQUESTED: requested_by})
    if requested_by is not None and labels(obj).get(REQUESTED_BY) not in {None, requested_by}:
        found.operations.append({"op": "remove", "path": f"/metadata/labels/{_escaped(REQUESTED_BY)}"})
    if created or kind(obj) not in FIXED:
        for path, template in templates_below(obj):
            found.add(path, template, propagated)
    return found.operations


class _Patch:
    """Operations, and which maps they already made."""

    def __init__(self) -> None:
        self.operations: Patch = []
        self._made: set[str] = set()

    def add(self, path: str, holder: Json, values: Mapping[str, str]) -> None:
        """Write what an object or template lacks: as labels, where a value can be one, else as annotations."""
        as_labels = {label_of(name): value for name, value in values.items() if _LABEL.fullmatch(value)}
        others = {label_of(name): value for name, value in values.items() if label_of(name) not in as_labels}
        self._write(path, holder, "labels", as_labels)
        self._write(path, holder, "annotations", others)

    def annotate(self, path: str, holder: Json, values: Mapping[str, str]) -> None:
        self._write(path, holder, "annotations", values)

    def _write(self, path: str, holder: Json, where: str, values: Mapping[str, str]) -> None:
        present = mapping(metadata(holder).get(where))
        wanted = {key: value for key, value in values.items() if present.get(key) != value}
        if not wanted:
            return
        if not isinstance(holder.get("metadata"), Mapping):
            self._make(f"{path}/metadata")
        if not isinstance(metadata(holder).get(where), Mapping):
            self._make(f"{path}/metadata/{where}")
        for key, value in wanted.items():
            self.operations.append(
                {"op": "add", "path": f"{path}/metadata/{where}/{_escaped(key)}", "value": value}
            )

    def _make(self, path: str) -> None:
        if path not in self._made:
            self._made.add(path)
            self.operations.append({"op": "add", "path": path, "value": {}})


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
