"""Names as kube-state-metrics maims them, and back.

It makes `eks.amazonaws.com/capacityType` into `label_eks_amazonaws_com_capacity_type`. Names that the ledger understands
are given back their form; others keep the maimed one.
"""

import re
from collections.abc import Mapping
from typing import Final

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
