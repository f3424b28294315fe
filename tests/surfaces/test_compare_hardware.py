"""`compare-hardware` from files and from a ledger's own telemetry: synthetic loads whose answers are worked out by hand."""

import csv
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.surfaces.shell import bill, gpuledger

from gpuledger.pipeline.hardware_demand import histogram_quantile

KEYS = [
    "hardware",
    "replicas",
    "utilization",
    "cost_usd_per_hour",
    "tps_per_dollar",
    "cost_per_mtok",
    "meets_slo",
    "pareto",
    "note",
]
HEADER = "gpu_model,gpus,model,concurrency,output_tok_s,ttft_p95_s,tpot_p95_s"


def curve(gpu_model: str, saturated: float, half: float, *, gpus: int = 1, model: str = "m") -> list[str]:
    """Synthetic points on a curve; TTFT 100 ms + 10 ms, TPOT 10 ms + 1 ms a request at once."""
    return [
        f"{gpu_model},{gpus},{model},{c},{saturated * c / (c + half)!r},{0.1 + 0.01 * c!r},{0.01 + 0.001 * c!r}"
        for c in (1, 2, 4, 8, 16, 32, 64)
    ]


@pytest.fixture
def curves(tmp_path: Path) -> Path:
    path = tmp_path / "curves.csv"
    path.write_text("\n".join([HEADER, *curve("H100", 3000, 10), *curve("L4", 300, 5)]) + "\n")
    return path


def ask(*words: object) -> Any:  # noqa: ANN401  # JSON
    done = gpuledger("--format", "json", "compare-hardware", *words)
    assert done.code == 0, done.err
    return done.document


def row(document: Any, hardware: str) -> dict[str, Any]:  # noqa: ANN401  # JSON
    (found,) = (one for one in document["rows"] if one["hardware"] == hardware)
    return dict(found)


def test_by_hand(curves: Path) -> None:
    """TPOT of at most 30 ms is 20 requests at once: an H100 does 2000 tok/s there, an L4 240. 80 % of that is planned."""
    words = (
        "--curves",
        curves,
        "--demand",
        1500,
        "--slo-ttft",
        5,
        "--slo-tpot",
        0.03,
        "--price",
        "H100=3",
        "--price",
        "L4=0.5",
    )
    document = ask(*words)
    assert all(set(KEYS) <= set(one) for one in document["rows"])
    h100, l4 = row(document, "H100"), row(document, "L4")
    assert h100["capacity_tok_s"] == pytest.approx(2000, rel=1e-3)
    assert (h100["replicas"], h100["cost_usd_per_hour"], h100["meets_slo"], h100["binding"]) == (
        1,
        "3",
        True,
        "tpot",
    )
    assert h100["utilization"] == pytest.approx(1500 / 2000, rel=1e-3)
    assert Decimal(h100["tps_per_dollar"]) == 500
    assert Decimal(h100["cost_per_mtok"]) == pytest.approx(
        Decimal(3) / 1500 / 3600 * 1_000_000, abs=Decimal("1e-9")
    )
    assert (l4["replicas"], l4["cost_usd_per_hour"]) == (8, "4")  # 1500 / (0.8 × 240) = 7.8
    # At 1500 tok/s of 3000 the H100 serves 10 at once: TPOT 20 ms. Each L4 serves 187.5 of 300: 8.33 at once, 18.3 ms.
    assert h100["interactivity"] == pytest.approx(1 / 0.02, rel=2e-3)
    assert l4["interactivity"] == pytest.approx(1 / (0.01 + 0.001 * 25 / 3), rel=2e-3)
    assert (h100["pareto"], l4["pareto"]) == (True, True), "the dearer one is faster"
    assert document["totals"]["cheapest"] == "H100"
    assert ask(*words) == document, "seeded"


def test_demand_by_hour_and_a_fleet_of_both(curves: Path, tmp_path: Path) -> None:
    hours = tmp_path / "hours.csv"
    hours.write_text("hour,tok_s\n00,190\n01,190\n02,190\n03,1750\n")
    document = ask(
        "--curves",
        curves,
        "--demand-by-hour",
        hours,
        "--slo-tpot",
        0.03,
        "--price",
        "H100=3",
        "--price",
        "L4=0.5",
    )
    h100, l4 = row(document, "H100"), row(document, "L4")
    assert Decimal(h100["cost_usd_per_hour"]) == Decimal(3 * 3 + 6) / 4
    assert (h100["replicas"], h100["replicas_mean"], h100["fixed_fleet_usd_per_hour"]) == (2, 1.25, "6")
    assert Decimal(l4["cost_usd_per_hour"]) == Decimal("0.5") * (3 * 1 + 10) / 4
    (mixed,) = (one for one in document["rows"] if one["mix"])
    # 3 × one L4 for 190; 1750 is one H100 (1600) and one L4 (192): 3.50, less than ten L4 (5.00)
    assert mixed["hardware"] == "1 × H100 + 1 × L4"
    assert Decimal(mixed["cost_usd_per_hour"]) == Decimal(3 * 0.5 + 3.5) / 4
    assert mixed == document["rows"][0]
    assert (document["totals"]["hours"], document["totals"]["peak_demand_tok_s"]) == (4, 1750)


def test_sizes_are_planned_together(tmp_path: Path) -> None:
    """Mélange's published example (2 × 2 request sizes, requests/s): 3 A10G and 1 A100-80GB, $6.70 an hour."""
    path = tmp_path / "melange.csv"
    speeds = {"A10G": (2, 1, 5, 2), "A100-80GB": (20, 20, 40, 20)}
    lines = [
        f"{name},1,{size},{speed}"
        for name, some in speeds.items()
        for size, speed in zip("abcd", some, strict=True)
    ]
    path.write_text("\n".join(["hardware,gpus,size,output_tok_s", *lines]))
    demand = [
        word
        for size, load in zip("abcd", (6, 3, 15, 6), strict=True)
        for word in ("--demand", f"{size}={load}")
    ]
    prices = ("--price", "A10G=1.01", "--price", "A100-80GB=3.67")
    document = ask("--curves", path, *demand, *prices, "--headroom", 1, "--slices", 1)
    best = document["rows"][0]
    assert (best["hardware"], best["cost_usd_per_hour"]) == ("1 × A100-80GB + 3 × A10G", "6.7")
    assert row(document, "A10G")["cost_usd_per_hour"] == "12.12"
    assert row(document, "A100-80GB")["cost_usd_per_hour"] == "7.34"
    assert "no load curve" in row(document, "A10G")["note"]
    unsized = gpuledger("compare-hardware", "--curves", path, "--demand", 5)
    assert unsized.code == 2
    assert "sizes are a, b, c, d" in unsized.err


def test_what_cant_be_compared_says_why(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    lines = [
        *curve("H100", 3000, 10), *(line.rsplit(",", 2)[0] + ",," for line in curve("A100", 2000, 10)), *curve("Abacus", 9, 1),
    ]  # fmt: skip
    path.write_text("\n".join([HEADER, *lines]))
    document = ask(
        "--curves",
        path,
        "--demand",
        900,
        "--slo-tpot",
        0.03,
        "--price",
        "H100=3",
        "--price",
        "A100=2",
        "--price",
        "T4=0.4",
    )
    for name, reason in (
        ("A100", "no p95 of TPOT was measured"), ("Abacus", "no price is known"), ("T4", "no load points of this model on it"),
    ):  # fmt: skip
        found = row(document, name)
        assert found["note"].startswith("not comparable: ")
        assert reason in found["note"]
        assert (found["replicas"], found["cost_usd_per_hour"], found["meets_slo"], found["pareto"]) == (
            None,
        ) * 4
    assert {"hardware-not-comparable"} == {told["code"] for told in document["diagnostics"]}
    never = ask("--curves", path, "--demand", 900, "--slo-tpot", 0.005, "--price", "H100=3")
    found = row(never, "H100")
    assert (found["meets_slo"], found["cost_usd_per_hour"]) == (False, None)
    assert "TPOT 0.011 s, limit 0.005 s with 1 at once" in found["note"]
    assert never["totals"]["cheapest"] is None


def test_memory_fits_or_limits_or_rules_out(curves: Path) -> None:
    words = ("--curves", curves, "--demand", 100, "--price", "H100=3", "--price", "L4=0.5")
    out = row(ask(*words, "--weights-gib", 30), "L4")
    assert out["note"].startswith("not comparable: 30 GiB of weights don't fit 90% of 1 × 2")
    path = curves.with_name("sized.csv")
    lines = [line + ",1000,24" for line in curve("L4", 300, 5)]
    path.write_text("\n".join([HEADER + ",isl,gpu_memory_gib", *lines]).replace("isl", "size"))
    limited = ask(
        "--curves",
        path,
        "--demand",
        100,
        "--price",
        "L4=0.5",
        "--weights-gib",
        "16",
        "--kv-gib-per-1k-tokens",
        "0.1",
    )
    assert row(limited, "L4")["binding"] == "range", "without the tokens of a request its cache isn't known"
    path.write_text(
        "\n".join(
            [HEADER + ",isl,osl,gpu_memory_gib", *(line + ",1500,500,24" for line in curve("L4", 300, 5))]
        )
    )
    limited = ask(
        "--curves",
        path,
        "--demand",
        100,
        "--price",
        "L4=0.5",
        "--weights-gib",
        "16",
        "--kv-gib-per-1k-tokens",
        "0.1",
    )
    found = row(limited, "L4")  # (24 × 0.9 - 16) GiB / (0.1 × 2) = 28 requests
    assert (found["binding"], found["at_concurrency"]) == ("memory", pytest.approx(28))


def test_extrapolation_is_off_unless_asked_for_and_marked(curves: Path) -> None:
    words = (
        "--curves",
        curves,
        "--demand",
        1500,
        "--slo-tpot",
        0.09,
        "--price",
        "H100=3",
        "--price",
        "L4=0.5",
    )
    found = row(ask(*words), "H100")
    assert (found["binding"], found["at_concurrency"], found["extrapolated"]) == ("range", 64, False)
    beyond = row(ask(*words, "--extrapolate", 2), "H100")
    assert (beyond["binding"], beyond["extrapolated"]) == ("tpot", True)
    assert beyond["at_concurrency"] == pytest.approx(80)
    assert "extrapolated beyond the 64 requests at once" in beyond["note"]


def test_the_interval_comes_from_scatter(tmp_path: Path) -> None:
    """Points on the curve leave no doubt; points that scatter by 15 % do, and the seed settles which."""
    path, scatter = tmp_path / "c.csv", (1.15, 0.87, 1.1, 0.9, 1.12, 0.88, 1.05)
    lines = []
    for line, factor in zip(curve("H100", 3000, 10), scatter, strict=True):
        cells = line.split(",")
        lines.append(",".join([*cells[:4], repr(float(cells[4]) * factor), *cells[5:]]))
    path.write_text("\n".join([HEADER, *lines]))
    words = ("--curves", path, "--demand", 15000, "--slo-tpot", 0.03, "--price", "H100=3")
    wide = row(ask(*words), "H100")
    assert Decimal(wide["cost_low"]) < Decimal(wide["cost_high"])
    assert Decimal(wide["cost_low"]) <= Decimal(wide["cost_usd_per_hour"]) <= Decimal(wide["cost_high"])
    assert wide == row(ask(*words), "H100")
    path.write_text("\n".join([HEADER, *curve("H100", 3000, 10)]))
    sure = row(ask(*words), "H100")
    assert sure["cost_low"] == sure["cost_high"] == sure["cost_usd_per_hour"]
    assert row(ask(*words, "--draws", 0), "H100")["cost_low"] is None


def test_cards_of_two_roles_are_all_charged(tmp_path: Path) -> None:
    """Published per decode card (output), per prefill card (input) and per card of both (total): all twelve are paid."""
    path = tmp_path / "roles.csv"
    path.write_text(
        "hardware,prefill_gpus,decode_gpus,output_tok_s_per_gpu,input_tok_s_per_gpu,total_tok_s_per_gpu,interactivity\n"
        "X,4,8,300,600,400,50\n"
    )
    (output,) = ask("--curves", path, "--price", "X=2")["rows"]
    assert (output["gpus"], output["tok_s"], output["cost_usd_per_hour"]) == ("12", "2400", "24")
    assert Decimal(output["cost_per_mtok"]) == pytest.approx(
        Decimal(24) / 2400 / 3600 * 1_000_000, abs=Decimal("1e-9")
    )
    assert "of its decode cards alone it would be 1.851851852" in output["note"]  # 2 / (300 × 3600 / 10^6)
    (given,) = ask("--curves", path, "--price", "X=2", "--token-basis", "input")["rows"]
    (both,) = ask("--curves", path, "--price", "X=2", "--token-basis", "total")["rows"]
    assert (given["tok_s"], both["tok_s"]) == ("2400", "4800")
    # Each denominator carries the whole fleet: the parts add up to more than the whole.
    assert Decimal(both["cost_per_mtok"]) < Decimal(output["cost_per_mtok"]) + Decimal(given["cost_per_mtok"])


def test_prices_of_a_file_and_of_the_catalogue(curves: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.csv"
    prices.write_text("card,count,machine\nNVIDIA H100 80GB,8,24\nh100,8,20\nL4,,1\n")
    columns = [
        w
        for pair in ("gpu_model=card", "gpus=count", "usd_per_instance_hour=machine")
        for w in ("--price-column", pair)
    ]
    document = ask("--curves", curves, "--demand", 100, "--prices", prices, *columns, "--as-of", "2026-11-24")
    h100, l4 = row(document, "H100"), row(document, "L4")
    assert (h100["usd_per_gpu_hour"], h100["price_source"], h100["cost_basis"]) == (
        "2.5",
        "prices.csv:3",
        "given",
    )
    assert (l4["cost_basis"], l4["usd_per_gpu_hour"]) == ("list", "0.8048")
    assert l4["price_source"].startswith("lowest list price: aws g6.xlarge")
    early = row(ask("--curves", curves, "--demand", 100, "--as-of", "2020-01-01"), "L4")
    assert "no price is known" in early["note"]


def test_list_prices_are_of_the_memory_size(tmp_path: Path) -> None:
    """An A100 has 40 or 80 GiB; AWS states 22.35 of an L4's 24."""
    path, prices = tmp_path / "c.csv", {}
    for card, memory in (("A100", 40), ("A100", 80), ("L4", 24)):
        path.write_text(f"gpu_model,gpus,output_tok_s,gpu_memory_gib\n{card},1,5,{memory}\n")
        (found,) = ask("--curves", path, "--as-of", "2026-11-24")["rows"]
        prices[card, memory] = (found["usd_per_gpu_hour"], found["price_source"])
    assert prices["L4", 24][0] == "0.8048"
    assert prices["A100", 40] != prices["A100", 80]


BAD = [
    (("--demand", "lots"), "can't read 'lots'"),
    (("--demand", "5", "--demand-by-hour", "x.csv"), "several demands"),
    (("--slo-tpot", "0.1"), "without a demand"),
    (("--demand", "5", "--price", "H100"), "can't read 'H100'"),
    (("--demand", "5", "--column", "speed=x"), "names are"),
    (("--demand", "5", "--column", "gpus=cards"), "no column 'cards'"),
    (("--demand", "5", "--slo-ttft", "-1"), "no time"),
    (("--demand", "5", "--model", "other"), "Its models: m"),
    (("--demand", "5", "--as-of", "soon"), "no date"),
    (("--at-interactivity", "fast"), "no speed"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_what_makes_no_sense_is_refused(curves: Path, words: tuple[str, ...], message: str) -> None:
    done = gpuledger("compare-hardware", "--curves", curves, *words)
    assert done.code in {2, 3}
    assert message in done.err
    assert "Hint:" in done.err


BROKEN = [
    ("gpus,output_tok_s\n1,5\n", "names no hardware"),
    ("hardware,output_tok_s\nX,5\n", "how many cards"),
    ("hardware,gpus\nX,1\n", "no throughput"),
    ("hardware,gpus,output_tok_s\nX,1,fast\n", "no number"),
    ("hardware,gpus,output_tok_s\nX,1,-5\n", "-5"),
    ("hardware,gpus,prefill_gpus,decode_gpus,total_tok_s\nX,8,4,8,5\n", "but 4 for prefill"),
    ("hardware,gpus,output_tok_s\n", "no load points"),
    ("hardware,gpus,model,output_tok_s\nX,1,a,5\nX,1,b,5\n", "Choose one: --model a"),
]


@pytest.mark.parametrize(("text", "message"), BROKEN)
def test_load_points_that_cant_be_right_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(text)
    done = gpuledger("compare-hardware", "--curves", path, "--demand", 5)
    assert message in done.err
    assert done.code in {2, 3}


def test_quantiles_of_histograms() -> None:
    """As Prometheus reads them: linear between two bounds; what lies in the last one is unknown."""
    counts = {0.1: 50.0, 0.5: 90.0, 1.0: 100.0, float("inf"): 100.0}
    assert histogram_quantile(counts, 0.95) == pytest.approx(0.75)
    assert histogram_quantile(counts, 0.25) == pytest.approx(0.05)
    assert histogram_quantile({0.1: 10.0, float("inf"): 100.0}, 0.95) is None
    assert histogram_quantile({}, 0.5) is None
    assert histogram_quantile({1.0: 0.0}, 0.5) is None


# A ledger of its own: two deployments of one model for four hours, one on whole H100s, one on pairs of A10G.

START = datetime(2026, 10, 5, 8, tzinfo=UTC)


def telemetry(folder: Path) -> None:
    """Write synthetic record files: pods, what they held, and tokens every five minutes at loads of 1 to 16."""
    stamp = (START + timedelta(hours=4)).isoformat()
    folder.mkdir()
    nodes = [("n1", "H100", 8), ("n2", "A10G", 8)]
    pods = [("h-0", "n1", "c/h", 1), ("h-1", "n1", "c/h", 1), ("a-0", "n2", "c/a", 2)]
    write(folder / "job.csv", "job_id cluster kind name submitted started", [
        (job, "c", "Deployment", job[-1], START.isoformat(), START.isoformat()) for job in ("c/h", "c/a")
    ])  # fmt: skip
    write(folder / "node_interval.csv", "cluster node start end provider_id gpu_model gpu_count", [
        ("c", name, START.isoformat(), stamp, f"i-{name}", model, count) for name, model, count in nodes
    ])  # fmt: skip
    write(folder / "usage_interval.csv", "cluster node job_id namespace pod resource requested state start end", [
        ("c", node, job, "x", pod, "gpu", cards, "running", START.isoformat(), stamp) for pod, node, job, cards in pods
    ])  # fmt: skip
    rows = []
    for pod, _, job, _ in pods:
        saturated, half = (3000, 10) if job == "c/h" else (1200, 6)
        for slot in range(48):
            load, begin = (1, 2, 4, 8, 16)[slot % 5], START + slot * timedelta(minutes=5)
            # 95 % of TPOT observations lie below 10 ms + 1 ms a request, the rest between that and 1 s
            tpot = {f"{0.01 + 0.001 * load:g}": "95", "1": "100", "+Inf": "100"}
            tokens = saturated * load / (load + half) * 300
            rows.append(("c", "x", job[-1], pod, "vllm", "m", begin.isoformat(), (begin + timedelta(minutes=5)).isoformat(),
                         f"{4 * tokens:.6f}", f"{tokens:.6f}", load, 0, json.dumps(tpot), 5 * load, 100))  # fmt: skip
        queue = START + timedelta(hours=3, minutes=55)
        assert rows[-1][6] == queue.isoformat()
        rows[-1] = (*rows[-1][:11], 500, *rows[-1][12:])  # a queue that isn't stable: left out
    write(
        folder / "token_interval.csv",
        "cluster namespace deployment pod provider model start end input_tokens output_tokens running waiting tpot_buckets ttft_seconds_sum ttft_seconds_count",
        rows,
    )


def write(path: Path, header: str, rows: list[tuple[Any, ...]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(), *rows])


def test_curves_demand_and_prices_of_the_ledger(tmp_path: Path) -> None:
    telemetry(tmp_path / "records")
    header = (
        "BilledCost,EffectiveCost,BillingAccountId,BillingCurrency,BillingPeriodStart,ChargePeriodStart,ChargePeriodEnd,ServiceName,"
        "ChargeCategory,ConsumedQuantity,ConsumedUnit,SkuPriceDetails,ResourceId"
    )
    charge = '{0},{0},1,USD,2026-10-01T00:00:00Z,2026-10-05T08:00:00Z,2026-10-05T12:00:00Z,Compute,Usage,4,Hours,"{{""InstanceType"":""{1}""}}",{2}'
    bills = bill(
        tmp_path / "bill" / "b.csv",
        charge.format("96", "p5.48xlarge", "i-n1"),
        charge.format("16", "g5.48xlarge", "i-n2"),
        header=header,
    )
    ledger = ("--ledger", tmp_path / "ledger", "--format", "json")
    for words in (("--type", "focus", bills), ("--type", "records", tmp_path / "records")):
        done = gpuledger(*ledger, "ingest", *words)
        assert done.code in {0, 1}, done.err
    done = gpuledger(
        *ledger, "compare-hardware", "--demand-from-ledger", "--slo-tpot", 0.02, "--window", "2026-10-05"
    )
    assert done.code == 0, done.err
    document = done.document
    h100, a10g = row(document, "H100"), row(document, "2x A10G")
    # 20 ms is 10 requests at once: 1500 tok/s of an H100, 750 of a pair of A10G
    assert h100["capacity_tok_s"] == pytest.approx(1500, rel=5e-3)
    assert a10g["capacity_tok_s"] == pytest.approx(750, rel=5e-3)
    assert (h100["usd_per_gpu_hour"], h100["cost_basis"]) == ("3", "effective")
    assert a10g["usd_per_gpu_hour"] == "0.5"
    assert document["totals"]["hours"] == 4
    told = {"H100": 2 * 3000, "A10G": 1200}
    halves = {"H100": 10, "A10G": 6}
    mean = (
        sum(
            told[k] * sum((1, 2, 4, 8, 16)[s % 5] / ((1, 2, 4, 8, 16)[s % 5] + halves[k]) for s in range(48))
            for k in told
        )
        / 48
    )
    assert float(document["totals"]["demand_tok_s"]) == pytest.approx(mean, rel=1e-6)
    assert document["totals"]["curves"] == "ledger"
    # Mean TTFT is 50 ms a request at once, told by sums alone: 0.3 s is 6 at once; nobody told its p95.
    asked = ("--demand-from-ledger", "--slo-ttft", 0.3, "--window", "2026-10-05")
    done = gpuledger(*ledger, "compare-hardware", *asked, "--slo-rank", "mean")
    assert row(done.document, "H100")["capacity_tok_s"] == pytest.approx(3000 * 6 / 16, rel=5e-3)
    done = gpuledger(*ledger, "compare-hardware", *asked)
    assert row(done.document, "H100")["note"] == "not comparable: no p95 of TTFT was measured"
