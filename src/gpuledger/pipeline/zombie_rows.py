"""Findings as rows: priced, ranked by dollars, summed up, each with the command that gives the card back."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from gpuledger.core.zombies import IDLE_STATES, Finding, Holding, members, reclaim
from gpuledger.pipeline.zombie_holders import Known, Machine
from gpuledger.pipeline.zombie_prices import card_price, wasted
from gpuledger.pipeline.zombie_rates import Rates


@dataclass(frozen=True, slots=True)
class Pricing:
    """What prices depend on: a typed one, the ledger's rates, and machines of clouds by node."""

    typed: Decimal | None = None
    rates: Rates | None = None
    machines: Mapping[str, Machine] = field(default_factory=dict)


def rows_of(found: Sequence[Finding], known: Known | None, pricing: Pricing) -> list[dict[str, Any]]:
    """Return a row per card: what can be had back first, the dearest of it first."""
    counts = members(found)
    rows = [_row(finding, known, pricing, reclaim(finding, counts)) for finding in found]
    _whole_nodes(rows, known)
    order = {"unknown": 1, "busy": 2}
    rows.sort(
        key=lambda row: (
            order.get(row["state"], 0),
            row["guard"] is not None,
            row["candidate"],
            -(row["wasted_usd"] or 0),
            -(row["usd_per_hour"] or 0),
            row["gpu"],
        )
    )
    return rows


def _row(finding: Finding, known: Known | None, pricing: Pricing, command: str | None) -> dict[str, Any]:
    one = finding.observation
    machine = known.machines.get(one.node) if known is not None and one.node else None
    machine = machine or pricing.machines.get(one.node or "")
    price = card_price(one, machine, pricing.typed, one.now.date(), pricing.rates)
    zombie = finding.state in IDLE_STATES
    seconds = None if finding.idle is None or not zombie else int(finding.idle.total_seconds())
    held = one.holdings
    return {
        "gpu": one.gpu,
        "node": one.node,
        "gpu_model": one.gpu_model or one.model_name,
        "state": finding.state,
        "since": finding.since if zombie else None,
        "idle_seconds": seconds,
        "usd_per_hour": price.usd_per_hour,
        "wasted_usd": wasted(price.usd_per_hour, seconds),
        "job": _joined(_job(one) for one in held),
        "owner": _joined(one.owner for one in held),
        "evidence": finding.evidence,
        "reclaim": command,
        "verdict": finding.verdict,
        "candidate": finding.candidate,
        "advice": finding.advice,
        "guard": finding.guard,
        "pattern": finding.pattern,
        "namespace": _joined(one.namespace for one in held),
        "pod": _joined(one.pod for one in held),
        "price_source": price.source,
        "price_basis": price.basis,
    }


def _job(held: Holding) -> str | None:
    if held.slurm_job:
        return held.slurm_job
    return f"{held.kind}/{held.job}" if held.job and held.kind else held.job or held.pod


def _joined(words: Iterable[str | None]) -> str | None:
    return ", ".join(dict.fromkeys(word for word in words if word)) or None


def _whole_nodes(rows: list[dict[str, Any]], known: Known | None) -> None:
    """A machine is given back as a whole: where all its cards are unallocated, say how."""
    for node, machine in known.machines.items() if known is not None else ():
        there = [row for row in rows if row["node"] == node]
        if there and all(row["state"] == "unallocated" for row in there):
            name = shlex.quote(node)
            for row in there:
                row["reclaim"] = (
                    f"scontrol update NodeName={name} State=POWER_DOWN"
                    if machine.slurm
                    else f"kubectl drain {name} --ignore-daemonsets"
                )


def totals_of(rows: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Sum up. Where no card's state could be told, there are not 0 zombies: nobody knows how many."""
    zombies = [row for row in rows if row["verdict"] or row["candidate"]]
    seen = any(row["state"] != "unknown" for row in rows)
    return {
        "gpus": len(rows),
        "zombies": len(zombies) if seen else None,
        "usd_per_hour": _sum(zombies, "usd_per_hour") if seen else None,
        "wasted_usd": _sum(zombies, "wasted_usd") if seen else None,
        "verdicts": sum(row["verdict"] for row in rows),
        "candidates": sum(row["candidate"] for row in rows),
        "guarded": sum(row["guard"] is not None for row in rows),
        "busy": sum(row["state"] == "busy" for row in rows),
        "unknown": sum(row["state"] == "unknown" for row in rows),
        "unpriced": sum(row["usd_per_hour"] is None for row in zombies),
        "scan_seconds": Decimal(str(round(seconds, 3))),
    }


def _sum(rows: list[dict[str, Any]], key: str) -> Decimal | None:
    """Add what is known; None where there is something and none of it is known."""
    known = [row[key] for row in rows if row[key] is not None]
    return sum(known, Decimal(0)) if known or not rows else None
