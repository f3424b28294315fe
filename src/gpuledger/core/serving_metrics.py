"""How a serving engine tells of its tokens in metrics, as data: which metric fills which column of `token_interval`.

An engine's description names its metrics (several spellings where versions differ: the first that a replica has
counts), the labels that name model, place and caller, and the labels that only repeat what another series says. What
is true of all engines is settled by whoever reads the samples: resets, gaps, intervals.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

Kind = Literal["counter", "gauge", "histogram"]

# Columns that are sums of what counters gained, means of gauges, and histograms with three columns each.
COUNTED: Final = (
    "input_tokens", "cached_input_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "requests",
    "failed_requests", "good_requests", "good_output_tokens", "preemptions", "spend",
)  # fmt: skip
MEANS: Final = ("running", "waiting", "kv_cache_usage")
HISTOGRAMS: Final = ("ttft", "tpot")
# What labels of a series name.
LABELLED: Final = ("namespace", "deployment", "pod", "model", "role", "team", "owner")
# A cache is as full as its ranks are on average; requests of several engines add up.
AVERAGED: Final = frozenset({"kv_cache_usage"})


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that a column is made of.

    `names` are spellings of the same thing, newest first. `only` and `unless` choose series by label; a missing label
    is an empty one. `scale` turns the metric's unit into the column's; a negative one takes the metric off.
    """

    names: tuple[str, ...]
    kind: Kind = "counter"
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Engine:
    """What an engine exports. A column that is several metrics is their sum.

    Labels are tried in order, the first that a series has counts. `repeating` are labels of ranks that each report
    the same work, such as tensor parallel ones: of series that differ in these only, the largest counts. Series that
    differ in any other label add up. `roles` gives our word for a value of the label `role`. An engine with `front` stands
    before others and counts what they count again.
    """

    provider: str
    columns: Mapping[str, tuple[Metric, ...]]
    model: tuple[str, ...] = ("model_name", "model")
    deployment: tuple[str, ...] = ("deployment", "service", "job")
    namespace: tuple[str, ...] = ("exported_namespace", "namespace", "kubernetes_namespace")
    pod: tuple[str, ...] = ("exported_pod", "pod", "kubernetes_pod_name", "pod_name", "instance")
    team: tuple[str, ...] = ()
    owner: tuple[str, ...] = ()
    role: tuple[str, ...] = ("llm_d_ai_role", "role")
    roles: Mapping[str, str] = field(default_factory=lambda: {"prefill": "prefill", "decode": "decode"})
    repeating: tuple[str, ...] = ()
    currency: str | None = None
    front: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One name of a sample: `column` and, for histograms, `part` that it fills; `rank` 0 is the newest spelling.

    `group` numbers the metric within the engine: spellings of one group exclude each other, groups add up.
    """

    name: str
    column: str
    part: Literal["", "sum", "count", "bucket"]
    kind: Literal["counter", "gauge"]
    group: int
    rank: int
    metric: Metric


def rules(engine: Engine) -> Iterator[Rule]:
    """Yield what each name of a sample means."""
    group = 0
    for column, metrics in engine.columns.items():
        for metric in metrics:
            for rank, name in enumerate(metric.names):
                if metric.kind == "histogram":
                    yield Rule(f"{name}_sum", column, "sum", "counter", group, rank, metric)
                    yield Rule(f"{name}_count", column, "count", "counter", group, rank, metric)
                    yield Rule(f"{name}_bucket", column, "bucket", "counter", group, rank, metric)
                else:
                    yield Rule(name, column, "", metric.kind, group, rank, metric)
            group += 1


def counter(*names: str, scale: float = 1.0) -> tuple[Metric, ...]:
    """Return a column of one counter."""
    return (Metric(names, scale=scale),)


def gauge(*names: str, scale: float = 1.0, **only: str) -> tuple[Metric, ...]:
    """Return a column of one gauge, of series with these labels."""
    return (Metric(names, "gauge", {key: (value,) for key, value in only.items()}, scale=scale),)


def histogram(*names: str, scale: float = 1.0) -> tuple[Metric, ...]:
    """Return a column of one histogram; `scale` turns its unit into seconds."""
    return (Metric(names, "histogram", scale=scale),)


def total(prefixes: tuple[str, ...], *stems: str) -> tuple[str, ...]:
    """Spell counters: with each prefix and stem, with `_total` and as some collectors leave it, without."""
    return tuple(f"{prefix}{stem}{end}" for stem in stems for end in ("_total", "") for prefix in prefixes)


def each(prefixes: tuple[str, ...], *stems: str) -> tuple[str, ...]:
    """Spell gauges and histograms: each stem with each prefix."""
    return tuple(f"{prefix}{stem}" for stem in stems for prefix in prefixes)


# Ways in which a request ends that served nobody.
FAILED: Final = ("abort", "error")


def vllm_columns(*prefixes: str) -> dict[str, tuple[Metric, ...]]:
    """Return the columns of vLLM's metrics; other servers re-export them under prefixes of their own.

    Source: vLLM, vllm/v1/metrics/loggers.py and docs "Production metrics". Prompt tokens include cached ones: in
    recorded pages prompt_tokens equals the sum of prompt_tokens_by_source over all sources.
    prefix_cache_hits isn't used: it counts again what waits and is looked up again.
    """
    finished = total(prefixes, "request_success")
    return {
        "input_tokens": (Metric(total(prefixes, "prompt_tokens")),),
        "cached_input_tokens": (Metric(total(prefixes, "prompt_tokens_cached")),),
        "output_tokens": (Metric(total(prefixes, "generation_tokens")),),
        "requests": (Metric(finished, unless={"finished_reason": FAILED}),),
        "failed_requests": (Metric(finished, only={"finished_reason": FAILED}),),
        "preemptions": (Metric(total(prefixes, "num_preemptions")),),
        "running": (Metric(each(prefixes, "num_requests_running"), "gauge"),),
        "waiting": (Metric(each(prefixes, "num_requests_waiting"), "gauge"),),
        "kv_cache_usage": (Metric(each(prefixes, "kv_cache_usage_perc", "gpu_cache_usage_perc"), "gauge"),),
        "ttft": (Metric(each(prefixes, "time_to_first_token_seconds"), "histogram"),),
        "tpot": (
            Metric(
                each(
                    prefixes,
                    "request_time_per_output_token_seconds",
                    "inter_token_latency_seconds",
                    "time_per_output_token_seconds",
                ),
                "histogram",
            ),
        ),
    }
