"""Findings of `gpuledger zombies` for people: a table that fits a terminal, and a text for a Slack message."""

from collections.abc import Mapping, Sequence
from typing import Any

_SHORT = 12
_BASES = 3
_SLACK_ROWS = 20
Row = Mapping[str, Any]


def table_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return what a terminal shows: names cut where they are only serial numbers, evidence last."""
    return [
        {
            "gpu": _name(row["gpu"]),
            "node": row["node"] if row["node"] not in {None, row["gpu"].partition("#")[0]} else None,
            "model": row["gpu_model"],
            "state": row["state"] + ("?" if row["candidate"] else ""),
            "$/h": row["usd_per_hour"],
            "wasted $": row["wasted_usd"],
            "whose": " ".join(str(row[key]) for key in ("job", "owner") if row[key]) or None,
            "evidence": row["evidence"],
        }
        for row in rows
    ]


def footer(rows: Sequence[Row]) -> list[str]:
    """Return what is said below the table: what `?` means, where prices are from, and the commands."""
    lines = []
    if any(row["candidate"] for row in rows):
        lines.append(
            "? is a candidate: idle at one look, or by its host's load. A verdict needs a look-back."
        )
    bases = dict.fromkeys(row["price_basis"] for row in rows if row["price_basis"])
    if bases:
        more = f"; and {len(bases) - _BASES} more" if len(bases) > _BASES else ""
        lines.append(f"Prices per card: {'; '.join(list(bases)[:_BASES])}{more}.")
    commands = dict.fromkeys(row["reclaim"] for row in rows if row["reclaim"])
    if commands:
        lines.append("To reclaim, after a look at the evidence:")
        lines += [f"  {command}" for command in commands]
    return lines


def _name(gpu: str) -> str:
    return gpu if any(mark in gpu for mark in "#/") else gpu[:_SHORT]


def slack_text(rows: Sequence[Row], totals: Row) -> str:
    """Write findings as Slack's mrkdwn. Names come from clusters: what has a meaning to Slack is escaped."""
    cost = totals["usd_per_hour"]
    price = "cost unknown" if cost is None else f"${cost:,.2f}/h"
    if totals["zombies"] is None:
        return "*GPU zombies: unknown*, no card's state could be told"
    head = f"*{totals['zombies']} of {totals['gpus']} GPUs idle, {price}*"
    head += f" ({totals['candidates']} candidates)" if totals["candidates"] else ""
    head += f", {totals['unknown']} unknown" if totals["unknown"] else ""
    lines = [head]
    zombies = [row for row in rows if row["verdict"] or row["candidate"]]
    for row in zombies[:_SLACK_ROWS]:
        cost = row["usd_per_hour"]
        price = "unpriced" if cost is None else f"${cost:,.2f}/h"
        whose = " ".join(str(row[key]) for key in ("job", "owner") if row[key])
        lines.append(_escaped(f"• {row['state']} {row['gpu']} {whose} {price}: {row['evidence']}"))
        if row["reclaim"]:
            lines.append(f"  `{_escaped(row['reclaim']).replace('`', '')}`")
    if len(zombies) > _SLACK_ROWS:
        lines.append(f"and {len(zombies) - _SLACK_ROWS} more")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    plain = "".join(" " if ord(letter) < ord(" ") else letter for letter in text)
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
