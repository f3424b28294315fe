"""Records of tokens and training into tables, from programs and files, and the jobs that their pods were of."""

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gpuledger.core.token_usage import TokenInterval, TrainingInterval
from gpuledger.core.usage import UsageInterval
from gpuledger.core.usage_tables import columns_of, values_of
from gpuledger.engines import duckdb
from gpuledger.focus.schema import quoted
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.telemetry import ingest_records, store_records

DAY = date(2026, 11, 2)


def at(hours: float) -> datetime:
    return datetime(2026, 11, 2, tzinfo=UTC) + timedelta(hours=hours)


TOKENS = TokenInterval(
    "vllm", at(1), at(1.5), "llama", "c", "ns", "chat", None, "chat-0", "decode", "nlp", "ann",
    Decimal(1000), Decimal(400), Decimal(50), Decimal("200.5"), Decimal(20), Decimal(7), Decimal(1), Decimal(6),
    Decimal(150), Decimal("1.25"), Decimal("0.5"), Decimal("0.75"), Decimal(2), Decimal("3.5"), Decimal(7),
    Decimal("1.75"), Decimal(193), {"0.1": Decimal(3), "+Inf": Decimal(7)}, {"1e-05": Decimal("0.5")},
    Decimal("0.000000000000000001"), "USD",
)  # fmt: skip
TRAINING = TrainingInterval(
    "run-1", at(2), at(3), "c", "c/j", "pretrain", "llama", Decimal(10**9), Decimal(60), Decimal("3500.25"), Decimal(3400),
    {"checkpoint_save": Decimal("99.5")}, Decimal("-1.5"), Decimal(48 * 10**9), Decimal(1), 6000, False, None,  # noqa: FBT003
)  # fmt: skip


def rows(ledger: Ledger, query: str) -> list[tuple[Any, ...]]:
    con = ledger.connect()
    try:
        return con.execute(query).fetchall()
    finally:
        con.close()


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(str(tmp_path / "ledger"))


def test_every_field_comes_back_as_it_was(ledger: Ledger) -> None:
    stored = store_records(ledger.store, "src", DAY, [TOKENS, TRAINING], delivery_id="d", order=1)
    assert (stored["token_interval"], stored["training_interval"]) == (1, 1)
    for table, record in (("token_interval", TOKENS), ("training_interval", TRAINING)):
        names = columns_of(table)
        (row,) = rows(ledger, f"SELECT {', '.join(map(quoted, names))} FROM {table}")
        assert dict(zip(names, row, strict=True)) == values_of(record)


def test_what_is_not_known_stays_null(ledger: Ledger) -> None:
    store_records(ledger.store, "src", DAY, [TokenInterval("x", at(0), at(1))], delivery_id="d", order=1)
    (row,) = rows(ledger, "SELECT * EXCLUDE (x_Source, x_BillingPeriod, x_DeliveryId) FROM token_interval")
    assert [value for value in row if value is not None] == ["x", at(0), at(1)]


def test_a_source_without_tokens_leaves_their_tables_alone(ledger: Ledger) -> None:
    usage = UsageInterval("c", "n", "c/j", "gpu", at(0), at(1), Decimal(1))
    assert "token_interval" not in store_records(ledger.store, "k8s", DAY, [usage], delivery_id="d", order=1)
    assert ledger.store.table("token_interval") is None


def test_a_day_without_tokens_replaces_one_with_them(ledger: Ledger) -> None:
    store_records(ledger.store, "src", DAY, [TOKENS], delivery_id="d", order=1)
    store_records(ledger.store, "src", DAY, [], delivery_id="e", order=2)
    assert rows(ledger, "FROM token_interval") == []


def test_files_in_three_formats_say_the_same(ledger: Ledger, tmp_path: Path) -> None:
    values = values_of(TOKENS)
    text = {name: json.dumps(value, default=str) if isinstance(value, dict) else str(value)
            for name, value in values.items() if value is not None}  # fmt: skip
    nested = {name: value if isinstance(value, dict) else str(value) for name, value in values.items() if value is not None}  # fmt: skip
    (tmp_path / "lines").mkdir()
    (tmp_path / "lines" / "token_interval.jsonl").write_text(json.dumps(nested, default=str) + "\n")
    con = duckdb.connect()
    con.execute("CREATE TABLE t AS SELECT 1 AS _drop")
    for name, value in text.items():
        con.execute(f"ALTER TABLE t ADD COLUMN {quoted(name)} VARCHAR")
        con.execute(f"UPDATE t SET {quoted(name)} = ?", [value])
    con.execute("ALTER TABLE t DROP COLUMN _drop")
    for kind in ("csv", "parquet"):
        (tmp_path / kind).mkdir()
    con.execute(f"COPY t TO '{tmp_path}/csv/token_interval.csv'")
    con.execute(
        "COPY (SELECT * REPLACE (input_tokens::DOUBLE AS input_tokens, start::TIMESTAMPTZ AS start, "
        "MAP {'0.1': 3.0::DOUBLE, '+Inf': 7.0} AS ttft_buckets) FROM t) "
        f"TO '{tmp_path}/parquet/token_interval.parquet'"
    )
    names = ", ".join(map(quoted, columns_of("token_interval")))
    for kind in ("lines", "csv", "parquet"):
        told = ingest_records(ledger, str(tmp_path / kind), source=kind)
        assert not told.diagnostics
        (row,) = rows(ledger, f"SELECT {names} FROM token_interval WHERE x_Source = '{kind}'")
        assert dict(zip(columns_of("token_interval"), row, strict=True)) == values


@pytest.mark.parametrize(
    ("line", "column"),
    [
        ({"start": "2026-11-02T01:00:00Z", "end": "2026-11-02T02:00:00Z"}, "provider"),
        ({"provider": "x", "start": "2026-11-02T02:00:00Z", "end": "2026-11-02T01:00:00Z"}, "end"),
        ({"provider": "x", "start": "2026-11-02T01:00:00Z", "end": "2026-11-02T02:00:00Z", "role": "cook"}, "role"),
        ({"provider": "x", "start": "2026-11-02T01:00:00Z", "end": "2026-11-02T02:00:00Z", "output_tokens": "-1"}, "output_tokens"),
        ({"provider": "x", "start": "2026-11-02T01:00:00Z", "end": "2026-11-02T02:00:00Z", "ttft_buckets": {"0.1": "many"}}, "ttft_buckets"),
    ],
)  # fmt: skip
def test_what_cannot_be_right_is_left_out_and_told(
    ledger: Ledger, tmp_path: Path, line: dict[str, Any], column: str
) -> None:
    good = {"provider": "x", "start": "2026-11-02T01:00:00Z", "end": "2026-11-02T02:00:00Z", "output_tokens": "4", "role": "both", "ttft_buckets": {}}  # fmt: skip
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "token_interval.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(line)}\n")
    told = ingest_records(ledger, str(tmp_path / "in"))
    assert [(one.code, one.source.rpartition(" ")[2]) for one in told.diagnostics] == [
        ("record-dropped", column)
    ]
    assert rows(ledger, "SELECT output_tokens FROM token_interval") == [(4,)]


def test_a_loss_may_be_negative(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "training_interval.jsonl").write_text(
        '{"run_id": "r", "start": "2026-11-02T23:00:00Z", "end": "2026-11-02T23:30:00Z", "loss": "-0.25", "discarded": true}\n'
    )
    assert not ingest_records(ledger, str(tmp_path / "in")).diagnostics
    assert rows(ledger, "SELECT loss, discarded FROM training_interval") == [(Decimal("-0.25"), True)]


def test_the_job_of_a_pod_is_the_one_that_held_it_then(ledger: Ledger) -> None:
    def usage(job: str, start: float, end: float, pod: str = "chat-0") -> UsageInterval:
        return UsageInterval("c", "n", job, "gpu", at(start), at(end), Decimal(1), namespace="ns", pod=pod)

    def tokens(start: float, pod: str = "chat-0", **more: Any) -> TokenInterval:  # noqa: ANN401 - passed on
        return TokenInterval("vllm", at(start), at(start + 0.5), cluster="c", namespace="ns", pod=pod, **more)

    held = [
        usage("c/one", 0, 2),
        usage("c/two", 4, 6),
        usage("c/three", 0, 9, "p"),
        usage("c/four", 0, 9, "p"),
    ]
    store_records(ledger.store, "k8s", DAY, held, delivery_id="d", order=1)
    told = [tokens(1), tokens(3), tokens(5), tokens(1, "p"), tokens(1, "q"), tokens(7, job_id="c/said")]
    store_records(ledger.store, "vllm", DAY, told, delivery_id="d", order=1)
    found = rows(ledger, "SELECT pod, extract(hour FROM start), job_id FROM tokens ORDER BY 1, 2")
    assert found == [
        ("chat-0", 1, "c/one"),
        ("chat-0", 3, None),  # between the two nobody held it
        ("chat-0", 5, "c/two"),
        ("chat-0", 7, "c/said"),
        ("p", 1, None),  # two at once: nobody can tell
        ("q", 1, None),
    ]


def test_time_is_lost_by_causes_that_are_known(ledger: Ledger, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    line = '{"run_id": "r", "start": "2026-11-02T23:00:00Z", "end": "2026-11-02T23:30:00Z", "lost_seconds": {"%s": 5}}\n'
    (tmp_path / "in" / "training_interval.jsonl").write_text(line % "startup" + line % "coffee")
    (dropped,) = ingest_records(ledger, str(tmp_path / "in")).diagnostics
    assert "'coffee' is none of startup, data_loading" in dropped.message
    assert rows(ledger, "SELECT lost_seconds FROM training_interval") == [({"startup": 5},)]


def test_what_crosses_midnight_is_whole_and_of_the_day_in_which_it_ends(
    ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "token_interval.jsonl").write_text(
        '{"provider": "x", "start": "2026-11-02T23:58:00Z", "end": "2026-11-03T00:03:00Z", "output_tokens": 7}\n'
        '{"provider": "x", "start": "2026-11-03T23:55:00Z", "end": "2026-11-04T00:00:00Z", "output_tokens": 5}\n'
    )
    assert not ingest_records(ledger, str(tmp_path / "in")).diagnostics
    found = rows(ledger, "SELECT x_BillingPeriod, start, output_tokens FROM token_interval ORDER BY start")
    assert found == [("2026-11-03", at(23 + 58 / 60), 7), ("2026-11-03", at(47 + 55 / 60), 5)]
