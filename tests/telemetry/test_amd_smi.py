"""AMD's tools, written here in the documented forms: values with units, N/A, and spellings of versions."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from gpuledger.errors import SourceError
from gpuledger.telemetry import amd_smi

METRIC = {
    "gpu_data": [
        {
            "gpu": 0,
            "usage": {"gfx_activity": {"value": 40, "unit": "%"}, "vcn_activity": ["N/A"]},
            "power": {"socket_power": {"value": 239, "unit": "W"}},
            "mem_usage": {
                "total_vram": {"value": 294896, "unit": "MB"},
                "used_vram": {"value": 283, "unit": "MB"},
            },
        },
        {"gpu": 1, "usage": "N/A", "power": {"socket_power": "N/A"}, "mem_usage": "N/A"},
    ]
}
STATIC = [{"gpu": 0, "asic": {"market_name": "AMD Instinct MI355X"}}, {"gpu": 1, "asic": "N/A"}]
LIST = [{"gpu": 0, "bdf": "0000:05:00.0", "uuid": "11111111-0000-1000-8000-000000000001"}]
ROCM = {
    "card0": {
        "GPU use (%)": "37",
        "VRAM Total Memory (B)": "34342961152",
        "VRAM Total Used Memory (B)": "6750208",
        "Average Graphics Package Power (W)": "36.0",
        "Card Series": "Arcturus GL-XL [Instinct MI100]",
        "Unique ID": "0x79ccd55167a2124a",
    },
    "card1": {"GPU use (%)": "N/A", "Current Socket Graphics Package Power (W)": "120.0"},
    "system": {"Driver version": "6.3.6"},
}


@pytest.mark.parametrize("metric", [METRIC, METRIC["gpu_data"]])
def test_amd_smi(metric: object) -> None:
    first, second = amd_smi.from_amd_smi(
        "WARNING: something\n" + json.dumps(metric), "x", json.dumps(STATIC), json.dumps(LIST)
    )
    assert (first.uuid, first.index, first.model) == ("11111111-0000-1000-8000-000000000001", "0", "MI355X")
    assert (first.busy, first.power_watts) == (Decimal("0.4"), Decimal(239))
    assert (first.memory_used_mib, first.memory_total_mib) == (Decimal(283), Decimal(294896))
    assert (second.busy, second.power_watts, second.memory_used_mib, second.model) == (None, None, None, None)


def test_rocm_smi() -> None:
    first, second = amd_smi.from_rocm_smi(json.dumps(ROCM), "x")
    assert (first.uuid, first.index, first.model_name) == (
        "0x79ccd55167a2124a", "0", "Arcturus GL-XL [Instinct MI100]",
    )  # fmt: skip
    assert (first.busy, first.power_watts) == (Decimal("0.37"), Decimal("36.0"))
    assert first.memory_total_mib == Decimal(32752)
    assert (second.busy, second.power_watts, second.memory_used_mib) == (None, Decimal("120.0"), None)


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"gpu_data": 5}', '"x"', "ERROR: no device"])
def test_what_is_no_output(text: str) -> None:
    for reader in (amd_smi.from_amd_smi, amd_smi.from_rocm_smi):
        with pytest.raises(SourceError) as caught:
            list(reader(text, "x"))
        assert caught.value.hint


def test_runs_the_tools(tmp_path: Path) -> None:
    for name, content in (("metric", METRIC), ("static", STATIC), ("list", LIST), ("rocm", ROCM)):
        (tmp_path / name).write_text(json.dumps(content))
    tool = tmp_path / "amd-smi"
    tool.write_text(f'#!/bin/sh\ncase "$1" in --show*) cat {tmp_path}/rocm;; *) cat "{tmp_path}/$1";; esac\n')
    tool.chmod(0o755)
    assert [card.model for card in amd_smi.read(str(tool))] == ["MI355X", None]
    assert len(amd_smi.read_rocm(str(tool))) == 2
    tool.write_text("#!/bin/sh\nexec sleep 30\n")
    with pytest.raises(SourceError, match="no answer"):
        amd_smi.read(str(tool), timeout=0.2)
    with pytest.raises(SourceError, match="can't be run"):
        amd_smi.read(str(tmp_path / "none"))
