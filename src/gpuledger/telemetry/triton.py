"""TensorRT-LLM: behind Triton (`nv_llm_*`, `nv_trt_llm_*`) or trtllm-serve (`trtllm_*`), through Prometheus or saved pages.

Documented by NVIDIA: Triton "Metrics", TensorRT-LLM's inflight_batcher_llm custom_metrics_reporter and
tensorrt_llm/metrics/collector.py. Behind Triton requests are the responses of the LLM itself: every step of an
ensemble (pre- and post-processing) counts `nv_inference_request_success` too, which would multiply them.
Known to be missing: token counters of trtllm-serve before 1.3, which has none; Triton's failed requests; Triton's time
to first token is that of the first chunk, and off unless histogram_latencies is on.
"""

from typing import Final

from gpuledger.core.serving_metrics import FAILED, Engine, Metric, counter, gauge, histogram

TYPE: Final = "triton"
TITLE: Final = "TensorRT-LLM on Triton or trtllm-serve"
_FINISHED: Final = ("trtllm_request_success_total",)
ENGINE: Final = Engine(
    "tensorrt-llm",
    {
        "input_tokens": counter("trtllm_prompt_tokens_total", "nv_llm_input_token_len_sum"),
        "cached_input_tokens": counter("trtllm_prompt_cached_tokens_total"),
        "output_tokens": counter("trtllm_generation_tokens_total", "nv_llm_output_token_len_sum"),
        "requests": (
            Metric(_FINISHED, unless={"finished_reason": FAILED}),
            Metric(("nv_llm_output_token_len_count",)),
        ),
        "failed_requests": (
            Metric(_FINISHED, only={"finished_reason": FAILED}),
            Metric(("trtllm_request_error_total",)),
        ),
        "running": (
            *gauge("trtllm_num_requests_running"),
            *gauge("nv_trt_llm_request_metrics", request_type="scheduled"),
        ),
        "waiting": (
            *gauge("trtllm_num_requests_waiting"),
            *gauge("nv_trt_llm_request_metrics", request_type="waiting"),
        ),
        "kv_cache_usage": (
            *gauge("trtllm_kv_cache_utilization"),
            *gauge("nv_trt_llm_kv_cache_block_metrics", kv_cache_block_type="fraction"),
        ),
        "ttft": (
            *histogram("trtllm_time_to_first_token_seconds"),
            *histogram("nv_inference_first_response_histogram_ms", scale=0.001),
        ),
        "tpot": histogram("trtllm_time_per_output_token_seconds"),
    },
)
