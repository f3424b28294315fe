"""Bad input gets a Diagnostic that names file, line or column and a hint; the ledger keeps its last good state."""

import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import GpuledgerError, UsageError
from gpuledger.pipeline.ingest import Report
from gpuledger.pipeline.ledger import Ledger

HEADER = "BilledCost,EffectiveCost,BillingAccountId,BillingCurrency,BillingPeriodStart,ChargePeriodStart,ServiceName,Tags"
GOOD = "1.25,1.25,0042,USD,2026-10-01T00:00:00Z,2026-10-03T00:00:00Z,Compute,"


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger that holds one good delivery of October: 1.25."""
    ledger = Ledger(str(tmp_path / "ledger"))
    report = ledger.ingest("focus", str(write(tmp_path / "good.csv", GOOD)), validate=False)
    assert [row.action for row in report.rows] == ["loaded"]
    return ledger


def write(path: Path, *lines: str, header: str = HEADER, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *lines]) + "\n", encoding)
    return path


def billed(ledger: Ledger) -> Decimal | None:
    return ledger.costs(metric="billed").total


def refused(ledger: Ledger, path: Path) -> Diagnostic:
    """Ingest something that must be refused, and return what was said."""
    report = ledger.ingest("focus", str(path), validate=False)
    assert [row.action for row in report.rows] == ["rejected"]
    assert billed(ledger) == Decimal("1.25")
    told = report.diagnostics[-1]
    assert told.severity == "error"
    assert told.hint
    return told


def loaded(report: Report) -> Diagnostic | None:
    assert {row.action for row in report.rows} <= {"loaded", "replaced"}
    return report.diagnostics[0] if report.diagnostics else None


@pytest.mark.parametrize("keep", [0.5, 0.999])
def test_truncated_gzip(ledger: Ledger, tmp_path: Path, keep: float) -> None:
    whole = gzip.compress("\n".join([HEADER, *[GOOD] * 5000]).encode())
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(whole[: int(len(whole) * keep)])
    told = refused(ledger, path)
    assert "cut.csv.gz" in told.source
    assert "damaged or incomplete" in told.message


def test_text_called_gzip(ledger: Ledger, tmp_path: Path) -> None:
    path = write(tmp_path / "plain.csv.gz", GOOD, GOOD)
    assert "damaged or incomplete" in refused(ledger, path).message


def test_damaged_parquet(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "bill.parquet"
    path.write_bytes(b"PAR1 not really PAR1")
    assert "bill.parquet" in refused(ledger, path).source


def azure_manifest(folder: Path, rows: int, blobs: list[str], size: int | None = None) -> None:
    each = [
        {"blobName": f"export/{name}", "dataRowCount": rows, **({"byteCount": size} if size else {})}
        for name in blobs
    ]
    manifest = {
        "manifestVersion": "2024-04-01",
        "blobCount": len(blobs),
        "dataRowCount": rows * len(blobs),
        "blobs": each,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")


def test_missing_part_of_a_manifest(ledger: Ledger, tmp_path: Path) -> None:
    write(tmp_path / "export" / "0001.csv", GOOD)
    azure_manifest(tmp_path / "export", 1, ["0001.csv", "0002.csv"])
    assert "0002.csv" in refused(ledger, tmp_path / "export").message


@pytest.mark.parametrize("promised", [3, 1])
def test_row_count_unlike_the_manifest(ledger: Ledger, tmp_path: Path, promised: int) -> None:
    write(tmp_path / "export" / "0001.csv", GOOD, GOOD)
    azure_manifest(tmp_path / "export", promised, ["0001.csv"])
    told = refused(ledger, tmp_path / "export")
    assert f"promises {promised} rows, the file has 2" in told.message
    assert "0001.csv" in told.source


def test_byte_count_unlike_the_manifest(ledger: Ledger, tmp_path: Path) -> None:
    write(tmp_path / "export" / "0001.csv", GOOD)
    azure_manifest(tmp_path / "export", 1, ["0001.csv"], size=10_000)
    assert "promises 10000 bytes" in refused(ledger, tmp_path / "export").message


def test_a_manifest_that_is_not_json(ledger: Ledger, tmp_path: Path) -> None:
    write(tmp_path / "export" / "0001.csv", GOOD)
    (tmp_path / "export" / "manifest.json").write_text("{cut", "utf-8")
    report = ledger.ingest("focus", str(tmp_path / "export"), validate=False)
    assert any(told.code == "bad-manifest" and "manifest.json" in told.source for told in report.diagnostics)
    assert billed(ledger) == Decimal("1.25")


def test_a_delivery_that_a_newer_one_replaced_is_refused(ledger: Ledger, tmp_path: Path) -> None:
    newer = write(tmp_path / "restated.csv", GOOD.replace("1.25", "2.50"))
    assert [row.action for row in ledger.ingest("focus", str(newer), validate=False).rows] == ["replaced"]
    report = ledger.ingest("focus", str(tmp_path / "good.csv"), validate=False)
    assert [row.action for row in report.rows] == ["rejected"]
    assert report.diagnostics[0].code == "older-delivery"
    assert "--force" in report.diagnostics[0].hint
    assert billed(ledger) == Decimal("2.50")
    ledger.ingest("focus", str(tmp_path / "good.csv"), validate=False, force=True)
    assert billed(ledger) == Decimal("1.25")


def test_a_delivery_much_smaller_than_what_it_replaces_is_told(ledger: Ledger, tmp_path: Path) -> None:
    ledger.ingest("focus", str(write(tmp_path / "whole.csv", *[GOOD] * 10)), validate=False)
    report = ledger.ingest("focus", str(write(tmp_path / "part.csv", *[GOOD] * 4)), validate=False)
    assert [told.code for told in report.diagnostics] == ["much-smaller"]
    assert "4 charges replaced 10" in report.diagnostics[0].message
    report = ledger.ingest("focus", str(write(tmp_path / "more.csv", *[GOOD] * 5)), validate=False)
    assert report.diagnostics == []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
def test_encodings_and_header_case(tmp_path: Path, encoding: str) -> None:
    ledger = Ledger(str(tmp_path / "ledger"))
    path = write(
        tmp_path / "bill.csv", GOOD.replace("Compute", "Gerät"), header=HEADER.upper(), encoding=encoding
    )
    assert loaded(ledger.ingest("focus", str(path), validate=False)) is None
    assert ledger.costs(["ServiceName"], metric="billed").rows == [
        {"ServiceName": "Gerät", "cost": Decimal("1.25")}
    ]


def test_semicolons(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "ledger"))
    path = write(tmp_path / "bill.csv", GOOD.replace(",", ";"), header=HEADER.replace(",", ";"))
    assert loaded(ledger.ingest("focus", str(path), validate=False)) is None
    assert billed(ledger) == Decimal("1.25")


def test_unknown_and_missing_columns(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "ledger"))
    path = write(
        tmp_path / "bill.csv",
        "3,USD,2026-10-01T00:00:00Z,hello",
        header="BilledCost,BillingCurrency,BillingPeriodStart,Surprise",
    )
    told = loaded(ledger.ingest("focus", str(path), validate=False))
    assert billed(ledger) == Decimal(3)
    assert told is None or "Surprise" in told.message


def test_mixed_currencies_are_kept_apart(ledger: Ledger, tmp_path: Path) -> None:
    path = write(tmp_path / "bill.csv", GOOD, GOOD.replace("USD", "EUR"))
    report = ledger.ingest("focus", str(path), validate=False)
    assert [(row.currency, row.billed_cost) for row in report.rows] == [
        ("EUR", Decimal("1.25")),
        ("USD", Decimal("1.25")),
    ]
    with pytest.raises(UsageError, match="EUR, USD"):
        ledger.costs(["ServiceName"])
    rows = ledger.costs(["BillingCurrency"]).rows
    assert {row["BillingCurrency"]: row["cost"] for row in rows} == {
        "EUR": Decimal("1.25"),
        "USD": Decimal("1.25"),
    }
    assert ledger.costs(where=["BillingCurrency=EUR"]).total == Decimal("1.25")


@pytest.mark.parametrize("bad", ["NaN", "Infinity", "12,5", "abc", "12345678901234567890.123456789012345678"])
def test_a_cost_that_cannot_be_read_is_unknown_and_told(tmp_path: Path, bad: str) -> None:
    ledger = Ledger(str(tmp_path / "ledger"))
    path = write(tmp_path / "bill.csv", GOOD, GOOD.replace("1.25", f'"{bad}"', 1))
    told = loaded(ledger.ingest("focus", str(path), validate=False))
    assert told is not None
    assert (told.code, told.severity) == ("unreadable-value", "error")
    assert "bill.csv" in told.source
    assert "row 2" in told.source
    assert "column BilledCost" in told.source
    assert ledger.costs(["ServiceName"], metric="billed").rows == [
        {"ServiceName": "Compute", "cost": Decimal("1.25")}
    ]
    assert ledger.connect().execute(
        "SELECT count(*) FROM cost_and_usage WHERE BilledCost IS NULL"
    ).fetchone() == (1,)


def test_more_decimals_than_are_stored_are_told(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "ledger"))
    path = write(tmp_path / "bill.csv", GOOD.replace("1.25", "0.1234567890123456789012", 1))
    told = loaded(ledger.ingest("focus", str(path), validate=False))
    assert told is not None
    assert "more decimals than are stored" in told.message


def test_a_time_without_zone_is_utc(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "ledger"))
    path = write(tmp_path / "bill.csv", GOOD.replace("2026-10-03T00:00:00Z", "2026-10-03 05:00:00"))
    ledger.ingest("focus", str(path), validate=False)
    row = ledger.connect().execute("SELECT ChargePeriodStart FROM cost_and_usage").fetchone()
    assert row is not None
    assert row[0].astimezone(UTC) == datetime(2026, 10, 3, 5, tzinfo=UTC)


def test_tags_with_newlines_and_quotes(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "ledger"))
    value = 'two\nlines and "quotes", 日本'
    cell = json.dumps({"note": value}, ensure_ascii=False).replace('"', '""')
    ledger.ingest("focus", str(write(tmp_path / "bill.csv", GOOD + f'"{cell}"', GOOD)), validate=False)
    rows = ledger.costs(["Tags.note"], metric="billed").rows
    assert {row["Tags.note"]: row["cost"] for row in rows} == {value: Decimal("1.25"), None: Decimal("1.25")}


def test_a_cell_with_a_real_newline(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "ledger"))
    ledger.ingest(
        "focus",
        str(write(tmp_path / "bill.csv", GOOD.replace("Compute", '"Com\npute"'), GOOD)),
        validate=False,
    )
    assert {row["ServiceName"] for row in ledger.costs(["ServiceName"]).rows} == {"Com\npute", "Compute"}


def test_a_line_that_is_not_csv_is_named_and_stops_nothing(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "ledger"))
    told = loaded(
        ledger.ingest("focus", str(write(tmp_path / "bill.csv", GOOD, "1.25,USD", GOOD)), validate=False)
    )
    assert told is not None
    assert told.code == "bad-line"
    assert told.source.endswith("bill.csv:3")
    assert billed(ledger) == Decimal("2.50")


def test_a_header_that_no_line_fits_is_said(ledger: Ledger, tmp_path: Path) -> None:
    told = refused(ledger, write(tmp_path / "bill.csv", "1.25,USD", "2.5,USD"))
    assert "no line can be parsed" in told.message
    assert told.source.endswith("bill.csv:2")


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_an_empty_file(ledger: Ledger, tmp_path: Path, content: str) -> None:
    path = tmp_path / "empty.csv"
    path.write_text(content, "utf-8")
    assert "empty" in refused(ledger, path).message


def test_a_header_without_charges(ledger: Ledger, tmp_path: Path) -> None:
    assert "no charges" in refused(ledger, write(tmp_path / "bare.csv")).message


@pytest.mark.parametrize("name", ["photo.csv", "notes.csv"])
def test_a_file_that_is_not_a_bill(ledger: Ledger, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" if name == "photo.csv" else b"Dear all,\nplease find attached\n"
    )
    told = refused(ledger, path)
    assert name in told.source
    assert "not a" in told.message


def test_no_such_path_and_no_such_type(ledger: Ledger, tmp_path: Path) -> None:
    with pytest.raises(GpuledgerError, match="no such file") as missing:
        ledger.ingest("focus", str(tmp_path / "nowhere"), validate=False)
    assert missing.value.hint
    with pytest.raises(UsageError, match="no connector") as unknown:
        ledger.ingest("focs", str(tmp_path))
    assert unknown.value.hint == "Did you mean focus?"


def test_focus_rules_that_fail_are_told_and_stop_nothing(ledger: Ledger, tmp_path: Path) -> None:
    """The lines of these tests have few columns, so rules fail: told with counts, unless nobody asked."""
    report = ledger.ingest("focus", str(write(tmp_path / "more.csv", *[GOOD] * 3)), source="other")
    (told,) = [told for told in report.diagnostics if told.code == "focus-rules"]
    assert told.severity == "warning"
    assert "FOCUS 1.3 rules fail" in told.message
    assert "(3 of 3)" in told.message
    assert [row.action for row in report.rows] == ["loaded"]
    report = ledger.ingest(
        "focus", str(write(tmp_path / "more.csv", *[GOOD] * 4)), source="other", validate=False
    )
    assert not [told for told in report.diagnostics if told.code == "focus-rules"]


def test_a_key_that_only_the_last_record_has_is_read(ledger: Ledger, tmp_path: Path) -> None:
    row = dict(zip(HEADER.split(",")[:-1], GOOD.split(",")[:-1], strict=True))
    late = row | {"RegionId": "us-late-1", "BilledCost": "7"}
    lines = [json.dumps(row)] * 10_000 + [json.dumps(late)]
    path = tmp_path / "bill.jsonl"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    assert ledger.ingest("focus", str(path), validate=False).rows[0].action == "replaced"
    regions = {one["RegionId"]: one["cost"] for one in ledger.costs(["RegionId"], metric="billed").rows}
    assert regions == {None: Decimal(12500), "us-late-1": Decimal(7)}
