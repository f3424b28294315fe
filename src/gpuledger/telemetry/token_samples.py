"""Raw samples of serving engines' metrics in files, as an exporter of a monitoring system writes them.

Parquet, CSV or JSON lines with a metric's name, a time, a value and labels: labels as columns of their own, or in one
column `labels` as a map, struct or JSON object. Each metric is read as the first engine has it that knows its name.
Sorted by series and time, a file streams through; other orders are sorted first.
Known to be missing: native histograms; samples of a metric that two engines share are told as the first one's.
"""

from typing import Final

from gpuledger.core.serving_metrics import Engine
from gpuledger.telemetry import dynamo, litellm, llm_d, nim, ray_serve, sglang, tgi, triton, vllm

TYPE: Final = "token-samples"
TITLE: Final = "Raw samples of serving metrics in files"

# Which engine a name is taken for: plain names come last.
ENGINES: Final[tuple[Engine, ...]] = (
    *(vllm.ENGINE, sglang.ENGINE, triton.ENGINE, tgi.ENGINE, ray_serve.ENGINE),
    *(dynamo.ENGINE, llm_d.ENGINE, litellm.ENGINE, nim.ENGINE),
)
NAME: Final = ("metric", "__name__", "name", "metric_name")
TIME: Final = ("ts", "timestamp", "time")
VALUE: Final = ("value",)
LABELS: Final = ("labels", "tags")
