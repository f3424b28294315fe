"""The most GPUs that one user's mistake can hold in each Slurm partition, and for how long a job may run there.

Limits stack (Slurm, "Resource Limits"): the partition's QOS, the job's QOS, the user's association, those of its accounts;
where one is first defined it counts. They hold only where slurm.conf's AccountingStorageEnforce has `limits`. MaxTRES limits one job: it is a
limit of a mistake only with MaxJobs. Of all users, the one who may do most is the answer: nobody knows who errs.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

ASSOCIATIONS: Final = (
    "Account",
    "User",
    "Partition",
    "ParentName",
    "GrpTRES",
    "MaxTRES",
    "MaxJobs",
    "MaxWall",
    "QOS",
)
QOS: Final = (
    *(
        "Name",
        "GrpTRES",
        "MaxTRES",
        "MaxTRESPerUser",
        "MaxTRESPerAccount",
        "MaxJobsPerUser",
        "MaxWall",
        "Flags",
    ),
)
_GPU: Final = re.compile(r"(?:^|,)gres/gpu=(\d+)")
_TYPED: Final = re.compile(r"(?:^|,)gres/gpu:[^=,]+=(\d+)")
_WALL: Final = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
Row = Mapping[str, str]


class Bound(NamedTuple):
    """A limit, and the words of who set it; None: no limit."""

    value: int | None
    why: str = ""

    def least(self, *others: "Bound") -> "Bound":
        """Return the tightest; the first of equals."""
        known = [one for one in (self, *others) if one.value is not None]
        return min(known, key=lambda one: one.value or 0) if known else self


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition: its cards by model, those that an earlier one has too left out, and its limits."""

    name: str
    cards: Mapping[str, int]
    nodes: int
    gpus: Bound
    seconds: Bound
    shared: int = 0


@dataclass(slots=True)
class Seen:
    """What Slurm said. `nodes` has partition, node and its cards by type; `enforced` AccountingStorageEnforce's words."""

    partitions: Sequence[Row]
    nodes: Sequence[tuple[str, str, Mapping[str, int]]]
    associations: Sequence[Row] = ()
    qos: Sequence[Row] = ()
    enforced: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)


def rows(text: str, names: Sequence[str]) -> list[dict[str, str]]:
    """Read `sacctmgr -nP`: one row a line, cells between bars."""
    return [dict(zip(names, line.split("|"), strict=False)) for line in text.splitlines() if line.strip()]


def partitions_of(text: str) -> list[dict[str, str]]:
    """Read `scontrol -o show partition`: `Key=Value` pairs, a partition a line."""
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in text.splitlines() if line.strip()]


def enforced(text: str) -> frozenset[str]:
    """Read what AccountingStorageEnforce says out of `scontrol show config`; `safe` and `all` bring others with them."""
    found = re.search(r"^AccountingStorageEnforce\s*=\s*(.*)$", text, re.MULTILINE)
    words = set(re.split(r"[,\s]+", found[1].strip().lower())) if found else set()
    if words & {"safe", "all"}:
        words |= {"limits"}
    if words & {"limits"}:
        words |= {"associations"}
    return frozenset(words)


def seconds_of(text: str) -> int | None:
    """Read `1-12:00:00`, `11:00:00`, `30` (minutes); None for UNLIMITED and nothing."""
    match = _WALL.fullmatch(text.strip())
    if match is None:
        return None
    days, first, second, third = (int(part) if part else 0 for part in match.groups())
    if match[1]:
        return ((days * 24 + first) * 60 + second) * 60 + third
    if match[4]:
        return (first * 60 + second) * 60 + third
    return first * 60 + (second if match[3] else 0)


def partitions(seen: Seen) -> list[Partition]:
    """Return the partitions with cards, the longest first; a node of several partitions counts in the first of them."""
    users = _users(seen.associations) if "limits" in seen.enforced else []
    by_name = {row["Name"]: row for row in seen.qos}
    there: dict[str, dict[str, Mapping[str, int]]] = defaultdict(dict)
    for partition, node, inside in seen.nodes:
        if any(inside.values()):
            there[partition][node] = inside
    taken: set[str] = set()
    found = []
    order = sorted(
        (row for row in seen.partitions if there.get(row.get("PartitionName", ""))),
        key=lambda row: (-(seconds_of(row.get("MaxTime", "")) or 1 << 40), row["PartitionName"]),
    )
    for row in order:
        mine = there[row["PartitionName"]]
        new = {node: cards for node, cards in mine.items() if node not in taken}
        taken |= set(mine)
        cards: dict[str, int] = defaultdict(int)
        for each in new.values():
            for model, count in each.items():
                cards[model] += count
        gpus, seconds = _bounds(row, users, by_name, seen)
        found.append(
            Partition(row["PartitionName"], dict(cards), len(new), gpus, seconds, len(mine) - len(new))
        )
    return found


def _users(associations: Sequence[Row]) -> list[tuple[Row, list[Row]]]:
    """Each user's association with those of its accounts, up to the root."""
    accounts = {row["Account"]: row for row in associations if not row.get("User")}
    found = []
    for row in associations:
        if not row.get("User"):
            continue
        chain, account = [row], accounts.get(row["Account"])
        while account is not None and account not in chain:
            chain.append(account)
            account = accounts.get(account.get("ParentName", ""))
        found.append((row, chain))
    return found


def _bounds(
    row: Row, users: Sequence[tuple[Row, list[Row]]], qos: Mapping[str, Row], seen: Seen
) -> tuple[Bound, Bound]:
    """Return the GPUs and seconds that the user who may do most has in a partition."""
    name = row["PartitionName"]
    longest = Bound(seconds_of(row.get("MaxTime", "")), f"MaxTime of partition {name}")
    if "limits" not in seen.enforced:
        return Bound(None), longest
    own = [qos[one] for one in (row.get("QoS", ""),) if one in qos]
    gpus, seconds = [], []
    for user, chain in users:
        if not _may(row, user):
            continue
        allowed = [qos[one] for one in user.get("QOS", "").split(",") if one in qos and _qos_may(row, one)]
        for layers in [_ordered(own, one) for one in allowed] or [own]:
            count, wall, each = _limits(layers, chain)
            gpus.append(count)
            over = any("PartitionTimeLimit" in layer.get("Flags", "") for layer in layers)
            seconds.append(wall if over else longest.least(wall))
            if count.value is None and each is not None:
                seen.notes.append(
                    f"MaxTRES limits one job of {_who(user)} to {each} GPUs, and nothing limits how many jobs: "
                    f"that is no limit of a mistake"
                )
    return _most(gpus), _most(seconds) if seconds else longest


def _ordered(own: Sequence[Row], job: Row) -> list[Row]:
    """The partition's QOS goes before the job's, unless that one says OverPartQOS."""
    return [job, *own] if "OverPartQOS" in job.get("Flags", "") else [*own, job]


def _limits(layers: Sequence[Row], chain: Sequence[Row]) -> tuple[Bound, Bound, int | None]:
    """Return GPUs, seconds and the GPUs of one job: of each kind of limit the first that is defined.

    Only a group limit of an account holds beside those of its parents, unless a QOS has one.
    """
    named = [(layer, f"QOS {layer['Name']}") for layer in layers]
    beneath = [(one, _who(one)) for one in chain]
    group = _first(named, "GrpTRES")
    if group.value is None:
        group = Bound(None).least(
            *(Bound(_tres(one.get("GrpTRES", "")), f"GrpTRES of {who}") for one, who in beneath)
        )
    each = _first([*named, *beneath], "MaxTRES")
    jobs = [(layer.get("MaxJobsPerUser", ""), who) for layer, who in named]
    jobs += [(one.get("MaxJobs", ""), who) for one, who in beneath]
    many = next(((int(count), who) for count, who in jobs if count.isdecimal()), None)
    product = Bound(None)
    if each.value is not None and many is not None:
        product = Bound(
            each.value * many[0], f"{each.why}: {each.value} GPUs a job × MaxJobs {many[0]} of {many[1]}"
        )
    gpus = group.least(_first(named, "MaxTRESPerUser"), _first(named, "MaxTRESPerAccount"), product)
    walls = ((seconds_of(one.get("MaxWall", "")), who) for one, who in [*named, *beneath])
    wall = next((Bound(value, f"MaxWall of {who}") for value, who in walls if value is not None), Bound(None))
    return gpus, wall, each.value


def _first(layers: Sequence[tuple[Row, str]], key: str) -> Bound:
    found = ((_tres(layer.get(key, "")), who) for layer, who in layers)
    return next((Bound(value, f"{key} of {who}") for value, who in found if value is not None), Bound(None))


def _who(row: Row) -> str:
    return (
        f"user {row['User']} in account {row['Account']}" if row.get("User") else f"account {row['Account']}"
    )


def _most(bounds: Iterable[Bound]) -> Bound:
    """Return the loosest; no limit where one has none."""
    found = list(bounds)
    if not found or any(one.value is None for one in found):
        return Bound(None)
    return max(found, key=lambda one: one.value or 0)


def _may(row: Row, user: Row) -> bool:
    only = user.get("Partition", "")
    allow, deny = row.get("AllowAccounts", "ALL"), row.get("DenyAccounts", "")
    return (
        only in {"", row["PartitionName"]}
        and (allow in {"ALL", ""} or user["Account"] in allow.split(","))
        and user["Account"] not in deny.split(",")
    )


def _qos_may(row: Row, name: str) -> bool:
    allow = row.get("AllowQos", "ALL")
    return allow in {"ALL", ""} or name in allow.split(",")


def _tres(text: str) -> int | None:
    """GPUs in `cpu=8,gres/gpu=4`; of typed ones (`gres/gpu:h100=4`) the sum, where no total is given."""
    if match := _GPU.search(text):
        return int(match[1])
    typed = [int(count) for count in _TYPED.findall(text)]
    return sum(typed) if typed else None
