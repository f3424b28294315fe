"""The example's machines as its bills state them: what they are, which cluster they are in, when they ran.

The native files are read again instead of asking their writers, so that telemetry tells of the machines that were
charged. An hour that is charged in part ran at its end when the machine started in it, else at its beginning; a day
that is charged in part was interrupted at 03:00, or ran from 10:00 when less than half of it is charged.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import groupby
from typing import Final

from gpuledger.demo.company import DAY, GPUS
from gpuledger.demo.files import Setting

Span = tuple[datetime, datetime]

# Cores and GiB of a machine, as the vendors' pages on instance types state them.
SHAPES: Final = {
    "p5.48xlarge": (192, 2048),
    "p4d.24xlarge": (96, 1152),
    "g6e.xlarge": (4, 32),
    "g6e.12xlarge": (48, 384),
    "g6e.48xlarge": (192, 1536),
    "m7i.8xlarge": (32, 128),
    "Standard_ND96isr_H100_v5": (96, 1900),
    "Standard_NC24ads_A100_v4": (24, 220),
    "a3-highgpu-8g": (208, 1872),
    "n2-standard-16": (16, 64),
    "gd-8xh100ib-i128": (128, 2048),
    "gd-8xa100-i128": (128, 2048),
    "gd-8xl40s-i128": (128, 1024),
}
SLURM, PROD, EUROPE, RESEARCH = "slurm-atlas", "eks-prod-us", "eks-prod-eu", "eks-research"
WEST: Final = "eks-prod-west"
AKS, GKE, CKS = "aks-llm", "gke-vision", "cks-us-east-04"

# Provider, instance type, team on the bill, start of its name there: cluster and pool. The first that fits counts.
_PLACES: Final = (
    ("aws", "p5.48xlarge", "vision-research", "", RESEARCH, "p5"),
    ("aws", "p5.48xlarge", "llm-pretraining", "p5-west", WEST, "p5"),
    ("aws", "p5.48xlarge", "llm-pretraining", "p5-nightly", SLURM, "p5-nightly"),
    ("aws", "p5.48xlarge", "rag-serving", "", WEST, "p5-serving"),
    ("aws", "p5.48xlarge", "", "", SLURM, "p5"),
    ("aws", "g6e.12xlarge", "rag-serving", "rag-eu", EUROPE, "rag"),
    ("aws", "g6e.12xlarge", "rag-serving", "", PROD, "rag"),
    ("aws", "g6e.12xlarge", "vision-research", "notebook", RESEARCH, "notebook"),
    ("aws", "g6e.48xlarge", "", "", PROD, "recsys"),
    ("aws", "g6e.xlarge", "data-platform", "", PROD, "spot"),
    ("aws", "m7i.8xlarge", "", "", PROD, "general"),
    ("aws", "p4d.24xlarge", "vision-research", "", RESEARCH, "p4d"),
    ("aws", "p4d.24xlarge", "", "", RESEARCH, "p4d-open"),
    ("aws", "g6e.xlarge", "vision-research", "", RESEARCH, "desk"),
    ("aws", "g6e.xlarge", "", "", RESEARCH, "desk-open"),
    ("azure", "Standard_ND96isr_H100_v5", "", "", AKS, "h100"),
    ("azure", "Standard_NC24ads_A100_v4", "", "", AKS, "a100"),
    ("gcp", "a3-highgpu-8g", "", "a3-trial", GKE, "trial"),
    ("gcp", "a3-highgpu-8g", "", "", GKE, "a3"),
    ("gcp", "n2-standard-16", "", "", GKE, "etl"),
    ("neocloud", "", "", "h100", CKS, "h100"),
    ("neocloud", "", "", "a100", CKS, "a100"),
    ("neocloud", "", "", "l40s-0", CKS, "l40s"),
    ("neocloud", "", "", "", CKS, "l40s-open"),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of a cluster; `resource` is its ResourceId on the bill, `runs` when it ran, in order."""

    cluster: str
    pool: str
    node: str
    resource: str
    kind: str
    cloud: str
    region: str
    spot: bool
    runs: tuple[Span, ...]

    @property
    def cards(self) -> int:
        """Cards of the machine; 0 where it has none."""
        return GPUS[self.kind][1] if self.kind in GPUS else 0

    @property
    def model(self) -> str | None:
        """Model of its cards."""
        return GPUS[self.kind][0] if self.kind in GPUS else None


def _when(rows: Sequence[tuple[datetime, int, int]]) -> Iterator[Span]:
    """When a machine ran, by charged row: start of the period, seconds charged, seconds of the period."""
    before = None
    for start, seconds, span in rows:
        length, whole = timedelta(seconds=seconds), timedelta(seconds=span)
        if seconds >= span:
            yield start, start + whole
        elif whole == DAY and seconds * 2 >= span:
            yield start, start + timedelta(hours=3)
            yield start + whole - length + timedelta(hours=3), start + whole
        elif whole == DAY:
            yield start + timedelta(hours=10), start + timedelta(hours=10) + length
        elif before == start:
            yield start, start + length
        else:
            yield start + whole - length, start + whole
        before = start + whole


def joined(spans: Iterator[Span] | Sequence[Span]) -> tuple[Span, ...]:
    """Spans in order, those that touch as one."""
    found: list[Span] = []
    for start, end in spans:
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], end)
        elif end > start:
            found.append((start, end))
    return tuple(found)


def common(first: Sequence[Span], second: Sequence[Span]) -> tuple[Span, ...]:
    """When both ran."""
    both = (
        (max(start, other), min(end, until))
        for start, end in first
        for other, until in second
        if max(start, other) < min(end, until)
    )
    return tuple(sorted(both))


def without(spans: Sequence[Span], gaps: Sequence[Span]) -> tuple[Span, ...]:
    """Spans less the gaps, both in order."""
    found: list[Span] = []
    for start, end in spans:
        at = start
        for gap, until in gaps:
            if gap < end and until > at:
                if gap > at:
                    found.append((at, gap))
                at = max(at, until)
        if at < end:
            found.append((at, end))
    return tuple(found)


def _place(provider: str, kind: str, team: str, name: str) -> tuple[str, str] | None:
    return next(
        (
            (cluster, pool)
            for at, wanted, whose, start, cluster, pool in _PLACES
            if provider == at
            and kind.startswith(wanted)
            and team.startswith(whose)
            and name.startswith(start)
        ),
        None,
    )


def machines(setting: Setting, paths: dict[str, list[str]]) -> list[Machine]:
    """Machines that are part of a cluster, by cluster, pool and name; `paths` are the bills' files by provider.

    A machine without a name on the bill is part of none: nobody's telemetry sees it.
    """
    import duckdb

    sql = resources.files("gpuledger.demo").joinpath("telemetry_machines.sql").read_text("utf-8")
    month = setting.month
    bounds = {"start": month.start.replace(tzinfo=None), "end": month.end.replace(tzinfo=None)}
    with duckdb.connect() as con:
        rows = con.execute(sql, {**paths, **bounds}).fetchall()
    found: dict[tuple[str, str], list[Machine]] = {}
    for (provider, resource), group in groupby(rows, key=lambda row: row[:2]):
        mine = list(group)
        _, _, kind, name, team, region, spot = mine[0][:7]
        place = _place(provider, kind, team, name)
        if place is None:
            continue
        runs = joined(_when([(row[7].replace(tzinfo=UTC), row[8], row[9]) for row in mine]))
        cloud = "coreweave" if provider == "neocloud" else provider
        found.setdefault(place, []).append(Machine(*place, name, resource, kind, cloud, region, spot, runs))
    return [
        Machine(
            one.cluster, one.pool, one.node if one.cloud != "aws" else f"{one.pool}-{number}", one.resource,
            one.kind, one.cloud, one.region, one.spot, one.runs,
        )
        for place in sorted(found)
        for number, one in enumerate(sorted(found[place], key=lambda machine: (len(machine.node), machine.node)))
    ]  # fmt: skip


def volumes(paths: list[str]) -> list[tuple[str, str, int]]:
    """Return disks of the AWS bill: id, team on the bill, and its size in GiB (from its GiB-months)."""
    import duckdb

    with duckdb.connect() as con:
        return con.execute(
            """
            SELECT
                line_item_resource_id,
                coalesce(json_extract_string(any_value(resource_tags), '$.user_team'), ''),
                round(sum(line_item_usage_amount::DECIMAL(20, 10)))::BIGINT
            FROM read_csv($paths, header = true, all_varchar = true)
            WHERE line_item_resource_id LIKE 'vol-%' AND pricing_unit = 'GB-Mo'
            GROUP BY 1
            ORDER BY 2, 1
            """,
            {"paths": paths},
        ).fetchall()
