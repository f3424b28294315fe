"""What allocations are grouped and filtered by: OpenCost's names, and the SQL behind them.

The SQL speaks of two relations: `h`, a holder of machine time (cluster, node, namespace, pod, container, job_id,
provider_id, placeholder: all text, '' where there is none), and `j`, its job (kind, name, namespace, labels, team, …).
`placeholder` is the name under which money without a holder is shown, such as `__unknown__`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final

from gpuledger.core.opencost import UNALLOCATED, BadParameterError
from gpuledger.core.opencost.filter_sql import Lookup, Parameters, bind
from gpuledger.core.opencost.filters import Vocabulary

# OpenCost's label names have passed through Prometheus; both spellings find the label.
_CLEAN: Final = "regexp_replace({name}, '[^a-zA-Z0-9_]', '_', 'g')"


def label(labels: str, name: str) -> str:
    """SQL of one label's value, '' when there is none; `name` is SQL too."""
    clean = _CLEAN.format(name="entry.key")
    return (
        f"coalesce({labels}[{name}], list_filter(map_entries({labels}), "
        f"lambda entry: {clean} = {name})[1].value, '')"
    )


def label_names(labels: str) -> str:
    """SQL of the list of label names, in both spellings."""
    clean = _CLEAN.format(name="name")
    return f"coalesce(list_concat(map_keys({labels}), list_transform(map_keys({labels}), lambda name: {clean})), [])"


def _or_placeholder(expression: str) -> str:
    return f"coalesce(nullif(h.placeholder, ''), {expression}, '')"


_KIND: Final = _or_placeholder("lower(j.kind)")
_NAME: Final = _or_placeholder("j.name")
TEXT_FIELDS: Final[Mapping[str, str]] = {
    "cluster": "h.cluster",
    "node": "h.node",
    "namespace": _or_placeholder("nullif(h.namespace, ''), j.namespace"),
    "controllerKind": _KIND,
    "controllerName": _NAME,
    "pod": _or_placeholder("h.pod"),
    "container": _or_placeholder("h.container"),
    "provider": "h.provider",
    "providerID": "h.provider_id",
    "services": "''",
    "jobID": "h.job_id",
    "department": _or_placeholder("j.cost_center"),
    "environment": _or_placeholder("j.environment"),
    "owner": _or_placeholder("j.owner"),
    "product": _or_placeholder("j.project"),
    "team": _or_placeholder("j.team"),
}
FIELDS: Final[Mapping[str, str | Lookup]] = {
    **TEXT_FIELDS,
    "label": lambda name: label("j.labels", name),
    "annotation": lambda name: label("j.labels", name),
}
KEYS: Final = {"label": label_names("j.labels"), "annotation": label_names("j.labels")}
VOCABULARY: Final = Vocabulary(
    fields={
        **dict.fromkeys(TEXT_FIELDS, "text"),
        "services": "list",
        "label": "map",
        "annotation": "map",
    },
    aliases={"controller": "controllerName", "service": "services", "clusterID": "cluster"},
)
V1: Final = {
    "filterClusters": "cluster", "filterNodes": "node", "filterNamespaces": "namespace",
    "filterControllerKinds": "controllerKind", "filterControllers": "controllerName", "filterPods": "pod",
    "filterContainers": "container", "filterDepartments": "department", "filterEnvironments": "environment",
    "filterOwners": "owner", "filterProducts": "product", "filterTeams": "team", "filterAnnotations": "annotation",
    "filterLabels": "label", "filterServices": "services",
}  # fmt: skip

_PROPERTIES: Final = {
    "cluster": TEXT_FIELDS["cluster"],
    "node": TEXT_FIELDS["node"],
    "namespace": TEXT_FIELDS["namespace"],
    "controllerkind": TEXT_FIELDS["controllerKind"],
    "controller": "coalesce(nullif(h.placeholder, ''), concat(lower(j.kind), ':', nullif(j.name, '')), '')",
    "service": "''",
    "pod": TEXT_FIELDS["pod"],
    "container": TEXT_FIELDS["container"],
    "providerid": TEXT_FIELDS["providerID"],
    "jobid": TEXT_FIELDS["jobID"],
    "department": TEXT_FIELDS["department"],
    "environment": TEXT_FIELDS["environment"],
    "owner": TEXT_FIELDS["owner"],
    "product": TEXT_FIELDS["product"],
    "team": TEXT_FIELDS["team"],
    **{
        kind: f"coalesce(nullif(h.placeholder, ''), CASE WHEN lower(j.kind) = '{kind}' THEN j.name END, '')"
        for kind in ("deployment", "statefulset", "daemonset", "job")
    },
}
DEFAULT: Final = ("cluster", "node", "namespace", "pod", "container")
_MOST: Final = 12


def parse_aggregate(text: str | None, parameter: str = "aggregate") -> tuple[str, ...]:
    """Read a comma list of properties. Nothing means one row per container, `all` one row for everything (empty).

    Raises BadParameterError for a property that there isn't.
    """
    names = [part.strip() for part in (text or "").split(",") if part.strip()]
    if not names:
        return DEFAULT
    if names == ["all"]:
        return ()
    if len(names) > _MOST:
        raise BadParameterError(parameter, f"more than {_MOST} properties")
    return tuple(_property(name, parameter) for name in names)


def _property(name: str, parameter: str) -> str:
    if match := re.fullmatch(r"(label|annotation):(.+)", name, re.IGNORECASE):
        return f"{match[1].lower()}:{match[2].strip()}"
    if name.lower() not in _PROPERTIES:
        raise BadParameterError(
            parameter,
            f"can't aggregate by {name!r}",
            hint="Use cluster, node, namespace, controllerKind, controller, pod, container, label:NAME, "
            "annotation:NAME, deployment, statefulset, daemonset, job, department, environment, owner, product, "
            "team, jobID, or several with commas between.",
        )
    return name.lower()


def name_of(properties: Sequence[str], parameters: Parameters) -> str:
    """SQL of the name of an allocation: values joined by `/`, `__unallocated__` for what it hasn't got."""
    parts = []
    for one in properties:
        kind, colon, key = one.partition(":")
        found = label("j.labels", bind(key, parameters)) if colon else _PROPERTIES[kind]
        if colon:
            found = f"coalesce(nullif(h.placeholder, ''), {found})"
        parts.append(f"coalesce(nullif({found}, ''), '{UNALLOCATED}')")
    return f"concat_ws('/', {', '.join(parts)})" if parts else "''"
