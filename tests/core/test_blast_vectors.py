"""The stored vectors of the blast radius are what Python calculates, and what an independent oracle does."""

import json
import os
from typing import Any

import pytest
from tests.core.blast_oracle import figures
from tests.core.blast_vectors import PATH, as_javascript, radius, stored

RAILS: list[dict[str, Any]] = [
    {"name": "alert", "detect": 900}, {"name": "both", "detect": 300, "respond": 600}, {"name": "hours", "max_hours": 14400},
    {"name": "look", "look": 7200}, {"name": "cap", "lease_cap": 64}, {"name": "lease", "lease_usd": 5_000_000_000},
    {"name": "quota", "quota_percent": 50}, {"name": "autoscaler", "autoscaler_percent": 25},
]  # fmt: skip


def pool(
    name: str, kind: str = "gpu", per_unit: int = 1, idle: int = 0, lease_usd: str = "", **inputs: str
) -> dict[str, Any]:
    return {
        "name": name,
        "kind": kind,
        "per_unit": per_unit,
        "idle": idle,
        "lease_usd": lease_usd,
        "inputs": inputs,
    }


MODELS: dict[str, dict[str, Any]] = {
    "story": {"seed": 1, "samples": 100, "guardrails": RAILS, "pools": [pool("weekend", per_unit=8, gpus="1600", price="32.4", max_hours="11h", detect="24h", respond="0s")]},
    "uniform": {
        "seed": 2**53 - 1, "samples": 1001, "guardrails": RAILS[:1],
        "pools": [pool("größe", gpus="7..64", price="0.000001..99.999999", max_hours="1s..11h", idle=3)],
    },
    "triangular": {
        "seed": 7, "samples": 2000, "guardrails": RAILS,
        "pools": [
            pool(
                "a & b's", per_unit=4, idle=9, lease_usd="20000.5", gpus="100..200..800", quota="600", autoscaler_max="50..700",
                obtainable="90..500..500", lease_cap="640", price="2..3.5..4.05", max_hours="2h..30h", detect="5m..1h..9h",
                respond="0s..15m..1h", look="60h", storage_usd="12.5", storage_usd_per_hour="0.75..3", egress_usd="1..2..30",
            ),
            pool("agents", "tokens", gpus="1", price="120..1800", look="1h..60h", egress_usd_per_hour="4.333333", lease_usd="9999.99"),
        ],
    },
    "lognormal": {
        "seed": 0, "samples": 2000, "guardrails": RAILS,
        "pools": [
            pool("one", per_unit=8, gpus="lognormal(160,800)", price="lognormal(20,32.4)", max_hours="11h", detect="lognormal(20m,3h)", respond="5m..15m..1h"),
            pool("two", gpus="64", price="4.05", detect="lognormal(2h,12h)", egress_usd="lognormal(5,50)"),
        ],
    },
    "large": {
        "seed": 3, "samples": 300, "guardrails": RAILS[2:4],
        "pools": [pool("all of it", gpus="1..1000000", price="0.1..0.569", max_hours="8784h")],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_python_gives_the_stored_figures(name: str) -> None:
    found = as_javascript(radius(MODELS[name]))
    if os.environ.get("UPDATE_GOLDEN"):
        known = stored() if PATH.exists() else {}
        known = {key: one for key, one in known.items() if key in MODELS} | {
            name: {"model": MODELS[name], "figures": found}
        }
        told = {
            "about": "Synthetic. Millionths of a dollar, seconds, cards; see blast_vectors.py.",
            "vectors": known,
        }
        PATH.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", "utf-8")
    assert list(stored()) == list(MODELS)
    assert stored()[name] == {"model": MODELS[name], "figures": found}


@pytest.mark.parametrize("name", MODELS)
def test_an_oracle_that_shares_no_code_gives_the_same(name: str) -> None:
    """Exactly, but for the normal quantile: the package's approximation is good to nine digits."""
    told, expected = stored()[name]["figures"], figures(MODELS[name])
    found = {key: told[key] for key in ("same", "independent", "worst")}
    found["pools"] = [{key: one[key] for key in ("loss", "worst")} for one in told["pools"]]
    found["guardrails"] = {one["name"]: one["removes_p99"] for one in told["guardrails"]}
    found["together"] = (
        told["together"]["removes_p99"]
        if told["together"]
        else found["guardrails"][MODELS[name]["guardrails"][0]["name"]]
    )
    if name != "lognormal":
        assert found == expected
        return
    flat, other = (list(numbers(one)) for one in (found, expected))
    assert len(flat) == len(other) > 20
    assert flat == pytest.approx(other, rel=1e-6, abs=20_000)  # two cents


def numbers(value: Any) -> list[int]:  # noqa: ANN401 - nested dicts and lists
    if isinstance(value, int):
        return [value]
    parts = [value[key] for key in sorted(value)] if isinstance(value, dict) else value
    return [number for part in parts for number in numbers(part)]


def test_guardrails_are_ranked_by_what_they_take_off() -> None:
    for one in stored().values():
        taken = [rail["removes_p99"] for rail in one["figures"]["guardrails"]]
        assert taken == sorted(taken, reverse=True)
