"""What each deployment, run and API model cost and made, hour by hour: the facts of unit economics.

Relations that are read: `allocated`, `jobs`, `token_interval`, `training_interval`. The steps, in order:

- `charge`: parts of machines' charges and unused commitments; `hour_cost` spreads them over hours, evenly and exactly.
- `job_hour`: what each job cost an hour, by card model; `pool` are idle machines and unused commitments by day, which
  `share` gives to the jobs of the same machines, or of the same commitment, by their effective cost.
- `pod_day` says which job a pod was of; `told` sums tokens by pod and hour, one day at a time, and `served` by job.
- `run_hour` spreads training over hours.
- `bill` are the charges of models behind an API, `call` what gateways and APIs told of them.
- `fact` puts them together: a job-hour's cost goes to what it served or trained, by weight of its tokens or its time.

Shares of a whole are cut at cumulated weights, floor(whole x weight so far / all weight), on integers of 1e-18: their
sum is the whole.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

# What a token counts when several deployments share a job's hour: output, computed input and input read from a cache,
# in fiftieths of an output token (the default weights of `gpuledger.core.unit_economics`).
WEIGHT: Final = (50, 10, 1)


@cache
def _text(name: str) -> str:
    return files("gpuledger.models.unit_economics").joinpath(f"{name}.sql").read_text("utf-8").rstrip()


def query(name: str, values: Mapping[str, str] | None = None) -> str:
    """Return an SQL file of this package with its {names} filled in."""
    text = _text(name)
    for key, value in (values or {}).items():
        text = text.replace("{" + key + "}", value)
    return text
