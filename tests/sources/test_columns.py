"""Column maps: what the golden folders don't show, what is refused and how it is said, and that a map stays data."""

import json
import re
import tomllib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuledger import registry
from gpuledger.core import column_map_parser, column_map_sql
from gpuledger.engines import duckdb
from gpuledger.errors import ConfigError
from gpuledger.pipeline.ingest import Options, Report, ingest
from gpuledger.pipeline.locations import open_tree
from gpuledger.pipeline.store import Store
from gpuledger.sources import columns

Row = dict[str, Any]
READ: Callable[[str], str] = lambda name: Path(name).read_text("utf-8")  # noqa: E731


def columns_toml(more: str = "", cost: str = '"cost"', tail: str = "") -> str:
    """A small map of `day,cost`."""
    return (
        f'[columns]\nChargePeriodStart = "day"\nBilledCost = {cost}\n{more}\n'
        f'[constants]\nBillingCurrency = "USD"\n{tail}\n'
    )


@pytest.fixture
def bill(tmp_path: Path) -> Path:
    folder = tmp_path / "bill"
    folder.mkdir()
    return folder


def load(folder: Path, **settings: object) -> tuple[Report, list[Row]]:
    """Ingest the folder and return the report and the ledger's rows in native order."""
    store = Store(str(folder.parent / "ledger"))
    options = Options(source="test", settings=settings)
    report = ingest(store, open_tree(str(folder), folder), registry.source("columns"), options)
    files = store.files("cost_and_usage")
    if not files:
        return report, []
    cursor = duckdb.connect().execute(
        f"SELECT * FROM read_parquet({duckdb.literals(files)}) ORDER BY x_SourceFile, x_SourceRow, BilledCost"
    )
    names = [column[0] for column in cursor.description]
    return report, [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def rows(bill: Path, lines: str, text: str) -> list[Row]:
    (bill / "bill.csv").write_text(lines, "utf-8")
    (bill / "columns.toml").write_text(text, "utf-8")
    report, found = load(bill)
    assert [row.action for row in report.rows] == ["loaded"], report.diagnostics
    return found


def complaint(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        column_map_parser.parse(tomllib.loads(text), "map.toml", READ)
    assert caught.value.hint
    assert str(caught.value.where).startswith("map.toml: ")
    return str(caught.value)


@pytest.mark.parametrize(
    ("cost", "cells", "expected"),
    [
        ('{ column = "cost", divide = 100 }', "12345678901234.56", "123456789012.3456"),
        ('{ column = "cost", divide = 100 }', "0.1", "0.001"),
        ('{ column = "cost", times = "0.01" }', "-7", "-0.07"),
        ('{ column = "cost", negate = true }', "12.5", "-12.5"),
        ('{ column = "cost", default = 0 }', "", "0"),
        ('{ first = ["net", "cost"], optional = true }', "3", "3"),
    ],
)
def test_units_and_signs_of_money_are_exact(bill: Path, cost: str, cells: str, expected: str) -> None:
    found = rows(bill, f"day,cost\n2026-10-01,{cells}\n", columns_toml(cost=cost))
    assert [row["BilledCost"] for row in found] == [Decimal(expected)]


@pytest.mark.parametrize(
    ("seconds", "hours"), [("5400", "1.5"), ("1", "0.00027777777778"), ("-1", "-0.00027777777778")]
)
def test_a_quantity_is_divided_without_floats(bill: Path, seconds: str, hours: str) -> None:
    text = columns_toml('PricingQuantity = { column = "s", divide = 3600 }')
    assert rows(bill, f"day,cost,s\n2026-10-01,1,{seconds}\n", text)[0]["PricingQuantity"] == Decimal(hours)


def test_price_times_quantity_is_the_cost(bill: Path) -> None:
    text = columns_toml(cost='{ multiply = ["hours", "rate"] }')
    found = rows(bill, "day,hours,rate\n2026-10-01,1.25,2.123456789012\n2026-10-01,x,2\n", text)
    assert [row["BilledCost"] for row in found] == [Decimal("2.654320986265"), None]
    assert found[1]["x_DataIssues"] == 'BilledCost: "x" can\'t be read'


@pytest.mark.parametrize(
    ("cell", "formats", "start"),
    [
        ("2026-10-01T05:00:00+02:00", "", "2026-10-01T03:00:00+00:00"),
        ("2026-10-01 05:00", "", "2026-10-01T09:00:00+00:00"),
        ("1790830800", 'formats = ["unix"]', "2026-10-01T05:00:00+00:00"),
        ("1790830800000", 'formats = ["unix_ms"]', "2026-10-01T05:00:00+00:00"),
        ("10/2026", 'formats = ["%m/%Y"]', "2026-10-01T04:00:00+00:00"),
    ],
)
def test_times_have_the_maps_formats_and_zone(bill: Path, cell: str, formats: str, start: str) -> None:
    parts = ['column = "at"', 'time_zone = "America/New_York"', *([formats] if formats else [])]
    spec = f"{{ {', '.join(parts)} }}"
    text = columns_toml().replace('ChargePeriodStart = "day"', f"ChargePeriodStart = {spec}")
    assert rows(bill, f"at,cost\n{cell},1\n", text)[0]["ChargePeriodStart"].isoformat() == start


def test_a_local_month_is_one_billing_period(bill: Path) -> None:
    text = columns_toml(tail='charge_period = "1 day"\n[file]\ntime_zone = "Europe/Berlin"')
    found = rows(bill, "day,cost\n2026-10-01,1\n2026-10-31,1\n", text)
    assert {row["BillingPeriodStart"].isoformat() for row in found} == {"2026-10-01T00:00:00+00:00"}
    assert found[0]["ChargePeriodStart"].isoformat() == "2026-09-30T22:00:00+00:00"
    assert found[1]["ChargePeriodEnd"].isoformat() == "2026-10-31T23:00:00+00:00"


def test_the_total_line_must_agree(bill: Path) -> None:
    (bill / "bill.csv").write_text("day,what,cost\n2026-10-01,gpu,10\n2026-10-01,TOTAL,11\n")
    totals = '[rows]\ntotals = [{ column = "what", values = ["Total"] }]'
    (bill / "columns.toml").write_text(columns_toml(tail=totals))
    report, found = load(bill)
    assert [row.action for row in report.rows] == ["rejected"]
    assert "mapped charges sum to 10" in report.diagnostics[0].message
    assert found == []


def test_an_unreadable_part_keeps_the_total(bill: Path) -> None:
    (bill / "bill.json").write_text(
        json.dumps({"records": [{"at": "2026-10-01", "gpu": "?", "disk": 1, "all": 5}]})
    )
    (bill / "columns.toml").write_text(
        '[file]\nrecords = "records"\n[columns]\nChargePeriodStart = "at"\n[constants]\nBillingCurrency = "USD"\n'
        '[charges]\ntotal = "all"\n[charges.columns.gpu]\nSkuId = "gpu"\n[charges.columns.disk]\nSkuId = "disk"\n'
    )
    report, found = load(bill)
    assert {row["SkuId"]: row["BilledCost"] for row in found} == {"gpu": None, "disk": 1, None: 4}
    assert [told.code for told in report.diagnostics if told.code != "focus-rules"] == ["unreadable-value"]


def test_a_rate_holds_from_its_day_until_the_next(bill: Path) -> None:
    (bill / "usage.csv").write_text(
        "at,sku,hours\n2026-10-15T23:00Z,H100,2\n2026-10-16T00:00Z,h100,2\n2026-10-16,a100,\n"
    )
    (bill / "rates.csv").write_text(
        "sku,unit_price,from,until\nH100,2,,2026-10-16\nH100,3,2026-10-16,\na100,1,,\n"
    )
    (bill.parent / "map.toml").write_text(
        '[columns]\nChargePeriodStart = "at"\nSkuId = "sku"\nPricingQuantity = "hours"\n'
        '[constants]\nBillingCurrency = "USD"\n[rate_card]\nfile = "bill/rates.csv"\n'
    )
    (bill / "rates.csv").rename(bill.parent / "rates.csv")
    text = (bill.parent / "map.toml").read_text().replace("bill/rates.csv", "rates.csv")
    (bill.parent / "map.toml").write_text(text)
    _, found = load(bill, map=str(bill.parent / "map.toml"))
    assert [row["BilledCost"] for row in found] == [4, 6, None]
    assert {row["x_CostStatus"] for row in found} == {"Estimated"}
    assert found[2]["x_DataIssues"] == "BilledCost: no quantity to price"


def test_a_mended_map_reads_the_same_bill_again(bill: Path) -> None:
    (bill / "bill.csv").write_text("day,cost\n2026-10-01,1\n")
    (bill / "columns.toml").write_text(columns_toml())
    load(bill)
    report, _ = load(bill)
    assert [row.action for row in report.rows] == ["unchanged"]
    (bill / "columns.toml").write_text(columns_toml(cost='{ column = "cost", times = 2 }'))
    report, _ = load(bill)
    assert [(row.action, row.billed_cost) for row in report.rows] == [("replaced", Decimal(2))]


def test_a_map_may_stand_in_the_configuration(bill: Path) -> None:
    (bill / "bill.csv").write_text("day,cost\n2026-10-01,1\n")
    content = tomllib.loads(columns_toml())
    assert load(bill, map=content)[0].rows[0].billed_cost == 1
    assert load(bill, **content)[0].rows[0].billed_cost == 1


def test_nothing_of_a_map_or_a_header_is_sql(bill: Path) -> None:
    hostile = """a"); DROP TABLE native; --'"""
    lines = f'"{hostile.replace(chr(34), chr(34) * 2)}",day,cost\n{hostile.split(chr(34), maxsplit=1)[0]},2026-10-01,1\n'
    toml = json.dumps(hostile)
    text = columns_toml(
        f"ResourceId = {toml}\nResourceName = {{ join = [{toml}, {toml}], separator = {toml} }}\n"
        f"SkuId = {{ column = {toml}, values = {{ {toml} = {toml} }}, default = {toml} }}",
        tail=f"ServiceName = {toml}\n[tags]\ncolumns = {{ {toml} = {toml} }}\n[file]\nnulls = [{toml}]",
    )
    row = rows(bill, lines, text)[0]
    assert row["ResourceId"] == "a"
    assert row["ResourceName"] == f"a{hostile}a"
    assert row["SkuId"] == row["ServiceName"] == hostile
    assert row["Tags"] == {hostile: "a"}


@given(st.text(min_size=1).filter(lambda text: "|" not in text and not text.startswith("_")))
def test_any_name_and_text_make_valid_sql(name: str) -> None:
    content = {
        "columns": {
            "ChargePeriodStart": "day",
            "BilledCost": name,
            "SkuId": {"column": name, "values": {name: name}},
        },
        "constants": {"BillingCurrency": name},
        "rows": {"skip": [{"column": name, "values": [name]}]},
    }
    try:
        made = column_map_parser.parse(content, "map.toml", READ)
    except ConfigError:
        return
    statement = column_map_sql.Statement(made)
    con = duckdb.connect()
    parsed = con.extract_statements(f"{statement.select()}; SELECT {statement.total()} FROM native")
    assert len(parsed) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            '[columns]\nBiledCost = "c"',
            "[columns] BiledCost: the ledger has no such column\nHint: Did you mean BilledCost?",
        ),
        ("colums = 1", "map.toml: colums: unknown key\nHint: Did you mean columns?"),
        (
            columns_toml(cost='{ colum = "c" }'),
            "[columns.BilledCost] colum: unknown key\nHint: Did you mean column?",
        ),
        (
            columns_toml(cost="{ times = 2 }"),
            "needs exactly one of column, first, join, add, multiply, object",
        ),
        (columns_toml(cost='{ column = "c", divide = 7 }'), "money can't be divided by 7 exactly"),
        (columns_toml(cost='{ join = ["a", "b"] }'), "[columns.BilledCost] join: doesn't fit BilledCost"),
        (columns_toml('SkuId = { column = "c", times = 2 }'), "times: doesn't fit SkuId, which is a text"),
        (columns_toml('x_DataIssues = "c"'), "x_DataIssues: the ledger has no such column"),
        (columns_toml('SkuId = { column = "c", pattern = "(" }'), "pattern: not a regular expression"),
        (columns_toml('ResourceId = "Cost"'), "is the same column as 'cost'"),
        (columns_toml(tail='ListCost = "ten"'), "[constants] ListCost: must be a number, not 'ten'"),
        (columns_toml(tail='BilledCost = "1"'), "[constants] BilledCost: is in [columns] too"),
        (columns_toml(tail='charge_period = "an hour"'), "can't read 'an hour'"),
        (
            columns_toml(tail='[file]\ntime_zone = "Mars/Olympus"'),
            "[file] time_zone: no time zone 'Mars/Olympus'",
        ),
        (columns_toml(tail='[file]\ndecimal = ";"'), "[file] decimal: decimal is '.' or ','"),
        (
            columns_toml(tail="[rate_card]"),
            "needs exactly one of [columns] BilledCost, [charges] and [rate_card]",
        ),
        (
            '[columns]\nBilledCost = "c"\n[constants]\nBillingCurrency = "USD"',
            "ChargePeriodStart: is missing",
        ),
        ('[columns]\nBilledCost = "c"\nChargePeriodStart = "d"', "BillingCurrency: is missing"),
        (
            columns_toml(tail='[rows]\nskip = [{ column = "c" }]'),
            "needs a column, and values, a pattern or empty",
        ),
    ],
)
def test_a_wrong_map_is_told_with_table_key_and_hint(text: str, says: str) -> None:
    assert says in complaint(text)


def test_overlapping_rates_are_refused() -> None:
    text = (
        '[columns]\nChargePeriodStart = "at"\nSkuId = "sku"\nPricingQuantity = "n"\n[constants]\nBillingCurrency = "USD"\n'
        '[rate_card]\nrates = [{ sku = "a", unit_price = 1 }, { sku = "A", unit_price = 2, from = 2026-10-01 }]'
    )
    assert "two rates of A hold at the same time" in complaint(text)


def test_maps_are_found_by_name_and_missed_with_a_hint(bill: Path) -> None:
    (bill / "bill.csv").write_text("day,cost\n2026-10-01,1\n")
    for settings, says in (
        ({}, "no column map: no columns.toml beside the data"),
        ({"map": "corewave"}, "Did you mean coreweave?"),
        ({"map": "missing.toml"}, "no such map file"),
    ):
        with pytest.raises(ConfigError, match=says):
            load(bill, **settings)


def test_a_file_of_another_form_is_refused_with_its_columns(bill: Path) -> None:
    (bill / "bill.csv").write_text("day,price\n2026-10-01,1\n")
    (bill / "columns.toml").write_text('title = "Acme bill"\n' + columns_toml())
    report, _ = load(bill)
    assert "not a Acme bill file: no column cost (it has day, price)" in report.diagnostics[0].message


@pytest.mark.parametrize(
    ("more", "source"), [("", "columns-acme-cloud"), ('BillingAccountId = "account"', "columns-7")]
)
def test_bills_of_two_vendors_do_not_replace_each_other(bill: Path, more: str, source: str) -> None:
    (bill / "billing.csv").write_text("day,cost,account\n2026-10-01,1,7\n")
    (bill / "columns.toml").write_text('provider = "Acme Cloud"\n' + columns_toml(more))
    store = Store(str(bill.parent / "ledger"))
    report = ingest(store, open_tree(str(bill), bill), registry.source("columns"), Options())
    assert [row.source for row in report.rows] == [source]


def test_the_documented_map_is_valid() -> None:
    page = (Path(__file__).parents[2] / "docs" / "connectors" / "columns.md").read_text("utf-8")
    examples = [text for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "\n[columns]" in text]
    assert [column_map_parser.parse(tomllib.loads(text), "page", READ).provider for text in examples] == [
        "ACME"
    ]
    assert [name for name in columns.shipped() if f"`{name}`" not in page] == []


@pytest.mark.parametrize("name", columns.shipped())
def test_shipped_maps_are_valid_and_say_whose_bill_they_read(name: str) -> None:
    text = (Path(columns.__file__).parent / "columns_maps" / f"{name}.toml").read_text("utf-8")
    assert text.startswith("# ")
    assert column_map_parser.parse(tomllib.loads(text), name, READ).provider
