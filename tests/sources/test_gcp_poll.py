"""Google's billing export read from BigQuery: whole months, fetched anew when they changed, never half of one."""

import inspect
import json
import sys
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from tests.sources.fake_bigquery import (
    ArrayQueryParameter,
    FakeBigQuery,
    GoogleAPIError,
    GoogleAuthError,
    QueryJobConfig,
    ScalarQueryParameter,
)

from gpuledger import registry
from gpuledger.core.windows import Window
from gpuledger.engines import duckdb
from gpuledger.errors import ConfigError
from gpuledger.pipeline import poll as polling
from gpuledger.pipeline.ingest import Report
from gpuledger.pipeline.store import Store

RAW = Path(__file__).parent / "gcp" / "raw"
TABLE, LIST = (
    "example.billing.gcp_billing_export_resource_v1_01SYNT",
    "example.billing.cud_subscriptions_export",
)
NOW = datetime(2026, 10, 12, 9, 30, tzinfo=UTC)


def rows() -> list[dict[str, Any]]:
    """Rows of the golden delivery, those of October twice: as September's too. NaN isn't JSON, so that row is left out."""
    found = []
    for file in sorted(RAW.glob("gcp_billing_export*.json")):
        found += [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    october = [row for row in found if row["invoice"]["month"] == "202610" and row["cost"] != "NaN"]
    september = deepcopy(october)
    for row in september:
        row["invoice"]["month"] = "202609"
        for name in ("usage_start_time", "usage_end_time", "export_time"):
            row[name] = row[name].replace("2026-10-", "2026-09-").replace("2026-11-01", "2026-10-01")
    return september + october


class Bench:
    """A table, a ledger and a poll between them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = Store(str(folder / "ledger"))
        self.pages = folder / "ledger/.state/sources/bill"
        listed = [
            json.loads(line)
            for line in (RAW / "cud_subscriptions_export-000000000000.json").read_text().splitlines()
        ]
        self.fake = FakeBigQuery({TABLE: rows(), LIST: listed})
        self.fake.install(monkeypatch)
        self.now = NOW

    def poll(self, since: datetime = NOW - timedelta(days=30), **settings: object) -> Report:
        window, given = Window(since, self.now), {"table": TABLE, "page_rows": 7} | settings
        return polling.poll(self.store, "bill", registry.source("gcp"), given, window, now=lambda: self.now)

    def billed(self) -> dict[str, Decimal]:
        files = self.store.files("cost_and_usage")
        if not files:
            return {}
        scan = (
            f"read_parquet({duckdb.literals(files)}, hive_partitioning = true, hive_types_autocast = false)"
        )
        query = f"SELECT x_BillingPeriod, sum(BilledCost) FROM {scan} GROUP BY ALL"
        return dict(duckdb.connect().execute(query).fetchall())

    def charged(self) -> dict[str, Decimal]:
        """What the table says, summed apart from the connector."""
        found: dict[str, Decimal] = {}
        for row in self.fake.tables[TABLE]:
            month = f"{row['invoice']['month'][:4]}-{row['invoice']['month'][4:]}"
            amounts = [row["cost"], *(credit["amount"] for credit in row["credits"])]
            found[month] = found.get(month, Decimal(0)) + sum(Decimal(str(amount)) for amount in amounts)
        return found

    def fetched(self) -> int:
        """Queries for rows, so far."""
        return sum("TO_JSON_STRING" in query and TABLE in query for query, _ in self.fake.asked)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_the_ledger_has_what_the_table_has(bench: Bench) -> None:
    report = bench.poll()
    assert [(row.billing_period, row.action) for row in report.rows] == [
        ("2026-09", "loaded"),
        ("2026-10", "loaded"),
    ]
    assert {told.code for told in report.diagnostics} <= {"focus-rules"}
    assert bench.billed() == bench.charged()
    assert len(list(bench.pages.glob("2026-10/*.jsonl.gz"))) > 1  # pages of seven rows


def test_another_poll_reads_only_what_changed(bench: Bench) -> None:
    bench.poll()
    assert bench.fetched() == 2
    bench.poll()
    assert bench.fetched() == 2
    late = deepcopy(bench.fake.tables[TABLE][0]) | {"export_time": "2026-10-13 00:00:00 UTC", "cost": 1.25}
    bench.fake.tables[TABLE].append(late)
    bench.now += timedelta(days=1)
    report = bench.poll()
    assert bench.fetched() == 3
    assert ("2026-09", "replaced") in [(row.billing_period, row.action) for row in report.rows]
    assert bench.billed() == bench.charged()


def test_a_month_outside_the_window_is_kept_up_to_date_once_it_was_fetched(bench: Bench) -> None:
    bench.poll()
    bench.now += timedelta(days=60)
    late = deepcopy(bench.fake.tables[TABLE][0]) | {"export_time": "2026-12-01 00:00:00 UTC", "cost": 1.25}
    bench.fake.tables[TABLE].append(late)
    bench.poll(since=bench.now - timedelta(days=1))
    assert bench.billed() == bench.charged()


@pytest.mark.parametrize("query", [2, 3])
def test_a_break_leaves_no_half_month(bench: Bench, query: int) -> None:
    bench.fake.breaks = {query: 8}  # in its second page
    report = bench.poll()
    assert "poll-failed" in {told.code for told in report.diagnostics}
    charged = bench.charged()
    assert bench.billed() == {month: charged[month] for month in ["2026-09"][: query - 2]}
    bench.poll()
    assert bench.billed() == charged
    named = [json.loads(file.read_text()) for file in bench.pages.glob("*/manifest.json")]
    pages = {name for content in named for name in content["pages"]}
    assert {file.relative_to(bench.pages).as_posix() for file in bench.pages.glob("*/*.gz")} == pages


def test_commitments_come_from_their_list(bench: Bench) -> None:
    ended = deepcopy(bench.fake.tables[LIST][0])
    ended["subscription"]["instance_id"] = "long-ago"
    ended |= {
        "start_time": "2024-01-01 00:00:00 UTC",
        "end_time": "2025-01-01 00:00:00 UTC",
        "state": "Expired",
    }
    bench.fake.tables[LIST] += [deepcopy(bench.fake.tables[LIST][0]), ended]  # the list of another day
    bench.poll(commitments_table=LIST)
    files = bench.store.files("contract_commitment")
    scan = f"read_parquet({duckdb.literals(files)}, hive_partitioning = true, hive_types_autocast = false)"
    query = (
        f"SELECT x_BillingPeriod, ContractCommitmentCost FROM {scan} WHERE ContractCommitmentCost IS NOT NULL"
    )
    assert duckdb.connect().execute(query).fetchall() == [("2026-10", Decimal("1892.16"))]
    assert bench.billed() == bench.charged()
    canceled = {"state": "Canceled", "end_time": "2026-10-09 00:00:00 UTC"}
    bench.fake.tables[LIST].append(deepcopy(bench.fake.tables[LIST][0]) | canceled)
    before = bench.fetched()
    bench.poll(commitments_table=LIST)
    assert bench.fetched() == before  # the rows are the same
    files = bench.store.files("contract_commitment")
    scan = f"read_parquet({duckdb.literals(files)}, hive_partitioning = true, hive_types_autocast = false)"
    query = f"SELECT ContractCommitmentLifecycleStatus FROM {scan} WHERE ContractCommitmentCost IS NOT NULL"
    assert duckdb.connect().execute(query).fetchall() == [("Canceled",)]


def test_settings_reach_bigquery(bench: Bench) -> None:
    bench.poll(project="jobs", location="EU", partition_column="export_time", maximum_bytes_billed=10**12)
    assert bench.fake.clients == [{"project": "jobs", "location": "EU"}]
    assert all("export_time >= @since" in query for query, _ in bench.fake.asked)
    assert bench.fake.asked[-1][1] == {"months": ["202610"], "since": datetime(2026, 9, 26, tzinfo=UTC)}
    assert bench.billed() == bench.charged()


def test_no_rows_are_told(bench: Bench) -> None:
    bench.fake.tables[TABLE] = []
    assert {told.code for told in bench.poll().diagnostics} == {"no-charges"}


@pytest.mark.parametrize("error", [GoogleAPIError("403 Access Denied"), GoogleAuthError("no credentials")])
def test_a_refusal_says_what_is_needed(bench: Bench, error: Exception) -> None:
    bench.fake.refuses = error
    (told,) = bench.poll().diagnostics
    assert (told.code, str(error) in told.message) == ("poll-failed", True)
    assert "BigQuery Data Viewer" in told.hint


@pytest.mark.parametrize(
    "settings",
    [{"table": ""}, {"table": "only_a_table"}, {"table": "a.b.c` WHERE true --"}, {"partition_column": "x) OR (1=1"},
     {"page_rows": 0}, {"commitments_table": "dataset.table"}],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(bench: Bench, settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as told:
        bench.poll(**settings)
    assert told.value.hint
    assert bench.fake.asked == []


def test_a_missing_library_says_how_to_get_it(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.bigquery", None)
    with pytest.raises(ConfigError) as told:
        bench.poll()
    assert "gpuledger[bigquery]" in str(told.value)


def test_the_fake_speaks_as_the_library_does() -> None:
    library = pytest.importorskip("google.cloud.bigquery")
    pytest.importorskip("google.api_core.exceptions").GoogleAPIError  # noqa: B018
    pytest.importorskip("google.auth.exceptions").GoogleAuthError  # noqa: B018
    for fake in (ScalarQueryParameter, ArrayQueryParameter):
        real = inspect.signature(getattr(library, fake.__name__).__init__)
        assert list(inspect.signature(fake.__init__).parameters) == list(real.parameters)
    assert {"project", "location"} <= set(inspect.signature(library.Client.__init__).parameters)
    assert {"query", "job_config"} <= set(inspect.signature(library.Client.query).parameters)
    config = library.QueryJobConfig(
        query_parameters=[library.ArrayQueryParameter("months", "STRING", ["202610"]),
                          library.ScalarQueryParameter("since", "TIMESTAMP", NOW)],
        maximum_bytes_billed=10**12, labels={"gpuledger": "poll"},
    )  # fmt: skip
    assert all(hasattr(config, name) for name in QueryJobConfig.KNOWN)
    assert config.to_api_repr()["query"]["maximumBytesBilled"] == str(10**12)
    shown = config.to_api_repr()["query"]["queryParameters"]
    assert [parameter["name"] for parameter in shown] == ["months", "since"]
