"""Nodes of a cluster over time, from kube-state-metrics: their size, labels, instance type and cards.

Label names come maimed: kube-state-metrics makes `eks.amazonaws.com/capacityType` into
`label_eks_amazonaws_com_capacity_type`. Names that the ledger understands are given back their form; others keep the
maimed one. Labels are only there when kube-state-metrics is told to show them (`--metric-labels-allowlist`).
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from gpuledger.core.card_facts import canonical
from gpuledger.core.metric_series import Window, spans
from gpuledger.core.usage import NodeInterval
from gpuledger.core.workload.nodes import NodeShape, node_shape

NODE_LABELS: Final = (
    *("node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type"),
    *("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"),
    *("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"),
    *("cloud.google.com/gke-nodepool", "eks.amazonaws.com/nodegroup", "alpha.eksctl.io/nodegroup-name"),
    *(
        "karpenter.sh/nodepool",
        "karpenter.sh/provisioner-name",
        "kubernetes.azure.com/agentpool",
        "agentpool",
    ),
    *("node.coreweave.cloud/class", "nodepool", "node-pool", "oci.oraclecloud.com/nodepool"),
    *("karpenter.sh/capacity-type", "eks.amazonaws.com/capacityType", "cloud.google.com/gke-spot"),
    *("cloud.google.com/gke-preemptible", "cloud.google.com/gke-provisioning"),
    *("kubernetes.azure.com/scalesetpriority", "node.kubernetes.io/lifecycle", "ray.io/market-type"),
    *("nvidia.com/gpu.product", "nvidia.com/gpu.count", "nvidia.com/gpu.memory", "nvidia.com/gpu.replicas"),
    *("nvidia.com/gpu.sharing-strategy", "nvidia.com/mig.strategy", "nvidia.com/mig.config"),
    *("amd.com/gpu.product-name", "beta.amd.com/gpu.product-name", "gpu.intel.com/product"),
    *("cloud.google.com/gke-accelerator", "cloud.google.com/gke-accelerator-count"),
    *("cloud.google.com/gke-tpu-accelerator", "cloud.google.com/gke-gpu-partition-size"),
    *("cloud.google.com/gke-max-shared-clients-per-gpu", "cloud.google.com/gke-gpu-sharing-strategy"),
    *("k8s.amazonaws.com/accelerator", "karpenter.k8s.aws/instance-gpu-name", "gpu.nvidia.com/class"),
    *("karpenter.k8s.aws/instance-gpu-count", "kubernetes.io/hostname", "kubernetes.io/arch"),
)
RESOURCES: Final = (
    *(
        "nvidia.com/gpu",
        "nvidia.com/gpu.shared",
        "nvidia.com/pgpu",
        "nvidia.com/gpucores",
        "nvidia.com/gpumem",
    ),
    *("nvidia.com/gpumem-percentage", "volcano.sh/vgpu-number", "volcano.sh/vgpu-cores"),
    *("volcano.sh/vgpu-memory", "volcano.sh/vgpu-memory-percentage", "amd.com/gpu", "google.com/tpu"),
    *("gpu.intel.com/i915", "gpu.intel.com/xe", "habana.ai/gaudi", "habana.ai/goya", "cambricon.com/mlu"),
    *("aws.amazon.com/neuron", "aws.amazon.com/neurondevice", "aws.amazon.com/neuroncore"),
    *("k8s.amazonaws.com/vgpu", "hygon.com/dcu", "gpu.intel.com/i915.shared", "gpu.intel.com/xe.shared"),
)
_CAPITAL: Final = re.compile(r"([a-z0-9])([A-Z])")
_MIG: Final = re.compile(r"nvidia_com_mig_(\d+g)_(\d+gb)(?:_(me))?(_shared)?")
_AMD: Final = re.compile(r"amd_com_([sdtqc]px_nps\d+)")


def maimed(name: str) -> str:
    """Spell a label or resource name as kube-state-metrics does."""
    return _CAPITAL.sub(r"\1_\2", re.sub(r"[^a-zA-Z0-9_]", "_", name)).lower()


_LABELS: Final = {maimed(name): name for name in NODE_LABELS}
_RESOURCES: Final = {maimed(name): name for name in RESOURCES}


def resource_name(said: str) -> str:
    """Give a resource back its name: `nvidia_com_mig_1g_10gb` is `nvidia.com/mig-1g.10gb`."""
    if found := _MIG.fullmatch(said):
        extra = (f".{found[3]}" if found[3] else "") + (".shared" if found[4] else "")
        return f"nvidia.com/mig-{found[1]}.{found[2]}{extra}"
    if found := _AMD.fullmatch(said):
        return f"amd.com/{found[1]}"
    return _RESOURCES.get(said, said)


def shown_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return the Kubernetes labels that a `kube_*_labels` series shows, by their names where those are known."""
    return {
        _LABELS.get(key.removeprefix("label_"), key.removeprefix("label_")): value
        for key, value in labels.items()
        if key.startswith("label_")
    }


def node_shapes(window: Window) -> dict[str, dict[datetime, NodeShape]]:
    """What each node is in each step in which it was seen."""
    known: dict[str, dict[datetime, dict[str, object]]] = defaultdict(lambda: defaultdict(dict))
    for labels, series in window.of("node_info", "node_labels", "node_capacity"):
        node = labels.get("node")
        if not node:
            continue
        for when, value in series.values.items():
            told = known[node][when]
            if "resource" in labels:
                told[f"capacity {resource_name(labels['resource'])}"] = value
            elif provider := labels.get("provider_id"):
                told["provider"] = provider
            told.update({f"label {key}": text for key, text in shown_labels(labels).items()})
    cache: dict[tuple[object, ...], NodeShape] = {}
    return {
        node: {when: _shape(node, told, cache) for when, told in steps.items()}
        for node, steps in known.items()
    }


def _shape(node: str, told: Mapping[str, object], cache: dict[tuple[object, ...], NodeShape]) -> NodeShape:
    key = (node, *sorted((name, str(value)) for name, value in told.items()))
    if key not in cache:
        tags = {
            name.removeprefix("label "): value for name, value in told.items() if name.startswith("label ")
        }
        sizes = {
            name.removeprefix("capacity "): format(value, "f")
            for name, value in told.items()
            if name.startswith("capacity ") and isinstance(value, Decimal)
        }
        cache[key] = node_shape(
            {
                "kind": "Node",
                "metadata": {"name": node, "labels": tags},
                "spec": {"providerID": told.get("provider")},
                "status": {"capacity": sizes},
            }
        )
    return cache[key]


def node_intervals(
    window: Window,
    shapes: Mapping[str, Mapping[datetime, NodeShape]],
    cards: Mapping[str, Mapping[str, str | None]],
) -> list[NodeInterval]:
    """Return each node while it stayed the same. `cards` has DCGM's model name by uuid by node."""
    found = []
    for node, steps in sorted(shapes.items()):
        by_shape: dict[str, tuple[NodeShape, list[datetime]]] = {}
        for when, shape in steps.items():
            by_shape.setdefault(repr(shape), (shape, []))[1].append(when)
        for shape, whens in by_shape.values():
            found += [
                _interval(window.cluster, shape, start, end, cards.get(node, {}))
                for start, end in spans(whens, window.step)
            ]
    return sorted(found, key=lambda one: (one.node, one.start))


def _interval(
    cluster: str, shape: NodeShape, start: datetime, end: datetime, cards: Mapping[str, str | None]
) -> NodeInterval:
    models = {model for name in cards.values() if (model := canonical(name)) is not None}
    count = shape.cards.count
    if count is None and cards:
        count = _whole(cards)
    return NodeInterval(
        cluster=cluster,
        node=shape.node,
        start=start,
        end=end,
        provider_id=shape.provider_id,
        instance_type=shape.instance_type,
        cloud=shape.cloud,
        region=shape.region,
        zone=shape.zone,
        pool=shape.pool,
        cpu_cores=shape.cpu_cores,
        memory_gib=shape.memory_gib,
        gpu_model=shape.cards.model or (next(iter(models)) if len(models) == 1 else None),
        gpu_count=None if count is None else Decimal(count.numerator) / count.denominator,
        spot=shape.spot,
        labels=shape.labels,
    )


def _whole(cards: Iterable[str]) -> Fraction:
    return Fraction(len(set(cards)))
