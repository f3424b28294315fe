"""What pods ask for: every form of a request for cards, the effective request, and what can't be told."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.kubernetes_objects import Pod, limits, pod, seen

from gpuledger.core.workload import pod_request
from gpuledger.core.workload.devices import Cards
from gpuledger.core.workload.fields import gib, instant, quantity, whole


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
    assert request.cpu_cores == Decimal(2)
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
    assert seen(request.cpu_cores, request.memory_gib) == (4, 2)


def test_a_smaller_request_counts_once_it_is_allocated() -> None:
    shrinking = pod({"resources": {"requests": {"cpu": "1"}}})
    shrinking["status"] = {"containerStatuses": [{"name": "c0", "allocatedResources": {"cpu": "3"}}]}
    assert pod_request(shrinking).cpu_cores == 3


def test_a_request_without_limit_and_the_other_way_round() -> None:
    assert pod_request(pod({"resources": {"requests": {"nvidia.com/gpu": 2}}})).cards == 2
    assert pod_request(pod({"resources": {"limits": {"cpu": 2}}})).cpu_cores == 2


def test_what_cannot_be_read_is_told() -> None:
    request = pod_request(pod(limits({"nvidia.com/gpu": "many", "cpu": "lots"})))
    assert seen(request.cards, request.cpu_cores) == (None, 0)
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
