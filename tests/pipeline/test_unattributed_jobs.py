"""What nobody owns where charges were split among jobs, and where a bill says little (synthetic)."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from gpuledger.core.windows import parse
from gpuledger.engines import duckdb
from gpuledger.focus.schema import create_columns
from gpuledger.pipeline.costs import Question
from gpuledger.pipeline.store import TABLES
from gpuledger.pipeline.unattributed import investigate

START = datetime(2026, 10, 10, 2, tzinfo=UTC)
JOBS: tuple[tuple[str, str, str, str | None, dict[str, str]], ...] = (  # job, name, namespace, team, labels
    ("c/1", "nightly-41", "speech", "asr", {}),
    ("c/2", "nightly-42", "speech", None, {}),
    ("c/3", "probe", "default", None, {"created-by": "lin@example.com"}),
    ("c/4", "other", "default", "nlp", {}),
)
PARTS = (  # machine, job, dollars
    ("i-1", "c/1", 4), ("i-1", "c/2", 30), ("i-1", None, 6), ("i-2", "c/3", 20), ("i-2", "c/4", 1), ("i-3", None, 9),
)  # fmt: skip


@pytest.fixture
def split() -> Iterator[duckdb.Connection]:
    """A ledger's views with machines of one account, split among jobs; only i-3 has an owner by its own tags."""
    con = duckdb.connect()
    for table, columns in TABLES.items():
        con.execute(f"CREATE TABLE {table} ({create_columns(columns)})")
    con.executemany(
        "INSERT INTO job BY NAME SELECT ? AS job_id, ? AS name, ? AS namespace, ? AS team, ?::MAP(VARCHAR, VARCHAR) AS labels, 'c' AS cluster, 'Job' AS kind",
        [list(job) for job in JOBS],
    )
    row = """'AWS' AS ServiceProviderName, 'acc' AS SubAccountId, 'Usage' AS ChargeCategory, 'USD' AS BillingCurrency, 'EC2' AS ServiceName,
        'p5.48xlarge' AS x_InstanceType, '2026-10' AS x_BillingPeriod, ?::TIMESTAMPTZ AS ChargePeriodStart,
        ?::TIMESTAMPTZ + INTERVAL 1 HOUR AS ChargePeriodEnd, ? AS ResourceId, ? AS x_Team, ? AS EffectiveCost"""
    for number, machine_id in enumerate(("i-1", "i-2", "i-3")):
        begun, team = START + timedelta(hours=number), "asr" if machine_id == "i-3" else None
        cost = sum(dollars for name, _, dollars in PARTS if name == machine_id)
        con.execute(
            f"INSERT INTO cost_and_usage BY NAME SELECT {row}", [begun, begun, machine_id, team, cost]
        )
        for name, job, dollars in PARTS:
            if name == machine_id:
                con.execute(
                    f"INSERT INTO allocated_cost BY NAME SELECT {row}, ? AS x_JobId",
                    [begun, begun, name, team, dollars, job],
                )
    con.execute("CREATE VIEW allocated AS FROM allocated_cost")
    con.execute("CREATE VIEW jobs AS FROM job")
    yield con
    con.close()


def test_jobs_that_name_nobody_are_incidents_of_their_own(split: duckdb.Connection) -> None:
    rows = investigate(split, Question()).rows
    assert [(row["what"], row["cost"]) for row in rows] == [
        ("Job nightly-42", Decimal(30)), ("Job probe", Decimal(20)), ("p5.48xlarge", Decimal(6)),
    ]  # fmt: skip
    nightly, probe, idle = rows
    assert (nightly["candidate_owner"], nightly["namespace"], nightly["resource_id"]) == (
        "asr",
        "speech",
        "c/2",
    )
    assert {"same_name", "namespace", "same_resource"} <= {sign["rule"] for sign in nightly["evidence"]}
    # The default namespace is everybody's: only who made it says something.
    rules = {rule for found in probe["candidates"] for rule in found["rules"]}
    assert "namespace" not in rules
    assert "creator_named" in rules
    assert {gate["gate"]: gate["state"] for gate in probe["path"]}["admission"] == "passed"
    assert idle["evidence"][0]["rule"] == "same_resource"


def test_splitting_neither_adds_nor_loses_money(split: duckdb.Connection) -> None:
    parts = investigate(split, Question())
    assert (parts.cost, parts.resources, parts.incidents) == (Decimal(56), 3, 3)
    split.execute(
        "CREATE OR REPLACE VIEW allocated AS SELECT *, NULL::VARCHAR AS x_JobId FROM cost_and_usage"
    )
    split.execute("DELETE FROM allocated_cost")
    assert investigate(split, Question()).cost == Decimal(61), "and what named jobs held is theirs again"


def test_what_the_bill_leaves_out_stays_unknown(split: duckdb.Connection) -> None:
    split.execute(
        "INSERT INTO allocated_cost BY NAME SELECT '2026-10' AS x_BillingPeriod, 'USD' AS BillingCurrency, 'Usage' AS ChargeCategory"
    )
    *_, blank = investigate(split, Question(window=parse("2026-10", START))).rows
    known = {name: value for name, value in blank.items() if value not in (None, [])}
    assert set(known) == {"incident", "what", "resources", "confidence_word", "path"}
    assert blank["what"] == "charges (no resource)"
    assert (blank["resources"], blank["cost"], blank["candidate_owner"]) == (0, None, None)
    assert investigate(split, Question(metric="list")).rows[0]["cost"] is None
