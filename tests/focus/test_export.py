"""The ledger as FOCUS datasets: columns, values and metadata of every version."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.focus.rows import COMMITMENT, charge, text_rows

from gpuledger.engines import duckdb
from gpuledger.errors import UsageError
from gpuledger.focus.export import (
    Sector,
    data_generator,
    dataset_instance,
    focus_columns,
    iso,
    projection,
    recency,
    schema,
)  # fmt: skip
from gpuledger.focus.model import VERSIONS, model
from gpuledger.focus.schema import LEDGER_CONTRACT_COMMITMENT, LEDGER_COST_AND_USAGE, select_list
from gpuledger.focus.upconvert import ledger_expressions
from gpuledger.focus.validate import validate

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def con() -> duckdb.Connection:
    """A ledger table with one charge that came from a 1.3 file."""
    con = duckdb.connect()
    rows = text_rows(charge(InvoiceId="INV", ListCost="15.000"))
    found = ledger_expressions(duckdb.columns(con, f"({rows})"))
    con.execute(
        f"CREATE TABLE cost_and_usage AS SELECT {select_list(LEDGER_COST_AND_USAGE, found)} FROM ({rows})"
    )
    return con


def export(
    con: duckdb.Connection, version: str, *, text: bool = False, fallback: bool = True
) -> dict[str, Any]:
    result = con.execute(
        f"SELECT {projection('CostAndUsage', version, text=text, fallback=fallback)} FROM cost_and_usage"
    )
    names = [column[0] for column in result.description]
    return dict(zip(names, result.fetchone() or (), strict=True))


@pytest.mark.parametrize("version", VERSIONS)
def test_an_export_has_the_versions_columns_in_order(con: duckdb.Connection, version: str) -> None:
    assert list(export(con, version)) == sorted(model("CostAndUsage", version).columns)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("text", [False, True])
def test_an_export_conforms(con: duckdb.Connection, version: str, *, text: bool) -> None:
    relation = f"SELECT {projection('CostAndUsage', version, text=text)} FROM cost_and_usage"
    if text:
        relation = f"SELECT COLUMNS(*)::VARCHAR FROM ({relation})"
    assert validate(con, relation, focus_version=version).failures() == []


def test_text_is_plain(con: duckdb.Connection) -> None:
    row = export(con, "1.3", text=True)
    assert row["ChargePeriodStart"] == "2026-10-01T00:00:00Z"
    assert (row["BilledCost"], row["ListCost"], row["PricingQuantity"]) == ("12.5", "15", "5")
    assert row["Tags"] == '{"team":"vision"}'
    con.execute("UPDATE cost_and_usage SET BilledCost = 0, ListCost = -0.0000001, EffectiveCost = 100")
    row = export(con, "1.3", text=True)
    assert (row["BilledCost"], row["ListCost"], row["EffectiveCost"]) == ("0", "-0.0000001", "100")


def test_providers_fall_back_on_their_successors(con: duckdb.Connection) -> None:
    con.execute(
        "UPDATE cost_and_usage SET ProviderName = NULL, PublisherName = NULL, ServiceProviderName = 'S'"
    )
    row = export(con, "1.2")
    assert (row["ProviderName"], row["PublisherName"]) == ("S", "S")
    assert export(con, "1.2", fallback=False)["ProviderName"] is None
    con.execute(
        "UPDATE cost_and_usage SET ProviderName = 'P', ServiceProviderName = NULL, HostProviderName = NULL"
    )
    row = export(con, "1.4")
    assert (row["ServiceProviderName"], row["HostProviderName"]) == ("P", "P")


def test_contract_entries_state_cost_or_quantity_in_1_4(con: duckdb.Connection) -> None:
    both = (
        '{"Elements":[{"ContractId":"c","ContractCommitmentId":"t","ContractCommitmentAppliedCost":1.10,'
        '"ContractCommitmentAppliedQuantity":2,"ContractCommitmentAppliedUnit":"GB"}],"x_Note":"n"}'
    )
    con.execute("UPDATE cost_and_usage SET ContractApplied = ?", [both])
    assert export(con, "1.3")["ContractApplied"] == both
    new = export(con, "1.4")["ContractApplied"]
    assert '"ContractCommitmentAppliedCost":1.10' in new
    assert json.loads(new) == {
        "Elements": [{
            "ContractId": "c", "ContractCommitmentId": "t", "ContractCommitmentAppliedCost": 1.1,
            "x_ContractCommitmentAppliedQuantity": 2, "x_ContractCommitmentAppliedUnit": "GB",
        }],
        "x_Note": "n",
    }  # fmt: skip
    found = validate(
        con, f"SELECT {projection('CostAndUsage', '1.4')} FROM cost_and_usage", focus_version="1.4"
    )
    assert "OWN-CAU-ContractApplied-ONE" not in {result.rule.id for result in found.failed}
    cost_only = both.replace(
        ',"ContractCommitmentAppliedQuantity":2,"ContractCommitmentAppliedUnit":"GB"', ""
    )
    con.execute("UPDATE cost_and_usage SET ContractApplied = ?", [cost_only])
    assert export(con, "1.4")["ContractApplied"] == cost_only
    for odd in ("{broken}", "[]", None):
        con.execute("UPDATE cost_and_usage SET ContractApplied = ?", [odd])
        assert export(con, "1.4")["ContractApplied"] == odd


def test_commitments(con: duckdb.Connection) -> None:
    rows = text_rows(COMMITMENT)
    found = ledger_expressions(duckdb.columns(con, f"({rows})"), dataset="ContractCommitment")
    listed = select_list(LEDGER_CONTRACT_COMMITMENT, found)
    relation = f"SELECT {projection('ContractCommitment', '1.3')} FROM (SELECT {listed} FROM ({rows}))"
    report = validate(con, relation, focus_version="1.3", dataset="ContractCommitment")
    assert report.failures() == []


def test_custom_columns_come_last_and_must_be_the_ledgers() -> None:
    names = [column.name for column in focus_columns("CostAndUsage", "1.3", ["x_Team", "x_GpuHours"])]
    assert names[-2:] == ["x_Team", "x_GpuHours"]
    for bad in ("x_Nope", "BilledCost"):
        with pytest.raises(UsageError, match=bad):
            focus_columns("CostAndUsage", "1.3", [bad])
    with pytest.raises(UsageError, match="InvoiceDetail"):
        focus_columns("InvoiceDetail", "1.4")


def test_schema_object() -> None:
    one = schema(
        "CostAndUsage", "1.3", instance_id="i", created=NOW, generator_version="1.0.0", custom=["x_GpuHours"]
    )
    assert one["CreationDate"] == "2026-11-01T12:00:00Z"
    assert one["FocusVersion"] == "1.3"
    columns = {column["ColumnName"]: column for column in one["ColumnDefinition"]}
    assert columns["BilledCost"] == {
        "ColumnName": "BilledCost", "DataType": "DECIMAL", "NumericPrecision": 32, "NumberScale": 18
    }  # fmt: skip
    assert columns["Tags"]["ProviderTagPrefixes"] == []
    assert columns["Tags"]["DataType"] == "JSON"
    assert columns["ChargePeriodStart"] == {"ColumnName": "ChargePeriodStart", "DataType": "DATETIME"}
    assert columns["x_GpuHours"]["DataType"] == "DECIMAL"
    assert [name for name, column in columns.items() if column.get("Deprecated")] == [
        "ProviderName",
        "PublisherName",
    ]
    later = schema("CostAndUsage", "1.3", instance_id="i", created=NOW.replace(day=2), generator_version="1.0.0",
                   custom=["x_GpuHours"])  # fmt: skip
    assert later["SchemaId"] == one["SchemaId"]
    assert (
        schema("CostAndUsage", "1.4", instance_id="i", created=NOW, generator_version="1.0.0")["SchemaId"]
        != (one["SchemaId"])
    )


def test_recency_and_instances() -> None:
    october, november = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    sectors = [
        Sector(november, NOW, complete=False, updated=NOW),
        Sector(october, november, complete=True, updated=NOW),
    ]
    found = recency("i", NOW, NOW, sectors)
    assert [sector["TimeSectorComplete"] for sector in found["TimeSectors"]] == [True, False]
    assert found["TimeSectors"][0]["TimeSectorEnd"] == "2026-11-01T00:00:00Z"
    assert dataset_instance("i", "Costs", "CostAndUsage")["FocusDatasetId"] == "CostAndUsage"
    assert data_generator() == {"DataGenerator": "gpuledger"}
    with pytest.raises(ValueError, match="zone"):
        iso(datetime(2026, 1, 1))  # noqa: DTZ001  # the point
