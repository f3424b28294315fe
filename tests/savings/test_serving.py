"""Rules about endpoints of our own: replicas, caches, cards. An endpoint costs 2400 on a day, 100 an hour."""
# ruff: noqa: ANN401  # fields of an interval

from decimal import Decimal
from typing import Any

import pytest
from tests.savings.world import World, check_found, check_sound, job, part, served

J = "Deployment c/ml/j"
DAY = part("2400")
TWO = [job(), job("k")]
BUSY = served((0, 24), requests=Decimal(10))
SPLIT = {"tensor-parallel": 8, "model-memory-gib": 140, "slo-tpot-seconds": "0.1"}


def rate(tokens_per_second: int, hours: tuple[int, int] = (0, 24), **more: Any) -> list[dict[str, Any]]:
    return served(hours, output_tokens=Decimal(3600 * tokens_per_second), requests=Decimal(1), **more)


def latency(hours: tuple[int, int] = (0, 24), **more: Any) -> list[dict[str, Any]]:
    """Ten seconds of prefill an hour, and 1000 tokens of 0.01 s: half of the time is prefill."""
    given = {
        "input_tokens": Decimal(1000), "output_tokens": Decimal(1000), "ttft_seconds_sum": Decimal(10),
        "ttft_seconds_count": Decimal(10), "tpot_seconds_sum": Decimal("0.1"), "tpot_seconds_count": Decimal(10),
    }  # fmt: skip
    return served(hours, **{**given, **more})


def pods(
    count: int, tokens_per_second: int, hours: tuple[int, int] = (0, 24), **more: Any
) -> list[dict[str, Any]]:
    return [row for pod in range(count) for row in rate(tokens_per_second, hours, pod=f"p{pod}", **more)]


def pool(role: str, running: tuple[str, ...], hour: int) -> list[dict[str, Any]]:
    return [
        row
        for pod, mean in enumerate(running)
        for row in served((hour, hour + 1), role=role, pod=f"{role}-{pod}", running=Decimal(mean))
    ]


FOUND = {
    # Nobody called it for the whole day.
    "idle-endpoint": ("idle-endpoint", World([DAY], tokens=served((0, 24), requests=Decimal(0))), J, "2400", "2400"),
    # Eight hours without requests, less a cold start of ten minutes: 7 h 50 min.
    "off-hours": (
        "off-hours",
        World([DAY], tokens=[*served((0, 8), requests=Decimal(0)), *served((8, 24), requests=Decimal(9))]),
        J, "783.333333333", "783.333333333",
    ),
    # On the second day somebody called at 03:00: 3 h and 4 h less a start each. Hours that never had a request: on the
    # first day 7 of 8 hours less 7/8 of a start, on the second the same as before: 6.854167 + 6.666667 h.
    "off-hours: two days": (
        "off-hours",
        World(
            [DAY, part("2400", (24, 48))],
            tokens=[
                *served((0, 8), requests=Decimal(0)), *served((8, 24), requests=Decimal(9)),
                *served((24, 27), requests=Decimal(0)), *served((27, 28), requests=Decimal(1)),
                *served((28, 32), requests=Decimal(0)), *served((32, 48), requests=Decimal(9)),
            ],
            days=2,
        ),
        J, "1352.083333333", "1450",
    ),
    # Four replicas give 40 tokens/s, one could give 40: ⌈40 / (0.8 × 40)⌉ = 2.
    "over-replicated": (
        "over-replicated",
        World([DAY], tokens=pods(4, 10), facts={"j": {"tokens-per-second": 40}}),
        J, "1200", "1200",
    ),
    # H100 at 100 an hour gives 10 tokens/s; L40S at 20 an hour was seen to give 20. One is enough: 24 × 20 = 480; at
    # twice the peak two: 960.
    "smaller-gpu": (
        "smaller-gpu",
        World(
            [DAY, part("480", job="k", x_GpuModel="L40S")], jobs=TWO,
            tokens=[*rate(10), *rate(20, deployment="k", job_id="k")],
        ),
        J, "1440", "1920",
    ),
    # The same from A100 to H100.
    "newer-gpu": (
        "newer-gpu",
        World(
            [part("2400", x_GpuModel="A100"), part("480", job="k")], jobs=TWO,
            tokens=[*rate(10), *rate(20, deployment="k", job_id="k")],
        ),
        J, "1440", "1920",
    ),
    # 140 GiB of weights and a fifth of 436 GiB of cache fit 4 × 72 GiB; 0.03 s a token may become 0.06 of 0.1 allowed.
    "over-parallel": (
        "over-parallel",
        World(
            [DAY], facts={"j": SPLIT},
            tokens=latency(kv_cache_usage=Decimal("0.2"), tpot_seconds_sum=Decimal("0.3")),
        ),
        J, "1200", "1200",
    ),
    # 1 − 1/1.6 = 0.375; nobody evaluated it.
    "quantize": (
        "quantize", World([DAY], facts={"j": {"precision": "bf16", "fp8-speedup": "1.6"}}), J, "0", "900",
    ),
    "quantize: evaluated, said by labels": (
        "quantize",
        World([DAY], jobs=[job(labels={f"gpuledger.io/{key}": value for key, value in (
            ("precision", "BF16"), ("fp8-speedup", "1.6"), ("quality-passed", "true"),
        )})]),
        J, "900", "900",
    ),
    # Twice as fast: half of it; with half the gain 1 − 1/1.5.
    "speculative-decoding": (
        "speculative-decoding", World([DAY], facts={"j": {"speculative-gain": 2}}), J, "800", "1200",
    ),
    # Half of the time is prefill, 60 % of prompts repeat, as told: 0.3; half of that for sure.
    "prefix-cache: told": (
        "prefix-cache",
        World([DAY], tokens=latency(cached_input_tokens=Decimal(0)), facts={"j": {"prefix-share": "0.6"}}),
        J, "360", "720",
    ),
    # Another endpoint of the model reads 80 % of its input from the cache.
    "prefix-cache: a peer": (
        "prefix-cache",
        World(
            [DAY], jobs=TWO,
            tokens=[
                *latency(cached_input_tokens=Decimal(0)),
                *latency(cached_input_tokens=Decimal(800), deployment="k", job_id="k"),
            ],
        ),
        J, "0", "960",
    ),
    # 10 preemptions of 100 requests with 10 tokens in and 10 out: 100 tokens of prompts again, 150 with half the output.
    "kv-thrash": (
        "kv-thrash",
        World([DAY], tokens=served(
            (5, 6), requests=Decimal(100), input_tokens=Decimal(1000), output_tokens=Decimal(1000),
            preemptions=Decimal(10), kv_cache_usage=Decimal("0.99"),
        )),
        J, "114.285714286", "167.441860465",
    ),
    # Two endpoints with two replicas each, 10 tokens/s by day and by night; one replica could give 20: together one is
    # enough, with their peaks at once two. 3/4 and 1/2 of 3600.
    "low-batch": (
        "low-batch",
        World(
            [DAY, part("1200", job="k")], jobs=TWO, facts={"j": {"tokens-per-second": 20}},
            tokens=[
                *pods(2, 5, (0, 12)), *pods(2, 0, (12, 24)),
                *pods(2, 0, (0, 12), deployment="k", job_id="k"), *pods(2, 5, (12, 24), deployment="k", job_id="k"),
            ],
        ),
        "model m on H100", "1800", "2700",
    ),
    # Four replicas for prefill were at most 13/40 busy: 4 − ⌈1.3/0.8⌉ = 2 to spare, 4 − ⌈1.3/0.6⌉ = 1 for sure, of 8.
    "pd-imbalance": (
        "pd-imbalance",
        World([DAY], tokens=[*pool("prefill", ("10", "1", "1", "1"), 0), *pool("decode", ("9", "9", "9", "10"), 0)]),
        f"{J} prefill", "300", "600",
    ),
    # One hour with 1000 tokens a request instead of 100: 9000 of 33000 tokens too many.
    "output-excess": (
        "output-excess",
        World([DAY], tokens=[
            *served((0, 23), requests=Decimal(10), output_tokens=Decimal(1000)),
            *served((23, 24), requests=Decimal(10), output_tokens=Decimal(10000)),
        ]),
        J, "0", "654.545454545",
    ),
    # Every tenth request failed.
    "failed-calls": (
        "failed-calls",
        World([DAY], tokens=served((0, 1), requests=Decimal(90), failed_requests=Decimal(10))),
        J, "0", "240",
    ),
    # 40 % of input unused, and input takes half of the time.
    "context-bloat": (
        "context-bloat", World([DAY], tokens=latency(), facts={"j": {"unused-context-share": "0.4"}}), J, "240", "480",
    ),
    "duplicate-calls": (
        "duplicate-calls", World([DAY], facts={"j": {"duplicate-call-share": "0.25"}}), J, "300", "600",
    ),
}  # fmt: skip
SOUND = {
    "idle-endpoint": ("idle-endpoint", World([DAY], tokens=[*served((0, 20), requests=Decimal(0)), *served((20, 24), requests=Decimal(1))])),
    "off-hours": ("off-hours", World([DAY], tokens=BUSY)),
    "off-hours: not told is not zero": ("off-hours", World([DAY], tokens=served((8, 24), requests=Decimal(9)))),
    "over-replicated": ("over-replicated", World([DAY], tokens=pods(4, 10))),
    "over-replicated: a queue": (
        "over-replicated",
        World([DAY], tokens=pods(4, 10, waiting=Decimal(3)), facts={"j": {"tokens-per-second": 40}}),
    ),
    "smaller-gpu": (
        "smaller-gpu",
        World(
            [DAY, part("3000", job="k", x_GpuModel="L40S")], jobs=TWO,
            tokens=[*rate(10), *rate(20, deployment="k", job_id="k")],
        ),
    ),
    "newer-gpu": ("newer-gpu", World([DAY], tokens=rate(10))),
    "over-parallel: latency": (
        "over-parallel",
        World([DAY], facts={"j": SPLIT}, tokens=latency(kv_cache_usage=Decimal("0.2"), tpot_seconds_sum=Decimal("0.6"))),
    ),
    "over-parallel: memory": (
        "over-parallel", World([DAY], facts={"j": SPLIT}, tokens=latency(kv_cache_usage=Decimal("0.9"))),
    ),
    "quantize": ("quantize", World([DAY], facts={"j": {"precision": "fp8", "fp8-speedup": 2}})),
    "quantize: the card has no FP8": (
        "quantize", World([part("2400", x_GpuModel="A100")], facts={"j": {"precision": "bf16", "fp8-speedup": 2}}),
    ),
    "speculative-decoding": (
        "speculative-decoding", World([DAY], facts={"j": {"speculative-gain": 2, "speculative-decoding": "on"}}),
    ),
    "prefix-cache": (
        "prefix-cache",
        World([DAY], tokens=latency(cached_input_tokens=Decimal(300)), facts={"j": {"prefix-share": "0.6"}}),
    ),
    "kv-thrash": (
        "kv-thrash",
        World([DAY], tokens=served(
            (5, 6), requests=Decimal(100), input_tokens=Decimal(1000), output_tokens=Decimal(1000),
            preemptions=Decimal(0), kv_cache_usage=Decimal("0.99"),
        )),
    ),
    "low-batch": ("low-batch", World([DAY], tokens=pods(2, 10))),
    "pd-imbalance": (
        "pd-imbalance", World([DAY], tokens=[*pool("prefill", ("9", "10"), 0), *pool("decode", ("9", "10"), 0)]),
    ),
    "output-excess": (
        "output-excess", World([DAY], tokens=served((0, 24), requests=Decimal(10), output_tokens=Decimal(1000))),
    ),
    "failed-calls": ("failed-calls", World([DAY], tokens=served((0, 1), requests=Decimal(90), failed_requests=Decimal(0)))),
    "context-bloat": ("context-bloat", World([DAY], tokens=latency(), facts={"j": {"unused-context-share": 0}})),
    "duplicate-calls": ("duplicate-calls", World([DAY], facts={"j": {"duplicate-call-share": 0}})),
}  # fmt: skip


@pytest.mark.parametrize("name", FOUND)
def test_what_is_found(name: str) -> None:
    check_found(*FOUND[name])


@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_found_where_nothing_is_wasted(name: str) -> None:
    check_sound(*SOUND[name])


def test_an_endpoint_without_a_job_id_is_the_only_job_of_its_name() -> None:
    unnamed = [{**row, "job_id": None} for row in served((0, 24), requests=Decimal(0))]
    assert World([DAY], tokens=unnamed).ask("idle-endpoint").totals["saving_high"] == 2400
    twins = [job(), job("k", name="j")]
    assert World([DAY], jobs=twins, tokens=unnamed).ask("idle-endpoint").rows == []
