"""DCGM exporter pages: real ones (T4, L4), and synthetic ones for pods, MIG, DRA and what goes wrong."""

import os
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer

from gpuledger.core.card_facts import Holder, holder
from gpuledger.core.exposition import Sample, parse
from gpuledger.errors import SourceError
from gpuledger.telemetry import dcgm

SHARED = Path(os.environ.get("GPULEDGER_SHARED", Path(__file__).parents[2].parent / "shared"))
PAGES = SHARED / "data" / "k8s" / "dcgm-exporter"


def row(name: str, value: object, **labels: str) -> str:
    said = ",".join(f'{key}="{text}"' for key, text in labels.items())
    return f"{name}{{{said}}} {value}"


A100 = {"gpu": "0", "UUID": "GPU-a", "modelName": "NVIDIA A100-SXM4-80GB", "Hostname": "n1"}


@pytest.mark.shared
@pytest.mark.skipif(not PAGES.is_dir(), reason="no sample data: set GPULEDGER_SHARED")
def test_real_pages() -> None:
    (card,) = dcgm.read(PAGES / "t4_ericsson.prom").cards
    assert (card.uuid, card.node, card.model) == (
        "GPU-6d5c0ac5-74d7-3130-46f1-e93ed57f469a",
        "cp-bm14r7",
        "T4",
    )
    assert card.utilisation == card.busy == Decimal("0.91")
    assert (card.engine_active, card.tensor_active) == (Decimal("0.156205"), Decimal("0.005822"))
    assert (card.memory_used_mib, card.memory_total_mib) == (Decimal(5120), Decimal(5120 + 9791 + 447))
    assert (card.power_watts, card.holders, card.share) == (Decimal("68.244"), (), Fraction(1))
    page = dcgm.read(PAGES / "kops.prom")
    assert [(card.model, card.utilisation, card.xid) for card in page.cards] == [("L4", Decimal(0), None)]
    assert page.diagnostics == ()


def test_holders_in_both_label_schemes() -> None:
    honoured = row(
        "DCGM_FI_DEV_GPU_UTIL", 50, **A100, namespace="ml", pod="train-0", container="main", pod_uid="u1"
    )
    assert dcgm.cards_of(honoured, "x").cards[0].holders == (Holder("ml", "train-0", "main", "u1"),)
    scraped = row(
        "DCGM_FI_DEV_GPU_UTIL", 50, **A100, namespace="gpu-operator", pod="nvidia-dcgm-exporter-x",
        container="nvidia-dcgm-exporter", exported_namespace="ml", exported_pod="train-0", exported_container="main",
    )  # fmt: skip
    idle = row(
        "DCGM_FI_DEV_GPU_UTIL",
        0,
        gpu="1",
        UUID="GPU-b",
        namespace="gpu-operator",
        pod="metrics-q",
        container="e",
    )
    first, second = dcgm.cards_of(f"{scraped}\n{idle}", "x").cards
    assert first.holders == (Holder("ml", "train-0", "main"),)
    assert second.holders == (), "the pod is the exporter's own"


def test_an_exporter_alone_holds_nothing() -> None:
    assert holder({"namespace": "gpu-operator", "pod": "nvidia-dcgm-exporter-abc", "container": "x"}) is None
    assert holder({"pod": "", "namespace": "", "container": ""}) is None
    assert holder({"hpc_job": "42"}) == Holder(slurm_job="42")


def test_mig_is_measured_by_its_engine_and_keeps_its_parent() -> None:
    slice_ = {**A100, "GPU_I_PROFILE": "3g.40gb", "GPU_I_ID": "1"}
    text = "\n".join(
        [
            row("DCGM_FI_DEV_GPU_UTIL", 0, **A100),
            row("DCGM_FI_DEV_GPU_UTIL", 0, **slice_),
            row("DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.75, **slice_, namespace="ml", pod="p", container="c"),
        ]
    )
    parent, part = dcgm.cards_of(text, "x").cards
    assert (parent.sliced, parent.busy, parent.utilisation) == (True, None, None)
    assert (part.uuid, part.slice_id, part.share, part.busy) == (
        "GPU-a",
        "1",
        Fraction(3, 7),
        Decimal("0.75"),
    )
    assert part.utilisation is None
    assert part.holders == (Holder("ml", "p", "c"),)


def test_dra_names_claim_and_slice() -> None:
    text = row(
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE", 0.5, gpu="0", UUID="GPU-g", modelName="NVIDIA GH200 96GB HBM3", pod="p",
        namespace="ns", container="c", dra_claim_name="p-mig", dra_claim_namespace="ns", dra_mig_profile="1g.12gb",
        dra_mig_device_uuid="MIG-1",
    )  # fmt: skip
    (card,) = dcgm.cards_of(text, "x").cards
    assert (card.slice_id, card.profile, card.share) == ("MIG-1", "1g.12gb", Fraction(1, 7))
    assert card.holders == (Holder("ns", "p", "c", None, "ns/p-mig"),)


def test_a_card_of_two_exporters_counts_once_and_sharers_are_all_named() -> None:
    rows = [
        row("DCGM_FI_DEV_GPU_UTIL", 40, **A100, vgpu=str(i), namespace="ml", pod=f"p{i}", container="c")
        for i in (0, 1)
    ]
    again = row("DCGM_FI_DEV_GPU_UTIL", 40, **{**A100, "Hostname": "exporter-7x"})
    (card,) = dcgm.cards_of("\n".join([*rows, again]), "x").cards
    assert card.utilisation == Decimal("0.4")
    assert [held.pod for held in card.holders] == ["p0", "p1"]


@pytest.mark.parametrize(
    "blank",
    ["NaN", "2147483632", "2147483634", "9223372036854775794", "140737488355328.0", "-1", "101", "+Inf"],
)
def test_what_is_no_measurement_is_unknown(blank: str) -> None:
    (card,) = dcgm.cards_of(row("DCGM_FI_DEV_GPU_UTIL", blank, **A100), "x").cards
    assert (card.utilisation, card.busy) == (None, None)


def test_bad_lines_are_told_and_others_read() -> None:
    page = dcgm.cards_of(
        row("DCGM_FI_DEV_GPU_UTIL", 7, **A100) + '\nDCGM_FI_DEV_GPU_UTIL{gpu="1"} seven\n{', "f"
    )
    assert len(page.cards) == 1
    assert [(found.code, found.source) for found in page.diagnostics] == [
        ("bad-line", "f:2"),
        ("bad-line", "f:3"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [("<html>login</html>", "web page"), ("", "no metrics"), ("up 1", "no DCGM metric among 1")],
)
def test_what_is_no_page_of_dcgm(text: str, said: str) -> None:
    with pytest.raises(SourceError, match=said) as caught:
        dcgm.cards_of(text, "http://x")
    assert caught.value.hint


def test_reads_over_http(httpserver: HTTPServer, tmp_path: Path) -> None:
    httpserver.expect_request("/metrics").respond_with_data(row("DCGM_FI_DEV_GPU_UTIL", 12, **A100))
    assert dcgm.read(httpserver.url_for("/metrics")).cards[0].utilisation == Decimal("0.12")
    httpserver.expect_request("/secret").respond_with_data("no", status=401)
    with pytest.raises(SourceError, match="answered 401"):
        dcgm.read(httpserver.url_for("/secret"))
    with pytest.raises(SourceError, match="can't be reached"):
        dcgm.read("http://127.0.0.1:9/metrics")
    with pytest.raises(SourceError, match="can't be read"):
        dcgm.read(tmp_path / "none.prom")


def test_exposition_forms() -> None:
    page = parse(
        'a{x="q\\"\\n\\\\",} 1 1700000000000\n{"m.x","l.y"="v"} 2e3\nb{} NaN\nc 5 # {t="1"} 2 3\n', "s"
    )
    assert page.diagnostics == ()
    assert [(s.name, dict(s.labels), s.value) for s in page.samples] == [
        ("a", {"x": 'q"\n\\'}, Decimal(1)), ("m.x", {"l.y": "v"}, Decimal(2000)), ("b", {}, None), ("c", {}, Decimal(5)),
    ]  # fmt: skip
    assert page.samples[0].time is not None
    assert page.samples[0].time.timestamp() == 1_700_000_000
    assert parse("a 1 1700000000.5\n# EOF\n", "s").samples[0].time.timestamp() == 1_700_000_000.5  # type: ignore[union-attr]


@pytest.mark.shared
@pytest.mark.skipif(not PAGES.is_dir(), reason="no sample data: set GPULEDGER_SHARED")
@pytest.mark.parametrize("folder", ["dcgm-exporter", "kube-state-metrics", "vllm"])
def test_every_line_of_real_pages_is_read(folder: str) -> None:
    for path in sorted((PAGES.parent / folder).glob("*.prom")):
        text = path.read_text()
        page = parse(text, path.name)
        assert page.diagnostics == ()
        assert len(page.samples) == sum(bool(line) and line[0] != "#" for line in text.splitlines())


@given(st.text(alphabet='a{}",=\\# 1.eNn\t', max_size=40))
def test_any_text_gives_samples_or_diagnostics(text: str) -> None:
    page = parse(text, "s")
    lines = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(page.samples) + len(page.diagnostics) == len(lines)
    assert all(isinstance(sample, Sample) for sample in page.samples)
