"""Recognition: golden rows in the spellings of real bills, exact accelerator-hours, and one streaming pass."""

import csv
import re
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuledger.engines import duckdb
from gpuledger.focus.schema import LEDGER_COST_AND_USAGE, create_columns
from gpuledger.models import recognition
from gpuledger.prices import GpuType, gpu_types
from gpuledger.prices.skus import ai_families, gpu_sku_patterns

HERE = Path(__file__).parent
GPU = ("x_GpuModel", "x_GpuCount", "x_GpuMemoryGiB", "x_GpuHours")
AI = ("x_AiModel", "x_TokenType", "x_ServiceTier")


def golden(name: str) -> list[dict[str, str]]:
    with (HERE / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def label(row: dict[str, str]) -> str:
    return row.get("note") or row["SkuMeter"] or row["ChargeDescription"]


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.Connection]:
    con = duckdb.connect()
    con.execute(f"CREATE TABLE ledger ({create_columns(LEDGER_COST_AND_USAGE)})")
    recognition.load(con)
    con.execute(f"CREATE VIEW recognized AS {recognition.recognition_sql('ledger')}")
    yield con
    con.close()


def recognize(con: duckdb.Connection, row: dict[str, object], wanted: tuple[str, ...]) -> tuple[object, ...]:
    con.execute("DELETE FROM ledger")
    con.execute(
        f"INSERT INTO ledger ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values())
    )
    found = con.execute(f"SELECT {', '.join(wanted)} FROM recognized").fetchone()
    assert found is not None
    return found


def given_cells(row: dict[str, str], results: tuple[str, ...]) -> dict[str, object]:
    return {name: text for name, text in row.items() if text and name not in {*results, "note"}}


@pytest.mark.parametrize("row", golden("gpu_rows"), ids=label)
def test_accelerators_of_real_spellings(con: duckdb.Connection, row: dict[str, str]) -> None:
    found = recognize(con, given_cells(row, GPU), GPU)
    expected = (row["x_GpuModel"] or None, *(Decimal(row[name]) if row[name] else None for name in GPU[1:]))
    assert found == expected


@pytest.mark.parametrize("row", golden("ai_rows"), ids=label)
def test_ai_models_of_real_spellings(con: duckdb.Connection, row: dict[str, str]) -> None:
    found = recognize(con, given_cells(row, AI), AI)
    assert found == tuple(row[name] or None for name in AI)


def test_every_pattern_has_a_golden_row(con: duckdb.Connection) -> None:
    texts = [(row["SkuMeter"] or row["ChargeDescription"]).lower() for row in golden("gpu_rows")]
    matched = {
        pattern.id
        for pattern in gpu_sku_patterns()
        for text in texts
        if pattern.needs in text
        and con.execute("SELECT regexp_matches(?, ?)", [text, pattern.pattern]).fetchone() == (True,)
    }
    assert matched == {pattern.id for pattern in gpu_sku_patterns()}
    lines = [(row["SkuMeter"] or row["ChargeDescription"]).lower() for row in golden("ai_rows")]
    families = {
        family.name
        for family in ai_families()
        for line in lines
        if family.needs in line
        and con.execute("SELECT regexp_matches(?, ?)", [line, family.when]).fetchone() == (True,)
    }
    assert families == {family.name for family in ai_families()}


def test_what_the_source_says_is_kept(con: duckdb.Connection) -> None:
    said: dict[str, object] = {
        "x_InstanceType": "p5.48xlarge", "ChargeCategory": "Usage", "ConsumedQuantity": 1, "ConsumedUnit": "Hours",
        "SkuMeter": "USE1-Claude3Haiku-input-tokens",
        "x_GpuModel": "H800", "x_GpuCount": Decimal(4), "x_GpuMemoryGiB": Decimal(64), "x_GpuHours": Decimal("3.5"),
        "x_AiModel": "their-model", "x_TokenType": "output", "x_ServiceTier": "scale",
    }  # fmt: skip
    found = recognize(con, said, (*GPU, *AI))
    assert found == ("H800", Decimal(4), Decimal(64), Decimal("3.5"), "their-model", "output", "scale")


def test_a_count_from_the_source_gives_hours(con: duckdb.Connection) -> None:
    pod: dict[str, object] = {
        "x_InstanceType": "NVIDIA H100 80GB HBM3", "x_GpuCount": Decimal(2), "ChargeCategory": "Usage",
        "ConsumedQuantity": Decimal("1.25"), "ConsumedUnit": "Hours",
    }  # fmt: skip
    assert recognize(con, pod, GPU) == ("H100", Decimal(2), Decimal(80), Decimal("2.5"))


@given(
    st.lists(
        st.tuples(
            st.decimals(min_value=-100_000, max_value=100_000, places=14, allow_nan=False),
            st.sampled_from([t for t in gpu_types() if t.gpu_count and not t.billed_per_accelerator]),
        ),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hours_times_count_is_exact(con: duckdb.Connection, rows: list[tuple[Decimal, GpuType]]) -> None:
    con.execute("DELETE FROM ledger")
    marks = ", ".join(["(?, ?, 'Usage', ?, 'Hours')"] * len(rows))
    con.execute(
        f"""INSERT INTO ledger (x_SourceRow, x_InstanceType, ChargeCategory, ConsumedQuantity, ConsumedUnit)
            VALUES {marks}""",
        [
            cell
            for place, (quantity, kind) in enumerate(rows)
            for cell in (place, kind.instance_type, quantity)
        ],
    )
    found = con.execute("SELECT x_GpuHours FROM recognized ORDER BY x_SourceRow").fetchall()
    assert found == [(exact_hours(quantity, kind.gpu_count or Fraction(0)),) for quantity, kind in rows]


def exact_hours(quantity: Decimal, count: Fraction) -> Decimal:
    exact = Fraction(quantity) * count
    with localcontext(prec=60):
        value = Decimal(exact.numerator) / exact.denominator
        return value.quantize(Decimal("1e-14"), rounding=ROUND_HALF_UP)


def test_a_machine_of_several_skus_counts_its_hours_once(con: duckdb.Connection) -> None:
    con.execute("DELETE FROM ledger")
    skus = (
        ("A3 Instance Core running in Americas", 208),
        ("A3 Instance Ram running in Americas", 1872),
        ("Nvidia H100 80GB GPU running in Americas", 8),
        ("SSD backed Local Storage attached to Spot Preemptible VMs", 6000),
    )
    for sku, hours in skus:
        con.execute(
            """INSERT INTO ledger (x_InstanceType, SkuMeter, ChargeCategory, ConsumedQuantity, ConsumedUnit)
               VALUES ('a3-highgpu-8g', ?, 'Usage', ?, 'hour')""",
            [sku, hours],
        )
    assert con.execute("SELECT sum(x_GpuHours), count(x_GpuModel) FROM recognized").fetchall() == [
        (Decimal(8), 4)
    ]


def test_columns_and_types_stay(con: duckdb.Connection) -> None:
    assert duckdb.columns(con, "recognized") == duckdb.columns(con, "ledger")


def test_it_streams(con: duckdb.Connection) -> None:
    found = con.execute("EXPLAIN (FORMAT json) SELECT * FROM recognized").fetchone()
    assert found is not None
    operators = re.findall(r'"name":\s*"([A-Z_]+)', found[1])
    joins = [name for name in operators if name == "HASH_JOIN"]
    assert len(joins) == 2, operators
    assert set(operators) <= {"HASH_JOIN", "PROJECTION", "SEQ_SCAN"}, operators


def test_a_null_or_broken_row_is_left_alone(con: duckdb.Connection) -> None:
    assert recognize(con, {"SkuPriceDetails": '{"InstanceType": null}'}, (*GPU, *AI)) == (None,) * 7
    huge: dict[str, object] = {
        "x_InstanceType": "p5.48xlarge", "ChargeCategory": "Usage", "ConsumedUnit": "Hours",
        "ConsumedQuantity": Decimal(10) ** 20,
    }  # fmt: skip
    assert recognize(con, huge, ("x_GpuModel", "x_GpuHours")) == ("H100", None)


def test_unknown_accelerators_are_listed_with_their_cost(con: duckdb.Connection) -> None:
    con.execute("DELETE FROM ledger")
    rows = [
        ("p9.96xlarge", None, "Amazon EC2", "USD", "Usage", 100),
        ("p9.96xlarge", None, "Amazon EC2", "USD", "Usage", 50),
        ("p9.96xlarge", None, "Amazon EC2", "EUR", "Usage", 7),
        (None, "USE1-BoxUsage:trn9.2xlarge", "Amazon EC2", "USD", "Usage", None),
        (None, "Nvidia Z900 GPU running in Mars", "Compute Engine", "USD", "Usage", 20),
        ("p5.48xlarge", None, "Amazon EC2", "USD", "Usage", 1000),
        ("m5.large", "USE1-BoxUsage:m5.large", "Amazon EC2", "USD", "Usage", 3),
        (
            None,
            "Commitment v1: Nvidia L4 GPU running in Iowa for 1 Year",
            "Compute Engine",
            "USD",
            "Usage",
            5,
        ),
        ("p9.96xlarge", None, "Amazon EC2", "USD", "Purchase", 9),
    ]
    for row in rows:
        con.execute(
            """INSERT INTO ledger (x_InstanceType, SkuMeter, ServiceName, BillingCurrency, ChargeCategory,
                                   EffectiveCost) VALUES (?, ?, ?, ?, ?, ?)""",
            row,
        )
    found = recognition.unknown_skus(con, "recognized")
    assert [(sku.name, sku.currency, sku.rows, sku.cost) for sku in found] == [
        ("p9.96xlarge", "USD", 2, Decimal(150)),
        ("Nvidia Z900 GPU running in Mars", "USD", 1, Decimal(20)),
        ("p9.96xlarge", "EUR", 1, Decimal(7)),
        ("trn9.2xlarge", "USD", 1, None),
    ]
    assert found[0].service == "Amazon EC2"
