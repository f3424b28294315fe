"""Nodes out of scontrol and sinfo. Synthetic, but for the sample of a real cluster."""

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.telemetry.slurm_rows import T0, at
from tests.telemetry.test_slurm import SAMPLES

from gpuledger.core.usage import NodeInterval
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import SourceError
from gpuledger.telemetry import slurm
from gpuledger.telemetry.slurm import machines, notation

# As Slurm 22.05 prints it, with a comment and a reason of several words.
PARAGRAPH = f"""NodeName=gpu1 Arch=x86_64 CoresPerSocket=8
   CPUAlloc=0 CPUEfctv=8 CPUTot=16 CPULoad=3.75
   AvailableFeatures=p5.48xlarge,efa
   ActiveFeatures=p5.48xlarge,efa
   Gres=gpu:h100:8(S:0-1)
   NodeAddr=10.0.0.1 NodeHostName=gpu1 Version=22.05.8
   OS=Linux 6.18.44 #1 SMP PREEMPT_DYNAMIC @0
   RealMemory=2000 AllocMem=0 FreeMem=18420 Sockets=1 Boards=1
   State=MIXED+CLOUD+DRAIN ThreadsPerCore=2 TmpDisk=0 Weight=1 Owner=N/A MCS_label=N/A
   Partitions=train,debug
   BootTime={T0 + 100} SlurmdStartTime=1795533595
   CfgTRES=cpu=16,mem=2000M,billing=8,gres/gpu=8,gres/gpu:h100=8
   AllocTRES=
   Comment=zone=us-east-1a;instance_id=i-0abc
   Reason=fan is broken [root@{T0}]
"""


def read(folder: Path, text: str, **settings: Any) -> list[NodeInterval | Diagnostic]:  # noqa: ANN401 - as read_nodes takes
    path = folder / "nodes"
    path.write_text(text)
    window = {"since": at(0), "until": at(1000), "asked": at(600)} | settings
    return list(slurm.read_nodes(path, **window))


def one(folder: Path, text: str, **settings: Any) -> NodeInterval:  # noqa: ANN401 - ditto
    (found,) = read(folder, text, **settings)
    assert isinstance(found, NodeInterval)
    return found


def test_scontrol_as_text(tmp_path: Path) -> None:
    expected = NodeInterval(
        cluster="lab",
        node="gpu1",
        start=at(100),
        end=at(600),
        provider_id="i-0abc",
        instance_type="p5.48xlarge",
        zone="us-east-1a",
        pool="train",
        cpu_cores=Decimal(16),
        memory_gib=Decimal("1.953125"),
        gpu_model="H100",
        gpu_count=Decimal(8),
        labels={
            "slurm/state": "MIXED+CLOUD+DRAIN",
            "slurm/gres": "gpu:h100:8(S:0-1)",
            "slurm/partitions": "train,debug",
            "slurm/features": "p5.48xlarge,efa",
            "slurm/as-of": at(600).isoformat(),
        },
    )
    options = slurm.Options(cluster="lab")
    assert one(tmp_path, PARAGRAPH, options=options) == expected
    assert one(tmp_path, " ".join(PARAGRAPH.split("\n   ")), options=options) == expected
    other = PARAGRAPH.replace("gpu1", "gpu2").replace("+CLOUD", "")
    both = read(tmp_path, f"{PARAGRAPH}\n{other}", options=options)
    assert [(found.node, found.start) for found in both if isinstance(found, NodeInterval)] == [
        ("gpu1", at(100)),
        ("gpu2", at(0)),
    ]


def test_json_of_scontrol(tmp_path: Path) -> None:
    node = {
        "name": "gpu1",
        "state": ["MIXED", "CLOUD", "DRAIN"],
        "cpus": 16,
        "real_memory": 2000,
        "gres": "gpu:h100:8(S:0-1)",
        "partitions": ["train", "debug"],
        "features": ["p5.48xlarge", "efa"],
        "boot_time": {"set": True, "infinite": False, "number": T0 + 100},
        "instance_id": "i-0abc",
        "instance_type": "p5.48xlarge",
        "comment": "zone=us-east-1a",
        "cluster_name": "lab",
    }
    text = json.dumps({"nodes": [node], "last_update": {"set": True, "number": 1}}, indent=1)
    assert one(tmp_path, text) == one(tmp_path, PARAGRAPH, options=slurm.Options(cluster="lab"))


def test_sinfo_since_23_02_groups_like_nodes(tmp_path: Path) -> None:
    group = {
        "node": {"state": ["IDLE"]},
        "nodes": {"total": 2, "nodes": ["gpu1", "gpu2"]},
        "cpus": {"minimum": 16, "maximum": 16},
        "memory": {"minimum": 1000, "maximum": 2000},
        "gres": {"total": "gpu:a100:4", "used": ""},
        "features": {"total": "a,b"},
        "partition": {"name": "train"},
        "cluster": "",
    }
    found = [
        each for each in read(tmp_path, json.dumps({"sinfo": [group]})) if isinstance(each, NodeInterval)
    ]
    assert [each.node for each in found] == ["gpu1", "gpu2"]
    assert {
        (each.cpu_cores, each.memory_gib, each.gpu_model, each.gpu_count, each.pool) for each in found
    } == {(Decimal(16), None, "A100", Decimal(4), "train")}


@pytest.mark.shared
def test_sinfo_of_a_real_22_05(tmp_path: Path) -> None:
    if not SAMPLES.is_dir():
        pytest.skip("no sample data: GPULEDGER_SHARED names its folder")
    found = [
        each
        for each in read(tmp_path, (SAMPLES / "sinfo_22.05.json").read_text())
        if isinstance(each, NodeInterval)
    ]
    assert [(each.node, each.gpu_model, each.gpu_count, each.labels["slurm/state"]) for each in found] == [
        ("gpu1", "H100", Decimal(8), "IDLE"),
        ("gpu2", "H100", Decimal(8), "IDLE"),
    ]


@pytest.mark.parametrize("state", ["IDLE+CLOUD+POWERED_DOWN", "IDLE~", "FUTURE"])
def test_a_machine_that_is_not_there_has_no_interval(tmp_path: Path, state: str) -> None:
    assert read(tmp_path, PARAGRAPH.replace("MIXED+CLOUD+DRAIN", state)) == []


def test_a_node_that_does_not_answer_is_still_there(tmp_path: Path) -> None:
    assert (
        one(tmp_path, PARAGRAPH.replace("MIXED+CLOUD+DRAIN", "DOWN*")).labels["slurm/state"]
        == "NOT_RESPONDING+DOWN"
    )


def test_nothing_is_told_of_the_future(tmp_path: Path) -> None:
    assert read(tmp_path, PARAGRAPH, since=at(700)) == []
    assert one(tmp_path, PARAGRAPH, asked=at(0) + timedelta(days=9)).end == at(1000)


@pytest.mark.parametrize(
    ("gres", "expected"),
    [
        ("gpu:h100:8", ("H100", 8)),
        ("gpu:nvidia_a100_80gb_pcie:4", ("A100", 4)),
        ("gpu:8", (None, 8)),
        ("gpu:a100:4,gpu:v100:2", (None, 6)),
        ("gpu:a100_1g.5gb:7,gpu:a100:1", ("A100", 2)),
        ("gpu:a100_3g.20gb:2,gpu:a100_1g.5gb:1", ("A100", 1)),
        ("gpu:1g.5gb:7", (None, None)),
        ("shard:64,gpu:l4:8", ("L4", 8)),
        ("", (None, 0)),
    ],
)
def test_cards(gres: str, expected: tuple[str | None, int | None]) -> None:
    model, count = machines.cards(notation.gres(gres))
    assert (model, None if count is None else int(count)) == expected


def test_a_node_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    bad = PARAGRAPH.replace("CPUTot=16", "CPUTot=many")
    found = read(tmp_path, f"{bad}\n{PARAGRAPH}")
    assert [type(each).__name__ for each in found] == ["NodeInterval", "Diagnostic"]


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="not nodes of Slurm"):
        read(tmp_path, "PARTITION AVAIL\n")
