"""KServe: its Hugging Face runtime's vLLM metrics, and requests of its other model servers, through Prometheus or saved pages.

Documented by KServe: "Prometheus metrics" (`request_predict_seconds`) and its vLLM backend, which passes vLLM's own
names through. The deployment is the inference service.
Known to be missing: tokens of runtimes other than vLLM; failed requests of these; reasoning tokens; who called.
"""

from typing import Final

from gpuledger.core.serving_metrics import FAILED, Engine, Metric, vllm_columns

TYPE: Final = "kserve"
TITLE: Final = "KServe"
ENGINE: Final = Engine(
    "kserve",
    {
        **vllm_columns("vllm:", "vllm_"),
        "requests": (
            Metric(
                ("vllm:request_success_total", "vllm_request_success_total", "request_predict_seconds_count"),
                unless={"finished_reason": FAILED},
            ),
        ),
    },
    deployment=(
        "serving_kserve_io_inferenceservice",
        "label_serving_kserve_io_inferenceservice",
        "inferenceservice",
        "service",
        "job",
    ),
)
