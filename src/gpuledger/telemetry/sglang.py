"""SGLang (with --enable-metrics): tokens, requests and latencies of its replicas, through Prometheus or saved pages.

Documented by SGLang: "Production metrics" and srt/observability/metrics_collector.py. Token counters come from the
tokenizer's process, once per request; gauges come from schedulers, and with --enable-metrics-for-all-schedulers every
tensor or pipeline rank repeats them. Prompt tokens include cached ones: the collector itself observes
`prompt_tokens - cached_tokens` as the uncached part. A queue's total has an empty `priority`.
Known to be missing: reasoning tokens; who called.
"""

from typing import Final

from gpuledger.core.serving_metrics import Engine, Metric, counter, histogram

TYPE: Final = "sglang"
TITLE: Final = "SGLang"
_TOTALS: Final = {"priority": ("",)}
ENGINE: Final = Engine(
    "sglang",
    {
        "input_tokens": counter("sglang:prompt_tokens_total", "sglang_prompt_tokens_total"),
        "cached_input_tokens": counter("sglang:cached_tokens_total", "sglang_cached_tokens_total"),
        "output_tokens": counter("sglang:generation_tokens_total", "sglang_generation_tokens_total"),
        "requests": counter("sglang:num_requests_total", "sglang_num_requests_total"),
        "failed_requests": counter("sglang:num_aborted_requests_total", "sglang_num_aborted_requests_total"),
        "preemptions": counter("sglang:num_retracted_requests_total", "sglang_num_retracted_requests_total"),
        "running": (Metric(("sglang:num_running_reqs", "sglang_num_running_reqs"), "gauge", _TOTALS),),
        "waiting": (Metric(("sglang:num_queue_reqs", "sglang_num_queue_reqs"), "gauge", _TOTALS),),
        "kv_cache_usage": (Metric(("sglang:token_usage", "sglang_token_usage"), "gauge"),),
        "ttft": histogram("sglang:time_to_first_token_seconds", "sglang_time_to_first_token_seconds"),
        "tpot": histogram(
            "sglang:inter_token_latency_seconds",
            "sglang_inter_token_latency_seconds",
            "sglang:time_per_output_token_seconds",
            "sglang_time_per_output_token_seconds",
        ),
    },
    role=("engine_type",),
    roles={"prefill": "prefill", "decode": "decode", "unified": "both"},
    repeating=("tp_rank", "pp_rank", "moe_ep_rank", "pid"),
)
