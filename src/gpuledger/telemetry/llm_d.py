"""llm-d's endpoint picker (Gateway API inference extension): tokens and requests by model, through Prometheus or saved pages.

Documented by llm-d: inference scheduler, docs on metrics (`llm_d_epp_*`; `inference_objective_*` before, and
`inference_model_*` before that). The picker sees each request once, however many prefill and decode pods serve it. To
have tokens by pod, read the model servers with `vllm` instead of this, not beside it. With request attribution on, the
tenant is the team. Counts that come from the answer's body are missing where the gateway doesn't buffer or stream it.
Known to be missing: KV cache use of single pods; reasoning tokens.
"""

from typing import Final

from gpuledger.core.serving_metrics import Engine, Metric, counter, gauge, histogram

TYPE: Final = "llm-d"
TITLE: Final = "llm-d endpoint picker"
_ERRORS: Final = (
    "llm_d_epp_request_error_total",
    "inference_objective_request_error_total",
    "inference_model_request_error_total",
)
_REQUESTS: Final = (
    "llm_d_epp_request_total",
    "inference_objective_request_total",
    "inference_model_request_total",
)
ENGINE: Final = Engine(
    "llm-d",
    {
        "input_tokens": counter(
            "llm_d_epp_request_input_tokens_sum",
            "inference_objective_input_tokens_sum",
            "inference_model_input_tokens_sum",
        ),
        "cached_input_tokens": counter(
            "llm_d_epp_request_cached_tokens_sum", "inference_objective_prompt_cached_tokens_sum"
        ),
        "output_tokens": counter(
            "llm_d_epp_request_output_tokens_sum",
            "inference_objective_output_tokens_sum",
            "inference_model_output_tokens_sum",
        ),
        "requests": (Metric(_REQUESTS), Metric(_ERRORS, scale=-1.0)),
        "failed_requests": (Metric(_ERRORS),),
        "running": gauge(
            "llm_d_epp_request_running",
            "inference_objective_running_requests",
            "inference_model_running_requests",
        ),
        "ttft": histogram("llm_d_epp_request_ttft_seconds"),
        "tpot": histogram("llm_d_epp_request_streaming_tpot_seconds"),
    },
    model=("serving_model", "target_model_name", "model_name"),
    deployment=("inference_pool", "deployment", "service", "job"),
    team=("tenant_id",),
    owner=("user_id",),
    front=True,
)
