"""Usage in columns is stored as the same rows as record by record."""

from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.pipeline.test_collect import ledger_of, rows
from tests.telemetry.prometheus_server import at
from tests.telemetry.stepwise_cards import Window
from tests.telemetry.test_columns import STEPS, WINDOWS, in_columns

from gpuledger.core.cluster_metrics import records
from gpuledger.core.metric_series import Series
from gpuledger.core.usage_tables import columns_of, values_of
from gpuledger.engines import duckdb
from gpuledger.pipeline.telemetry import Spool, store_records, store_spool
from gpuledger.pipeline.usage_blocks import Blocks

NAMES = columns_of("usage_interval")
DAY = date(2026, 11, 2)


def sure(row: Any) -> tuple[Any, ...]:  # noqa: ANN401 - whatever is in the table
    return tuple((value is None, value) if value is None else (False, str(value)) for value in row)


@settings(max_examples=30, deadline=None)
@given(st.fixed_dictionaries(dict(WINDOWS)))
def test_a_block_has_the_records_values(series: dict[str, list[Series]]) -> None:
    held = records(in_columns(Window("c", at(0), at(5 * STEPS), timedelta(minutes=5), series))).held
    with Blocks() as blocks:
        block = blocks.block(held)
        con = duckdb.connect()
        listed = ", ".join(f'"{name}"' for name in NAMES)
        found = con.execute(f"SELECT {listed} FROM read_parquet(?)", [str(block.path)]).fetchall()
        con.close()
    expected = [
        [None if value == "" else value for value in (values_of(row)[name] for name in NAMES)] for row in held
    ]
    places = Decimal(1).scaleb(-14)
    for row in expected:
        for place, value in enumerate(row):
            row[place] = value.quantize(places) if isinstance(value, Decimal) else value
    assert block.rows == len(found) == len(expected)
    assert sorted(map(sure, found)) == sorted(map(sure, expected))


def test_blocks_and_records_are_stored_together(tmp_path: Path) -> None:
    asked = {"namespace": "ml", "container": "main", "node": "n1", "resource": "cpu"}
    series = [Series({**asked, "pod": pod}, {at(0): Decimal(2)}) for pod in ("a", "b")]
    one, other = (
        records(in_columns(Window("c", at(0), at(5), timedelta(minutes=5), {"requests": [told]}))).held
        for told in series
    )
    ledger = ledger_of(tmp_path)
    spool = Spool(tmp_path / "spool")
    with Blocks() as blocks:
        spool.take(blocks.block(one))
        spool.mark()
        spool.take(blocks.block(other))
        spool.rewind()
        for row in other:
            spool.add(row)
    store_spool(ledger.store, "mixed", spool, [DAY], tmp_path / "out", delivery_id="d", order=1)
    store_records(ledger.store, "plain", DAY, [*one, *other], delivery_id="d", order=1)
    query = "SELECT * EXCLUDE (x_Source) FROM usage_interval WHERE x_Source = '{}' ORDER BY pod, resource"
    mixed = rows(ledger, query.format("mixed"))
    assert len(mixed) == 4  # CPU and memory of two pods
    assert mixed == rows(ledger, query.format("plain"))
