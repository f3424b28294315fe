"""LiteLLM's proxy through Prometheus, or from saved metrics pages: tokens, spend and requests by model and team.

Documented by LiteLLM: "Prometheus metrics". Input tokens are its normalised prompt tokens, which include cached ones
whatever the vendor's convention. Spend is the proxy's own figure in USD and no bill. The proxy's spend logs say the
same by request (`litellm-spend-logs`): read one of them.
Known to be missing: latencies per token, which it has per deployment only.
"""

from typing import Final

from gpuledger.core.serving_metrics import Engine, Metric, total

TYPE: Final = "litellm"
TITLE: Final = "LiteLLM proxy"


def _metric(stem: str) -> Metric:
    return Metric(total(("litellm_",), stem))


ENGINE: Final = Engine(
    "litellm",
    {
        "input_tokens": (_metric("input_tokens_metric"),),
        "cached_input_tokens": (_metric("input_cached_tokens_metric"),),
        "cache_write_tokens": (_metric("input_cache_creation_tokens_metric"),),
        "output_tokens": (_metric("output_tokens_metric"),),
        "reasoning_tokens": (_metric("output_reasoning_tokens_metric"),),
        "requests": (
            _metric("proxy_total_requests_metric"),
            Metric(_metric("proxy_failed_requests_metric").names, scale=-1.0),
        ),
        "failed_requests": (_metric("proxy_failed_requests_metric"),),
        "spend": (_metric("spend_metric"),),
    },
    model=("model", "requested_model"),
    deployment=("requested_model", "model"),
    team=("team_alias", "team"),
    owner=("user", "api_key_alias"),
    currency="USD",
    front=True,
)
