"""Findings of `gpuledger zombies` for people: blocks that fit 80 columns, and a text for a Slack message."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import click

Row = Mapping[str, Any]
_SHORT: Final = 12
_BASES: Final = 3
_SLACK_ROWS: Final = 20
_GROUPS: Final = 50
_INDENT: Final = " " * 4
_COLOURS: Final = {"unknown": "blue", "busy": "green"}


def report(rows: Sequence[Row], totals: Row, width: int, *, everything: bool = False) -> Iterator[str]:
    """Yield the lines for a terminal: the sum, then blocks of cards that are one thing, dearest first.

    Cards of one holder in one state are one block. Without `everything` it ends after fifty.
    """
    yield click.style(_headline(totals), bold=True)
    names = _names(rows)
    groups = _groups(rows)
    for some in groups if everything else groups[:_GROUPS]:
        yield ""
        yield from _block(some, names, width)
    if len(groups) > _GROUPS and not everything:
        left = sum(len(some) for some in groups[_GROUPS:])
        yield ""
        yield f"and {left} more cards: --all shows them, --format csv or json has every detail"
    yield ""
    if any(row["candidate"] for row in rows):
        yield "? is a candidate: one look, or only its host's load. A verdict needs a look-back"
        yield "(Prometheus, CloudWatch, or --watch 60)."
    bases = dict.fromkeys(row["price_basis"] for row in rows if row["price_basis"])
    if bases:
        more = f"; and {len(bases) - _BASES} more" if len(bases) > _BASES else ""
        yield from textwrap.wrap(f"Prices per card: {'; '.join(list(bases)[:_BASES])}{more}.", width)


def history_rows(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the columns of a history that matter to a person; csv and json have all."""
    names = _names(rows)
    return [
        {
            "gpu": names[row["gpu"]],
            "pod": "/".join(row[key] for key in ("namespace", "pod") if row[key]) or None,
            "pattern": row["pattern"],
            "idle %": row["idle_share"] * 100,
            "idle_runs": row["idle_runs"],
            "longest h": Decimal(row["longest_idle_seconds"]) / 3600,
            "idle h": Decimal(row["idle_seconds"]) / 3600,
            "wasted_usd": row["wasted_usd"],
        }
        for row in rows
    ]


def _headline(totals: Row) -> str:
    if totals["zombies"] is None:
        return f"{totals['gpus']} GPUs, and no one's state could be told"
    said = f"{totals['zombies']} of {totals['gpus']} GPUs idle"
    said += f", {_money(totals['usd_per_hour'])}/h" if totals["zombies"] else ""
    if totals["wasted_usd"]:
        said += f", {_money(totals['wasted_usd'])} so far"
    about = [
        f"{totals[key]} {'candidate' if (key, totals[key]) == ('candidates', 1) else key}"
        for key in ("candidates", "guarded", "busy", "unknown", "unpriced")
        if totals[key]
    ]
    return f"{said} ({', '.join(about)})" if about else said


def _groups(rows: Sequence[Row]) -> list[list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        whose = tuple(row[key] for key in ("state", "candidate", "node", "job", "owner", "guard", "reclaim"))
        # What nobody has, and what isn't known, is told apart by what is said of it.
        more = () if row["job"] or row["pod"] else (row["evidence"],)
        found.setdefault((*whose, row["pod"], *more), []).append(row)
    return list(found.values())


def _block(some: Sequence[Row], names: Mapping[str, str], width: int) -> Iterator[str]:
    row = some[0]
    colour = _COLOURS.get(row["state"], "yellow" if row["candidate"] or row["guard"] else "red")
    state = row["state"] + ("?" if row["candidate"] else "")
    cards = names[row["gpu"]] + (f" and {len(some) - 1} more" if len(some) > 1 else "")
    cost = _sum(some, "usd_per_hour")
    words = [f"{_money(cost)}/h" if cost is not None else "unpriced"]
    if (lost := _sum(some, "wasted_usd")) is not None:
        words.append(f"{_money(lost)} so far")
    words.append(
        f"{len(some)} × {row['gpu_model'] or 'GPU'}" if len(some) > 1 else str(row["gpu_model"] or "GPU")
    )
    if row["node"] and not row["gpu"].startswith(row["node"]):
        words.append(f"on {row['node']}")
    yield f"{click.style(f'{state:12}', fg=colour, bold=True)} {cards}  {', '.join(words)}"
    whose = " · ".join(str(row[key]) for key in ("job", "owner") if row[key])
    if whose:
        yield from _wrapped(f"{row['namespace']}: {whose}" if row["namespace"] else whose, width)
    yield from _wrapped(row["evidence"], width)
    if row["reclaim"]:
        yield _INDENT + click.style(f"$ {row['reclaim']}", fg="cyan")


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, max(width, 40), initial_indent=_INDENT, subsequent_indent=_INDENT, break_on_hyphens=False
    )


def _names(rows: Sequence[Row]) -> dict[str, str]:
    """Return each card's id, serial numbers cut to where they still differ."""
    ids = [row["gpu"] for row in rows]
    length = _SHORT
    while length < 40 and len({gpu[:length] for gpu in ids}) < len(set(ids)):  # noqa: PLR2004 - a UUID with its prefix
        length += 4
    return {gpu: gpu if any(mark in gpu for mark in "#/") else gpu[:length] for gpu in ids}


def _sum(some: Sequence[Row], key: str) -> Decimal | None:
    known = [row[key] for row in some if row[key] is not None]
    return sum(known, Decimal(0)) if known else None


def _money(amount: Decimal | None) -> str:
    return "cost unknown" if amount is None else f"${amount:,.2f}"


def slack_text(rows: Sequence[Row], totals: Row) -> str:
    """Write findings as Slack's mrkdwn. Names come from clusters: what has a meaning to Slack is escaped."""
    cost = totals["usd_per_hour"]
    price = "cost unknown" if cost is None else f"${cost:,.2f}/h"
    if totals["zombies"] is None:
        return "*GPU zombies: unknown*, no card's state could be told"
    head = f"*{totals['zombies']} of {totals['gpus']} GPUs idle, {price}*"
    head += (
        f" ({totals['candidates']} candidate{'s' if totals['candidates'] > 1 else ''})"
        if totals["candidates"]
        else ""
    )
    head += f", {_money(totals['wasted_usd'])} so far" if totals["wasted_usd"] else ""
    head += f", {totals['unknown']} unknown" if totals["unknown"] else ""
    lines = [head]
    names = _names(rows)
    groups = _groups([row for row in rows if row["verdict"] or row["candidate"]])
    for some in groups[:_SLACK_ROWS]:
        row, cost = some[0], _sum(some, "usd_per_hour")
        cards = names[row["gpu"]] + (f" and {len(some) - 1} more" if len(some) > 1 else "")
        price = "unpriced" if cost is None else f"{_money(cost)}/h"
        about = " · ".join(str(word) for word in (cards, row["job"], row["owner"], price) if word)
        lines.append(f"• *{row['state']}* {_escaped(about)}")
        lines.append(f"  {_escaped(row['evidence'])}")
        if row["reclaim"]:
            lines.append(f"  `{_escaped(row['reclaim']).replace('`', '')}`")
    left = sum(len(some) for some in groups[_SLACK_ROWS:])
    return "\n".join([*lines, f"and {left} more"] if left else lines)


def _escaped(text: str) -> str:
    plain = "".join(" " if ord(letter) < ord(" ") else letter for letter in text)
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
