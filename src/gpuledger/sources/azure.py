"""Azure cost details: ActualCost and AmortizedCost exports and downloads of every agreement, CSV or Parquet.

Columns: learn.microsoft.com/azure/cost-management-billing/dataset-schema (cost-usage-details-ea, -mca, -mca-partner,
-mca-partner-subscription, -pay-as-you-go). Prices and the two views: …/automate/automation-ingest-usage-details-overview
and …/reservations/understand-reserved-instance-usage-ea. Exports and manifest: …/costs/tutorial-improved-exports.

The two exports state the same month. Delivered together, the actual one gives what was billed, purchases included, and
the amortised one what covered and unused commitments cost; rows that both have count once. Each alone:
ActualCost has no EffectiveCost of covered usage (null); AmortizedCost lacks purchases, so BilledCost leaves
commitments out. NOTES says which case a delivery is.

Unlike Microsoft's conversion we don't divide Quantity by the block size: cost is Quantity x EffectivePrice in every row,
so both are in one unit. Counts ('10K', '1M') are in blocks; hours and gigabytes ('10 Hours') are themselves.
Missing in these files: list prices of reservations and Marketplace, tax, credits; EA has no invoice id; the start of a
commitment that is paid monthly.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from gpuledger.core.contracts import Delivery, SourceFile, Tree
from gpuledger.core.deliveries import azure_manifest, by_manifest, is_data, tell_strays

TYPE = "azure"
TITLE = "Azure cost details"
PROVIDER = "Azure"
VERSION = "Azure cost details"
COLUMNS: Final[Mapping[str, Sequence[str]]] = {
    "InvoiceId": (),
    "PreviousInvoiceId": (),
    "BillingAccountId": (),
    "BillingAccountName": (),
    "BillingProfileId": (),
    "BillingProfileName": (),
    "InvoiceSectionName": ("InvoiceSection", "DepartmentName"),
    "AccountName": (),
    "CustomerTenantId": (),
    "CustomerName": (),
    "PartnerName": (),
    "ResellerName": (),
    "CostCenter": (),
    "BillingPeriodStartDate": (),
    "BillingPeriodEndDate": (),
    "Date": ("UsageDateTime", "UsageDate", "UsageStart"),
    "ServiceFamily": (),
    "ServiceName": (),
    "ProductOrderId": (),
    "ProductOrderName": (),
    "ConsumedService": (),
    "MeterId": (),
    "MeterName": (),
    "MeterCategory": (),
    "MeterSubCategory": (),
    "MeterRegion": (),
    "ProductId": (),
    "Product": ("ProductName",),
    "PartNumber": (),
    "PlanName": (),
    "SubscriptionId": ("SubscriptionGuid",),
    "SubscriptionName": (),
    "PublisherType": (),
    "PublisherName": (),
    "ResourceGroup": ("ResourceGroupName",),
    "ResourceId": ("InstanceId", "InstanceName"),
    "ResourceName": (),
    "ResourceType": (),
    "ResourceLocation": (),
    "Location": ("ResourceLocationNormalized",),
    "AvailabilityZone": (),
    "Quantity": ("UsageQuantity", "ConsumedQuantity"),
    "UnitOfMeasure": ("Unit",),
    "EffectivePrice": ("ResourceRate", "Rate"),
    "UnitPrice": (),
    "PayGPrice": (),
    "ChargeType": (),
    "Frequency": (),
    "BillingCurrency": ("BillingCurrencyCode", "Currency"),
    "PricingCurrency": ("PricingCurrencyCode",),
    "CostInBillingCurrency": ("Cost", "PreTaxCost", "ExtendedCost"),
    "CostInPricingCurrency": (),
    "CostInUsd": (),
    "PaygCostInBillingCurrency": (),
    "ExchangeRatePricingToBilling": ("ExchangeRate",),
    "AdditionalInfo": ("AdditionalInformation",),
    "Tags": (),
    "OfferId": (),
    "Term": (),
    "ReservationId": (),
    "ReservationName": (),
    "PricingModel": (),
    "BenefitId": (),
    "BenefitName": (),
    "CostAllocationRuleName": (),
}
REQUIRED = ("CostInBillingCurrency", "Date", "SubscriptionId", "MeterCategory|MeterId")
COMMITMENTS = True

# Rows of `native` with what they are. `kind` is the export: as its manifest or path says, else as its rows show, else
# null. Rows of the second export that the first has too are left out, per billing account and month.
_CLASSIFIED: Final = r"""
file_kinds AS (
    SELECT
        _file,
        bool_or(starts_with(type, 'unused') OR (committed AND type = 'usage' AND cost <> 0)) AS amortized,
        bool_or(committed AND (type IN ('purchase', 'refund') OR (type = 'usage' AND cost = 0 AND price = 0))) AS actual
    FROM (
        SELECT
            _file, money(CostInBillingCurrency) AS cost, money(EffectivePrice) AS price,
            regexp_replace(lower(coalesce(ChargeType, 'usage')), '[^a-z]', '', 'g') AS type,
            coalesce(regexp_matches(lower(PricingModel), '^(reservation|savings ?plan)'), coalesce(ReservationId, BenefitId) IS NOT NULL) AS committed
        FROM native WHERE _label IS NULL
    ) GROUP BY _file
), named AS NOT MATERIALIZED (
    SELECT
        n.*,
        coalesce(_label, CASE WHEN k.amortized AND NOT k.actual THEN 'amortized' WHEN k.actual AND NOT k.amortized THEN 'actual' END) AS kind,
        ProductId IS NOT NULL OR PricingCurrency IS NOT NULL OR coalesce(contains(BillingAccountId, ':'), false) AS customer_agreement,
        regexp_replace(lower(coalesce(ChargeType, 'usage')), '[^a-z]', '', 'g') AS type,
        regexp_replace(lower(PricingModel), '[^a-z]', '', 'g') AS model,
        money(CostInBillingCurrency) AS cost,
        strftime(coalesce(instant_us(BillingPeriodStartDate), instant_us(Date)), '%Y-%m') AS month
    FROM native AS n LEFT JOIN file_kinds AS k USING (_file)
), flagged AS NOT MATERIALIZED (
    SELECT
        *,
        coalesce(CASE WHEN customer_agreement THEN BillingProfileId END, BillingAccountId, CustomerTenantId, SubscriptionId) AS account,
        CASE
            WHEN customer_agreement AND BillingProfileId IS NOT NULL THEN 'Billing Profile'
            WHEN BillingAccountId IS NOT NULL THEN 'Billing Account'
            WHEN CustomerTenantId IS NOT NULL THEN 'Customer'
            ELSE 'Subscription'
        END AS account_type,
        starts_with(type, 'unused') OR CASE
            WHEN regexp_matches(model, '^(reservation|savingsplan)') THEN true
            WHEN model IN ('ondemand', 'spot') THEN false
            ELSE coalesce(ReservationId, BenefitId) IS NOT NULL
        END AS committed
    FROM named
), paired AS (
    SELECT account, month FROM flagged WHERE kind IS NOT NULL GROUP BY ALL HAVING count(DISTINCT kind) = 2
), kept AS NOT MATERIALIZED (
    SELECT
        f.*,
        committed AND type = 'usage' AS covered,
        starts_with(type, 'unused') AS unused,
        committed AND type IN ('purchase', 'refund') AS bought
    FROM flagged AS f LEFT JOIN paired USING (account, month)
    WHERE paired.month IS NULL OR CASE
        WHEN kind = 'amortized' THEN committed AND type NOT IN ('purchase', 'refund')
        ELSE NOT (committed AND type = 'usage' AND coalesce(cost = 0, false))
    END
), classified AS NOT MATERIALIZED (
    SELECT
        *,
        CASE
            WHEN type = 'usage' OR unused THEN 'Usage' WHEN type IN ('purchase', 'refund') THEN 'Purchase'
            WHEN type = 'tax' THEN 'Tax' WHEN type = 'credit' THEN 'Credit' ELSE 'Adjustment'
        END AS category,
        type = 'usage' OR unused AS is_usage,
        type IN ('usage', 'purchase', 'refund') OR unused AS priced,
        CASE WHEN NOT committed THEN NULL WHEN contains(lower(BenefitId), 'microsoft.billingbenefits') OR starts_with(model, 'savingsplan') OR type = 'unusedsavingsplan' THEN 'Savings Plan' ELSE 'Reservation' END AS benefit_kind,
        -- …/reservationOrders/<order>/reservations/<id>, …/savingsPlanOrders/<order>/savingsPlans/<id>; ids in any case.
        CASE WHEN committed THEN rtrim(regexp_replace(lower(coalesce(
            BenefitId, '/providers/microsoft.capacity/reservationorders/' || ProductOrderId || '/reservations/' || nullif(ReservationId, ProductOrderId),
            '/providers/microsoft.capacity/reservationorders/' || ProductOrderId, ReservationId
        )), '/(reservations|savingsplans)/?$', ''), '/') END AS benefit,
        CASE WHEN committed THEN coalesce(
            nullif(regexp_extract(lower(BenefitId), '^(.*/(?:reservationorders|savingsplanorders)/[^/]+)', 1), ''),
            '/providers/microsoft.capacity/reservationorders/' || lower(ProductOrderId), lower(ReservationId)
        ) END AS reservation_order,
        coalesce(lower(PublisherType) = 'marketplace', false) AS marketplace,
        CASE WHEN lower(PublisherType) = 'marketplace' THEN PublisherName WHEN PublisherType = 'AWS' THEN 'AWS' ELSE 'Microsoft' END AS publisher,
        CASE WHEN starts_with(ResourceId, '/') THEN lower(ResourceId) ELSE '/' || lower(ResourceId) END AS resource,
        CASE WHEN MeterId NOT SIMILAR TO '[0-]+' AND MeterId <> 'Unassigned' THEN lower(MeterId) END AS meter,
        CASE WHEN json_valid(info_text) THEN CAST(info_text AS JSON) END AS info,
        CASE WHEN json_valid(info_text) AND regexp_matches(info_text::JSON ->> '$.ServiceType', '^(Standard|Basic)_') THEN info_text::JSON ->> '$.ServiceType'
            WHEN bought OR unused THEN nullif(regexp_extract(ProductOrderName, '(?:Standard|Basic)_[A-Za-z0-9_-]+'), '') END AS instance_type,
        -- EA exports leave out the outer braces.
        CASE WHEN starts_with(Tags, '{') THEN Tags WHEN Tags <> '""' THEN '{' || Tags || '}' END AS tags_json
    FROM (SELECT *, CASE WHEN starts_with(AdditionalInfo, '{') THEN AdditionalInfo ELSE '{' || AdditionalInfo || '}' END AS info_text FROM kept)
)
"""
# Independent of the mapping: the costs of all rows, but those of commitments in an amortised file, and of an amortised
# file only where there is no actual one.
TOTAL = f"""any_value((WITH {_CLASSIFIED}
    SELECT sum(money(CostInBillingCurrency)) FROM flagged LEFT JOIN paired USING (account, month)
    WHERE CASE
        WHEN kind = 'amortized' THEN paired.month IS NULL AND NOT committed
        ELSE kind IS NOT NULL OR NOT (committed AND (type = 'usage' OR starts_with(type, 'unused')))
    END))"""
# An amortised file alone adds up to its own total; where an actual one is involved, covered usage may be unknown.
EFFECTIVE_TOTAL = """CASE WHEN bool_and(_label IS NOT DISTINCT FROM 'amortized') THEN sum(money(CostInBillingCurrency)) END"""
NOTES = f"""WITH {_CLASSIFIED}, sums AS (
    SELECT
        month, account,
        bool_or(kind = 'amortized') AS has_amortized,
        count(*) FILTER (WHERE kind IS DISTINCT FROM 'amortized') AS others,
        count(*) FILTER (WHERE committed) AS committed_rows,
        count(*) FILTER (WHERE kind IS NULL) AS unknown_rows,
        coalesce(sum(cost) FILTER (WHERE NOT committed AND kind IS DISTINCT FROM 'amortized'), 0) AS actual_rest,
        coalesce(sum(cost) FILTER (WHERE NOT committed AND kind = 'amortized'), 0) AS amortized_rest
    FROM flagged GROUP BY ALL
)
SELECT 'amortized-cost-missing', 'warning',
    'only the ActualCost export of ' || month || ' is here: what the usage under commitments cost isn''t in it, EffectiveCost is unknown for ' || committed_rows || ' rows or leaves them out',
    'Export AmortizedCost as well, and ingest the folder that holds both.'
FROM sums WHERE NOT coalesce(has_amortized, false) AND committed_rows > 0
UNION ALL
SELECT 'actual-cost-missing', 'warning',
    'only the AmortizedCost export of ' || month || ' is here: what commitments were billed isn''t in it, BilledCost leaves them out',
    'Export ActualCost as well, and ingest the folder that holds both.'
FROM sums WHERE has_amortized AND others = 0
UNION ALL
SELECT 'exports-disagree', 'warning',
    'the two exports of ' || month || ' differ by ' || (actual_rest - amortized_rest) || ' outside commitments: they were made at different times; what was billed follows ActualCost',
    'Newer exports of both will agree.'
FROM sums WHERE has_amortized AND others > 0 AND actual_rest <> amortized_rest
UNION ALL
SELECT 'export-kind-unknown', 'error',
    unknown_rows || ' rows of ' || month || ' may be of either export, and both are here: they were taken as actual costs, and may count twice',
    'Put ''actual'' or ''amortized'' into the names of files or folders.'
FROM sums WHERE has_amortized AND unknown_rows > 0"""

_KINDS: Final = {"actualcost": "actual", "usage": "actual", "amortizedcost": "amortized"}
_AMORTIZED: Final = re.compile(r"amorti[sz]", re.IGNORECASE)
_ACTUAL: Final = re.compile(r"actual", re.IGNORECASE)
# …/<export>/20261001-20261031/[202611021405/<run id>/]part_0_0001.csv
_MONTH_FOLDER: Final = re.compile(r"^(?P<root>.*?)/?(?P<range>20\d{6}-20\d{6})/(?P<run>.*)$")
_RUN_TIME: Final = re.compile(r"(?:^|/)(20\d{2})(\d{2})(\d{2})(\d{2})(\d{2})(?:\d{2})?(?=/)")
_PART: Final = re.compile(r"^(part_)?\d+(_\d+)*\.")


def select(columns: Mapping[str, str], part: str) -> str:
    """Return the SELECT of `azure.sql` or `azure.commitments.sql`, with `classified` before its own tables."""
    _ = columns
    text = Path(__file__).with_suffix(f".{part}.sql" if part else ".sql").read_text("utf-8")
    return text.replace("WITH ", f"WITH {_CLASSIFIED}, ", 1)


@dataclass(frozen=True, slots=True)
class _Run:
    """One run of an export: `kind` 'actual', 'amortized' or None, the scope it covers and its dates."""

    delivery: Delivery
    kind: str | None
    scope: str
    dates: str

    @property
    def moment(self) -> datetime:
        return self.delivery.delivered_at or datetime.min.replace(tzinfo=UTC)


def discover(tree: Tree) -> list[Delivery]:
    """One delivery per month and refresh, with the actual and the amortised export of it together.

    Runs come from manifests; without any, from the folders that exports make, else all files are one delivery.
    """
    manifests = [file for file in tree.files if file.path.lower().endswith("manifest.json")]
    runs: list[_Run] = []
    for file in manifests:
        try:
            content = json.loads(tree.read(file.path).decode("utf-8-sig"))
        except (UnicodeDecodeError, json.JSONDecodeError):
            return by_manifest(tree)  # which tells what is wrong with it
        if isinstance(content, Mapping) and "blobs" in content:
            runs.append(_of_manifest(tree, file, content))
    others = [run for run in runs if run.kind == "other"]
    runs = [run for run in runs if run.kind != "other"]
    if not runs and not others:
        return _of_folders(tree)
    found = list(_paired(runs))
    known = [run.delivery for run in others]
    return tell_strays(tree, [*found, *known])[: len(found)] if found else []


def _of_manifest(tree: Tree, file: SourceFile, content: Mapping[str, object]) -> _Run:
    delivery = azure_manifest(tree, file, content)
    config = content.get("exportConfig")
    config = config if isinstance(config, Mapping) else {}
    told = str(config.get("type") or "").lower()
    kind = _KINDS.get(told, "other") if told else _kind_of(file.path)
    resource = (
        str(config.get("resourceId") or "").lower().partition("/providers/microsoft.costmanagement/")[0]
    )
    run = content.get("runInfo")
    run = run if isinstance(run, Mapping) else {}
    dates = f"{str(run.get('startDate') or '')[:10]}-{str(run.get('endDate') or '')[:10]}".replace("-", "")
    folder = _MONTH_FOLDER.match(file.path)
    scope = resource or _without_kind(folder["root"] if folder else file.path.rpartition("/")[0])
    name = _name(resource) if resource else delivery.source
    return _Run(replace(delivery, source=name), kind, scope, dates or (folder["range"] if folder else ""))


def _name(scope: str) -> str | None:
    """The ids in a scope: `/providers/…/billingAccounts/123/billingProfiles/ABC` is `123-ABC`."""
    parts = [part for part in scope.split("/") if part]
    ids = [parts[place] for place in range(1, len(parts), 2) if not parts[place].startswith("microsoft.")]
    return "-".join(ids) or None


def _kind_of(path: str) -> str | None:
    if _AMORTIZED.search(path):
        return "amortized"
    return "actual" if _ACTUAL.search(path) else None


def _without_kind(path: str) -> str:
    """Path of an export without the words that tell the two exports of one scope apart."""
    return re.sub(r"[-_ ]?(amorti[sz]ed|actual)([-_ ]?costs?)?", "", path, flags=re.IGNORECASE)


def _of_folders(tree: Tree) -> list[Delivery]:
    groups: dict[tuple[str, str, str], list[SourceFile]] = {}
    plain: list[SourceFile] = []
    for file in tree.files:
        if not is_data(file.path):
            continue
        folder = _MONTH_FOLDER.match(file.path)
        if folder is None:
            plain.append(file)
            continue
        parent, _, name = folder["run"].rpartition("/")
        # Exports without partitions write one file per run into the month's folder.
        run = parent if parent or _PART.match(name) else name
        groups.setdefault((folder["root"], folder["range"], run), []).append(file)
    runs = []
    for (root, dates, run), files in groups.items():
        moment = _run_time(run) or _newest(files)
        scope = _without_kind(root)
        delivery = Delivery(files=tuple(files), delivered_at=moment, source=scope.rsplit("/", 1)[-1] or None)
        runs.append(_Run(delivery, _kind_of(f"{root}/{run}"), scope, dates))
    found = list(_paired(runs))
    if plain:
        labels = {file.path: kind for file in plain if (kind := _kind_of(file.path))}
        found.append(Delivery(files=tuple(plain), labels=labels))
    return found


def _run_time(run: str) -> datetime | None:
    """Return the time in a run's folder, `202611021405/…`."""
    found = _RUN_TIME.search(f"{run}/")
    try:
        return datetime.strptime("".join(found.groups()), "%Y%m%d%H%M").replace(tzinfo=UTC) if found else None
    except ValueError:
        return None


def _newest(files: Sequence[SourceFile]) -> datetime | None:
    return max((file.modified for file in files if file.modified is not None), default=None)


def _paired(runs: Sequence[_Run]) -> Iterator[Delivery]:
    """Join each actual run with the amortised run of the same scope and dates that is nearest in time; last with last."""
    for scope, dates in dict.fromkeys((run.scope, run.dates) for run in runs):
        same = sorted((r for r in runs if (r.scope, r.dates) == (scope, dates)), key=lambda r: r.moment)
        actual = [run for run in same if run.kind == "actual"]
        amortized = [run for run in same if run.kind == "amortized"]
        if not actual or not amortized:
            yield from (_labelled(run) for run in same)
            continue
        for run in actual[:-1]:
            yield _together(_labelled(run), _labelled(_nearest(run, amortized)))
        yield _together(_labelled(actual[-1]), _labelled(amortized[-1]))
        yield from (_labelled(run) for run in same if run.kind is None)


def _nearest(run: _Run, others: Sequence[_Run]) -> _Run:
    return min(others, key=lambda other: abs(other.moment - run.moment))


def _labelled(run: _Run) -> Delivery:
    if run.kind is None:
        return run.delivery
    return replace(run.delivery, labels={file.path: run.kind for file in run.delivery.files})


def _together(actual: Delivery, amortized: Delivery) -> Delivery:
    ids = (actual.delivery_id, amortized.delivery_id)
    totals = (actual.expected_total, amortized.expected_total)
    moments = [moment for moment in (actual.delivered_at, amortized.delivered_at) if moment is not None]
    return Delivery(
        files=(*actual.files, *amortized.files),
        delivery_id="-".join(ids) if all(ids) else None,  # type: ignore[arg-type]
        delivered_at=max(moments, default=None),
        source=actual.source,
        expected_rows={**actual.expected_rows, **amortized.expected_rows},
        expected_bytes={**actual.expected_bytes, **amortized.expected_bytes},
        missing=(*actual.missing, *amortized.missing),
        expected_total=sum(totals) if None not in totals else None,  # type: ignore[arg-type]
        labels={**actual.labels, **amortized.labels},
        diagnostics=(*actual.diagnostics, *amortized.diagnostics),
    )
