"""vLLM: tokens, requests and latencies of its replicas, through Prometheus or from saved metrics pages.

Documented by vLLM: "Production metrics" and vllm/v1/metrics/loggers.py. Series of several engine cores (label
`engine`, data parallel) add up; tensor parallel ranks don't report. Under Ray Serve use `ray-serve`.
Known to be missing: reasoning tokens, which vLLM doesn't count apart; who called.
"""

from typing import Final

from gpuledger.core.serving_metrics import Engine, vllm_columns

TYPE: Final = "vllm"
TITLE: Final = "vLLM"
ENGINE: Final = Engine("vllm", vllm_columns("vllm:", "vllm_"))
