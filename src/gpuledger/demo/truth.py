"""What the generator knows about the bills it wrote: exact totals, and what it put in on purpose.

The provider writers state a `Fact` per row; `Truth` sums them. `truth.json` is the only place that marks a row as
injected: the bills themselves don't tell.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from gpuledger.demo.company import COMPANY, LABEL, PROJECTS, TEAMS, WORKSPACES, ZERO, Month, plain


@dataclass(frozen=True, slots=True)
class Fact:
    """The truth about one native row: what it adds to the bill, and why it is there.

    `billed` and `effective` follow FOCUS (cash view, amortised view). `resource` marks usage of a resource that can
    carry tags; `owned` says whether its tags name a team, a cost centre or an owner. `injected` is the part of
    `billed` that the incident caused (None: all of it, when there is an incident).
    """

    billed: Decimal
    effective: Decimal
    resource: bool = False
    owned: bool = True
    gpu: str | None = None
    gpu_hours: Decimal = ZERO
    incident: str | None = None
    injected: Decimal | None = None
    commitment: str | None = None
    used: bool = True


@dataclass(slots=True)
class Commitment:
    """A commitment of the example and how much of it was used, in dollars of the amortised view."""

    provider: str
    kind: str
    role: str
    covers: str
    on_demand_rate: Decimal
    committed_rate: Decimal
    used: Decimal = ZERO
    unused: Decimal = ZERO
    recoverable: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Exact figures as decimal strings; ratios with six decimals."""
        committed = self.used + self.unused
        ratio = Decimal("0.000001")
        return {
            "provider": self.provider,
            "kind": self.kind,
            "role": self.role,
            "covers": self.covers,
            "committed": plain(committed),
            "used": plain(self.used),
            "stranded": plain(self.unused),
            "utilization": str((self.used / committed).quantize(ratio)),
            "break_even_utilization": str((self.committed_rate / self.on_demand_rate).quantize(ratio)),
            **({"recoverable": self.recoverable} if self.recoverable is not None else {}),
        }


@dataclass(slots=True)
class _Sum:
    rows: int = 0
    billed: Decimal = ZERO
    effective: Decimal = ZERO
    injected: Decimal = ZERO
    resource: Decimal = ZERO
    unowned: Decimal = ZERO

    def add(self, fact: Fact, injected: Decimal) -> None:
        self.rows += 1
        self.billed += fact.billed
        self.effective += fact.effective
        self.injected += injected
        if fact.resource:
            self.resource += fact.effective
            if not fact.owned:
                self.unowned += fact.effective

    def merge(self, other: "_Sum") -> None:
        self.rows += other.rows
        self.billed += other.billed
        self.effective += other.effective
        self.injected += other.injected
        self.resource += other.resource
        self.unowned += other.unowned

    def as_dict(self) -> dict[str, Any]:
        share = (self.unowned / self.resource).quantize(Decimal("0.000001")) if self.resource else None
        return {
            "rows": self.rows,
            "billed": plain(self.billed),
            "effective": plain(self.effective),
            "billed_without_injected": plain(self.billed - self.injected),
            "resource_spend": plain(self.resource),
            "untagged_resource_spend": plain(self.unowned),
            "untagged_share": None if share is None else str(share),
        }


@dataclass(slots=True)
class Truth:
    """Sums of facts per provider and file, and the incidents with their rows."""

    month: Month
    seed: int
    incidents: dict[str, dict[str, Any]] = field(default_factory=dict)
    commitments: dict[str, Commitment] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    _providers: dict[str, _Sum] = field(default_factory=dict)
    _files: dict[str, _Sum] = field(default_factory=dict)
    _gpu_hours: dict[str, dict[str, Decimal]] = field(default_factory=dict)
    _rows: dict[tuple[str, str], list[list[int]]] = field(default_factory=dict)
    _money: dict[str, Decimal] = field(default_factory=lambda: defaultdict(lambda: ZERO))

    def incident(self, name: str, **facts: object) -> None:
        """Announce an incident; its rows and dollars follow from the facts that name it."""
        self.incidents[name] = facts

    def add(self, provider: str, path: str, row: int, fact: Fact) -> None:
        """Count a data row (numbered from 1) of a file that belongs to the month's final statement."""
        injected = ZERO
        if fact.incident is not None:
            injected = fact.billed if fact.injected is None else fact.injected
            self._money[fact.incident] += injected
            ranges = self._rows.setdefault((fact.incident, path), [])
            if ranges and ranges[-1][1] == row - 1:
                ranges[-1][1] = row
            else:
                ranges.append([row, row])
        self._files.setdefault(path, _Sum()).add(fact, injected)
        self._providers.setdefault(provider, _Sum()).add(fact, injected)
        if fact.gpu is not None:
            by_model = self._gpu_hours.setdefault(provider, {})
            by_model[fact.gpu] = by_model.get(fact.gpu, ZERO) + fact.gpu_hours
        if fact.commitment is not None:
            found = self.commitments[fact.commitment]
            if fact.used:
                found.used += fact.effective
            else:
                found.unused += fact.effective

    def add_bulk(self, provider: str, path: str, rows: int, cost: Decimal, unowned: Decimal) -> None:
        """Count a file of on-demand resource rows that an engine wrote and summed."""
        total = _Sum(rows=rows, billed=cost, effective=cost, resource=cost, unowned=unowned)
        self._files.setdefault(path, _Sum()).merge(total)
        self._providers.setdefault(provider, _Sum()).merge(total)

    def billed(self) -> dict[str, Decimal]:
        """Total of each provider's bill."""
        return {name: found.billed for name, found in self._providers.items()}

    def _incident(self, name: str) -> dict[str, Any]:
        rows = [
            {"file": path, "data_rows": ranges}
            for (incident, path), ranges in self._rows.items()
            if incident == name
        ]
        return {**self.incidents[name], "injected_cost": plain(self._money[name]), "rows": rows}

    def as_dict(self) -> dict[str, Any]:
        """Return the content of truth.json: money and hours as decimal strings."""
        whole = _Sum()
        for found in self._providers.values():
            whole.merge(found)
        models: dict[str, Decimal] = {}
        for by_model in self._gpu_hours.values():
            for model, hours in by_model.items():
                models[model] = models.get(model, ZERO) + hours
        return {
            "synthetic": LABEL,
            "company": COMPANY,
            "month": self.month.text,
            "seed": self.seed,
            "currency": "USD",
            "definitions": {
                "billed": "sum of BilledCost: what the provider invoices, all charge types",
                "effective": "sum of EffectiveCost: commitments amortised, used and unused",
                "resource_spend": "EffectiveCost of usage rows with a resource, commitments' unused parts left out",
                "untagged": "no tag that names a team, a cost centre or an owner",
                "data_rows": "first and last row number, from 1, the header not counted",
            },
            "teams": {t.name: {"cost_center": t.cost_center, "owner": t.owner} for t in TEAMS.values()},
            "workspaces": dict(WORKSPACES),
            "projects": dict(PROJECTS),
            "total": whole.as_dict(),
            "providers": {name: found.as_dict() for name, found in self._providers.items()},
            "files": {name: found.as_dict() for name, found in self._files.items()},
            "gpu_hours": {
                "total": {model: plain(hours) for model, hours in models.items()},
                **{name: {m: plain(h) for m, h in by.items()} for name, by in self._gpu_hours.items()},
            },
            "commitments": {name: found.as_dict() for name, found in self.commitments.items()},
            "incidents": {name: self._incident(name) for name in self.incidents},
            "notes": self.notes,
        }
