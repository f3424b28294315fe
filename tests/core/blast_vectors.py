"""The stored vectors: inputs of every shape, and the figures that Python and JavaScript must both give, to the last digit.

`UPDATE_GOLDEN=1 python -m pytest tests/core/test_blast_vectors.py` writes them anew, once the oracle agrees.
"""

import json
from pathlib import Path
from typing import Any

from gpuledger.core.blast_lines import lines
from gpuledger.core.blast_radius import Guardrail, Pool, Quantiles, Radius, assess
from gpuledger.core.draws import Unit, parse, value

PATH = Path(__file__).with_name("blast_radius_vectors.json")
UNITS: dict[str, Unit] = {
    **dict.fromkeys(("gpus", "quota", "autoscaler_max", "obtainable", "lease_cap"), "count"),
    **dict.fromkeys(("detect", "respond", "look"), "duration"), "max_hours": "hours",
    **dict.fromkeys(("price", "storage_usd", "egress_usd", "storage_usd_per_hour", "egress_usd_per_hour"), "usd"),
}  # fmt: skip


def stored() -> dict[str, dict[str, Any]]:
    """Return the vectors by name."""
    found: dict[str, dict[str, Any]] = json.loads(PATH.read_text("utf-8"))["vectors"]
    return found


def radius(model: dict[str, Any]) -> Radius:
    """What the package's own code says to a model of the page."""
    pools = [
        Pool(
            one["name"],
            {key: parse(text, UNITS[key], key) for key, text in one["inputs"].items()},
            one["kind"],
            one["per_unit"],
            one["idle"],
            value(one["lease_usd"], "usd", "lease") if one["lease_usd"] else None,
        )
        for one in model["pools"]
    ]
    rails = [Guardrail(**one) for one in model["guardrails"]]
    return assess(pools, rails, seed=model["seed"], samples=model["samples"])


def as_javascript(found: Radius) -> dict[str, Any]:
    """The answer in the form of the page's script, without its draws."""

    def ranks(of: Quantiles) -> dict[str, int]:
        return {"p50": of.p50, "p90": of.p90, "p99": of.p99}

    rails = [
        {"name": one.guardrail.name, "removes_p50": one.removes_p50, "removes_p99": one.removes_p99, "left": ranks(one.left)}
        for one in [*found.guardrails, *([found.together] if found.together else [])]
    ]  # fmt: skip
    return {
        "pools": [
            {
                "name": one.pool.name, "gpus": one.gpus, "seconds": one.seconds, "usd_per_hour": one.usd_per_hour,
                "loss": ranks(one.loss), "worst": one.worst,
            }
            for one in found.pools
        ],
        "same": ranks(found.same),
        "independent": ranks(found.independent),
        "worst": found.worst,
        "guardrails": rails[: len(found.guardrails)],
        "together": rails[-1] if found.together else None,
        "lines": lines(found),
    }  # fmt: skip
