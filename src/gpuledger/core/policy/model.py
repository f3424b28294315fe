"""The policy: what every plane asks of a workload before it is scheduled, as plain values.

A policy file (`gpuledger-policy.toml`, or YAML) has exactly these keys; its JSON Schema is made from these classes.
Patterns are shell-style (`*`, `?`) unless they are said to be regular expressions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, ClassVar, Final, Literal

Mode = Literal["off", "audit", "warn", "enforce"]
Plane = Literal["kubernetes", "slurm", "cloud"]
Dimension = Literal[
    "cost_center", "team", "owner", "workload_type", "model", "experiment", "project", "environment", "budget"
]
Default = Literal["namespace", "queue", "account", "submitter"]

# Read by the file's reader: no other keys, and the docstring under a field is its description.
_STRICT: Final[Mapping[str, Any]] = {"extra": "forbid", "use_attribute_docstrings": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class When:
    """Which workloads something is for: all that is given must hold. Nothing given: everything that asks for a card."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    planes: tuple[Plane, ...] = ()
    """kubernetes, slurm or cloud"""
    clusters: tuple[str, ...] = ()
    """patterns of cluster names"""
    namespaces: tuple[str, ...] = ()
    """patterns of Kubernetes namespaces"""
    partitions: tuple[str, ...] = ()
    """patterns of Slurm partitions"""
    kinds: tuple[str, ...] = ()
    """patterns of kinds, such as Job, RayJob, SlurmJob"""
    names: tuple[str, ...] = ()
    """patterns of names"""
    submitters: tuple[str, ...] = ()
    """patterns of user names"""
    workload_types: tuple[str, ...] = ()
    """workload types, such as training or notebook"""
    min_gpus: Decimal | None = None
    """only from this many cards on; a number that can't be told counts as enough"""
    without_gpus: bool = False
    """true: workloads that ask for no card too"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Require:
    """A dimension that a workload must say, or that can be filled in for it."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    dimension: Dimension
    """which one"""
    when: When = When()
    """for which workloads"""
    values: tuple[str, ...] = ()
    """the values that are allowed"""
    pattern: str | None = None
    """a regular expression that the whole value must match"""
    register: str | None = None
    """name of a [registers.NAME] that must list the value"""
    default_from: tuple[Default, ...] = ()
    """where a missing value comes from, the first that says one: namespace (its label), queue, account, submitter"""
    default: str | None = None
    """the value when nothing says one"""
    propagate: bool = True
    """write it on the pod templates too, so that the pods carry it"""
    immutable: bool = True
    """refuse a change of the value while the workload lives"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How large, long or dear a workload may be."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    name: str
    """how refusals call it"""
    when: When = When()
    """for which workloads"""
    max_gpus: Decimal | None = None
    """cards at once"""
    max_hours: Decimal | None = None
    """hours that it may run; one without a deadline exceeds it"""
    max_gpu_hours: Decimal | None = None
    """cards × hours until its deadline"""
    max_cost_usd: Decimal | None = None
    """expected cost, P90"""
    deadline: Literal["always", "off-hours"] | None = None
    """a deadline must be given: always, or when it is submitted outside working hours"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A mode for some workloads. The first scope that matches counts."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    name: str
    """how decisions call it"""
    when: When
    """for which workloads"""
    mode: Mode
    """off, audit, warn or enforce"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """Workloads that pass in spite of the rules named, until a day. Its use is logged."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    name: str
    """how decisions call it"""
    when: When
    """for which workloads"""
    rules: tuple[str, ...] = ()
    """dimensions and names of limits or budgets that it lifts; all if none is given"""
    reason: str
    """why"""
    approved_by: str
    """who allowed it"""
    expires: date
    """last day on which it holds (UTC)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """An amount that workloads draw on: reserved when one is admitted, settled when it ends."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    name: str
    """how refusals call it; the dimension `budget` names it"""
    owner: str
    """who decides about it, and is named in a refusal"""
    amount_usd: Decimal
    """dollars per period"""
    period: Literal["week", "month", "quarter", "year"] = "month"
    """when it starts anew (UTC)"""
    match: Mapping[Dimension, str] = field(default_factory=dict)
    """dimensions of workloads that draw on it without naming it"""
    on_exceed: Literal["deny", "warn"] = "deny"
    """what happens when a workload's expected cost is more than what is left"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """The values that exist, such as cost centres: listed here, or in a file."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    values: tuple[str, ...] = ()
    """the values"""
    file: str | None = None
    """a text file with one value a line, or a CSV file; relative to the policy file"""
    column: str | None = None
    """for a CSV file: the column that holds the values"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a card costs an hour, before list prices. Either every card, or one model."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    usd_per_gpu_hour: Decimal
    """dollars"""
    gpu_model: str | None = None
    """such as H100; every model without a price of its own if not given"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """When somebody is at work."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    timezone: str = "UTC"
    """name of the time zone, such as Europe/Berlin"""
    opens: int = 8
    """hour in which work begins, Monday to Friday"""
    closes: int = 20
    """hour in which it ends"""
    holidays: tuple[date, ...] = ()
    """days off"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The whole policy."""

    __pydantic_config__: ClassVar[Mapping[str, Any]] = _STRICT

    version: Literal[1] = 1
    """version of this form"""
    mode: Mode = "audit"
    """what happens to a workload that breaks a rule: off (nothing), audit (recorded), warn (told), enforce (refused)"""
    require: tuple[Require, ...] = ()
    """dimensions, see [[require]]"""
    limit: tuple[Limit, ...] = ()
    """limits, see [[limit]]"""
    scope: tuple[Scope, ...] = ()
    """other modes for some workloads, see [[scope]]"""
    exemption: tuple[Exemption, ...] = ()
    """exemptions that expire, see [[exemption]]"""
    budget: tuple[Budget, ...] = ()
    """budgets, see [[budget]]"""
    registers: Mapping[str, Register] = field(default_factory=dict)
    """values that exist, see [registers.NAME]"""
    price: tuple[Price, ...] = ()
    """prices of your own, see [[price]]"""
    calendar: Calendar = Calendar()
    """working hours, see [calendar]"""
    lease_minutes: int = 60
    """minutes after which a reservation that nothing came of is given back"""
    without_store: Literal["deny", "allow"] = "deny"
    """what happens to a workload that draws on a budget while reservations can't be made"""
    spot: bool = False
    """true: price cards at spot prices where list prices have one"""
