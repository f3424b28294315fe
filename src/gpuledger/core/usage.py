"""What telemetry says, as values: jobs, nodes over time, and what each job held and used of them.

Every telemetry source yields these records and nothing else, so that metering and allocation know one language.
Times are UTC and intervals half-open. A quantity that nobody measured is None, never 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Literal

Resource = Literal["gpu", "cpu", "memory", "storage", "network"]
Sharing = Literal["whole", "mig", "time-slicing", "mps", "hami", "dra"]
HoldState = Literal["running", "held"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """A dimension's value and why we believe it. `rank` 0 is the strongest; `inferred` values are shown as such."""

    value: str
    source: str
    rank: int
    inferred: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """The root owner of a workload, or a Slurm job. `job_id` is `<cluster>/<root uid>` or `<cluster>/slurm/<id>`.

    `state` is the platform's own word. `attempts` counts tries of the same job; None when not known.
    """

    job_id: str
    cluster: str
    kind: str
    name: str
    namespace: str | None
    dimensions: Mapping[str, Evidence] = field(default_factory=dict)
    submitted: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    state: str | None = None
    attempts: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeInterval:
    """A machine while its shape and price didn't change. `provider_id` is its ResourceId on a bill, if known."""

    cluster: str
    node: str
    start: datetime
    end: datetime
    provider_id: str | None = None
    instance_type: str | None = None
    cloud: str | None = None
    region: str | None = None
    zone: str | None = None
    pool: str | None = None
    cpu_cores: Decimal | None = None
    memory_gib: Decimal | None = None
    gpu_model: str | None = None
    gpu_count: Decimal | None = None
    spot: bool | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UsageInterval:
    """What one container (or Slurm step) held of one resource of one node.

    `requested` and `used` are in cards, cores or GiB; `share` is the part of the card behind `device` that was held
    (1 for a whole card, 2/7 for a MIG 2g slice). `held` means: paid for and not running, such as a waiting gang.
    """

    cluster: str
    node: str
    job_id: str
    resource: Resource
    start: datetime
    end: datetime
    requested: Decimal | None
    used: Decimal | None = None
    namespace: str | None = None
    pod: str | None = None
    pod_uid: str | None = None
    container: str | None = None
    attempt: int = 1
    device: str | None = None
    sharing: Sharing | None = None
    share: Fraction | None = None
    state: HoldState = "running"
