"""NVIDIA NIM for LLMs: vLLM's metrics without a prefix, through Prometheus or saved pages.

Documented by NVIDIA: NIM for LLMs, "Observability". Newer containers pass vLLM's own names through, too; either is read.
The names are so plain that other programs may use them: `match` chooses the scrape job.
Known to be missing: cached tokens in containers that don't pass vLLM's names through; reasoning tokens; who called.
"""

from dataclasses import replace
from typing import Final

from gpuledger.core.serving_metrics import FAILED, Engine, Metric, vllm_columns

TYPE: Final = "nim"
TITLE: Final = "NVIDIA NIM for LLMs"
_COLUMNS: Final = vllm_columns("vllm:", "")
_FINISHED: Final = ("vllm:request_success_total", "request_success_total", "request_finish_total")
ENGINE: Final = Engine(
    "nim",
    {
        **_COLUMNS,
        "requests": (Metric(_FINISHED, unless={"finished_reason": FAILED}),),
        "failed_requests": (
            Metric(_FINISHED, only={"finished_reason": FAILED}),
            Metric(("request_failure_total",)),
        ),
        "preemptions": tuple(
            replace(metric, names=tuple(name for name in metric.names if name.startswith("vllm:")))
            for metric in _COLUMNS["preemptions"]
        ),
    },
)
