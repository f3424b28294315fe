"""What pods ask for: every form of a request for cards, the effective request, and what can't be told."""

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuledger.core.workload import Claims, pod_request
from gpuledger.core.workload.devices import Cards
from gpuledger.core.workload.fields import gib, instant, quantity, whole
from gpuledger.core.workload.nodes import cards_of_labels, node_shape, resource_id

Pod = dict[str, Any]


def pod(*containers: dict[str, Any], init: list[dict[str, Any]] | None = None, **more: Any) -> Pod:
    named = [{"name": f"c{place}", **one} for place, one in enumerate(containers)]
    spec = {"containers": named, "initContainers": init or [], **more.pop("spec", {})}
    return {"kind": "Pod", "metadata": {"name": "p", "namespace": "ml", **more}, "spec": spec}


def limits(resources: dict[str, object]) -> dict[str, Any]:
    return {"resources": {"limits": resources}}


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("500m", "0.5"),
        ("2Gi", str(2**31)),
        ("1.5Gi", str(3 * 2**29)),
        ("2G", "2E9"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("1E", "1E18"),
        ("128974848", "128974848"),
        ("100n", "1E-7"),
        (".5", "0.5"),
        (4, "4"),
        (0.5, "0.5"),
    ],
)
def test_quantities_are_exact(given_: object, expected: str) -> None:
    assert quantity(given_) == Decimal(expected)


@pytest.mark.parametrize(
    "broken", ["", "abc", "1 Gi", "1GiB", "1ki", None, True, [], {}, "1e9999", "--1", "NaN"]
)
def test_what_is_no_quantity_is_none(broken: object) -> None:
    assert quantity(broken) is None


@given(st.integers(min_value=0, max_value=2**70))
def test_gib_of_bytes_is_exact(size: int) -> None:
    assert gib(Decimal(size)) * 2**30 == size or Fraction(gib(Decimal(size))) * 2**30 == size


def test_times_are_read_with_any_fraction() -> None:
    for text in ("2026-11-02T08:00:00Z", "2026-11-02T09:00:00+01:00", "2026-11-02T08:00:00.000000Z"):
        assert str(instant(text)) == "2026-11-02 08:00:00+00:00"
    assert instant("yesterday") is None
    assert [whole(value) for value in (3, "3", -1, "x", True, None)] == [3, 3, None, None, None, None]


A100 = Cards(model="A100", memory_mib=Decimal(40960))


@pytest.mark.parametrize(
    ("resources", "cards", "expected", "sharing"),
    [
        ({"nvidia.com/gpu": 8}, None, Fraction(8), "whole"),
        ({"nvidia.com/gpu": "2"}, None, Fraction(2), "whole"),
        ({"amd.com/gpu": 4}, None, Fraction(4), "whole"),
        ({"google.com/tpu": 4}, None, Fraction(4), "whole"),
        ({"habana.ai/gaudi": 8}, None, Fraction(8), "whole"),
        ({"aws.amazon.com/neuron": 16}, None, Fraction(16), "whole"),
        # A core of a chip: how many a chip has, the node says.
        ({"aws.amazon.com/neuroncore": 4}, None, None, "mig"),
        (
            {"aws.amazon.com/neuroncore": 4},
            Cards(per_card={"aws.amazon.com/neuroncore": Fraction(8)}),
            Fraction(1, 2),
            "mig",
        ),
        # Turns at a card: one of as many as the node lets at it.
        ({"nvidia.com/gpu.shared": 1}, None, None, "time-slicing"),
        (
            {"nvidia.com/gpu.shared": 1},
            Cards(strategy="mps", replicas={"nvidia.com/gpu.shared": 4}),
            Fraction(1, 4),
            "mps",
        ),
        (
            {"nvidia.com/gpu": 3},
            Cards(strategy="time-slicing", replicas={"nvidia.com/gpu": 4}),
            Fraction(3, 4),
            "time-slicing",
        ),
        # MIG, by compute slices.
        ({"nvidia.com/mig-1g.5gb": 2}, None, Fraction(2, 7), "mig"),
        ({"nvidia.com/mig-3g.40gb": 1}, Cards(model="H100"), Fraction(3, 7), "mig"),
        ({"nvidia.com/mig-1g.10gb.me": 1}, None, Fraction(1, 7), "mig"),
        ({"nvidia.com/mig-2g.12gb": 1}, None, Fraction(1, 2), "mig"),  # only an A30 has it: two of four
        ({"nvidia.com/mig-1g.24gb": 1}, None, None, "mig"),  # an H100's seventh or an RTX PRO 6000's quarter
        ({"nvidia.com/mig-1g.24gb": 1}, Cards(model="RTX PRO 6000"), Fraction(1, 4), "mig"),
        (
            {"nvidia.com/mig-1g.5gb.shared": 1},
            Cards(model="A100", replicas={"nvidia.com/mig-1g.5gb.shared": 2}),
            Fraction(1, 14),
            "mig",
        ),
        # The single strategy: what is called a card is a slice.
        ({"nvidia.com/gpu": 7}, Cards(model="A100", profile="1g.5gb"), Fraction(1), "mig"),
        # HAMi: the larger of cores and memory, of each card.
        ({"nvidia.com/gpu": 1, "nvidia.com/gpucores": 25}, None, Fraction(1, 4), "hami"),
        ({"nvidia.com/gpu": 2, "nvidia.com/gpumem-percentage": 50}, None, Fraction(1), "hami"),
        ({"nvidia.com/gpumem": 10240}, A100, Fraction(1, 4), "hami"),
        ({"nvidia.com/gpumem": 10240}, None, None, "hami"),
        (
            {"nvidia.com/gpu": 1, "nvidia.com/gpucores": 10, "nvidia.com/gpumem": 20480},
            A100,
            Fraction(1, 2),
            "hami",
        ),
        (
            {"volcano.sh/vgpu-number": 1, "volcano.sh/vgpu-cores": 50},
            None,
            Fraction(1, 2),
            "hami",
        ),
        # AWS' virtual GPU: parts of a card, as many as the plugin was told.
        ({"k8s.amazonaws.com/vgpu": 2}, None, None, "mps"),
        (
            {"k8s.amazonaws.com/vgpu": 2},
            Cards(per_card={"k8s.amazonaws.com/vgpu": Fraction(10)}),
            Fraction(1, 5),
            "mps",
        ),
        # AMD partitions.
        ({"amd.com/spx_nps1": 1}, None, Fraction(1), "whole"),
        ({"amd.com/dpx_nps1": 1}, None, Fraction(1, 2), "mig"),
        ({"amd.com/cpx_nps4": 8}, Cards(model="MI300X"), Fraction(1), "mig"),
        ({"amd.com/cpx_nps4": 8}, None, None, "mig"),
    ],
)
def test_every_form_of_request(
    resources: dict[str, object], cards: Cards | None, expected: Fraction | None, sharing: str
) -> None:
    request = pod_request(pod(limits(resources)), cards=cards)
    assert request.cards == expected
    assert [device.sharing for device in request.devices] == [sharing]
    assert request.problems == ()


def test_other_resources_are_no_cards() -> None:
    others = {"cpu": 1, "memory": "1Gi", "vpc.amazonaws.com/efa": 4, "rdma/hca": 1, "hugepages-2Mi": "1Gi"}
    assert pod_request(pod(limits(dict(others)))).devices == ()


@pytest.mark.parametrize(
    ("annotations", "cards", "expected"),
    [
        ({"gpu-fraction": "0.5"}, None, Fraction(1, 2)),
        ({"gpu-fraction": "0.25", "gpu-fraction-num-devices": "2"}, None, Fraction(1, 2)),
        ({"gpu-memory": "10240"}, A100, Fraction(1, 4)),
        ({"gpu-memory": "10240"}, None, None),
    ],
)
def test_fractions_by_annotation(
    annotations: dict[str, str], cards: Cards | None, expected: Fraction | None
) -> None:
    request = pod_request(pod({}, annotations=annotations), cards=cards)
    assert request.cards == expected
    assert request.devices[0].container == "c0"


@pytest.mark.parametrize("wrong", ["half", "0", "1.5", "-1"])
def test_a_fraction_that_is_none_is_told(wrong: str) -> None:
    request = pod_request(pod({}, annotations={"gpu-fraction": wrong}))
    assert (request.devices, len(request.problems)) == ((), 1)


def test_resources_outrank_a_fraction_beside_them() -> None:
    request = pod_request(pod(limits({"nvidia.com/gpu": 1}), annotations={"gpu-fraction": "0.5"}))
    assert request.cards == 1
    assert "annotations" in request.problems[0]


def test_init_containers_and_sidecars() -> None:
    """The larger of the init phase and the main phase counts, per resource; sidecars stay while others run."""
    request = pod_request(
        pod(
            {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"nvidia.com/gpu": 1}}},
            {"resources": {"requests": {"cpu": "500m"}}},
            init=[
                {"name": "proxy", "restartPolicy": "Always", "resources": {"requests": {"cpu": "250m"}}},
                {"name": "load", "resources": {"requests": {"cpu": "100m", "memory": "8Gi"}}},
                {"name": "warm", "resources": {"limits": {"nvidia.com/gpu": 2}}},
            ],
            spec={"overhead": {"cpu": "250m", "memory": "120Mi"}},
        )
    )
    assert request.cpu_cores == Decimal("2")
    assert request.memory_gib == Decimal("8.1171875")
    assert request.cards == 2
    assert [device.container for device in request.devices] == ["warm"]


def test_cards_held_in_turn_are_held_once() -> None:
    whole = limits({"nvidia.com/gpu": 1})
    assert pod_request(pod(whole, init=[{"name": "i", **whole}])).cards == 1
    sidecar = {"name": "s", "restartPolicy": "Always", **whole}
    assert pod_request(pod(whole, init=[sidecar, {"name": "i", **whole}])).cards == 2


def test_the_pod_as_a_whole_outranks_its_containers() -> None:
    request = pod_request(
        pod(
            {"resources": {"requests": {"cpu": "1"}}},
            spec={"resources": {"requests": {"cpu": "4", "memory": "2Gi"}}},
        )
    )
    assert (request.cpu_cores, request.memory_gib) == (4, 2)


def test_a_smaller_request_counts_once_it_is_allocated() -> None:
    shrinking = pod({"resources": {"requests": {"cpu": "1"}}})
    shrinking["status"] = {"containerStatuses": [{"name": "c0", "allocatedResources": {"cpu": "3"}}]}
    assert pod_request(shrinking).cpu_cores == 3


def test_a_request_without_limit_and_the_other_way_round() -> None:
    assert pod_request(pod({"resources": {"requests": {"nvidia.com/gpu": 2}}})).cards == 2
    assert pod_request(pod({"resources": {"limits": {"cpu": 2}}})).cpu_cores == 2


def test_what_cannot_be_read_is_told() -> None:
    request = pod_request(pod(limits({"nvidia.com/gpu": "many", "cpu": "lots"})))
    assert (request.cards, request.cpu_cores) == (None, 0)
    assert request.problems == ("cpu: 'lots' is no quantity", "nvidia.com/gpu: 'many' is no quantity")


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"spec": None},
        {"spec": {"containers": "x"}},
        {"spec": {"containers": [None, 3, {"resources": []}]}},
        {
            "spec": {
                "containers": [{"resources": {"limits": [1]}}],
                "initContainers": {},
                "resourceClaims": "x",
            }
        },
        {"metadata": [], "spec": {"nodeSelector": [], "affinity": 3, "containers": []}},
    ],
)
def test_any_shape_is_read(broken: Pod) -> None:
    assert pod_request(broken).devices == ()


def test_a_node_selector_says_what_the_cards_are() -> None:
    shared = {
        "cloud.google.com/gke-gpu-sharing-strategy": "time-sharing",
        "cloud.google.com/gke-max-shared-clients-per-gpu": "4",
    }
    assert pod_request(pod(limits({"nvidia.com/gpu": 1}), spec={"nodeSelector": shared})).cards == Fraction(
        1, 4
    )
    sliced = {"cloud.google.com/gke-gpu-partition-size": "1g.5gb"}
    assert pod_request(pod(limits({"nvidia.com/gpu": 1}), spec={"nodeSelector": sliced})).cards == Fraction(
        1, 7
    )
    demand = {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-A100-SXM4-40GB"]}
    affinity = {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [demand]}]
        }
    }
    request = pod(limits({"nvidia.com/gpumem": 20480}), spec={"affinity": {"nodeAffinity": affinity}})
    assert pod_request(request).cards == Fraction(1, 2)


def test_hami_tells_the_card_once_it_is_given() -> None:
    given_ = pod(
        limits({"nvidia.com/gpu": 1, "nvidia.com/gpumem": 3000}),
        limits({"nvidia.com/gpu": 1, "nvidia.com/gpucores": 30}),
        annotations={"hami.io/vgpu-devices-allocated": "GPU-a,NVIDIA,4096,0:;GPU-b,NVIDIA,0,30:;"},
    )
    devices = pod_request(given_, cards=A100).devices
    assert [(one.device, one.share, one.container) for one in devices] == [
        ("GPU-a", Fraction(1, 10), "c0"),
        ("GPU-b", Fraction(3, 10), "c1"),
    ]
    given_["metadata"]["annotations"] = {"hami.io/vgpu-devices-allocated": "what?"}
    assert [one.device for one in pod_request(given_, cards=A100).devices] == [None, None]


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


def allocated(*results: dict[str, Any], **more: Any) -> dict[str, Any]:
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
    assert (device.device, device.share, device.sharing, device.claim) == ("GPU-0", 1, "dra", "ml/given")
    (device,) = pod_request(
        holder, Claims([allocated({**on_card, "device": "gpu-0-mig-1g5gb-19-0"}), SLICE])
    ).devices
    assert (device.device, device.share) == ("GPU-0", Fraction(1, 7))
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
    assert (
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
    assert (shape.cpu_cores, shape.memory_gib) == (96, 1024)
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
