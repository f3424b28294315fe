"""Single requests, as gateways and tracers keep them, into intervals of tokens: SQL over one relation of requests.

The relation has provider, model, deployment, team, "owner", start, first_token and "end" (times; first_token null when it
isn't told), input_tokens (those from or to a cache included), cached_input_tokens, cache_write_tokens, output_tokens
(reasoning included), reasoning_tokens, ok, spend and currency. Identity columns are text, spend is money.
"""

from datetime import timedelta
from importlib.resources import files
from typing import Final

# Bounds of the latency histograms in seconds, close to those of serving engines.
TTFT: Final = ("0.05", "0.1", "0.25", "0.5", "0.75", "1", "2.5", "5", "7.5", "10", "20", "40", "80")
TPOT: Final = ("0.01", "0.025", "0.05", "0.075", "0.1", "0.15", "0.2", "0.3", "0.5", "0.75", "1", "2.5")


def intervals(requests: str, step: timedelta = timedelta(minutes=5)) -> str:
    """Return SQL of token intervals, with some of the columns of `token_interval`."""
    sql = files(__package__).joinpath("intervals.sql").read_text("utf-8")
    return sql.format(
        requests=requests,
        step=step // timedelta(microseconds=1),
        ttft=_buckets("ttft", TTFT),
        tpot=_buckets("tpot", TPOT),
    )


def _buckets(name: str, bounds: tuple[str, ...]) -> str:
    counted = [f"'{bound}': count(*) FILTER ({name} <= {bound})" for bound in bounds]
    return "{" + ", ".join([*counted, f"'+Inf': count({name})"]) + "}"
