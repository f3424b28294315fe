"""NVIDIA Dynamo's frontend: tokens, requests and latencies by model, through Prometheus or saved pages.

Documented by NVIDIA: Dynamo, docs/observability/metrics.md. The frontend sees each request once, however many prefill
and decode workers serve it. Workers also pass their engine's own metrics through: read those with `vllm`, `sglang` or
`triton` instead of this, not beside it, or tokens count twice.
Known to be missing: KV cache use, which workers tell; reasoning tokens.
"""

from typing import Final

from gpuledger.core.serving_metrics import Engine, Metric, counter, gauge, histogram

TYPE: Final = "dynamo"
TITLE: Final = "NVIDIA Dynamo"
_REQUESTS: Final = ("dynamo_frontend_requests_total",)
_ERROR: Final = {"status": ("error",)}
ENGINE: Final = Engine(
    "dynamo",
    {
        "input_tokens": counter("dynamo_frontend_input_sequence_tokens_sum"),
        "cached_input_tokens": counter("dynamo_frontend_cached_tokens_sum"),
        "output_tokens": counter(
            "dynamo_frontend_output_tokens_total", "dynamo_frontend_output_sequence_tokens_sum"
        ),
        "requests": (Metric(_REQUESTS, unless=_ERROR),),
        "failed_requests": (Metric(_REQUESTS, only=_ERROR),),
        # Requests in the queue are in flight, too.
        "running": (
            *gauge("dynamo_frontend_inflight_requests"),
            *gauge("dynamo_frontend_queued_requests", scale=-1.0),
        ),
        "waiting": gauge("dynamo_frontend_queued_requests"),
        "ttft": histogram("dynamo_frontend_time_to_first_token_seconds"),
        "tpot": histogram("dynamo_frontend_inter_token_latency_seconds"),
    },
    model=("model", "model_name"),
    deployment=("dynamo_namespace", "deployment", "service", "job"),
    front=True,
)
