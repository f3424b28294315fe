"""What jobs hold of each node: splits over nodes, parts of cards, kinds of GPUs. All rows are synthetic."""

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.telemetry.slurm_rows import at, read, row, table

from gpuledger.core.sharing import CARD_UNITS, held_units
from gpuledger.core.usage import NodeInterval


def node(name: str, gres: str) -> NodeInterval:
    return NodeInterval(cluster="slurm", node=name, start=at(0), end=at(1000), labels={"slurm/gres": gres})


def test_the_batch_step_tells_its_node_s_part(tmp_path: Path) -> None:
    job = row("7", AllocTRES="cpu=10,gres/gpu=3,mem=300M,node=2", NodeList="gpu[1-2]")
    batch = row("7.batch", JobIDRaw="7.batch", AllocTRES="cpu=2,gres/gpu=1,mem=100M,node=1", NodeList="gpu1")
    told = read(tmp_path, table([job, batch]))
    assert {(one.node, one.resource): one.requested for one in told.usage} == {
        ("gpu1", "gpu"): 1,
        ("gpu2", "gpu"): 2,
        ("gpu1", "cpu"): 2,
        ("gpu2", "cpu"): 8,
        ("gpu1", "memory"): Decimal(100) / 1024,
        ("gpu2", "memory"): Decimal(200) / 1024,
    }
    assert told.diagnostics == []


def test_an_uneven_split_is_told(tmp_path: Path) -> None:
    job = row("7", AllocTRES="cpu=4,gres/gpu=7,node=4", NodeList="gpu[1-4]")
    told = read(tmp_path, table([job, row("8", AllocTRES="cpu=3,node=2", NodeList="gpu[1-2]")]))
    assert [cards for _, _, cards, _, _ in told.gpus()] == [2, 2, 2, 1]
    assert told.codes == ["slurm-uneven-split"]
    assert "(2 times, first: gres/gpu of job 7)" in told.diagnostics[0].message


def test_nodes_hold_no_more_than_they_have(tmp_path: Path) -> None:
    nodes = [node("big", "gpu:h100:8"), node("small", "gpu:h100:4")]
    job = row("7", AllocTRES="gres/gpu:h100=12,gres/gpu=12", NodeList="big,small")
    told = read(tmp_path, table([job]), nodes=nodes)
    assert {name: cards for _, name, cards, _, _ in told.gpus()} == {"big": 8, "small": 4}
    assert told.diagnostics == []


def test_types_go_to_the_nodes_that_have_them(tmp_path: Path) -> None:
    nodes = [node("a", "gpu:a100:8"), node("v", "gpu:v100:4"), node("both", "gpu:a100:2,gpu:v100:2")]
    job = row("7", AllocTRES="gres/gpu:a100=8,gres/gpu:v100=2,gres/gpu=10", NodeList="a,v")
    told = read(tmp_path, table([job]), nodes=nodes)
    assert {name: cards for _, name, cards, _, _ in told.gpus()} == {"a": 8, "v": 2}
    job["NodeList"] = "both,a"
    job["AllocTRES"] = "gres/gpu:a100=10,gres/gpu:v100=2,gres/gpu=12"
    told = read(tmp_path, table([job]), nodes=nodes)
    assert {name: cards for _, name, cards, _, _ in told.gpus()} == {"a": 8, "both": 4}


@pytest.mark.parametrize(
    ("tres", "cards"),
    [
        ("gres/gpu:h100=2", 2),
        ("gres/gpu=2", 2),
        ("gres/gpu=3,gres/gpu:h100=2", 3),
        ("gres/gpu:a100=1,gres/gpu:h100=2,gres/gpu=3", 3),
    ],
)
def test_types_and_their_sum_count_once(tmp_path: Path, tres: str, cards: int) -> None:
    told = read(tmp_path, table([row("7", AllocTRES=tres)]))
    assert [found for _, _, found, _, _ in told.gpus()] == [cards]
    assert told.diagnostics == []


def test_types_that_exceed_their_sum_are_told(tmp_path: Path) -> None:
    told = read(tmp_path, table([row("7", AllocTRES="gres/gpu:h100=4,gres/gpu=2")]))
    assert [cards for _, _, cards, _, _ in told.gpus()] == [4]
    assert told.codes == ["slurm-gpu-counts"]


def test_mig_slices_are_parts_of_cards(tmp_path: Path) -> None:
    told = read(tmp_path, table([row("7", AllocTRES="gres/gpu:a100_3g.20gb=2,gres/gpu=2")]))
    (gpu,) = (one for one in told.usage if one.resource == "gpu")
    assert (gpu.sharing, gpu.share, gpu.requested) == ("mig", Fraction(3, 7), Decimal(2))
    assert held_units(gpu) == 2 * CARD_UNITS * 3 // 7
    bare = row("7", AllocTRES="gres/gpu:1g.10gb=1,gres/gpu=1")
    told = read(tmp_path, table([bare]), nodes=[node("gpu1", "gpu:h100:7,gpu:1g.10gb:7")])
    (gpu,) = (one for one in told.usage if one.resource == "gpu")
    assert gpu.share == Fraction(1, 7)
    told = read(tmp_path, table([bare]))
    (gpu,) = (one for one in told.usage if one.resource == "gpu")
    assert (gpu.share, held_units(gpu)) == (None, None)
    assert told.codes == ["slurm-unknown-share"]


@pytest.mark.parametrize(
    ("tres", "gres", "sharing", "units"),
    [
        ("gres/shard=4", "gpu:h100:8,shard:64", "time-slicing", CARD_UNITS // 2),
        ("gres/shard:h100=4", "gpu:h100:8,shard:h100:32", "time-slicing", CARD_UNITS),
        ("gres/mps=50", "gpu:h100:2,mps:200", "mps", CARD_UNITS // 2),
        ("gres/mps=50", "gpu:h100:2", "mps", None),
        ("gres/shard=4", "", "time-slicing", None),
    ],
)
def test_shards_and_mps(tmp_path: Path, tres: str, gres: str, sharing: str, units: int | None) -> None:
    told = read(tmp_path, table([row("7", AllocTRES=tres)]), nodes=[node("gpu1", gres)] if gres else [])
    (gpu,) = (one for one in told.usage if one.resource == "gpu")
    assert (gpu.sharing, held_units(gpu)) == (sharing, units)
    assert told.codes == ([] if units else ["slurm-unknown-share"])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_nodes_parts_sum_to_the_job_s(tmp_path: Path, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 9))
    cpu, gpu, memory = (data.draw(st.integers(1, 5000)) for _ in range(3))
    limits = data.draw(st.lists(st.integers(1, 16), min_size=count, max_size=count))
    nodes = [node(f"n{place}", f"gpu:h100:{limit}") for place, limit in enumerate(limits, 1)]
    batch = row(
        *("7.batch",),
        JobIDRaw="7.batch",
        NodeList="n1",
        AllocTRES=f"cpu={data.draw(st.integers(0, cpu))},gres/gpu={data.draw(st.integers(0, 16))}",
    )
    job = row(
        "7", NodeList=f"n[1-{count}]", AllocTRES=f"cpu={cpu},gres/gpu:h100={gpu},gres/gpu={gpu},mem={memory}M"
    )
    known = data.draw(st.booleans())
    told = read(tmp_path, table([job, batch]), nodes=nodes if known else [])
    sums = {"cpu": Decimal(0), "gpu": Decimal(0), "memory": Decimal(0)}
    for one in told.usage:
        assert one.requested is not None
        assert one.requested > 0
        sums[one.resource] += one.requested
    assert sums == {"cpu": cpu, "gpu": gpu, "memory": Decimal(memory) / 1024}
