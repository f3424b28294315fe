"""Accelerators of instance types: one meaning per key, canonical names, and agreement with recorded facts."""

import csv
import os
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from gpuledger.prices import accelerator, gpu_type, gpu_types

SHARED = Path(os.environ.get("GPULEDGER_SHARED", "../shared")) / "data"
AWS = SHARED / "billing" / "gpu" / "aws_accelerated_instance_types.csv"
PRICES = SHARED / "prices" / "gpu_instance_prices.csv"
CLOUDS = {"aws", "azure", "gcp", "oci", "coreweave", "lambda", "nebius", "runpod", "alibaba", "hyperstack"}


def rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="") as file:
        yield from csv.DictReader(file)


def test_keys_are_exact_lower_case_and_unique() -> None:
    keys = [known.instance_type for known in gpu_types()]
    assert len(keys) == len(set(keys))
    assert [key for key in keys if key != key.strip().lower()] == []
    assert {known.cloud for known in gpu_types()} == CLOUDS


def test_counts_are_cards_or_unit_fractions() -> None:
    for known in gpu_types():
        if known.gpu_count is not None:
            assert known.gpu_count > 0
            assert known.gpu_count.denominator == 1 or known.gpu_count.numerator == 1, known


def test_a_model_has_one_vendor() -> None:
    vendors: dict[str, set[str]] = {}
    for known in gpu_types():
        vendors.setdefault(known.gpu_model, set()).add(known.vendor)
    assert {model: found for model, found in vendors.items() if len(found) > 1} == {}


@pytest.mark.parametrize(
    ("name", "model", "count", "memory"),
    [
        ("p5.48xlarge", "H100", 8, "80"),
        ("ml.p5.48xlarge", "H100", 8, "80"),
        ("P6-B300.48xlarge", "B300", 8, "268.59"),
        ("g6f.large", "L4", Fraction(1, 8), "22.35"),
        ("trn2.48xlarge", "Trainium2", 16, "96"),
        ("inf2.48xlarge", "Inferentia2", 12, "32"),
        ("Standard_ND96isr_H100_v5", "H100", 8, "80"),
        ("ND96isr H100 v5", "H100", 8, "80"),
        ("ND96isr H100 v5 Low Priority", "H100", 8, "80"),
        ("Standard_NV6ads_A10_v5", "A10", Fraction(1, 6), "24"),
        ("a3-megagpu-8g", "H100", 8, "80"),
        ("a4x-highgpu-4g", "GB200", 4, "186"),
        ("g4-standard-12", "RTX PRO 6000", Fraction(1, 4), "96"),
        ("ct5lp-hightpu-4t", "TPU v5e", 4, "16"),
        ("BM.GPU.A100-v2.8", "A100", 8, "80"),
        ("gd-8xh100ib-i128", "H100", 8, "80"),
        ("gb200-4x", "GB200", 4, "186"),
        ("gpu_8x_h100_sxm5", "H100", 8, "80"),
        ("gpu-h100-sxm_8gpu-128vcpu-1600gb", "H100", 8, "80"),
        ("gpu-h100-sxm 8gpu-128vcpu-1600gb", "H100", 8, "80"),
        ("NVIDIA H100 80GB HBM3", "H100", None, "80"),
        ("ecs.gn7e-c16g1.32xlarge", "A100", 8, "80"),
    ],
)
def test_known_types(name: str, model: str, count: int | Fraction | None, memory: str) -> None:
    known = gpu_type(name)
    assert known is not None
    assert (known.gpu_model, known.gpu_count, known.gpu_memory_gib) == (model, count, Decimal(memory))


@pytest.mark.parametrize("name", ["", "m5.large", "p9.96xlarge", "Standard_D4s_v5", "ecs.gn8v.4xlarge"])
def test_unknown_types_stay_unknown(name: str) -> None:
    assert gpu_type(name) is None


@pytest.mark.shared
@pytest.mark.skipif(not AWS.is_file(), reason="no recorded instance types: set GPULEDGER_SHARED")
def test_agrees_with_recorded_aws_types() -> None:
    checked = 0
    for row in rows(AWS):
        known = gpu_type(row["instance_type"])
        assert known is not None, row
        partition = Fraction(row["partition"])
        expected = partition if partition < 1 else Fraction(row["count"])
        assert known.gpu_count == expected, row
        assert known.gpu_model.replace("T4G", "T4g").split()[0] == row["accelerator"].split()[0], row
        if (
            partition == 1 and known.gpu_model != "Trainium2"
        ):  # the recording has 512 GiB there; the card has 96
            assert known.gpu_memory_gib == round(Decimal(row["memory_mib_each"]) / 1024, 2), row
        checked += 1
    assert checked > 70


@pytest.mark.shared
@pytest.mark.skipif(not PRICES.is_file(), reason="no recorded price list: set GPULEDGER_SHARED")
def test_agrees_with_recorded_price_list() -> None:
    checked = 0
    for row in rows(PRICES):
        known = gpu_type(row["instance_type"])
        if row["cloud"] == "coreweave":  # that list writes names of its own
            continue
        assert known is not None, row
        assert known.gpu_count is not None
        assert round(float(known.gpu_count), 3) == float(row["gpu_count"]), row
        if row["gpu_mem_gb"] and known.gpu_memory_gib is not None:
            assert abs(float(known.gpu_memory_gib) / float(row["gpu_mem_gb"]) - 1) < 0.08, row
        checked += 1
    assert checked > 700


@pytest.mark.parametrize(
    ("name", "model", "memory"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100", "80"),
        ("NVIDIA-A100-SXM4-40GB-MIG-1g.5gb", "A100", "40"),
        ("NVIDIA H100 80GB HBM3", "H100", "80"),
        ("NVIDIA H100 NVL", "H100 NVL", None),
        ("NVIDIA A10G", "A10G", None),
        ("NVIDIA A10", "A10", None),
        ("Tesla T4", "T4", None),
        ("nvidia-h100-mega-80gb", "H100", "80"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX PRO 6000", None),
        ("NVIDIA RTX 6000 Ada Generation", "RTX 6000 Ada", None),
        ("NVIDIA GH200 480GB", "GH200", None),
        ("AMD Instinct MI300X OAM", "MI300X", None),
        ("tpu-v5-lite-podslice", "TPU v5e", None),
        ("tpu-v6e-slice", "TPU v6e", None),
    ],
)
def test_device_names(name: str, model: str, memory: str | None) -> None:
    found = accelerator(name)
    assert found is not None
    assert (found.model, found.memory_gib) == (model, Decimal(memory) if memory else None)


@pytest.mark.parametrize("name", ["", "Quadro RTX 6000", "NVIDIA Graphics Device", "Matrox G200eW3"])
def test_unknown_devices_stay_unknown(name: str) -> None:
    assert accelerator(name) is None
