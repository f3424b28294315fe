"""Published load points at published rates: gpuledger's figures are what their own formulas give, digit by digit.

The formulas here are the publishers', worked out with Decimal from the files' cells alone. The files lie outside the
project, in $GPULEDGER_SHARED; what others publish with all inputs beside it is quoted with its source.
"""

import csv
import os
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from tests.surfaces.shell import gpuledger

SHARED = Path(os.environ.get("GPULEDGER_SHARED", Path(__file__).parents[3] / "shared"))
POINTS, PRICES = SHARED / "data" / "unit_economics", SHARED / "data" / "prices" / "gpu_instance_prices.csv"
EXACT = Decimal("1e-9")
RATES = ("usd_gpu_h_hyperscaler_own", "usd_gpu_h_neocloud_own", "usd_gpu_h_rental_3yr")
MI355X = {
    "gpu_model": "hardware", "interactivity": "interactivity_tok_s_user", "total_tok_s_per_gpu": "tput_total_tok_s_per_gpu",
    "prefill_gpus": "num_prefill_gpu", "decode_gpus": "num_decode_gpu", "variant": "run_date",
}  # fmt: skip
CURVES = {
    "gpus": "gpu_count", "model": "model_id", "concurrency": "max_concurrency", "output_tok_s": "output_tok_per_s",
    "input_tok_s": "input_tok_per_s", "ttft_p99_s": "p99_ttft_s", "tpot_p99_s": "p99_tpot_s", "tpot_median_s": "median_tpot_s",
}  # fmt: skip
MLPERF = {
    "gpu_model": "accelerator", "gpus": "total_accelerators", "output_tok_s": "tokens_per_s", "variant": "scenario",
    "precision": "weights",
}  # fmt: skip
shared = pytest.mark.skipif(not POINTS.is_dir(), reason=f"no sample data at {SHARED}: set GPULEDGER_SHARED")


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def ask(path: Path, columns: dict[str, str], *words: object) -> Any:  # noqa: ANN401  # JSON
    named = [word for ours, theirs in columns.items() for word in ("--column", f"{ours}={theirs}")]
    done = gpuledger("--format", "json", "compare-hardware", "--curves", path, *named, *words)
    assert done.code == 0, done.err
    return done.document


@shared
@pytest.mark.shared
@pytest.mark.parametrize("rate", RATES)
def test_inferencex_mi355x(rate: str) -> None:
    """usd_per_Mtok = usd_per_GPU_h / (tput_per_gpu × 3600 / 10^6), for each of its three rates per card."""
    path = POINTS / "inferencex_mi355x_dsr1_fp4_1k1k.csv"
    (usd,) = (
        Decimal(row[rate])
        for row in cells(POINTS / "inferencex_gpu_cost_rates.csv")
        if row["gpu"] == "mi355x"
    )
    prices = ("--prices", POINTS / "inferencex_gpu_cost_rates.csv", "--price-column", "gpu_model=gpu",
              "--price-column", f"usd_per_gpu_hour={rate}")  # fmt: skip
    rows = ask(path, MI355X, "--token-basis", "total", *prices)["rows"]
    expected = cells(path)
    assert len(rows) == len(expected) == 24
    for row, point in zip(rows, expected, strict=True):
        speed = Decimal(point["tput_total_tok_s_per_gpu"])
        with localcontext(prec=50):
            cost, rate_per_usd = usd / (speed * 3600 / 10**6), speed / usd
        assert row["usd_per_gpu_hour"] == str(usd)
        assert abs(Decimal(row["cost_per_mtok"]) - cost) < EXACT
        assert abs(Decimal(row["tps_per_dollar"]) - rate_per_usd) < EXACT
        assert Decimal(row["tok_s_per_gpu"]) == speed
        assert Decimal(row["interactivity"]) == Decimal(point["interactivity_tok_s_user"])
        assert Decimal(row["gpus"]) == int(point["num_prefill_gpu"]) + int(point["num_decode_gpu"])
        better = [
            other for other in expected
            if Decimal(other["tput_total_tok_s_per_gpu"]) >= speed
            and Decimal(other["interactivity_tok_s_user"]) >= Decimal(point["interactivity_tok_s_user"]) and other != point
        ]  # fmt: skip
        assert row["pareto"] is (not better)


@shared
@pytest.mark.shared
def test_inferencex_mi355x_between_its_points() -> None:
    """At a measured point of the front the spline is that point; between two it lies between their costs."""
    path = POINTS / "inferencex_mi355x_dsr1_fp4_1k1k.csv"
    words = ("--token-basis", "total", "--price", "mi355x=1.48")
    at = Decimal("57.832774")
    (met,) = ask(path, MI355X, *words, "--at-interactivity", at)["rows"]
    assert Decimal(met["tok_s_per_gpu"]) == pytest.approx(Decimal("1349.113082"), abs=Decimal("1e-6"))
    assert Decimal(met["cost_per_mtok"]) == pytest.approx(
        Decimal("1.48") / Decimal("1349.113082") / 3600 * 10**6, abs=EXACT
    )
    (between,) = ask(path, MI355X, *words, "--at-interactivity", 65)["rows"]
    assert 842.698123 < float(between["tok_s_per_gpu"]) < 1104.033721  # 58.07 and 72.07 tokens/s per user
    (beyond,) = ask(path, MI355X, *words, "--at-interactivity", 200)["rows"]
    assert (beyond["cost_per_mtok"], beyond["note"]) == (
        None, "not comparable: measured from 11.26 to 157.6 tokens/s per user",
    )  # fmt: skip


@shared
@pytest.mark.shared
@pytest.mark.parametrize("basis", ["output", "input", "total"])
def test_inferencex_slo_points(basis: str) -> None:
    """All 45 points of an H200 node: each denominator carries the whole fleet, and 1 / TPOT is the speed per user."""
    path, model = POINTS / "inferencex_slo_curves.csv", "Qwen/Qwen3.5-397B-A17B"
    expected = [row for row in cells(path) if row["model_id"] == model]
    rows = ask(path, CURVES, "--model", model, "--price", "h200=1.74", "--token-basis", basis)["rows"]
    assert len(rows) == len(expected) == 45
    for row, point in zip(rows, expected, strict=True):
        speeds = {"output": Decimal(point["output_tok_per_s"]), "input": Decimal(point["input_tok_per_s"])}
        with localcontext(prec=50):
            speed = sum(speeds.values(), Decimal(0)) if basis == "total" else speeds[basis]
            cost = Decimal("1.74") / (speed / 8 * 3600 / 10**6)
            fast = 1 / Decimal(point["median_tpot_s"])
        assert abs(Decimal(row["cost_per_mtok"]) - cost) < EXACT
        assert abs(Decimal(row["interactivity"]) - fast) < EXACT
        assert (row["size"], row["hardware"]) == (f"{point['isl']}x{point['osl']}", "8x H200")


@shared
@pytest.mark.shared
def test_inferencex_slo_capacity_keeps_the_limits() -> None:
    """Where a fitted curve keeps the limits, so do the measured points on both sides that bound it."""
    path, model = POINTS / "inferencex_slo_curves.csv", "Qwen/Qwen3.5-397B-A17B"
    words = (
        "--model",
        model,
        "--price",
        "h200=1.74",
        "--demand",
        "1024x128=900",
        "--slo-tpot",
        "0.05",
        "--slo-rank",
        "median",
    )
    (row,) = ask(path, CURVES, *words)["rows"]
    seen = sorted(
        (int(point["max_concurrency"]), float(point["median_tpot_s"])) for point in cells(path)
        if point["model_id"] == model and point["isl"] == "1024"
    )  # fmt: skip
    assert row["binding"] == "tpot"
    assert max(load for load, slow in seen if slow <= 0.05) <= row["at_concurrency"]
    assert row["at_concurrency"] <= min(load for load, slow in seen if slow > 0.05)
    assert Decimal(row["cost_usd_per_hour"]) == row["replicas"] * 8 * Decimal("1.74")
    unstated = ask(
        path, CURVES, "--model", "zai-org/GLM-5-FP8", "--demand", "1024x128=900", "--slo-tpot", "0.05"
    )["rows"]
    assert [one["note"] for one in unstated] == [
        "not comparable: no price is known: give --price or --prices"
    ]


def lowest(prices: list[dict[str, str]], card: str) -> Decimal | None:
    """Lowest on-demand price of a card among the list prices."""
    some = [Decimal(row["on_demand_usd_h"]) / Decimal(row["gpu_count"]) for row in prices
            if row["gpu_model"].lower().replace("-", "").replace(" ", "") == card and row["on_demand_usd_h"]]  # fmt: skip
    return min(some, default=None)


@shared
@pytest.mark.shared
@pytest.mark.parametrize("model", ["gpt-oss-120b", "llama2-70b-99.9", "deepseek-r1"])
def test_mlperf_at_list_prices(model: str) -> None:
    """tokens/s of all accelerators, at the lowest list price of one; a card nobody lists has no cost."""
    columns = ["gpus=gpu_count", "usd_per_instance_hour=on_demand_usd_h"]
    words = [word for column in columns for word in ("--price-column", column)]
    rows = ask(
        POINTS / "mlperf_inference_v6_1_excerpt.csv", MLPERF, "--model", model, "--prices", PRICES, *words
    )["rows"]
    expected = [row for row in cells(POINTS / "mlperf_inference_v6_1_excerpt.csv") if row["model"] == model]
    prices = cells(PRICES)
    assert len(rows) == len(expected) > 0
    for row, point in zip(rows, expected, strict=True):
        usd = lowest(prices, point["accelerator"].lower())
        if usd is None:
            assert (row["cost_per_mtok"], row["note"]) == (None, "not comparable: no price is known")
            continue
        with localcontext(prec=50):
            cost = usd * int(point["total_accelerators"]) / (Decimal(point["tokens_per_s"]) * 3600 / 10**6)
        assert abs(Decimal(row["cost_per_mtok"]) - cost) < EXACT


# gmicloud.ai, "Cost Per Million Tokens Explained", 2026-05-28: rates, tokens/s and the results that it prints.
GMI = [
    ("H100", "2.00", "85", "6.54"),
    ("H200", "2.60", "140", "5.16"),
    ("H100", "2.00", "120", "4.63"),
    ("H100", "2.00", "400", "1.39"),
]


@pytest.mark.parametrize(("card", "usd", "speed", "printed"), GMI)
def test_a_published_table_of_costs_per_million_tokens(
    tmp_path: Path, card: str, usd: str, speed: str, printed: str
) -> None:
    path = tmp_path / "c.csv"
    path.write_text(f"gpu_model,gpus,output_tok_s\n{card},1,{speed}\n")
    (row,) = ask(path, {}, "--price", f"{card}={usd}")["rows"]
    assert round(Decimal(row["cost_per_mtok"]), 2) == Decimal(printed)
