"""What a workload asks for, which job it belongs to, whose it is, and what it held: from parsed Kubernetes objects.

Pure: no input or output, no clock, no YAML. Objects are the mappings that a JSON or YAML reader gives, and may have
any shape. Start with `job_size` for a manifest, `Timeline` for a cluster over time.
"""

from gpuledger.core.workload.attribution import DIMENSIONS, Attribution, Rule, candidates, dimensions
from gpuledger.core.workload.claims import Claims
from gpuledger.core.workload.devices import Cards, DeviceRequest
from gpuledger.core.workload.manifests import JobSize, PodSet, Template, job_size, templates
from gpuledger.core.workload.nodes import NodeShape, node_shape
from gpuledger.core.workload.objects import Objects, flatten
from gpuledger.core.workload.owners import Owner, Root, controller, root_of
from gpuledger.core.workload.pods import PodRequest, pod_request
from gpuledger.core.workload.timeline import Records, Timeline

__all__ = [
    "DIMENSIONS",
    "Attribution",
    "Cards",
    "Claims",
    "DeviceRequest",
    "JobSize",
    "NodeShape",
    "Objects",
    "Owner",
    "PodRequest",
    "PodSet",
    "Records",
    "Root",
    "Rule",
    "Template",
    "Timeline",
    "candidates",
    "controller",
    "dimensions",
    "flatten",
    "job_size",
    "node_shape",
    "pod_request",
    "root_of",
    "templates",
]
