"""Google Cloud billing export, standard or detailed: BigQuery's JSON lines, Parquet or flattened CSV, or the table itself.

Schema: docs.cloud.google.com/billing/docs/how-to/export-data-bigquery-tables/detailed-usage (and standard-usage);
commitments: …/docs/cuds-multiprice-datamodel, …/cuds-example-queries, …/billing/docs/how-to/export-data-bigquery-tables/cud-export.

`cost` is before credits. Credits that lower a price (sustained and committed use, spending-based, free tier, subscription
benefit, reseller margin) lower their row's cost; those that pay (PROMOTION, what we don't know) and the offset of a
commitment's fee become rows of ChargeCategory Credit. So Σ BilledCost = Σ cost + Σ credits, exactly.

Commitments. A fee is a Purchase with EffectiveCost 0; what it bought is the EffectiveCost of the usage that it covers,
and what is left an Unused row, so Σ EffectiveCost = Σ BilledCost. Spend-based ones of the new model (consumption models)
say themselves what covers what. Resource-based ones, and spend-based ones of the old model, only have credits on usage:
their fee is shared out hour by hour, among the usage of the SKU in its label goog-originating-sku-id, else among covered
usage of the same kind and region, in proportion to what was committed.

Usage that was reported late is on a later invoice: BillingPeriod is the invoice's month, ChargePeriod the usage's.
Google closes months at midnight Pacific time; BillingPeriod is the calendar month in UTC.
Missing in the export: invoice numbers, names of billing accounts; in the standard export resources and subscriptions; the
terms of commitments (the table cud_subscriptions_export has those of spend-based ones); list prices before July 2025.

`poll` reads the tables with google-cloud-bigquery, one folder per invoice month, whole months at a time: a month is
fetched anew when it has other rows than when it was fetched, and its manifest, written last, says which pages count.
"""

import gzip
import importlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from gpuledger.core import paging
from gpuledger.core.contracts import Delivery, PollContext, Tree
from gpuledger.core.deliveries import is_data
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import ConfigError, SourceError

TYPE = "gcp"
TITLE = "Google Cloud billing export"
PROVIDER = "Google Cloud"
VERSION = "Google Cloud billing export"
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "billing_account_id": (),
    "service_id": ("service.id",),
    "service_description": ("service.description",),
    "sku_id": ("sku.id",),
    "sku_description": ("sku.description",),
    "usage_start_time": (),
    "usage_end_time": (),
    "project_id": ("project.id",),
    "project_number": ("project.number",),
    "project_name": ("project.name",),
    "project_labels": ("project.labels",),
    "project_ancestry_numbers": ("project.ancestry_numbers",),
    "labels": (),
    "system_labels": (),
    "tags": (),
    "location_location": ("location.location",),
    "location_region": ("location.region",),
    "location_zone": ("location.zone",),
    "resource_name": ("resource.name",),
    "resource_global_name": ("resource.global_name",),
    "cost": (),
    "currency": (),
    "currency_conversion_rate": (),
    "usage_amount": ("usage.amount",),
    "usage_unit": ("usage.unit",),
    "usage_amount_in_pricing_units": ("usage.amount_in_pricing_units", "usage.amount_in_pricing_unit"),
    "usage_pricing_unit": ("usage.pricing_unit",),
    "credits": (),
    "invoice_month": ("invoice.month",),
    "cost_type": (),
    "adjustment_id": ("adjustment_info.id", "adjustmentsInfo.adjustment_id"),
    "adjustment_description": ("adjustment_info.description", "adjustmentsInfo.adjustment_description"),
    "adjustment_type": ("adjustment_info.type", "adjustmentsInfo.adjustment_type"),
    "export_time": (),
    "cost_at_list": (),
    "cost_at_effective_price_default": (),
    "transaction_type": (),
    "seller_name": (),
    "price_effective_price": ("price.effective_price",),
    "price_effective_price_default": ("price.effective_price_default",),
    "price_list_price": ("price.list_price",),
    "price_tier_start_amount": ("price.tier_start_amount",),
    "subscription_instance_id": ("subscription.instance_id",),
    "consumption_model_id": ("consumption_model.id",),
    "consumption_model_description": ("consumption_model.description",),
    # cud_subscriptions_export, the daily list of spend-based commitments; Google spells `commitent`.
    "commitment_product": ("cud_product.display_name",),
    "commitment_name": ("subscription.display_name",),
    "commitment_value": ("commitent_amount.value", "commitment_amount.value"),
    "commitment_value_unit": ("commitent_amount.unit", "commitment_amount.unit"),
    "term": (),
    "start_time": (),
    "end_time": (),
    "state": (),
}
REQUIRED = (
    "billing_account_id",
    "cost|commitment_value",
    "usage_start_time|term",
    "sku_id|commitment_product",
)
COMMITMENTS = True

# Costs plus the amounts of all credits, read as text: independent of how credits are mapped. The word "amount" in
# quotes, a colon, and a number in JSON's or Python's spelling.
TOTAL = r"""sum(money(cost)) + coalesce(sum(list_sum(list_transform(
    regexp_extract_all(credits, '["'']amount["'']\s*:\s*(?:Decimal\()?["'']?([-+0-9.eE]+)', 1), lambda a: money(a)))), 0)"""
EFFECTIVE_TOTAL = TOTAL


_LINES: Final = Path(__file__).with_name("gcp.lines.sql").read_text("utf-8").rstrip()
NOTES = f"""
WITH {_LINES}
SELECT
    'commitment-fee-missing', 'warning',
    'for ' || sum(u.covered_cost)::VARCHAR || ' of usage covered by ' || u.pool_key || ' no fee is in the bill: its EffectiveCost lacks it',
    'Add the rows of all projects, and of the billing account itself; fees may be on another one.'
FROM uses AS u ANTI JOIN fees AS f USING (account, period_start, pool_key, bucket)
GROUP BY u.pool_key ORDER BY u.pool_key
"""


def select(columns: Mapping[str, str], part: str) -> str:
    """Return the SELECT of `gcp.sql` or `gcp.commitments.sql`, with the tables of `gcp.lines.sql` before its own."""
    _ = columns
    own = Path(__file__).with_name(f"gcp.{part}.sql" if part else "gcp.sql").read_text("utf-8")
    return own.replace("WITH ", f"WITH {_LINES}, ", 1)


_MANIFEST: Final = re.compile(r"^(\d{4}-\d{2})/manifest\.json$")
_PAGE: Final = re.compile(r"^\d{4}-\d{2}/\d{8}T\d{12}Z-\w+\.jsonl\.gz$")
_TABLE: Final = re.compile(r"(?:[a-z0-9.-]+:)?[a-zA-Z0-9-]+\.\w+\.[\w-]+", re.ASCII)
_EARLIER: Final = timedelta(
    days=5
)  # a month's rows can't be much older than the month; a few days more cost little


def discover(tree: Tree) -> list[Delivery]:
    """One delivery per month that `poll` has left, with the row counts of its manifest; else all data files are one.

    Pages that no manifest names are of a month that was not fetched to its end.
    """
    by_path = {file.path: file for file in tree.files}
    found = []
    for file in tree.files:
        match = _MANIFEST.match(file.path)
        content = json.loads(tree.read(file.path)) if match else None
        if match and isinstance(content, Mapping) and "pages" in content:
            rows = {str(path): int(count) for path, count in content["pages"].items()}
            found.append(
                Delivery(
                    files=tuple(by_path[path] for path in rows if path in by_path),
                    missing=tuple(path for path in rows if path not in by_path),
                    expected_rows=rows,
                    billing_period=match[1],
                )
            )
    rest = tuple(file for file in tree.files if is_data(file.path) and not _PAGE.match(file.path))
    return found or ([Delivery(files=rest)] if rest else [])


def poll(context: PollContext) -> Iterator[Diagnostic]:
    """Fetch the invoice months of the window, and those fetched before, as far as BigQuery has other rows than then.

    Settings: table, commitments_table, project, location, partition_column, page_rows, maximum_bytes_billed.
    """
    table = _table(context.settings, "table")
    listing = (
        _table(context.settings, "commitments_table") if context.settings.get("commitments_table") else ""
    )
    size = paging.whole(context.settings, "page_rows", 20_000, 1)
    source = _BigQuery(context.settings)
    held = {match[1] for name in context.pages.names() if (match := _MANIFEST.match(name))}
    wanted = sorted(held | {f"{month:%Y-%m}" for month in paging.months(context.since, context.until)})
    listed = (
        sorted(source.lines(f"SELECT DISTINCT TO_JSON_STRING(t) AS line FROM `{listing}` AS t"))
        if listing
        else []
    )
    found = list(source.months(table, wanted))
    for month, state in found:
        active = [line for line in listed if _active(line, month)]
        state |= {"table": table, "page_rows": size}
        _refresh(context, source, month, state, active)
    if not found:
        yield Diagnostic(
            "no-charges", "warning", table, f"no rows for the invoice months {wanted[0]} to {wanted[-1]}",
            "Google fills the table from the day on which the export was switched on, some hours behind.",
        )  # fmt: skip


def _refresh(
    context: PollContext,
    source: "_BigQuery",
    month: str,
    state: Mapping[str, Any],
    commitments: Sequence[str],
) -> None:
    """Fetch a month where its rows are others than those that are held. Its manifest comes last and makes it valid."""
    manifest, run = f"{month}/manifest.json", f"{month}/{context.now():%Y%m%dT%H%M%S%fZ}"
    held = json.loads(context.pages.read(manifest)) if manifest in context.pages.names(manifest) else {}
    listing = {name for name in held.get("pages", ()) if "-commitments." in name}
    if held.get("state") == state:
        if held["commitments"] == list(commitments):
            return
        pages = {name: count for name, count in held["pages"].items() if name not in listing}
    else:
        context.progress(f"fetching {state['rows']} rows of invoice month {month}")
        pages = {}
        batches = _batches(source.month(str(state["table"]), month), int(state["page_rows"]))
        for number, lines in enumerate(batches, start=1):
            pages |= _keep(context, f"{run}-{number:05d}.jsonl.gz", lines)
        if sum(pages.values()) < int(state["rows"]):
            raise SourceError(
                f"BigQuery counted {state['rows']} rows of {month} and gave {sum(pages.values())}",
                where=str(state["table"]), hint="Poll again; the ledger keeps its last good state.",
            )  # fmt: skip
    if commitments:
        pages |= _keep(context, f"{run}-commitments.jsonl.gz", commitments)
    content = {"pages": pages, "state": state, "commitments": commitments}
    context.pages.write(manifest, json.dumps(content, indent=1).encode())
    for name in context.pages.names(f"{month}/"):
        if name != manifest and name not in pages:
            context.pages.remove(name)


def _keep(context: PollContext, name: str, lines: Sequence[str]) -> dict[str, int]:
    context.pages.write(name, gzip.compress("".join(f"{line}\n" for line in lines).encode(), 6, mtime=0))
    return {name: len(lines)}


def _batches(lines: Iterable[str], size: int) -> Iterator[list[str]]:
    batch: list[str] = []
    for line in lines:
        batch.append(line)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _active(line: str, month: str) -> bool:
    """Say whether a listed commitment runs in the month; times are ISO texts, so they compare as texts."""
    content = json.loads(line)
    starts, ends = (str(content.get(name) or "")[:7] for name in ("start_time", "end_time"))
    return starts <= month and (not ends or ends >= month)


def _table(settings: Mapping[str, Any], name: str) -> str:
    value = settings.get(name)
    if not isinstance(value, str) or not _TABLE.fullmatch(value):
        raise ConfigError(
            f"{name} must be the full name of a BigQuery table, not {value!r}", where=name,
            hint=f'Such as {name} = "my-project.billing.gcp_billing_export_resource_v1_0X0X0X_0X0X0X_0X0X0X".',
        )  # fmt: skip
    return value


class _BigQuery:
    """Queries through google-cloud-bigquery. It is an extra, so it is imported when it is needed, and nowhere else."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.column = str(settings.get("partition_column") or "")
        if not re.fullmatch(r"\w*", self.column, re.ASCII):
            raise ConfigError(
                f"partition_column can't be {self.column!r}", where="partition_column",
                hint="It is _PARTITIONTIME in Google's own tables.",
            )  # fmt: skip
        self.limits = {}
        if most := paging.whole(settings, "maximum_bytes_billed", 0):
            self.limits["maximum_bytes_billed"] = most  # None would be sent as a text
        try:
            self.library: Any = importlib.import_module("google.cloud.bigquery")
            self.errors: tuple[type[Exception], ...] = (
                importlib.import_module("google.api_core.exceptions").GoogleAPIError,
                importlib.import_module("google.auth.exceptions").GoogleAuthError,
            )
        except ImportError as error:
            raise ConfigError(
                "polling needs google-cloud-bigquery, which isn't installed", where='type = "gcp"',
                hint="pip install 'gpuledger[bigquery]', or export the table to files and ingest those.",
            ) from error  # fmt: skip
        with self._told():
            self.client = self.library.Client(
                project=settings.get("project"), location=settings.get("location")
            )

    def months(self, table: str, months: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each month that has rows, with their number and the moment of the newest. Reads two columns."""
        query = (
            "SELECT invoice.month AS month, COUNT(*) AS number, MAX(export_time) AS newest FROM"
            f" `{table}` AS t WHERE {self._when} GROUP BY month ORDER BY month"
        )
        for row in self._rows(query, months):
            month = str(row["month"])
            yield f"{month[:4]}-{month[4:]}", {"rows": int(row["number"]), "newest": str(row["newest"])}

    def month(self, table: str, month: str) -> Iterator[str]:
        """All rows of a month, each as JSON."""
        query = f"SELECT TO_JSON_STRING(t) AS line FROM `{table}` AS t WHERE {self._when}"
        return (str(row["line"]) for row in self._rows(query, [month]))

    def lines(self, query: str) -> Iterator[str]:
        """The column `line` of a query."""
        return (str(row["line"]) for row in self._rows(query, ()))

    @property
    def _when(self) -> str:
        return "invoice.month IN UNNEST(@months)" + (f" AND {self.column} >= @since" if self.column else "")

    def _rows(self, query: str, months: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        parameters = []
        if months:
            invoices = [month.replace("-", "") for month in months]
            parameters.append(self.library.ArrayQueryParameter("months", "STRING", invoices))
            if self.column:
                since = datetime.fromisoformat(f"{months[0]}-01T00:00:00+00:00") - _EARLIER
                parameters.append(self.library.ScalarQueryParameter("since", "TIMESTAMP", since))
        config = self.library.QueryJobConfig(
            query_parameters=parameters, labels={"gpuledger": "poll"}, **self.limits
        )
        with self._told():
            yield from self.client.query(query, job_config=config).result()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self.errors as error:
            raise SourceError(
                f"BigQuery: {error}", where='type = "gcp"',
                hint="It needs the roles BigQuery Data Viewer on the dataset and BigQuery Job User, and credentials:"
                " gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS.",
            ) from error  # fmt: skip
