"""How Slurm writes things: node lists, trackable resources (TRES), generic resources, times and states.

Sources: the man pages sacct(1), slurm.conf(5), gres.conf(5) and scontrol(1), and what Slurm 22.05 prints.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Final

# Slurm refuses longer ranges itself; a damaged list must not eat the memory.
_MOST_NODES: Final = 65_536
_BRACKETS: Final = re.compile(r"\[([^\[\]]*)\]")
_RANGE: Final = re.compile(r"(\d+)(?:-(\d+))?")
_UNITS: Final = {unit: 1 << 10 * power for power, unit in enumerate(("", *"KMGTPE"))}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)([KMGTPE]?)(?:i?B)?")
_CPU_TIME: Final = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")
_NO_TIME: Final = frozenset({"", "0", "Unknown", "None", "N/A", "NONE"})
# 'gpu:h100:8', 'gpu:8', 'gpu:h100:8(S:0-1)', 'shard:64', 'gpu:h100:no_consume:8'.
_GRES: Final = re.compile(
    r"(?P<name>[\w/.-]+)(?::(?P<type>[\w.+-]+?))??(?::no_consume)?(?::(?P<count>\d+)(?P<unit>[KMG]?))?"
)
# In a GPU's type: 'a100_3g.20gb', '1g.10gb', '1c.3g.40gb'.
MIG_PROFILE: Final = re.compile(r"(?:\d+c\.)?\d+g\.\d+gb", re.IGNORECASE)
# Words that outrank the base state beside which newer JSON lists them.
_FLAG_STATES: Final = ("RESIZING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "REVOKED", "SUSPENDED")


@lru_cache(maxsize=1024)
def nodes(text: str) -> tuple[str, ...]:
    """Expand a node list: `gpu[1-2,5],login` is gpu1, gpu2, gpu5, login; widths of numbers are kept.

    Empty for `None assigned` and the like. Raises ValueError for a list that isn't one.
    """
    text = text.strip()
    if text in {"", "(null)", "None", "None assigned", "Unknown", "N/A"}:
        return ()
    found: list[str] = []
    for part in _outside_brackets(text):
        found += _expanded(part)
        if len(found) > _MOST_NODES:
            raise ValueError(f"more than {_MOST_NODES} nodes in {text[:60]!r}")
    return tuple(found)


def _outside_brackets(text: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
        if depth not in {0, 1}:
            raise ValueError(f"unbalanced brackets in {text[:60]!r}")
    if depth:
        raise ValueError(f"unbalanced brackets in {text[:60]!r}")
    return [part for part in (*parts, text[start:]) if part]


def _expanded(part: str) -> list[str]:
    pieces = _BRACKETS.split(part)
    choices = [
        _numbers(piece) if odd else [piece] for odd, piece in zip(itertools.cycle((False, True)), pieces)
    ]
    size = 1
    for choice in choices:
        size *= len(choice)
    if size > _MOST_NODES:
        raise ValueError(f"more than {_MOST_NODES} nodes in {part[:60]!r}")
    return ["".join(words) for words in itertools.product(*choices)]


def _numbers(text: str) -> list[str]:
    found: list[str] = []
    for item in text.split(","):
        match = _RANGE.fullmatch(item.strip())
        if match is None:
            raise ValueError(f"{item!r} is no range of nodes")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < first + _MOST_NODES:
            raise ValueError(f"{item!r} is no range of nodes")
        found += [str(number).zfill(len(match[1])) for number in range(first, last + 1)]
    return found


def size(text: str, bare: str = "") -> Decimal:
    """Read an amount with a unit prefix, powers of 1024, in bytes; `bare` is the prefix of a number without one."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size")
    return Decimal(match[1]) * _UNITS[match[2] or bare]


@lru_cache(maxsize=4096)
def allocated(text: str) -> Mapping[str, int]:
    """Read AllocTRES: `cpu=2,gres/gpu:h100=8,gres/gpu=8,mem=200M,node=2`; memory in MiB, everything else counted.

    Resources that are listed without an amount are left out. Raises ValueError for text that is no such list.
    """
    if not text:
        return {}
    found: dict[str, int] = {}
    for item in filter(None, text.strip().split(",")):
        name, equals, amount = item.partition("=")
        if not equals or not name:
            raise ValueError(f"{item!r} is no resource")
        if amount.isdecimal():
            found[name] = int(amount)
        elif amount:
            mebibytes = size(amount, "M") / 1024**2 if name == "mem" else size(amount)
            found[name] = int(mebibytes.to_integral_value())
    return found


def used(text: str) -> tuple[Decimal | None, int | None]:
    """Read CPU seconds and bytes of memory out of TRESUsageInTot: `cpu=00:00:10,mem=10836K,…`; None where absent."""
    amounts = dict(item.split("=", 1) for item in text.split(",") if "=" in item)
    cpu, memory = amounts.get("cpu", ""), amounts.get("mem", "")
    return (cpu_seconds(cpu) if cpu else None), (int(size(memory)) if memory else None)


def cpu_seconds(text: str) -> Decimal:
    """Read `[days-][hours:]minutes:seconds` in seconds."""
    match = _CPU_TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no duration")
    days, hours, minutes = (int(match[group] or 0) for group in (1, 2, 3))
    return Decimal(((days * 24 + hours) * 60 + minutes) * 60) + Decimal(match[4])


def gres(text: str | None) -> dict[str, int]:
    """Read a node's generic resources: `gpu:h100:8(S:0-1),shard:64` is {'gpu:h100': 8, 'shard': 64}."""
    found: dict[str, int] = {}
    for item in re.sub(r"\([^()]*\)", "", text or "").split(","):
        match = _GRES.fullmatch(item.strip())
        if match is None or item.strip() in {"", "null", "N/A"}:
            continue
        name = f"{match['name']}:{match['type']}" if match["type"] else match["name"]
        count = int(match["count"] or 1) * _UNITS[match["unit"] or ""]
        found[name] = found.get(name, 0) + count
    return found


def instant(text: str, zone: tzinfo = UTC) -> int | None:
    """Read a time as Unix seconds: SLURM_TIME_FORMAT=%s, or ISO local time of `zone`; None for Unknown and None."""
    text = text.strip()
    if text in _NO_TIME:
        return None
    if text.isdecimal():
        return int(text)
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp())


def state(words: str | Sequence[str]) -> tuple[str, str | None]:
    """Return the state and who cancelled: `CANCELLED by 1000` is ('CANCELLED', '1000').

    JSON of Slurm 23.11 and newer lists a base state and flags; requeued and resized attempts are told by their flag.
    """
    if not isinstance(words, str):
        flags = [flag for flag in _FLAG_STATES if flag in words]
        return (flags[0] if flags else words[0] if words else "UNKNOWN"), None
    name, _, by = words.strip().rstrip("+").partition(" by ")
    return name.upper() or "UNKNOWN", by or None


def spread(total: int, parts: int, limits: Sequence[int | None] = ()) -> list[int]:
    """Split a whole number as evenly as the limits allow, the larger shares first; the sum is always `total`.

    What exceeds the sum of all limits is spread as if there were none.
    """
    room = [limit if limit is not None else total for limit in (limits or [None] * parts)]
    if sum(room) < total:
        room = [total] * parts
    shares, left = [0] * parts, total
    while left:
        able = [place for place in range(parts) if shares[place] < room[place]]
        even, more = divmod(left, len(able))
        for rank, place in enumerate(able):
            given = min(room[place] - shares[place], even + (rank < more))
            shares[place] += given
            left -= given
    return shares


def number(value: object) -> int | None:
    """Read a number of Slurm's JSON: plain, or {'set': true, 'infinite': false, 'number': 7}; None when not set."""
    if isinstance(value, Mapping):
        value = value.get("number") if value.get("set") and not value.get("infinite") else None
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
