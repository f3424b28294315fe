"""Samples into intervals: what counters gained, whoever restarts, repeats or goes silent. All samples are synthetic."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuledger.core.serving_metrics import Engine, Metric, counter, gauge
from gpuledger.engines import duckdb
from gpuledger.models.token_samples import Downsampler
from gpuledger.telemetry import dynamo, llm_d, nim, ray_serve, sglang, tgi, triton, vllm

MINUTE = 60_000_000
IN, OUT = "vllm:prompt_tokens_total", "vllm:generation_tokens_total"
Sample = tuple[str, Mapping[str, str], float, float]  # name, labels, minute, value


def at(minute: float) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)


class World:
    """A connection with samples; each `span` is a call of its own."""

    def __init__(self, *engines: Engine, **options: Any) -> None:  # noqa: ANN401 - passed on
        self.con = duckdb.connect(keep_order=True)
        self.make = Downsampler(self.con, engines or [vllm.ENGINE], **options)

    def _load(self, samples: Iterable[Sample]) -> tuple[str, str]:
        self.con.execute(
            "CREATE OR REPLACE TABLE raw (name VARCHAR, labels MAP(VARCHAR, VARCHAR), t BIGINT, v DOUBLE)"
        )
        rows = [
            f"({duckdb.literal(name)}, MAP {dict(sorted(labels.items()))}, {int(minute * MINUTE)}, {value})"
            for name, labels, minute, value in samples
        ]
        self.con.execute(f"INSERT INTO raw VALUES {', '.join(rows)}")
        key = "hash(name, labels::VARCHAR) AS s"
        return (
            f"SELECT {key}, t, v FROM raw",
            f"SELECT {key}, any_value(name) AS name, any_value(labels) AS labels FROM raw GROUP BY 1",
        )

    def span(self, samples: Iterable[Sample]) -> list[dict[str, Any]]:
        self.make.span(*self._load(samples))
        return self.rows()

    def pages(self, samples: Iterable[Sample]) -> list[dict[str, Any]]:
        self.make.pages(*self._load(samples))
        return self.rows()

    def rows(self) -> list[dict[str, Any]]:
        found = self.con.execute(f"FROM ({self.make.rows()}) ORDER BY start, pod, model")
        names = [column[0] for column in found.description]
        return [{k: v for k, v in zip(names, row, strict=True) if v is not None} for row in found.fetchall()]


def series(
    name: str,
    values: Mapping[float, float] | Callable[[int], float],
    minutes: Iterable[int] = range(1, 11),
    **labels: str,
) -> list[Sample]:
    """Samples a quarter of a minute past each minute."""
    said = {"pod": "p", "model_name": "m", **labels}
    if isinstance(values, Mapping):
        return [(name, said, minute, value) for minute, value in values.items()]
    return [(name, said, minute - 0.75, values(minute)) for minute in minutes]


def picked(rows: list[dict[str, Any]], name: str) -> dict[float, Any]:
    return {(row["start"] - at(0)) / timedelta(minutes=1): row.get(name) for row in rows}


def test_a_counter_gains_in_the_interval_of_the_later_sample() -> None:
    rows = World(cluster="c").span(series(OUT, {0.25: 10, 4.5: 40, 5: 50, 5.25: 55, 9: 95}))
    assert picked(rows, "output_tokens") == {0: 40, 5: 45}  # the sample right at minute 5 ends the first
    assert rows[0] == {
        "cluster": "c", "pod": "p", "model": "m", "provider": "vllm", "start": at(0), "end": at(5), "output_tokens": 40,
    }  # fmt: skip


def test_after_a_reset_a_counter_began_at_zero() -> None:
    rows = World().span(series(OUT, {0.5: 100, 1.5: 130, 2.5: 20, 3.5: 50, 4.5: 5}))
    assert picked(rows, "output_tokens") == {0: 30 + 20 + 30 + 5}


def test_a_reset_that_a_comparison_of_ends_would_not_see() -> None:
    assert picked(World().span(series(OUT, {0.5: 10, 1.5: 20, 2.5: 15, 3.5: 30})), "output_tokens") == {
        0: 10 + 15 + 15
    }


def test_over_a_gap_the_gain_is_one_row_of_its_own_and_means_are_unknown() -> None:
    rows = World().span([
        *series(OUT, {1: 100, 4: 130, 33: 1000, 34: 1010}),
        *series("vllm:num_requests_running", {1: 2, 4: 4, 33: 6, 34: 6}),
    ])  # fmt: skip
    assert [(row["start"], row["end"], row.get("output_tokens"), row.get("running")) for row in rows] == [
        (at(0), at(5), 30, 3),
        (at(5), at(30), 870, None),
        (at(30), at(35), 10, 6),
    ]


def test_a_gap_between_two_spans_is_told_by_the_later_one() -> None:
    world = World()
    world.span(series(OUT, {1: 100, 4: 130}))
    assert [
        (row["start"], row["end"], row["output_tokens"]) for row in world.span(series(OUT, {42: 530}))
    ] == [(at(5), at(40), 400)]


def test_spans_follow_each_other_without_a_seam() -> None:
    world = World()
    assert picked(world.span(series(OUT, lambda m: 7 * m, range(1, 11))), "output_tokens") == {0: 28, 5: 35}
    assert picked(world.span(series(OUT, lambda m: 7 * m, range(11, 16))), "output_tokens") == {10: 35}


def test_of_a_new_replica_the_first_sample_says_nothing() -> None:
    assert World().span(series(OUT, {1: 5000})) == []


def test_a_series_that_appears_on_a_known_target_began_at_zero() -> None:
    done = "vllm:request_success_total"
    rows = World().span([
        *series(OUT, lambda m: m, instance="i:1"),
        *series(done, lambda m: m, finished_reason="stop", instance="i:1"),
        *series(done, lambda _: 3, range(7, 11), finished_reason="abort", instance="i:1"),
        *series(done, lambda _: 99, range(7, 11), finished_reason="error", instance="i:2"),  # new itself
    ])  # fmt: skip
    assert picked(rows, "failed_requests") == {0: None, 5: 3}
    assert picked(rows, "requests") == {0: 4, 5: 5}


def test_engines_of_a_replica_add_up_and_cache_use_is_their_mean() -> None:
    rows = World().span([
        *(sample for engine in "01" for sample in series(OUT, lambda m: 10 * m, engine=engine)),
        *series("vllm:num_requests_running", lambda _: 3, engine="0"),
        *series("vllm:num_requests_running", lambda _: 1, engine="1"),
        *series("vllm:kv_cache_usage_perc", lambda _: 0.5, engine="0"),
        *series("vllm:kv_cache_usage_perc", lambda _: 0.25, engine="1"),
    ])  # fmt: skip
    assert picked(rows, "output_tokens") == {0: 80, 5: 100}
    assert picked(rows, "running") == {0: 4, 5: 4}
    assert picked(rows, "kv_cache_usage") == {0: Decimal("0.375"), 5: Decimal("0.375")}


def test_ranks_that_repeat_the_same_work_count_once() -> None:
    rows = World(sglang.ENGINE).span([
        *(s for rank in "0123" for s in series("sglang:generation_tokens_total", lambda m: 10 * m, tp_rank=rank, dp_rank="0")),
        *(s for rank in "0123" for s in series("sglang:generation_tokens_total", lambda m: m, tp_rank=rank, dp_rank="1")),
        *(s for rank in "0123" for s in series("sglang:num_running_reqs", lambda _: 2, tp_rank=rank, dp_rank="0")),
        *(s for rank in "0123" for s in series("sglang:num_running_reqs", lambda _: 7, tp_rank=rank, dp_rank="1", priority="1")),
    ])  # fmt: skip
    assert picked(rows, "output_tokens") == {0: 44, 5: 55}
    assert picked(rows, "running") == {0: 2, 5: 2}  # a queue's part by priority is in its total


def test_of_two_spellings_of_a_metric_the_newest_counts() -> None:
    rows = World().span([
        *series("vllm:kv_cache_usage_perc", lambda _: 0.5),
        *series("vllm:gpu_cache_usage_perc", lambda _: 0.75),
        *series(OUT, lambda m: m),
        *series("vllm:generation_tokens", lambda m: 2 * m),
    ])  # fmt: skip
    assert picked(rows, "kv_cache_usage") == {0: Decimal("0.5"), 5: Decimal("0.5")}
    assert picked(rows, "output_tokens") == {0: 4, 5: 5}


def test_a_replica_that_has_the_old_spelling_only_is_read_by_it() -> None:
    rows = World().span([
        *series("vllm:gpu_cache_usage_perc", lambda _: 0.75, pod="old"),
        *series(OUT, lambda m: m, pod="old"),
        *series("vllm:kv_cache_usage_perc", lambda _: 0.5, pod="new"),
        *series(OUT, lambda m: m, pod="new"),
    ])  # fmt: skip
    assert {row["pod"]: row["kv_cache_usage"] for row in rows} == {
        "old": Decimal("0.75"),
        "new": Decimal("0.5"),
    }


def test_histograms_are_those_of_the_interval() -> None:
    base = "vllm:time_to_first_token_seconds"
    rows = World().span([
        *series(OUT, lambda m: m),
        *series(f"{base}_sum", lambda m: m / 4),
        *series(f"{base}_count", lambda m: m),
        *series(f"{base}_bucket", lambda m: m // 2, le="0.25"),
        *series(f"{base}_bucket", lambda m: m, le="+Inf"),
    ])  # fmt: skip
    assert picked(rows, "ttft_seconds_sum") == {0: 1, 5: Decimal("1.25")}
    assert picked(rows, "ttft_seconds_count") == {0: 4, 5: 5}
    assert picked(rows, "ttft_buckets") == {0: {"0.25": 2, "+Inf": 4}, 5: {"0.25": 3, "+Inf": 5}}


def test_milliseconds_become_seconds_bounds_too() -> None:
    base = "nv_inference_first_response_histogram_ms"
    rows = World(triton.ENGINE).span([
        *series("nv_llm_output_token_len_sum", lambda m: m, model="tensorrt_llm"),
        *series(f"{base}_sum", lambda m: 500 * m, model="tensorrt_llm"),
        *series(f"{base}_count", lambda m: m, model="tensorrt_llm"),
        *series(f"{base}_bucket", lambda m: m, le="500", model="tensorrt_llm"),
    ])  # fmt: skip
    assert picked(rows, "ttft_seconds_sum") == {0: 2, 5: Decimal("2.5")}
    assert picked(rows, "ttft_buckets") == {0: {"0.5": 4}, 5: {"0.5": 5}}
    assert picked(rows, "ttft_seconds_count") == {0: 4, 5: 5}


def test_a_disaggregated_request_counts_once() -> None:
    def pod(name: str, role: str) -> list[Sample]:
        done = series("vllm:request_success_total", lambda m: m, pod=name, role=role, finished_reason="stop")
        return [
            *series(IN, lambda m: 100 * m, pod=name, role=role),
            *series(OUT, lambda m: m, pod=name, role=role),
            *done,
        ]

    rows = World().span([*pod("p", "prefill"), *pod("d", "decode")])
    assert sum(row.get("input_tokens", 0) for row in rows) == 900
    assert sum(row.get("output_tokens", 0) for row in rows) == 9
    assert sum(row.get("requests", 0) for row in rows) == 9
    assert {row["role"] for row in rows} == {"prefill", "decode"}


@pytest.mark.parametrize(
    ("engine", "name", "labels", "column"),
    [
        (tgi.ENGINE, "tgi_request_generated_tokens_sum", {}, "output_tokens"),
        (dynamo.ENGINE, "dynamo_frontend_output_tokens_total", {"model": "m"}, "output_tokens"),
        (nim.ENGINE, "generation_tokens_total", {}, "output_tokens"),
        (llm_d.ENGINE, "inference_objective_input_tokens_sum", {}, "input_tokens"),
        (ray_serve.ENGINE, "ray_vllm_generation_tokens", {}, "output_tokens"),
        (triton.ENGINE, "trtllm_prompt_tokens_total", {}, "input_tokens"),
    ],
)  # fmt: skip
def test_each_engine_is_read_by_its_own_names(
    engine: Engine, name: str, labels: dict[str, Any], column: str
) -> None:
    rows = World(engine).span(series(name, lambda m: m, **labels))
    assert picked(rows, column) == {0: 4, 5: 5}
    assert {row["provider"] for row in rows} == {engine.provider}


def test_requests_less_errors_and_steps_of_an_ensemble() -> None:
    rows = World(llm_d.ENGINE).span([
        *series("llm_d_epp_request_total", lambda m: 3 * m),
        *series("llm_d_epp_request_error_total", lambda m: m),
    ])  # fmt: skip
    assert picked(rows, "requests") == {0: 8, 5: 10}
    assert picked(rows, "failed_requests") == {0: 4, 5: 5}
    steps = [
        s
        for model in ("ensemble", "preprocessing")
        for s in series("nv_inference_request_success", lambda m: m, model=model)
    ]
    assert World(triton.ENGINE).span(steps) == []


def test_two_pages_are_an_interval_of_their_length() -> None:
    rows = World().pages(
        [*series(OUT, {1: 10, 63: 110}), *series("vllm:num_requests_waiting", {1: 2, 63: 4})]
    )
    assert rows == [
        {
            "pod": "p",
            "model": "m",
            "provider": "vllm",
            "start": at(1),
            "end": at(63),
            "output_tokens": 100,
            "waiting": 3,
        }
    ]


def test_what_an_engine_does_not_have_is_unknown() -> None:
    assert "cached_input_tokens" not in World().span(series(IN, lambda m: m))[0]


def test_a_metric_that_two_engines_name_is_the_first_ones() -> None:
    one = Engine("one", {"output_tokens": counter("x_total")})
    two = Engine("two", {"output_tokens": counter("x_total"), "running": gauge("y")})
    rows = World(one, two).span([*series("x_total", lambda m: m), *series("y", lambda _: 1)])
    assert {(row["provider"], row.get("output_tokens")) for row in rows if row["start"] == at(5)} == {
        ("one", 5),
        ("two", None),
    }


def test_exported_labels_come_before_the_exporters_own() -> None:
    labels: dict[str, Any] = {
        "pod": "exporter",
        "exported_pod": "replica",
        "namespace": "monitoring",
        "exported_namespace": "web",
    }
    (first, _) = World().span(series(OUT, lambda m: m, **labels))
    assert (first["pod"], first["namespace"]) == ("replica", "web")


values = st.lists(st.integers(0, 1000), min_size=2, max_size=40)


@settings(max_examples=12, deadline=None)
@given(values, st.integers(0, 10), st.randoms())
def test_no_token_is_lost_or_made_whatever_the_order_and_the_cut(
    found: list[int], cut: int, chance: Random
) -> None:
    """Law: gains add up to what a walk over the samples gives, for samples in any order, in one span or two."""
    samples = series(OUT, {0.5 + place: value for place, value in enumerate(found)})
    expected = sum(b - a if b >= a else b for a, b in pairwise(found))
    middle = min(cut, len(samples))
    whole, parts = World(), World()
    shuffled = [*samples]
    chance.shuffle(shuffled)
    assert sum(row["output_tokens"] for row in whole.span(shuffled)) == expected
    total = sum(
        row["output_tokens"]
        for part in (samples[:middle], samples[middle:])
        if part
        for row in parts.span(part)
    )
    assert total == expected


def test_scale_is_of_the_sum_not_of_the_counts() -> None:
    engine = Engine(
        "x", {"ttft": (Metric(("h",), "histogram", scale=0.5),), "output_tokens": counter("o", scale=3)}
    )
    rows = World(engine).span([
        *series("h_sum", lambda m: 2 * m), *series("h_count", lambda m: m), *series("o", lambda m: m),
    ])  # fmt: skip
    assert picked(rows, "ttft_seconds_sum") == {0: 4, 5: 5}
    assert picked(rows, "ttft_seconds_count") == {0: 4, 5: 5}
    assert picked(rows, "output_tokens") == {0: 12, 5: 15}
