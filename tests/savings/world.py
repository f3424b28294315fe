"""A small synthetic ledger in memory: charges of one job or model, and telemetry of it, for one rule at a time."""
# ruff: noqa: ANN401  # rows take any of their columns

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from gpuledger.config import SavingsSection
from gpuledger.core.windows import Window
from gpuledger.engines import duckdb
from gpuledger.focus.schema import LEDGER_COST_AND_USAGE, quoted
from gpuledger.pipeline import views
from gpuledger.pipeline.savings import Savings, Wanted, ask
from gpuledger.pipeline.store import TABLES

T0 = datetime(2026, 10, 5, tzinfo=UTC)  # a Monday
NOTHING: dict[str, list[str]] = {table: [] for table in TABLES}


def at(hour: float) -> datetime:
    return T0 + timedelta(hours=hour)


def near(amount: Decimal, wanted: str) -> bool:
    """Whether two amounts are the same to a millionth; shares have no more digits than a fraction of time needs."""
    return abs(amount - Decimal(wanted)) < Decimal("0.000001")


def _span(hours: tuple[float, float]) -> dict[str, Any]:
    return {"start": at(hours[0]), "end": at(hours[1])}


def bill(cost: str, hours: tuple[float, float] = (0, 24), **more: Any) -> dict[str, Any]:
    """A charge that nobody split."""
    return {
        "EffectiveCost": Decimal(cost), "BilledCost": Decimal(cost), "ListCost": Decimal(cost), "ContractedCost": Decimal(cost),
        "BillingCurrency": "USD", "ChargeCategory": "Usage", "ChargePeriodStart": at(hours[0]), "ChargePeriodEnd": at(hours[1]),
        "ServiceProviderName": "AWS", "SubAccountId": "42", "RegionId": "us-east-1", **more,
    }  # fmt: skip


def machine(cost: str, hours: tuple[float, float] = (0, 24), **more: Any) -> dict[str, Any]:
    """A charge of a machine with eight H100 on demand."""
    given = {
        "ResourceId": "i-1",
        "x_InstanceType": "p5.48xlarge",
        "x_GpuModel": "H100",
        "PricingCategory": "Standard",
    }
    return bill(cost, hours, **{**given, **more})


def part(
    cost: str, hours: tuple[float, float] = (0, 24), job: str | None = "j", **more: Any
) -> dict[str, Any]:
    """The part of a machine's charge that a job bears; without a job, what nobody held."""
    given = {
        "x_JobId": job, "x_AllocationState": "running" if job else "idle", "x_Cluster": "c", "x_Node": "n1", "x_Attempt": 1,
        "AllocatedMethodId": "m", "x_HeldGpuHours": Decimal(8 * int(hours[1] - hours[0])),
    }  # fmt: skip
    return machine(cost, hours, **{**given, **more})


def calls(cost: str, kind: str, quantity: int, model: str = "gpt-5", **more: Any) -> dict[str, Any]:
    """A day's charge for tokens of a model behind an API."""
    given = {
        "ServiceProviderName": "OpenAI", "SubAccountId": "proj-a", "RegionId": None, "x_AiModel": model, "x_TokenType": kind,
        "x_ServiceTier": "standard", "PricingUnit": "Tokens", "PricingQuantity": Decimal(quantity),
    }  # fmt: skip
    return bill(cost, **{**given, **more})


def job(key: str = "j", **more: Any) -> dict[str, Any]:
    given = {
        "job_id": key, "cluster": "c", "kind": "Deployment", "name": key, "namespace": "ml", "state": "Running", "attempts": 1,
        "started": at(0), "owner": "ada", "x_Source": "k", "x_BillingPeriod": "2026-10-05",
    }  # fmt: skip
    return {**given, **more}


def held(hours: tuple[float, float] = (0, 24), used: str | None = "8", **more: Any) -> dict[str, Any]:
    """Eight cards of node n1, `used` of them on average."""
    given = {
        "cluster": "c", "node": "n1", "job_id": "j", "attempt": 1, "pod": "p", "pod_uid": "u", "resource": "gpu", "state": "running",
        "requested": Decimal(8), "used": None if used is None else Decimal(used), **_day(hours),
    }  # fmt: skip
    return {**given, **more}


def node(name: str = "n1", hours: tuple[float, float] = (0, 24), **more: Any) -> dict[str, Any]:
    given = {
        "cluster": "c",
        "node": name,
        "pool": "h100",
        "gpu_model": "H100",
        "gpu_count": Decimal(8),
        **_day(hours),
    }
    return {**given, **more}


def served(hours: tuple[float, float], *, each: bool = True, **more: Any) -> list[dict[str, Any]]:
    """A replica's tokens, hour by hour; numbers are per hour."""
    given = {
        "cluster": "c",
        "namespace": "ml",
        "deployment": "j",
        "job_id": "j",
        "pod": "p",
        "provider": "vllm",
        "model": "m",
    }
    whole = range(int(hours[0]), int(hours[1])) if each else [hours[0]]
    return [{**given, **_day((one, one + 1 if each else hours[1])), **more} for one in whole]


def trained(hours: tuple[float, float] = (0, 24), **more: Any) -> dict[str, Any]:
    return {"cluster": "c", "job_id": "j", "run_id": "r", **_day(hours), **more}


def _day(hours: tuple[float, float]) -> dict[str, Any]:
    return {
        **_span(hours),
        "x_Source": "k",
        "x_BillingPeriod": f"{at(hours[0]):%Y-%m-%d}",
        "x_DeliveryId": "d",
    }


@dataclass(frozen=True, slots=True)
class World:
    """Rows of each table; `facts` as in the configuration."""

    charges: Sequence[dict[str, Any]] = ()
    jobs: Sequence[dict[str, Any]] = (job(),)
    usage: Sequence[dict[str, Any]] = ()
    nodes: Sequence[dict[str, Any]] = ()
    tokens: Sequence[dict[str, Any]] = ()
    training: Sequence[dict[str, Any]] = ()
    commitments: Sequence[dict[str, Any]] = ()
    facts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    days: int = 1
    settings: Mapping[str, Any] = field(default_factory=dict)

    def connect(self) -> duckdb.Connection:
        con = duckdb.connect()
        views.define(con, NOTHING)
        costs = ", ".join(quoted(column.name) for column in LEDGER_COST_AND_USAGE)
        con.execute("CREATE OR REPLACE VIEW allocated AS SELECT * FROM allocated_cost")
        con.execute("DROP TABLE cost_and_usage")
        con.execute(f"CREATE VIEW cost_and_usage AS SELECT {costs} FROM allocated_cost")
        tables = {
            "allocated_cost": self.charges, "job": self.jobs, "usage_interval": self.usage, "node_interval": self.nodes,
            "token_interval": self.tokens, "training_interval": self.training, "contract_commitment": self.commitments,
        }  # fmt: skip
        for table, rows in tables.items():
            for row in rows:
                _insert(con, table, row)
        return con

    def ask(self, *rules: str, **wanted: Any) -> Savings:
        window = Window(T0, T0 + timedelta(days=self.days))
        settings = SavingsSection.model_validate({"facts": self.facts, **self.settings})
        given = {"rules": rules or None, "least": Decimal(0), **wanted}
        with self.connect() as con:
            return ask(con, window, settings, Wanted(**given))


def _insert(con: duckdb.Connection, table: str, row: Mapping[str, Any]) -> None:
    values, bound = [], []
    for value in row.values():
        if isinstance(value, Mapping):
            pairs = ", ".join(f"{duckdb.literal(key)}: {duckdb.literal(held)}" for key, held in value.items())
            values.append(f"MAP {{{pairs}}}")
        else:
            values.append("?")
            bound.append(value)
    names = ", ".join(map(quoted, row))
    con.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join(values)})", bound)


def check_found(rule: str, world: World, scope: str, low: str, high: str) -> None:
    """One finding of a rule: where, and how much."""
    (row,) = world.ask(rule).rows
    assert (row["rule"], row["scope"]) == (rule, scope)
    assert near(row["saving_low"], low), row["saving_low"]
    assert near(row["saving_high"], high), row["saving_high"]
    assert row["saving_low"] <= row["saving_high"] <= row["touched_cost"]
    assert row["evidence"]
    assert row["action"]


def check_sound(rule: str, world: World) -> None:
    """The rule could look, and found nothing."""
    answer = world.ask(rule, show_all=True)
    assert [row["status"] for row in answer.rows] == ["nothing found"], answer.rows
    assert answer.totals["saving_high"] == 0
