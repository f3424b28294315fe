"""What serving and training made of the machines: tokens and requests over time, and steps of training runs.

Every telemetry source of an engine, a gateway, an API or a training log yields these records and nothing else. Times
are UTC, intervals half-open, and what nobody measured is None, never 0. Conventions that differ between vendors are
settled here: input tokens include those that came from a cache, output tokens include reasoning.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

Role = Literal["prefill", "decode", "both"]
# Why time of a run made no lasting progress: the causes of Google's ml-goodput-measurement (its BadputType, lower case).
LossCause = Literal[
    "startup",
    "data_loading",
    "checkpoint_save",
    "checkpoint_restore",
    "wasted_progress",
    "recovery",
    "elastic",
]
LOSS_CAUSES: tuple[LossCause, ...] = (
    "startup", "data_loading", "checkpoint_save", "checkpoint_restore", "wasted_progress", "recovery", "elastic",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TokenInterval:
    """What one replica (pod), or one deployment of a gateway or API, did in [start, end).

    `provider` is the engine ('vllm', 'sglang', …) or the API's company ('OpenAI', …). `input_tokens` includes
    `cached_input_tokens` and `cache_write_tokens`; `output_tokens` includes `reasoning_tokens`. `requests` counts
    those that succeeded, `failed_requests` all others, `good_requests` those within their service level. `running`,
    `waiting` and `kv_cache_usage` (0 to 1) are means over the interval. Buckets go from the upper bound as the engine
    writes it ('0.25', '+Inf') to the number of observations up to it in the interval. `spend` is the gateway's own
    figure.
    """

    provider: str
    start: datetime
    end: datetime
    model: str | None = None
    cluster: str | None = None
    namespace: str | None = None
    deployment: str | None = None
    job_id: str | None = None
    pod: str | None = None
    role: Role | None = None
    team: str | None = None
    owner: str | None = None
    input_tokens: Decimal | None = None
    cached_input_tokens: Decimal | None = None
    cache_write_tokens: Decimal | None = None
    output_tokens: Decimal | None = None
    reasoning_tokens: Decimal | None = None
    requests: Decimal | None = None
    failed_requests: Decimal | None = None
    good_requests: Decimal | None = None
    good_output_tokens: Decimal | None = None
    running: Decimal | None = None
    waiting: Decimal | None = None
    kv_cache_usage: Decimal | None = None
    preemptions: Decimal | None = None
    ttft_seconds_sum: Decimal | None = None
    ttft_seconds_count: Decimal | None = None
    tpot_seconds_sum: Decimal | None = None
    tpot_seconds_count: Decimal | None = None
    ttft_buckets: Mapping[str, Decimal] = field(default_factory=dict)
    tpot_buckets: Mapping[str, Decimal] = field(default_factory=dict)
    spend: Decimal | None = None
    spend_currency: str | None = None


@dataclass(frozen=True, slots=True)
class TrainingInterval:
    """What one training run did in [start, end).

    `tokens` are those that the whole run consumed, over all its ranks. `useful_seconds` is wall time that made lasting
    progress, `lost_seconds` the rest by cause (LOSS_CAUSES). `loss` is the last one told. `checkpoints` counts those
    saved in the interval; `checkpoint_used` says whether anything was ever restored or served from the run's
    checkpoints, `discarded` whether its result was thrown away.
    """

    run_id: str
    start: datetime
    end: datetime
    cluster: str | None = None
    job_id: str | None = None
    name: str | None = None
    model: str | None = None
    tokens: Decimal | None = None
    steps: Decimal | None = None
    step_seconds_sum: Decimal | None = None
    useful_seconds: Decimal | None = None
    lost_seconds: Mapping[str, Decimal] = field(default_factory=dict)
    loss: Decimal | None = None
    flops_per_token: Decimal | None = None
    checkpoints: Decimal | None = None
    last_checkpoint_step: int | None = None
    checkpoint_used: bool | None = None
    discarded: bool | None = None
