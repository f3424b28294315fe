"""Exports hold what the ledger holds: read back, every metric and every row is there; and none is half-written."""

import csv
import gzip
import json
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuledger.core import windows
from gpuledger.engines import duckdb
from gpuledger.errors import LedgerError, UsageError
from gpuledger.focus.model import VERSIONS, model
from gpuledger.focus.schema import LEDGER_COST_AND_USAGE
from gpuledger.pipeline import export as exports
from gpuledger.pipeline import workbook
from gpuledger.pipeline.export import Exported, Request, export
from gpuledger.pipeline.ledger import Ledger

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
METRICS = (
    "BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "PricingQuantity", "ConsumedQuantity",
    "CommitmentDiscountQuantity",
)  # fmt: skip
FIELDS = (
    *METRICS,
    "BillingAccountId",
    "BillingCurrency",
    "BillingPeriodStart",
    "ChargePeriodStart",
    "ServiceName",
    "Tags",
)
COMMITMENTS = "ContractCommitmentId,ContractId,BillingCurrency,ContractCommitmentCost,ContractCommitmentPeriodStart,ContractCommitmentPeriodEnd"
Row = dict[str, str]

numbers = st.decimals(-(10**9), 10**9, places=14, allow_nan=False).map(lambda value: format(value, "f"))
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8)


def write(path: Path, rows: Sequence[Row]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, FIELDS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    return path


def cells(path: Path) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def row(cost: str = "1.25", month: str = "2026-10", **cells: str) -> Row:
    start = f"{month}-01T00:00:00Z"
    return {
        "BilledCost": cost, "EffectiveCost": cost, "BillingAccountId": "0042", "BillingCurrency": "USD",
        "BillingPeriodStart": start, "ChargePeriodStart": start, "ServiceName": "Compute", **cells,
    }  # fmt: skip


def filled(folder: Path, *rows: Row, commitments: Sequence[str] = ()) -> Ledger:
    """Return a ledger of these synthetic rows."""
    ledger = Ledger(str(folder / "ledger"))
    (folder / "bills").mkdir()
    write(folder / "bills" / "bill.csv", rows)
    if commitments:
        text = "\n".join([COMMITMENTS, *commitments])
        (folder / "bills" / "commitments.csv").write_text(text, "utf-8")
    report = ledger.ingest("focus", str(folder / "bills"), source="cloud")
    assert {done.action for done in report.rows} == {"loaded"}, report.diagnostics
    return ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """Two months, and a commitment that both state."""
    commitments = [
        "c-1,k-1,USD,100,2026-09-01T00:00:00Z,2027-09-01T00:00:00Z",
        "c-2,k-1,USD,50,2026-10-01T00:00:00Z,2027-10-01T00:00:00Z",
    ]
    return filled(
        tmp_path,
        row("2.5", "2026-09"),
        row("1.25", Tags='{"team":"vision"}'),
        row("-0.000000000000000001", ServiceName="=1+1"),
        commitments=commitments,
    )


def state(ledger: Ledger) -> tuple[Any, ...]:
    """Row count and the sum of every metric, by currency and month."""
    sums = ", ".join(f"sum({name})" for name in METRICS)
    found = ledger.connect().execute(
        f"SELECT BillingCurrency, x_BillingPeriod, count(*), {sums} FROM cost_and_usage GROUP BY ALL ORDER BY ALL"
    )
    return tuple(found.fetchall())


def content(ledger: Ledger) -> list[tuple[Any, ...]]:
    """All rows in the columns of FOCUS, without order."""
    names = ", ".join(f'"{name}"' for name in FIELDS if name != "Tags")
    found = ledger.connect().execute(
        f"SELECT {names}, to_json(Tags)::VARCHAR FROM cost_and_usage ORDER BY ALL"
    )
    return found.fetchall()


def again(folder: Path, exported: Path) -> Ledger:
    """Read an export into a new ledger."""
    ledger = Ledger(str(folder / "again"))
    report = ledger.ingest("focus", str(exported), source="cloud", validate=False)
    assert {done.action for done in report.rows} <= {"loaded"}, report.diagnostics
    assert report.diagnostics == []
    return ledger


@st.composite
def charges(draw: st.DrawFn) -> list[Row]:
    rows = []
    for _ in range(draw(st.integers(1, 12))):
        quantities = {name: draw(st.one_of(st.just(""), numbers)) for name in METRICS[1:]}
        tags = json.dumps(draw(st.dictionaries(texts, texts, min_size=1, max_size=3)))
        currency, month = draw(st.sampled_from(["USD", "EUR"])), draw(st.sampled_from(["2026-09", "2026-10"]))
        service = draw(texts.filter(lambda text: text not in {"NULL", "null"}))
        rows.append(
            row(draw(numbers), month, **quantities, BillingCurrency=currency, ServiceName=service, Tags=tags)
        )
    return rows


@given(charges(), st.sampled_from(["out", "out.csv", "out.csv.gz", "out.parquet"]))
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_focus_export_read_back_is_the_same_ledger(rows: list[Row], name: str) -> None:
    with TemporaryDirectory() as folder:
        here = Path(folder)
        ledger = filled(here, *rows)
        export(ledger, Request("focus", here / "to" / name))
        back = again(here, here / "to" / name)
        assert state(back) == state(ledger)
        assert content(back) == content(ledger)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("csv_", [False, True])
def test_every_version_keeps_rows_and_sums(
    ledger: Ledger, tmp_path: Path, version: str, *, csv_: bool
) -> None:
    files = export(ledger, Request("focus", tmp_path / "out", version, csv=csv_), NOW)
    suffix = ".csv" if csv_ else ".parquet"
    assert [(Path(file.file).name, file.rows) for file in files if file.rows] == [
        (f"cost_and_usage{suffix}", 3), *([(f"contract_commitment{suffix}", 2)] if version >= "1.3" else []),
    ]  # fmt: skip
    assert state(again(tmp_path, tmp_path / "out")) == state(ledger)


@pytest.mark.parametrize("stem", ["aws_cur2", "azure"])
def test_the_bills_of_other_formats_survive_as_focus(tmp_path: Path, stem: str) -> None:
    ledger = Ledger(str(tmp_path / "ledger"))
    raw = Path(__file__).parent.parent / "sources" / stem / "raw"
    ledger.ingest(stem.replace("_", "-"), str(raw))
    export(ledger, Request("focus", tmp_path / "out"))
    assert state(again(tmp_path, tmp_path / "out")) == state(ledger)


def test_csv_has_iso_times_plain_decimals_and_json_tags(ledger: Ledger, tmp_path: Path) -> None:
    export(ledger, Request("focus", tmp_path / "out.csv"))
    rows = cells(tmp_path / "out.csv")
    assert list(rows[0]) == sorted(model("CostAndUsage", "1.3").columns)
    assert sorted(found["BilledCost"] for found in rows) == ["-0.000000000000000001", "1.25", "2.5"]
    assert {found["ChargePeriodStart"] for found in rows} == {"2026-09-01T00:00:00Z", "2026-10-01T00:00:00Z"}
    assert sorted(found["Tags"] for found in rows) == ["", "", '{"team":"vision"}']
    beside = {path.name for path in tmp_path.glob("out*")}
    assert beside == {
        "out.csv", "out_contract_commitment.csv", "out_contract_commitment_schema_metadata.json",
        "out_cost_and_usage_recency_metadata.json", "out_cost_and_usage_schema_metadata.json",
        "out_data_generator_metadata.json", "out_dataset_instance_metadata.json",
    }  # fmt: skip


def test_the_metadata_describes_the_data(ledger: Ledger, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(ledger, Request("focus", out, "1.4", custom=("x_Team",)), NOW)
    told = {
        path.name.removesuffix("_metadata.json"): json.loads(path.read_text("utf-8"))
        for path in out.glob("*.json")
    }
    assert told["data_generator"] == {"DataGenerator": "gpuledger"}
    instances = {found["FocusDatasetId"]: found["DatasetInstanceId"] for found in told["dataset_instance"]}
    con = duckdb.connect()
    for dataset, name in exports.DATASETS.items():
        schema, data = told[f"{name}_schema"], str(out / f"{name}.parquet")
        assert (schema["FocusVersion"], schema["DatasetInstanceId"]) == ("1.4", instances[dataset])
        columns = [found["ColumnName"] for found in schema["ColumnDefinition"]]
        assert columns == list(duckdb.columns(con, f"read_parquet('{data}')"))
        assert (columns[-1] == "x_Team") == (dataset == "CostAndUsage")
        notes = con.execute(
            "SELECT decode(key), decode(value) FROM parquet_kv_metadata(?)", [data]
        ).fetchall()
        assert dict(notes) == {"FocusVersion": "1.4", "SchemaId": schema["SchemaId"]}
    recency = told["cost_and_usage_recency"]
    assert recency["DatasetInstanceId"] == instances["CostAndUsage"]
    assert recency["RecencyLastUpdated"] == "2026-11-24T12:00:00Z"
    assert [(sector["TimeSectorStart"], sector["TimeSectorEnd"]) for sector in recency["TimeSectors"]] == [
        ("2026-09-01T00:00:00Z", "2026-10-01T00:00:00Z"), ("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z"),
    ]  # fmt: skip


def test_a_month_is_complete_when_it_was_delivered_after_its_end(tmp_path: Path) -> None:
    ledger = filled(tmp_path, row(month="2020-01"), row(month="2999-12"))
    export(ledger, Request("focus", tmp_path / "out"))
    recency = json.loads((tmp_path / "out" / "cost_and_usage_recency_metadata.json").read_text("utf-8"))
    sectors = [(found["TimeSectorEnd"], found["TimeSectorComplete"]) for found in recency["TimeSectors"]]
    assert sectors == [("2020-02-01T00:00:00Z", True), ("3000-01-01T00:00:00Z", False)]


def test_a_commitment_that_several_bills_state_is_one_row(ledger: Ledger, tmp_path: Path) -> None:
    text = f"{COMMITMENTS}\nc-1,k-1,USD,120,2026-09-01T00:00:00Z,2027-09-01T00:00:00Z\n"
    (tmp_path / "other.csv").write_text(text.replace("2026-09-01", "2026-11-01"), "utf-8")
    ledger.ingest("focus", str(tmp_path / "other.csv"), source="another")
    export(ledger, Request("focus", tmp_path / "c.csv", dataset="ContractCommitment"))
    rows = cells(tmp_path / "c.csv")
    costs = {found["ContractCommitmentId"]: found["ContractCommitmentCost"] for found in rows}
    assert (len(rows), costs) == (2, {"c-1": "120", "c-2": "50"})


def read(files: list[Exported]) -> list[tuple[Any, ...]]:
    scan = "read_parquet" if files[0].file.endswith("parquet") else "read_csv"
    return duckdb.connect().execute(f"FROM {scan}('{files[0].file}') ORDER BY ALL").fetchall()


def test_where_and_window_narrow_an_export(ledger: Ledger, tmp_path: Path) -> None:
    october = windows.parse("2026-10", NOW)
    files = export(ledger, Request("focus", tmp_path / "a", window=october))
    assert [file.rows for file in files if file.rows] == [2, 1]
    files = export(ledger, Request("focus", tmp_path / "b", where=["team=vision"]))
    assert [(file.dataset, file.rows) for file in files if file.rows] == [("CostAndUsage", 1)]
    files = export(
        ledger, Request("parquet", tmp_path / "c.parquet", window=windows.parse("2026-09-01", NOW))
    )
    assert [file.rows for file in files] == [1]
    with pytest.raises(LedgerError, match="nothing to export"):
        export(ledger, Request("focus", tmp_path / "d", window=windows.parse("2020-01", NOW)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "bills", "c.parquet", "ledger"]


def test_parquet_has_the_ledgers_own_columns_and_types(ledger: Ledger, tmp_path: Path) -> None:
    export(ledger, Request("parquet", tmp_path / "all.parquet"))
    con = ledger.connect()
    con.execute(f"CREATE VIEW exported AS FROM read_parquet('{tmp_path / 'all.parquet'}')")
    assert duckdb.columns(con, "exported") == {
        column.name: column.sql_type.replace("TIMESTAMPTZ", "TIMESTAMP WITH TIME ZONE")
        for column in LEDGER_COST_AND_USAGE
    }
    names = ", ".join(f'"{name}"' for name in duckdb.columns(con, "exported"))
    left = con.execute(f"SELECT {names} FROM cost_and_usage EXCEPT ALL FROM exported").fetchall()
    assert (left, con.execute("SELECT count(*) FROM exported").fetchone()) == ([], (3,))


def test_sums_by_group(ledger: Ledger, tmp_path: Path) -> None:
    ask = {"group_by": ["month", "team"], "metric": "billed"}
    files = export(ledger, Request("parquet", tmp_path / "sums.parquet", **ask))  # type: ignore[arg-type]
    assert [found[:-1] for found in read(files)] == [
        ("2026-09", None),
        ("2026-10", "vision"),
        ("2026-10", None),
    ]
    assert sum(found[-1] for found in read(files)) == Decimal("3.749999999999999999")
    export(ledger, Request("csv", tmp_path / "sums.csv.gz", **ask))  # type: ignore[arg-type]
    with gzip.open(tmp_path / "sums.csv.gz", "rt", encoding="utf-8") as text:
        assert (
            text.read()
            == "month,team,cost\n2026-09,,2.5\n2026-10,vision,1.25\n2026-10,,-0.000000000000000001\n"
        )


def test_sums_of_several_currencies_are_refused(tmp_path: Path) -> None:
    ledger = filled(tmp_path, row(), row(BillingCurrency="EUR"))
    with pytest.raises(UsageError, match="EUR, USD"):
        export(ledger, Request("csv", tmp_path / "sums.csv", group_by=["ServiceName"]))
    assert not (tmp_path / "sums.csv").exists()
    export(ledger, Request("csv", tmp_path / "sums.csv", group_by=["BillingCurrency"]))
    assert len((tmp_path / "sums.csv").read_text("utf-8").splitlines()) == 3


_NS = {"x": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}


def sheet(path: Path, number: int = 1) -> list[dict[str, tuple[str, str]]]:
    """Cells of a sheet by row: column letters to (type, text)."""
    with zipfile.ZipFile(path) as book:
        root = ET.fromstring(book.read(f"xl/worksheets/sheet{number}.xml"))  # noqa: S314  # our own file
    rows = []
    for found in root.iterfind(".//x:row", _NS):
        held = {}
        for cell in found.iterfind("x:c", _NS):
            text = "".join(
                part.text or "" for part in cell.iter() if part.tag.rpartition("}")[2] in {"v", "t"}
            )
            assert cell.find("x:f", _NS) is None, "a formula"
            held[cell.attrib["r"].rstrip("0123456789")] = (cell.attrib.get("t", "n"), text)
        rows.append(held)
    return rows


def test_a_workbook_loses_no_digit_and_holds_no_formula(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "sums.xlsx"
    export(ledger, Request("xlsx", path, group_by=["ServiceName"], metric="billed"))
    header, *rows = sheet(path)
    assert [text for _, text in header.values()] == ["ServiceName", "cost"]
    assert rows == [
        {"A": ("inlineStr", "Compute"), "B": ("n", "3.75")},
        {"A": ("inlineStr", "=1+1"), "B": ("n", "-1E-18")},
    ]
    fine = filled_more(
        tmp_path, row("1234567890.123456789012345678"), row("-99999999999999.000000000000000001"), row("1250")
    )
    export(fine, Request("xlsx", tmp_path / "all.xlsx", where=["ServiceName=Compute"]))
    exact = [[text for _, text in found.values()] for found in sheet(tmp_path / "all.xlsx", 2)]
    assert exact[0] == ["row", "column", "exact value"]
    assert {(name, value) for _, name, value in exact[1:]} == {
        (name, value) for name in ("BilledCost", "EffectiveCost")
        for value in ("1234567890.123456789012345678", "-99999999999999.000000000000000001")
    }  # fmt: skip
    by_row = {row_: value for row_, name, value in exact[1:] if name == "BilledCost"}
    shown = sheet(tmp_path / "all.xlsx")
    column = next(letters for letters, (_, name) in shown[0].items() if name == "BilledCost")
    assert {value: float(shown[int(row_) - 1][column][1]) for row_, value in by_row.items()} == {
        "1234567890.123456789012345678": pytest.approx(1234567890.123457), "-99999999999999.000000000000000001": -99999999999999.0,
    }  # fmt: skip


def filled_more(folder: Path, *rows: Row) -> Ledger:
    (folder / "more").mkdir()
    return filled(folder / "more", *rows)


def test_a_workbook_that_cannot_hold_the_rows_is_refused(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workbook, "MAX_ROWS", 2)
    with pytest.raises(UsageError, match="holds 2 rows, these are 3") as refused:
        export(ledger, Request("xlsx", tmp_path / "all.xlsx"))
    assert "--group-by" in (refused.value.hint or "")
    monkeypatch.setattr(workbook, "MAX_TEXT", 3)
    with pytest.raises(UsageError, match="has 7 characters"):
        export(ledger, Request("xlsx", tmp_path / "all.xlsx", group_by=["ServiceName"]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bills", "ledger"]


def test_what_exists_is_kept_unless_forced(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("mine", "utf-8")
    with pytest.raises(UsageError, match="exists already"):
        export(ledger, Request("csv", path))
    assert path.read_text("utf-8") == "mine"
    export(ledger, Request("csv", path, force=True))
    assert len(path.read_text("utf-8").splitlines()) == 4
    (tmp_path / "f_data_generator_metadata.json").write_text("mine", "utf-8")
    with pytest.raises(UsageError, match="f_data_generator_metadata"):
        export(ledger, Request("focus", tmp_path / "f.csv"))
    assert not (tmp_path / "f.csv").exists()


def test_a_folder_is_replaced_whole_and_only_when_it_is_an_export(ledger: Ledger, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    export(ledger, Request("focus", out))  # an empty folder is free
    with pytest.raises(UsageError, match="exists already"):
        export(ledger, Request("focus", out))
    export(ledger, Request("focus", out, "1.2", csv=True, force=True))
    assert sorted(path.suffix for path in out.iterdir()) == [".csv", *[".json"] * 4]
    (out / "thesis.txt").write_text("mine", "utf-8")
    with pytest.raises(UsageError, match="which no export wrote"):
        export(ledger, Request("focus", out, force=True))
    assert (out / "thesis.txt").read_text("utf-8") == "mine"


def test_a_failure_leaves_what_was_there(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("disk full")

    export(ledger, Request("focus", tmp_path / "out"))
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    monkeypatch.setattr(exports, "_recency", broken)
    with pytest.raises(OSError, match="disk full"):
        export(ledger, Request("focus", tmp_path / "out", force=True))
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bills", "ledger", "out"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("focus", Path("s3://bucket/out")), "written to a file or folder here"),
        (Request("xlsx", Path("out.csv")), "doesn't end in .xlsx"),
        (Request("csv", Path("out")), "doesn't end in .csv"),
        (Request("focus", Path("out"), group_by=["team"]), "charges, not sums"),
        (Request("csv", Path("out.csv"), custom=["x_Team"]), "go with --to focus"),
        (Request("csv", Path("out.csv"), dataset="ContractCommitment", where=["team=a"]), "ask for charges"),
        (Request("focus", Path("out"), "1.2", dataset="ContractCommitment"), "no dataset ContractCommitment"),
        (Request("focus", Path("out"), custom=["x_Nope"]), "no such custom column: x_Nope"),
        (Request("csv", Path("out.csv"), where=["nope=1"]), "no column 'nope'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: Request, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message) as refused:
        export(ledger, request_)
    assert refused.value.hint
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bills", "ledger"]


def test_there_is_nothing_to_export_without_a_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger here"):
        export(Ledger(str(tmp_path / "none")), Request("focus", tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []
