"""Ray Serve LLM: vLLM's metrics as Ray's metrics agent exports them, through Prometheus or saved pages.

Documented by Ray: Serve LLM, "Observability" (`ray_vllm_*`; Ray turns the colon into an underscore). Ray exports
counters with and without `_total`: one of them counts. Series of several replicas of a node add up.
Known to be missing: requests that failed before they reached an engine; reasoning tokens; who called.
"""

from typing import Final

from gpuledger.core.serving_metrics import Engine, vllm_columns

TYPE: Final = "ray-serve"
TITLE: Final = "Ray Serve LLM"
ENGINE: Final = Engine(
    "ray-serve",
    vllm_columns("ray_vllm_", "ray_vllm:"),
    deployment=("deployment", "application", "service", "job"),
)
