"""Hugging Face Text Generation Inference: tokens and requests of its replicas, through Prometheus or saved pages.

Documented by TGI: docs, "Metrics". Token counts are the sums of its histograms per request.
Known to be missing: time to first token, cached tokens, KV cache use, and the model, which TGI doesn't label; its time
per token is inference time over generated tokens, so it has the prefill in it.
"""

from typing import Final

from gpuledger.core.serving_metrics import Engine, counter, gauge, histogram

TYPE: Final = "tgi"
TITLE: Final = "Hugging Face Text Generation Inference"
ENGINE: Final = Engine(
    "tgi",
    {
        "input_tokens": counter("tgi_request_input_length_sum"),
        "output_tokens": counter("tgi_request_generated_tokens_sum"),
        "requests": counter("tgi_request_success", "tgi_request_success_total"),
        "failed_requests": counter("tgi_request_failure", "tgi_request_failure_total"),
        "running": gauge("tgi_batch_current_size"),
        "waiting": gauge("tgi_queue_size"),
        "tpot": histogram("tgi_request_mean_time_per_token_duration"),
    },
    model=("model_id", "model_name", "model"),
)
