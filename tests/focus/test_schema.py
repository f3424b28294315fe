"""The ledger's columns: unique names, types DuckDB accepts, strict select lists."""

from __future__ import annotations

import duckdb
import pytest

from gpuledger.focus import schema

TABLES = [schema.LEDGER_COST_AND_USAGE, schema.LEDGER_CONTRACT_COMMITMENT]


@pytest.mark.parametrize("columns", TABLES)
def test_create_and_typed_null_select_agree(columns: tuple[schema.LedgerColumn, ...]) -> None:
    con = duckdb.connect()
    con.execute(f"CREATE TABLE t ({schema.create_columns(columns)})")
    con.execute(f"INSERT INTO t SELECT {schema.select_list(columns)}")
    described = con.execute("DESCRIBE t").fetchall()
    selected = con.execute(f"DESCRIBE SELECT {schema.select_list(columns)}").fetchall()
    assert [row[:2] for row in described] == [row[:2] for row in selected]
    assert [row[0] for row in described] == [column.name for column in columns]
    assert len({column.name for column in columns}) == len(columns)


def test_partition_columns_are_in_both_tables() -> None:
    for columns in TABLES:
        assert set(schema.PARTITION_COLUMNS) <= {column.name for column in columns}


def test_select_list_uses_expressions_and_present_columns() -> None:
    con = duckdb.connect()
    columns = schema.LEDGER_CONTRACT_COMMITMENT
    sql = schema.select_list(columns, {"ContractId": "'c' || 1", "ContractCommitmentCost": "1.5"})
    row = con.execute(f"SELECT {sql}").fetchone()
    values = dict(zip((column.name for column in columns), row or (), strict=True))
    assert values["ContractId"] == "c1"
    assert str(values["ContractCommitmentCost"]) == "1.500000000000000000"
    names = schema.select_list(columns, ["ContractId"])
    assert con.execute(f"SELECT {names} FROM (SELECT 'k' AS ContractId)").fetchone() is not None


def test_select_list_refuses_a_column_the_ledger_lacks() -> None:
    with pytest.raises(ValueError, match="x_Typo"):
        schema.select_list(schema.LEDGER_COST_AND_USAGE, {"x_Typo": "1"})


def test_casts_are_strict() -> None:
    con = duckdb.connect()
    sql = schema.select_list(schema.LEDGER_COST_AND_USAGE, {"BilledCost": "'NaN'"})
    with pytest.raises(duckdb.ConversionException):
        con.execute(f"SELECT {sql}").fetchall()
