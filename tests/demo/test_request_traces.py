"""Traces of requests through `gpuledger demo --trace`: tiny hand-made ones always, the published ones where they are.

Expected figures of the published traces were computed from their files alone, with other queries.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.demo.test_traces import SHARED, Loaded
from tests.surfaces.shell import gpuledger

from gpuledger.demo import request_traces
from gpuledger.errors import SourceError

CONV = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:00:01.0000000,100,10
2023-11-16 18:00:03.0000000,300,20
2023-11-16 18:00:25.0000000,200,60
2023-11-16 18:01:05.0000000,400,30
"""
# Blocks 1 and 2 are the first request's; the third has block 9 first, so nothing of its prefix is cached.
MOONCAKE = [
    {"timestamp": 0, "input_length": 1000, "output_length": 5, "hash_ids": [1, 2]},
    {"timestamp": 3000, "input_length": 1500, "output_length": 6, "hash_ids": [1, 2, 3]},
    {"timestamp": 3000, "input_length": 900, "output_length": 7, "hash_ids": [9, 1]},
    {"timestamp": 27000, "input_length": 600, "output_length": 8, "hash_ids": [1, 2]},
]
IMAGES = """gmt_create,predict_status,exec_time_seconds,groupId,num_images_per_prompt,checkpoint_model_version_id
2024-11-15 10:00:00,SUCCEED,1800,G1,2,M1
2024-11-15 10:30:00,FAILED,600,G2,4,M1
2024-11-15 12:15:00,SUCCEED,1200,G2,1,M2
2024-11-16 12:15:00,PENDING,,G3,1,M2
"""


class Trace(Loaded):
    """Figures by window too."""

    def at(self, section: str, series: str, measure: str, window: str) -> Any:  # noqa: ANN401  # a number
        (row,) = (
            row for row in self.document["rows"]
            if (row["section"], row["series"], row["measure"], row["window"]) == (section, series, measure, window)
        )  # fmt: skip
        return row["value"]

    def check(self, section: str, header: str, window: str, table: Iterable[tuple[Any, ...]]) -> None:
        """Counts exactly, everything else to a ten thousandth."""
        for series, *values in table:
            for measure, value in zip(header.split(), values, strict=True):
                found = self.at(section, series, measure, window)
                if value is None or isinstance(value, int):
                    assert found == value, (section, series, measure)
                else:
                    assert found == pytest.approx(value, rel=1e-4), (section, series, measure)


def load(path: Path, folder: Path) -> Trace:
    done = gpuledger(
        "--ledger",
        folder / "ledger",
        "--format",
        "json",
        "demo",
        "--trace",
        path,
        "--out",
        folder / "out",
        "--stats",
    )
    assert done.code == 0, done.err
    return Trace(folder / "ledger", done, 0)


def test_azure_by_hand(tmp_path: Path) -> None:
    (tmp_path / "AzureLLMInferenceTrace_conv.csv").write_text(CONV)
    (tmp_path / "AzureLLMInferenceTrace_code.csv").write_text(CONV.replace(",100,10", ",100,0"))
    trace = load(tmp_path, tmp_path)
    header = "requests input_tokens output_tokens mean_input mean_output p50_input p50_output span_s output_tok_s total_tok_s"
    trace.check("requests", header, "whole trace", [
        ("conv", 4, 1000, 120, 250.0, 30.0, 250.0, 25.0, 64.0, 120 / 64, 1120 / 64),
        ("code", 4, 1000, 110, 250.0, 27.5, 250.0, 25.0, 64.0, 110 / 64, 1110 / 64),
    ])  # fmt: skip
    # Whole ten seconds from 18:00:01: 2, 0, 1, 0, 0, 0 requests; the last request comes after them.
    trace.check(
        "arrivals", "windows mean fano peak_to_mean", "10 s", [("conv", 6, 0.5, (5 / 6 - 0.25) / 0.5, 4.0)]
    )
    # Gaps 2, 22 and 40 s: mean 64/3, variance 2088/3 - (64/3)²
    sd = (2088 / 3 - (64 / 3) ** 2) ** 0.5
    assert trace.at("arrivals", "conv", "goh_barabasi", "whole trace") == pytest.approx(
        (sd - 64 / 3) / (sd + 64 / 3)
    )
    # Of the clock's ten seconds, 18:00:10 to 18:01:00 are whole: only 60 tokens in 18:00:20.
    trace.check("tokens", "bins mean_tok_s peak_tok_s", "10 s", [("conv", 5, 1.2, 6.0)])
    assert trace.document["totals"]["clock"] == "the trace's, UTC"
    rows = trace.query(
        "SELECT deployment, start, input_tokens, output_tokens, requests, cached_input_tokens FROM tokens WHERE deployment = 'conv' ORDER BY start"
    )
    assert [(row[0], row[1].strftime("%H:%M"), *map(int, row[2:5]), row[5]) for row in rows] == [
        ("conv", "18:00", 600, 90, 3, None), ("conv", "18:01", 400, 30, 1, None),
    ]  # fmt: skip


def test_mooncake_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "conversation_trace.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in MOONCAKE))
    trace = load(path, tmp_path)
    # The second request finds 2 × 512 of its tokens, the fourth all of its 600.
    header = "requests input_tokens output_tokens cached_input_tokens cached_share span_s"
    trace.check("requests", header, "whole trace", [("all", 4, 4000, 26, 1624, 1624 / 4000, 27.0)])
    trace.check("arrivals", "windows mean peak_to_mean", "10 s", [("all", 2, 1.5, 2.0)])
    assert "by decree" in trace.document["totals"]["clock"]
    assert trace.query("SELECT min(start)::VARCHAR FROM tokens")[0][0].startswith("2026-06-01 00:00")


def test_images_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "requests.csv"
    path.write_text(IMAGES)
    trace = load(path, tmp_path)
    trace.check("requests", "requests tenants models images exec_hours failed_share", "whole trace", [
        ("all", 4, 3, 2, 3.0, 3000 / 3600, 0.25),
    ])  # fmt: skip
    trace.check("tenant", "requests exec_seconds share", "whole trace", [
        ("G1", 1, 1800.0, 0.5), ("G2", 2, 1800.0, 0.5), ("G3", 1, None, 0.0),
    ])  # fmt: skip
    # 27 hours of the clock from Friday 10:00; the last request is on a Saturday.
    trace.check(
        "arrivals",
        "windows mean off_share off_hours_lift",
        "1 h",
        [("all", 27, 4 / 27, 0.25, 0.25 / (108 / 168))],
    )
    assert trace.query("SELECT sum(requests), sum(failed_requests), sum(input_tokens) FROM tokens")[0] == (
        2,
        1,
        None,
    )


def test_traces_that_are_several_or_broken(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CONV)
    (tmp_path / "b.jsonl").write_text(json.dumps(MOONCAKE[0]))
    with pytest.raises(SourceError, match=r"several traces of requests: a\.csv, b\.jsonl"):
        request_traces.recognise(tmp_path)
    (tmp_path / "a.csv").write_text(CONV.replace(",300,", ",many,"))
    done = gpuledger("demo", "--trace", tmp_path / "a.csv", "--out", tmp_path / "out")
    assert done.code == 3
    assert "many" in done.err
    assert "Hint:" in done.err
    done = gpuledger(
        "demo", "--trace", tmp_path / "b.jsonl", "--out", tmp_path / "out", "--stats", "--window", "7d"
    )
    assert done.code == 2
    assert request_traces.recognise(tmp_path / "nothing") is None
    assert request_traces.recognise(Path(__file__)) is None


def published(name: str, folder: Path) -> Trace:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"no {path}: set GPULEDGER_SHARED to the folder of sample data")
    return load(path, folder)


@pytest.mark.shared
def test_genai_requests(tmp_path: Path) -> None:  # C6, C7, C8
    trace = published("genai/requests.parquet", tmp_path)
    trace.check("requests", "requests tenants models images exec_hours failed_share", "whole trace", [
        ("all", 14279, 2380, 76, 37802, 103.978, 0.0163177),
    ])  # fmt: skip
    assert trace.figure("requests", "all", "first") == "2024-11-15T16:57:50Z"
    assert trace.figure("requests", "all", "last") == "2024-11-30T23:43:04Z"
    trace.check("tenant", "requests exec_seconds share", "whole trace", [
        ("G0264", 1179, 24758, 0.0656175), ("G0316", 212, 14650, 0.0388277), ("G0146", 281, 13956, 0.0369883),
    ])  # fmt: skip
    tenants = [
        row["series"]
        for row in trace.document["rows"]
        if row["section"] == "tenant" and row["measure"] == "share"
    ]
    assert tenants[:3] == ["G0264", "G0316", "G0146"]
    trace.check(
        "arrivals", "mean fano peak_to_mean off_share", "1 h", [("all", 38.8016, 126.444, 9.1491, 0.78647)]
    )
    assert trace.at("arrivals", "all", "goh_barabasi", "whole trace") == pytest.approx(0.839947, rel=1e-4)


@pytest.mark.shared
def test_azure_tokens(tmp_path: Path) -> None:  # D1, D2, D3
    trace = published("llm/azure2023.parquet", tmp_path)
    header = "requests input_tokens output_tokens mean_input mean_output p50_input p50_output span_s output_tok_s total_tok_s"
    trace.check("requests", header, "whole trace", [
        ("code", 5100, 10466496, 139352, 2052.25, 27.3239, 1472.5, 13.0, 1645.85, 84.6686, 6443.98),
        ("conv", 9754, 12072473, 2156570, 1237.69, 221.096, 1035.0, 139.5, 1753.26, 1230.04, 8115.78),
    ])  # fmt: skip
    for window, series, *figures in (
        ("1 s", "code", 3.09483, 14.3542, 21.649), ("10 s", "code", 30.8841, 78.7026, 10.588),
        ("60 s", "code", 184.778, 193.718, 3.42032), ("1 s", "conv", 5.56189, 1.30518, 2.69692),
        ("10 s", "conv", 55.6114, 3.05174, 1.58241), ("60 s", "conv", 332.931, 12.4907, 1.44174),
    ):  # fmt: skip
        trace.check("arrivals", "mean fano peak_to_mean", window, [(series, *figures)])
    trace.check("arrivals", "goh_barabasi", "whole trace", [("code", 0.863811), ("conv", 0.0351248)])
    trace.check("tokens", "bins mean_tok_s peak_tok_s cv p99_tok_s", "10 s", [
        ("code", 163, 84.346, 1033.4, 1.78415, 601.886), ("conv", 174, 1234.75, 2030, 0.243767, 1980.75),
    ])  # fmt: skip


@pytest.mark.shared
def test_mooncake_reuse_and_arrivals(tmp_path: Path) -> None:  # D4, D4b
    trace = published("llm/mooncake_conversation.parquet", tmp_path)
    header = "requests input_tokens output_tokens cached_input_tokens cached_share span_s"
    trace.check(
        "requests", header, "whole trace", [("all", 5719, 73604194, 1977204, 25555226, 0.347198, 1797.0)]
    )
    trace.check("arrivals", "mean fano peak_to_mean", "10 s", [("all", 31.7877, 1.94832, 1.66731)])
    trace.check("arrivals", "mean fano peak_to_mean", "60 s", [("all", 190.0, 2.61162, 1.26316)])
    trace.check("arrivals", "goh_barabasi", "whole trace", [("all", 0.49023)])


@pytest.mark.shared
def test_mooncake_poisson_is_not_bursty(tmp_path: Path) -> None:  # D5, D5b
    trace = published("llm/mooncake_synthetic_poisson.parquet", tmp_path)
    header = "requests input_tokens output_tokens cached_input_tokens cached_share span_s"
    trace.check(
        "requests", header, "whole trace", [("all", 3993, 61194628, 595432, 39852661, 0.651244, 1022.02)]
    )
    trace.check("arrivals", "mean fano peak_to_mean", "10 s", [("all", 39.0392, 1.17776, 1.40884)])
    trace.check("arrivals", "mean fano peak_to_mean", "60 s", [("all", 234.235, 1.19163, 1.16549)])
    assert trace.at("arrivals", "all", "goh_barabasi", "whole trace") == pytest.approx(0.00562349, rel=1e-4)
