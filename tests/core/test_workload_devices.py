"""Cards claimed through Dynamic Resource Allocation, and the cards that a node has."""

from fractions import Fraction
from typing import Any

import pytest
from tests.core.kubernetes_objects import Pod, limits, pod, seen

from gpuledger.core.workload import Claims, pod_request
from gpuledger.core.workload.nodes import cards_of_labels, node_shape, resource_id

# ---- Dynamic Resource Allocation


def template(
    *requests: dict[str, Any], name: str = "cards", kind: str = "ResourceClaimTemplate"
) -> dict[str, Any]:
    spec: dict[str, Any] = {"devices": {"requests": list(requests)}}
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "ml", "uid": f"uid-{name}"},
        "spec": {"spec": spec} if kind == "ResourceClaimTemplate" else spec,
    }


def claiming(**reference: str) -> Pod:
    return pod(
        {"resources": {"claims": [{"name": "gpu"}]}}, spec={"resourceClaims": [{"name": "gpu", **reference}]}
    )


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"name": "a", "exactly": {"deviceClassName": "gpu.nvidia.com"}}, Fraction(1)),
        ({"name": "a", "exactly": {"deviceClassName": "gpu.nvidia.com", "count": 2}}, Fraction(2)),
        ({"name": "a", "deviceClassName": "gpu.amd.com", "count": 4}, Fraction(4)),
        ({"name": "a", "exactly": {"deviceClassName": "gpu.nvidia.com", "allocationMode": "All"}}, None),
        ({"name": "a", "exactly": {"deviceClassName": "gpu.nvidia.com", "adminAccess": True}}, Fraction(0)),
        ({"name": "a", "exactly": {"deviceClassName": "nic.example.com"}}, Fraction(0)),
        (
            {"name": "a", "exactly": {"deviceClassName": "compute-domain-default-channel.nvidia.com"}},
            Fraction(0),
        ),
        ({"name": "a", "exactly": {"deviceClassName": "mig.nvidia.com"}}, None),
        (
            {
                "name": "a",
                "firstAvailable": [
                    {"name": "big", "deviceClassName": "gpu.nvidia.com", "count": 2},
                    {"name": "small", "deviceClassName": "gpu.nvidia.com"},
                ],
            },
            Fraction(2),
        ),
        (
            {
                "name": "a",
                "exactly": {
                    "deviceClassName": "mig.nvidia.com",
                    "selectors": [
                        {"cel": {"expression": "device.attributes['gpu.nvidia.com'].profile == '3g.20gb'"}}
                    ],
                },
            },
            Fraction(3, 7),
        ),
    ],
)
def test_claims_by_template(request_: dict[str, Any], expected: Fraction | None) -> None:
    claims = Claims([template(request_)])
    assert pod_request(claiming(resourceClaimTemplateName="cards"), claims).cards == expected


def test_an_unknown_claim_is_not_nothing() -> None:
    request = pod_request(claiming(resourceClaimTemplateName="elsewhere"))
    assert request.cards is None
    assert request.problems == ("resource claim 'gpu': elsewhere isn't known",)


def test_a_device_class_says_by_its_driver_that_it_is_a_card() -> None:
    device_class = {
        "kind": "DeviceClass",
        "metadata": {"name": "big"},
        "spec": {
            "extendedResourceName": "example.com/big",
            "selectors": [{"cel": {"expression": "device.driver == 'gpu.nvidia.com'"}}],
        },
    }
    claims = Claims([device_class, template({"name": "a", "exactly": {"deviceClassName": "big"}})])
    assert pod_request(claiming(resourceClaimTemplateName="cards"), claims).cards == 1
    # The same class serves an extended resource, by its own name and by the class's.
    assert pod_request(pod(limits({"example.com/big": 3})), claims).cards == 3
    assert pod_request(pod(limits({"deviceclass.resource.kubernetes.io/big": 2})), claims).cards == 2
    assert pod_request(pod(limits({"example.com/big": 3}))).cards == 0


def allocated(*results: dict[str, Any], **more: object) -> dict[str, Any]:
    claim = template(
        {"name": "a", "exactly": {"deviceClassName": "gpu.nvidia.com"}}, name="given", kind="ResourceClaim"
    )
    return {**claim, "status": {"allocation": {"devices": {"results": list(results)}}, **more}}


SLICE = {
    "kind": "ResourceSlice",
    "metadata": {"name": "n1"},
    "spec": {
        "driver": "gpu.nvidia.com",
        "pool": {"name": "n1"},
        "devices": [
            {
                "name": "gpu-0",
                "attributes": {"uuid": {"string": "GPU-0"}, "type": {"string": "gpu"}},
                "capacity": {"memory": {"value": "40Gi"}},
            },
            {
                "name": "gpu-0-mig-1g5gb-19-0",
                "basic": {
                    "attributes": {
                        "uuid": {"string": "MIG-0"},
                        "parentUUID": {"string": "GPU-0"},
                        "profile": {"string": "1g.5gb"},
                    },
                },
            },
        ],
    },
}


def test_an_allocation_tells_the_cards() -> None:
    on_card = {"request": "a", "driver": "gpu.nvidia.com", "pool": "n1", "device": "gpu-0"}
    holder = {**claiming(resourceClaimName="given")}
    (device,) = pod_request(holder, Claims([allocated(on_card), SLICE])).devices
    assert seen(device.device, device.share, device.sharing, device.claim) == ("GPU-0", 1, "dra", "ml/given")
    (device,) = pod_request(
        holder, Claims([allocated({**on_card, "device": "gpu-0-mig-1g5gb-19-0"}), SLICE])
    ).devices
    assert seen(device.device, device.share) == ("GPU-0", Fraction(1, 7))
    part = {**on_card, "shareID": "s", "consumedCapacity": {"memory": "10Gi"}}
    (device,) = pod_request(holder, Claims([allocated(part), SLICE])).devices
    assert device.share == Fraction(1, 4)
    (device,) = pod_request(holder, Claims([allocated(on_card)])).devices
    assert device.device == "n1/gpu-0"
    assert pod_request(holder, Claims([allocated({**on_card, "adminAccess": True})])).devices == ()


def test_a_claim_made_from_a_template_is_found_by_the_pods_status() -> None:
    holder = claiming(resourceClaimTemplateName="cards")
    holder["status"] = {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "given"}]}
    on_card = {"request": "a", "driver": "gpu.nvidia.com", "pool": "n1", "device": "gpu-0"}
    (device,) = pod_request(holder, Claims([allocated(on_card), SLICE])).devices
    assert (device.device, device.claim) == ("GPU-0", None)


def test_an_extended_resource_that_was_allocated_counts_once() -> None:
    holder = pod(limits({"nvidia.com/gpu": 1}))
    holder["status"] = {
        "extendedResourceClaimStatus": {
            "resourceClaimName": "given",
            "requestMappings": [
                {"containerName": "c0", "resourceName": "nvidia.com/gpu", "requestName": "a"}
            ],
        }
    }
    on_card = {"request": "a", "driver": "gpu.nvidia.com", "pool": "n1", "device": "gpu-0"}
    request = pod_request(holder, Claims([allocated(on_card), SLICE]))
    assert request.cards == 1
    assert [device.device for device in request.devices] == ["GPU-0"]


# ---- Nodes


def node(labels: dict[str, str], capacity: dict[str, str], annotations: dict[str, str] | None = None) -> Pod:
    return {
        "kind": "Node",
        "metadata": {"name": "n", "labels": labels, "annotations": annotations or {}},
        "spec": {"providerID": "aws:///us-east-1a/i-0abc"},
        "status": {"capacity": {"cpu": "96", "memory": "1Ti", **capacity}},
    }


@pytest.mark.parametrize(
    ("labels", "capacity", "annotations", "count", "share"),
    [
        # Shares are what `nvidia.com/gpu: 1` is on the node.
        ({"node.kubernetes.io/instance-type": "p4d.24xlarge"}, {}, {}, Fraction(8), Fraction(1)),
        # A card has failed: the machine still has eight.
        (
            {"node.kubernetes.io/instance-type": "p4d.24xlarge"},
            {"nvidia.com/gpu": "7"},
            {},
            Fraction(8),
            Fraction(1),
        ),
        (
            {
                "nvidia.com/gpu.count": "4",
                "nvidia.com/gpu.product": "Tesla-T4-SHARED",
                "nvidia.com/gpu.replicas": "4",
                "nvidia.com/gpu.sharing-strategy": "mps",
            },
            {"nvidia.com/gpu": "16"},
            {},
            Fraction(4),
            Fraction(1, 4),
        ),
        (
            {
                "nvidia.com/gpu.count": "56",
                "nvidia.com/gpu.product": "A100-SXM4-40GB-MIG-1g.5gb",
                "nvidia.com/gpu.replicas": "1",
                "nvidia.com/mig.strategy": "single",
            },
            {"nvidia.com/gpu": "56"},
            {},
            Fraction(8),
            Fraction(1, 7),
        ),
        # Two slices of three fit a card, so 16 are eight cards.
        (
            {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb", "nvidia.com/gpu.count": "16"},
            {"nvidia.com/gpu": "16"},
            {},
            Fraction(8),
            Fraction(3, 7),
        ),
        # HAMi offers ten for each card; it registers the cards themselves.
        (
            {},
            {"nvidia.com/gpu": "20"},
            {
                "hami.io/node-nvidia-register": "GPU-a,10,32768,100,NVIDIA-Tesla V100-PCIE-32GB,0,true:"
                "GPU-b,10,32768,100,NVIDIA-Tesla V100-PCIE-32GB,0,true:"
            },
            Fraction(2),
            Fraction(1),
        ),
        (
            {},
            {"nvidia.com/gpu": "10"},
            {
                "hami.io/node-nvidia-register": '[{"id":"GPU-a","count":10,"devmem":8192,"type":"NVIDIA-Tesla T4"}]'
            },
            Fraction(1),
            Fraction(1),
        ),
        (
            {
                "cloud.google.com/gke-accelerator": "nvidia-l4",
                "cloud.google.com/gke-max-shared-clients-per-gpu": "4",
            },
            {"nvidia.com/gpu": "4"},
            {},
            Fraction(1),
            Fraction(1, 4),
        ),
        ({}, {"nvidia.com/gpu": "8"}, {}, Fraction(8), Fraction(1)),
        ({}, {}, {}, None, Fraction(1)),
    ],
)
def test_the_cards_of_a_node(
    labels: dict[str, str],
    capacity: dict[str, str],
    annotations: dict[str, str],
    count: Fraction | None,
    share: Fraction,
) -> None:
    shape = node_shape(node(labels, capacity, annotations))
    assert shape.cards.count == count
    assert pod_request(pod(limits({"nvidia.com/gpu": 1})), cards=shape.cards).cards == share


def test_neuron_cores_and_virtual_gpus_divide_what_the_node_has() -> None:
    trn2 = node_shape(node({}, {"aws.amazon.com/neuron": "16", "aws.amazon.com/neuroncore": "128"}))
    assert seen(
        trn2.cards.count,
        pod_request(pod(limits({"aws.amazon.com/neuroncore": 4})), cards=trn2.cards).cards,
    ) == (
        16,
        Fraction(1, 2),
    )
    v100 = node_shape(
        node({"node.kubernetes.io/instance-type": "p3.2xlarge"}, {"k8s.amazonaws.com/vgpu": "10"})
    )
    assert pod_request(pod(limits({"k8s.amazonaws.com/vgpu": 1})), cards=v100.cards).cards == Fraction(1, 10)


def test_a_node_is_found_on_its_bill() -> None:
    shape = node_shape(
        node(
            {
                "node.kubernetes.io/instance-type": "p5.48xlarge",
                "topology.kubernetes.io/region": "us-east-1",
                "topology.kubernetes.io/zone": "us-east-1a",
                "karpenter.sh/nodepool": "gpu",
                "karpenter.sh/capacity-type": "spot",
            },
            {"nvidia.com/gpu": "8"},
        )
    )
    assert (shape.provider_id, shape.cloud, shape.instance_type, shape.region) == (
        "i-0abc",
        "aws",
        "p5.48xlarge",
        "us-east-1",
    )
    assert (shape.zone, shape.pool, shape.spot, shape.cards.model) == ("us-east-1a", "gpu", True, "H100")
    assert seen(shape.cpu_cores, shape.memory_gib) == (96, 1024)
    azure = "azure:///subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachineScaleSets/v/virtualMachines/0"
    assert resource_id(azure) == azure.removeprefix("azure://")
    assert resource_id("gce://project/us-central1-a/node") == "gce://project/us-central1-a/node"
    assert resource_id("ocid1.instance.oc1..aaa") == "ocid1.instance.oc1..aaa"
    assert resource_id(None) is None


@pytest.mark.parametrize(
    ("labels", "spot"),
    [
        ({"cloud.google.com/gke-spot": "true"}, True),
        ({"kubernetes.azure.com/scalesetpriority": "spot"}, True),
        ({"eks.amazonaws.com/capacityType": "ON_DEMAND"}, False),
        ({"eks.amazonaws.com/capacityType": "SPOT"}, True),
        ({}, None),
    ],
)
def test_spot_is_told_or_unknown(labels: dict[str, str], spot: bool | None) -> None:  # noqa: FBT001 - the expectation
    assert node_shape(node(labels, {})).spot is spot


def test_labels_tell_the_memory_of_a_card_but_not_of_a_slice() -> None:
    assert cards_of_labels({"nvidia.com/gpu.memory": "81920"}).memory_mib == 81920
    sliced = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB-MIG-1g.10gb", "nvidia.com/gpu.memory": "9728"}
    assert cards_of_labels(sliced).memory_mib == 80 * 1024
