"""Telemetry records into tables: by day, once, whole, and nothing that can't be right."""

import gzip
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuledger.core.usage import Evidence, Job, NodeInterval, UsageInterval
from gpuledger.core.usage_tables import Record, columns_of, values_of
from gpuledger.engines import duckdb
from gpuledger.errors import ConflictError
from gpuledger.focus.schema import quoted
from gpuledger.pipeline.ingest import Report
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.record_files import table_of_path
from gpuledger.pipeline.telemetry import ingest_records, store_records

DAY = date(2026, 11, 2)
MIDNIGHT = datetime(2026, 11, 2, tzinfo=UTC)


def at(hours: float) -> datetime:
    return MIDNIGHT + timedelta(hours=hours)


def usage(start: float, end: float, **more: Any) -> UsageInterval:  # noqa: ANN401 - passed on
    values: dict[str, Any] = {
        "cluster": "c",
        "node": "n",
        "job_id": "c/j",
        "resource": "gpu",
        "requested": Decimal(1),
    }
    return UsageInterval(**{**values, "start": at(start), "end": at(end), **more})


NODE = NodeInterval(
    "c",
    "n",
    at(-30),
    at(60),
    provider_id="i-1",
    cpu_cores=Decimal("1.5"),
    spot=False,
    labels={'a,"b': "c'\r\nd"},
)
JOB = Job(
    "c/j", "c", "Job", 'two\nlines, "quoted"', None, {"team": Evidence("nlp", "label", 1, inferred=True)},
    submitted=at(-1), started=at(1), attempts=2, labels={"x": "y"},
)  # fmt: skip


def rows(ledger: Ledger, query: str) -> list[tuple[Any, ...]]:
    con = ledger.connect()
    try:
        return con.execute(query).fetchall()
    finally:
        con.close()


def store(
    ledger: Ledger, records: Iterable[Record], *, delivery: str = "d1", order: int = 1, day: date = DAY
) -> dict[str, int]:
    return store_records(ledger.store, "src", day, records, delivery_id=delivery, order=order)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "ledger"))


# ---- From a program


def test_every_field_comes_back_as_it_was(ledger: Ledger) -> None:
    full = usage(
        1, 2, namespace="ns", pod="p", pod_uid="u", container="main", attempt=3, device="GPU-1", sharing="mig",
        share=Fraction(2, 7), state="held", used=Decimal("0.12345678901234"), requested=Decimal("1E-7"),
    )  # fmt: skip
    assert store(ledger, [full, NODE, JOB]) == {"job": 1, "node_interval": 1, "usage_interval": 1}
    con = ledger.connect()
    node = {**values_of(NODE), "start": at(0), "end": at(24)}  # cut to the day
    for table, expected in (
        ("usage_interval", values_of(full)),
        ("node_interval", node),
        ("job", values_of(JOB)),
    ):
        names = columns_of(table)
        listed = ", ".join(map(quoted, names))
        found = con.execute(f"SELECT {listed}, x_Source, x_BillingPeriod FROM {table}")
        (row,) = found.fetchall()
        assert dict(zip(names, row, strict=False)) == expected
        assert row[-2:] == ("src", "2026-11-02")


def test_a_day_is_replaced_whole_in_every_table(ledger: Ledger) -> None:
    store(ledger, [usage(1, 2), NODE, JOB])
    store(ledger, [usage(25, 26)], day=DAY + timedelta(days=1))
    assert store(ledger, [usage(3, 4)], delivery="d2", order=2) == {
        "job": 0,
        "node_interval": 0,
        "usage_interval": 1,
    }
    assert rows(ledger, 'SELECT "start", x_DeliveryId FROM usage_interval ORDER BY 1') == [
        (at(3), "d2"),
        (at(25), "d1"),
    ]
    assert rows(ledger, "SELECT (SELECT count(*) FROM job), (SELECT count(*) FROM node_interval)") == [(0, 0)]
    with pytest.raises(ConflictError):
        store(ledger, [usage(5, 6)], delivery="d0", order=1)
    store(ledger, [], delivery="d3", order=3)
    assert rows(ledger, 'SELECT "start" FROM usage_interval') == [(at(25),)]


def test_what_cannot_be_right_is_left_out_and_told(ledger: Ledger) -> None:
    found: list[Any] = []
    bad = [
        usage(2, 2),
        usage(1, 2, resource="gpus"),
        usage(1, 2, used=Decimal(-1)),
        usage(1, 2, node=""),
        usage(1, 2, share=Fraction(3, 2)),
    ]
    store_records(ledger.store, "src", DAY, [*bad, usage(1, 2)], delivery_id="d", order=1, diagnostics=found)
    assert rows(ledger, "SELECT count(*) FROM usage_interval") == [(1,)]
    assert {one.source for one in found} == {
        f"src, row {row}, column {column}"
        for row, column in ((1, "end"), (2, "resource"), (3, "used"), (4, "node"), (5, "share_numerator"))
    }
    assert {one.code for one in found} == {"record-dropped"}
    assert "Did you mean gpu?" in {one.hint for one in found}


HOURS = st.integers(-30, 60)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.tuples(HOURS, HOURS).filter(lambda pair: pair[0] < pair[1]), min_size=1, max_size=8))
def test_cutting_at_midnights_keeps_every_second(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    lines = [
        json.dumps({**FIELDS, "start": at(start).isoformat(), "end": at(end).isoformat()})
        for start, end in spans
    ]
    (folder / "usage_interval.jsonl").write_text("\n".join(lines))
    ledger = Ledger(str(folder / "ledger"))
    ingest_records(ledger, str(folder / "usage_interval.jsonl"))
    total = rows(ledger, 'SELECT sum(epoch("end" - "start"))::BIGINT FROM usage_interval')
    assert total == [(sum(end - start for start, end in spans) * 3600,)]
    crossing = """SELECT count(*) FROM usage_interval WHERE strftime("start", '%Y-%m-%d') <> x_BillingPeriod
                  OR strftime("end" - INTERVAL 1 MICROSECOND, '%Y-%m-%d') <> x_BillingPeriod OR "start" >= "end" """
    assert rows(ledger, crossing) == [(0,)]


# ---- From files

FIELDS = {"cluster": "c", "node": "n", "job_id": "c/j", "resource": "gpu"}


def folder_of(tmp_path: Path, files: Mapping[str, str], name: str = "told") -> str:
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    for file, text in files.items():
        content = text.encode()
        (folder / file).write_bytes(gzip.compress(content) if file.endswith(".gz") else content)
    return str(folder)


HEADER = "cluster,node,job_id,resource,start,end,requested"
GOOD = "c,n,c/j,gpu,2026-11-02T01:00:00Z,2026-11-02T02:00:00Z,1"


def told(report: Report) -> list[tuple[str | None, int, str]]:
    return [(row.billing_period, row.rows, row.action) for row in report.rows]


def test_all_forms_say_the_same(tmp_path: Path) -> None:
    record = dict(zip(HEADER.split(","), GOOD.split(","), strict=True)) | {"requested": 1}
    con = duckdb.connect()
    forms = {"usage_interval.csv.gz": f"{HEADER}\n{GOOD}\n", "usage_interval.jsonl": json.dumps(record)}
    for name, text in forms.items():
        folder_of(tmp_path, {name: text}, name)
    parquet = tmp_path / "parquet"
    parquet.mkdir()
    con.execute(
        f"""COPY (SELECT 'c' AS cluster, 'n' AS node, 'c/j' AS job_id, 'gpu' AS resource, 1::DOUBLE AS requested,
            TIMESTAMP '2026-11-02 01:00' AS "start", TIMESTAMP_NS '2026-11-02 02:00' AS "end") TO '{parquet}/usage_interval-0.parquet'"""
    )
    found = []
    for name in (*forms, "parquet"):
        ledger = Ledger(str(tmp_path / f"ledger-{name}"))
        assert told(ingest_records(ledger, str(tmp_path / name))) == [("2026-11-02", 1, "loaded")]
        found.append(rows(ledger, "SELECT * EXCLUDE (x_Source, x_DeliveryId) FROM usage_interval"))
    assert found[0] == found[1] == found[2]
    assert found[0][0][3] == 1  # attempt and state have defaults
    assert "running" in found[0][0]


def test_twice_is_once_and_older_is_refused(tmp_path: Path, ledger: Ledger) -> None:
    old = folder_of(tmp_path, {"usage_interval.csv": f"{HEADER}\n{GOOD}\n"}, "old")
    new = folder_of(
        tmp_path, {"usage_interval.csv": f"{HEADER}\n{GOOD}\n{GOOD.replace('c/j', 'c/k')}\n"}, "new"
    )
    assert told(ingest_records(ledger, old, source="s")) == [("2026-11-02", 1, "loaded")]
    assert told(ingest_records(ledger, old, source="s")) == [("2026-11-02", 1, "unchanged")]
    assert told(ingest_records(ledger, new, source="s")) == [("2026-11-02", 2, "replaced")]
    report = ingest_records(ledger, old, source="s")
    assert told(report) == [("2026-11-02", 0, "rejected")]
    assert [one.code for one in report.diagnostics] == ["older-delivery"]
    assert rows(ledger, "SELECT count(*) FROM usage_interval") == [(2,)]
    assert told(ingest_records(ledger, old, source="s", force=True)) == [("2026-11-02", 1, "replaced")]
    assert len(ledger.store.history("usage_interval")) == 3


def test_days_that_are_not_in_a_delivery_stay(tmp_path: Path, ledger: Ledger) -> None:
    other = GOOD.replace("2026-11-02", "2026-11-05")
    first = folder_of(tmp_path, {"usage_interval.csv": f"{HEADER}\n{GOOD}\n{other}\n"}, "first")
    ingest_records(ledger, first, source="s")
    middle = GOOD.replace("2026-11-02", "2026-11-04").replace(",1", ",2")
    life = "job_id,cluster,kind,name,submitted\nc/j,c,Job,j,2026-11-01\nc/t,c,Job,timeless,\nc/z,c,Job,gone,2026-11-09\n"
    second = folder_of(tmp_path, {"usage_interval.csv": f"{HEADER}\n{middle}\n", "job.csv": life}, "second")
    assert told(ingest_records(ledger, second, source="s")) == [("2026-11-04", 3, "loaded")]
    assert rows(ledger, "SELECT x_BillingPeriod, requested FROM usage_interval ORDER BY 1") == [
        ("2026-11-02", Decimal(1)),
        ("2026-11-04", Decimal(2)),
        ("2026-11-05", Decimal(1)),
    ]
    # A job is told on the days that it lived in: not one of the future, and one without times on the last day.
    assert rows(ledger, "SELECT name, x_BillingPeriod FROM job ORDER BY 1") == [
        ("j", "2026-11-04"),
        ("timeless", "2026-11-04"),
    ]


def test_a_table_that_is_not_in_a_delivery_stays(tmp_path: Path, ledger: Ledger) -> None:
    ingest_records(
        ledger, folder_of(tmp_path, {"usage_interval.csv": f"{HEADER}\n{GOOD}\n"}, "a"), source="s"
    )
    nodes = "cluster,node,start,end,gpu_count\nc,n,2026-11-02T00:00:00Z,2026-11-03T00:00:00Z,8\n"
    ingest_records(ledger, folder_of(tmp_path, {"node_interval.csv": nodes}, "b"), source="s")
    assert rows(
        ledger, "SELECT (SELECT count(*) FROM usage_interval), (SELECT count(*) FROM node_interval)"
    ) == [(1, 1)]


BAD = {
    "start": ("c,n,c/j,gpu,yesterday,2026-11-02T02:00:00Z,1", "can't be read"),
    "end": ("c,n,c/j,gpu,2026-11-02T02:00:00Z,2026-11-02T02:00:00Z,1", "has no length"),
    "requested": ("c,n,c/j,gpu,2026-11-02T01:00:00Z,2026-11-02T02:00:00Z,NaN", "can't be read"),
    "job_id": ("c,n,,gpu,2026-11-02T01:00:00Z,2026-11-02T02:00:00Z,1", "there is no value"),
    "resource": ("c,n,c/j,tpu,2026-11-02T01:00:00Z,2026-11-02T02:00:00Z,1", "is none of gpu"),
}


@pytest.mark.parametrize("column", BAD)
def test_a_bad_row_is_named_and_nothing_else_is_lost(tmp_path: Path, ledger: Ledger, column: str) -> None:
    line, said = BAD[column]
    path = folder_of(tmp_path, {"usage_interval.csv": f"{HEADER}\n{GOOD}\n{line}\n{line}\n{GOOD}\n"})
    report = ingest_records(ledger, path)
    assert told(report) == [("2026-11-02", 2, "loaded")]
    (one,) = report.diagnostics
    assert one.source.endswith(f"usage_interval.csv, row 2, column {column}")
    assert said in one.message
    assert "2 row(s)" in one.message
    assert one.hint


def test_lines_columns_and_endless_intervals(tmp_path: Path, ledger: Ledger) -> None:
    endless = GOOD.replace("2026-11-02T02", "2036-11-02T02")
    text = f"{HEADER},Divice\n{GOOD},x\nc,n\n{endless},x\n"
    report = ingest_records(ledger, folder_of(tmp_path, {"usage_interval.csv": text, "README.md": "?"}))
    found = {one.code: one for one in report.diagnostics}
    assert set(found) == {"bad-line", "unknown-column", "record-dropped"}
    assert found["unknown-column"].hint == "Did you mean device?"
    assert "is too long" in found["record-dropped"].message
    assert told(report) == [("2026-11-02", 1, "loaded")]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"usage_interval.csv": "cluster,node\nc,n\n"}, "no column job_id, resource, start, end"),
        ({"bill.csv": f"{HEADER}\n{GOOD}\n"}, "no record files here"),
        ({"usage_interval.csv": f"{HEADER}\n{BAD['start'][0]}\n"}, "no record has a time"),
        ({"usage_interval.parquet": "PAR1 but no more"}, "can't be read"),
        ({"usage_interval.jsonl": '{"cluster": "c", "no'}, "can't be read"),
        ({"job.csv": "job_id,cluster,kind,name\nc/j,c,Job,j\n"}, "no record has a time"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read_change_nothing(
    tmp_path: Path, ledger: Ledger, files: dict[str, str], said: str
) -> None:
    ingest_records(
        ledger, folder_of(tmp_path, {"usage_interval.csv": f"{HEADER}\n{GOOD}\n"}, "before"), source="s"
    )
    report = ingest_records(ledger, folder_of(tmp_path, files), source="s")
    assert [row.action for row in report.rows] == ["rejected"]
    (failed,) = [one for one in report.diagnostics if one.code == "delivery-rejected"]
    assert said in failed.message
    assert failed.hint
    assert rows(ledger, "SELECT count(*) FROM usage_interval") == [(1,)]


def test_names_of_files() -> None:
    names = {
        "usage_interval/x.parquet": "usage_interval", "a/node_interval-1.csv.gz": "node_interval", "Jobs.jsonl": "job",
        "job.txt": None, "usage.csv": None,
    }  # fmt: skip
    assert {name: table_of_path(name) for name in names} == names
