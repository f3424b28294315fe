"""Terraform plans (`terraform show -json`) as submissions: machines, node groups and endpoints with accelerators.

Sources: Terraform's JSON output format (`resource_changes[].change.actions`, `after`, `after_unknown`) and the
provider references of aws, google, azurerm, oci and databricks. What a plan only learns on apply stays unknown.
"""

from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any, Final, NamedTuple

from gpuledger.core.policy.submission import Cards, Submission, said_of_tags
from gpuledger.core.usage import Evidence
from gpuledger.core.workload.attribution import DIMENSIONS
from gpuledger.core.workload.fields import Json, at, items, mapping, text, texts, whole
from gpuledger.prices.accelerators import accelerator, gpu_type


class _Form(NamedTuple):
    """Where a resource type names its machine, and how many there may be; the first path that is there counts."""

    machine: tuple[str, ...]
    number: tuple[str, ...] = ()
    accelerators: str | None = None


# Paths below `after`, dots between; a list's first entry stands for it, as Terraform writes single blocks.
_FORMS: Final[Mapping[str, _Form]] = {
    "aws_instance": _Form(("instance_type",)),
    "aws_spot_instance_request": _Form(("instance_type",)),
    "aws_launch_template": _Form(("instance_type",)),
    "aws_launch_configuration": _Form(("instance_type",)),
    "aws_eks_node_group": _Form(
        ("instance_types",), ("scaling_config.max_size", "scaling_config.desired_size")
    ),
    "aws_sagemaker_notebook_instance": _Form(("instance_type",)),
    "aws_sagemaker_endpoint_configuration": _Form(
        ("production_variants.instance_type",), ("production_variants.initial_instance_count",)
    ),
    "aws_batch_compute_environment": _Form(("compute_resources.instance_type",)),
    "google_compute_instance": _Form(("machine_type",), (), "guest_accelerator"),
    "google_compute_instance_template": _Form(("machine_type",), (), "guest_accelerator"),
    "google_container_node_pool": _Form(
        ("node_config.machine_type",),
        (
            "autoscaling.total_max_node_count",
            "autoscaling.max_node_count",
            "node_count",
            "initial_node_count",
        ),
        "node_config.guest_accelerator",
    ),
    "google_notebooks_instance": _Form(("machine_type",), (), "accelerator_config"),
    "google_workbench_instance": _Form(("gce_setup.machine_type",), (), "gce_setup.accelerator_configs"),
    "azurerm_linux_virtual_machine": _Form(("size",)),
    "azurerm_windows_virtual_machine": _Form(("size",)),
    "azurerm_linux_virtual_machine_scale_set": _Form(("sku",), ("instances",)),
    "azurerm_orchestrated_virtual_machine_scale_set": _Form(("sku_name",), ("instances",)),
    "azurerm_kubernetes_cluster_node_pool": _Form(("vm_size",), ("max_count", "node_count")),
    "azurerm_machine_learning_compute_instance": _Form(("virtual_machine_size",)),
    "azurerm_machine_learning_compute_cluster": _Form(("vm_size",), ("scale_settings.max_node_count",)),
    "oci_core_instance": _Form(("shape",)),
    "oci_containerengine_node_pool": _Form(("node_shape",), ("node_config_details.size",)),
    "databricks_cluster": _Form(("node_type_id",), ("autoscale.max_workers", "num_workers")),
}
_REGIONS: Final = ("region", "location", "availability_zone", "zone")
_GONE: Final = ({"delete"}, {"no-op"}, {"read"})
_PLACE: Final = {name: f"the tag {name}" for name in DIMENSIONS}


def is_plan(document: Json) -> bool:
    """Say whether a JSON document is a Terraform (or OpenTofu) plan."""
    return isinstance(document.get("resource_changes"), list) and "format_version" in document


def submissions_of_plan(document: Json) -> Iterator[Submission]:
    """Yield each resource of a known form that the plan creates or changes."""
    for change in items(document.get("resource_changes")):
        form = _FORMS.get(text(change.get("type")) or "")
        actions = at(change, "change", "actions")
        if form is None or not isinstance(actions, list) or set(map(str, actions)) in _GONE:
            continue
        yield _resource(change, form, mapping(at(change, "change", "after")))


def _resource(change: Json, form: _Form, after: Json) -> Submission:
    before = mapping(at(change, "change", "before"))
    problems: list[str] = []
    return Submission(
        plane="cloud",
        kind=text(change.get("type")) or "",
        name=text(change.get("address")) or text(change.get("name")) or "",
        cards=tuple(_cards(after, mapping(at(change, "change", "after_unknown")), form, problems)),
        serves=True,
        said=_said(after),
        before={name: one.value for name, one in _said(before).items()} if before else None,
        fields=_PLACE | {"deadline": "a schedule that deletes it"},
        problems=tuple(problems),
    )


def _cards(after: Json, unknown: Json, form: _Form, problems: list[str]) -> Iterator[Cards]:
    number = _number(after, form, problems)
    region = next((found for key in _REGIONS if (found := text(after.get(key)))), None)
    added = (
        [one for one in _all(after, form.accelerators) if isinstance(one, Mapping)]
        if form.accelerators
        else []
    )
    for one in added:
        known = accelerator(text(one.get("type")) or "")
        count = whole(one.get("count")) or whole(one.get("core_count"))
        gpus = None if number is None or count is None else Fraction(count) * number
        yield Cards(gpus, known.model if known else None, None, region)
    machines = [found for path in form.machine for found in _all(after, path) if isinstance(found, str)]
    if not machines and not added and any(_all(unknown, path) for path in form.machine):
        problems.append(f"{form.machine[0]} is known only after apply")
        yield Cards(None)
    # Of several instance types that a group may take, the one with the most cards counts.
    known_types = [kind for name in machines if (kind := gpu_type(name.removeprefix("ml."))) is not None]
    if known_types and not added:
        largest = max(known_types, key=lambda kind: kind.gpu_count or 0)
        gpus = None if number is None or largest.gpu_count is None else largest.gpu_count * number
        yield Cards(gpus, largest.gpu_model, largest.instance_type, region)


def _number(after: Json, form: _Form, problems: list[str]) -> int | None:
    if not form.number:
        return 1
    for path in form.number:
        for found in _all(after, path):
            if (number := whole(found)) is not None:
                return number
    problems.append(f"how many there may be isn't said ({', '.join(form.number)})")
    return None


def _all(value: Any, path: str) -> list[Any]:  # noqa: ANN401 - whatever the plan holds
    found = [value]
    for key in path.split("."):
        found = [one[key] for one in found if isinstance(one, Mapping) and one.get(key) is not None]
        found = [inner for one in found for inner in (one if isinstance(one, list) else [one])]
    return found


def _said(after: Json) -> dict[str, Evidence]:
    tags = {
        **texts(after.get("tags_all")),
        **texts(after.get("labels")),
        **texts(after.get("custom_tags")),
        **texts(after.get("freeform_tags")),
        **texts(after.get("tags")),
    }
    return said_of_tags(tags, "tag")
