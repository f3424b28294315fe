"""FOCUS 1.0-1.4 rows of any provider as ledger rows: one SQL expression per ledger column.

Given the columns of an input and their DuckDB types, `ledger_expressions` says how each ledger column is read and
what is derived where the older version, or a provider's gap, leaves it empty. Costs are read and never changed.
What is not known stays null; derived values follow these rules:

- ServiceProviderName, HostProviderName (new in 1.3; specification, migration from ProviderName and PublisherName):
  a publisher of another company than the provider marks a marketplace sale, whose service provider is the
  publisher, and whose host is the provider where that is a cloud. Else both are the provider.
- ProviderName, PublisherName (gone in 1.4): the other way round; a host that also sends the invoice for another's
  service is the provider.
- ServiceSubcategory (new in 1.1): by a table of service names, where it agrees with the row's ServiceCategory.
- Microsoft's gaps (Cost Management, FOCUS conformance): CapacityReservationId and Status from x_SkuDetails (the
  charge on the reservation itself is its unused part); CommitmentDiscountQuantity and Unit of spend commitments,
  which are counted in money; SkuPriceDetails from x_SkuDetails with the x_ prefix that custom keys need.
- ContractApplied: the 1.3 text's key spellings …ID become the erratum's and 1.4's …Id.

Expressions use the macros of macros.sql.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from gpuledger.focus.cells import kind_of, literal
from gpuledger.focus.model import VERSIONS, document, model
from gpuledger.focus.schema import (
    INSTANT,
    LEDGER_CONTRACT_COMMITMENT,
    LEDGER_COST_AND_USAGE,
    MONEY,
    QUANTITY,
    TAGS,
    LedgerColumn,
    quoted,
)

_READERS: Final = {MONEY: "money", QUANTITY: "quantity", INSTANT: "instant", TAGS: "tag_map"}
_TABLES: Final = {"CostAndUsage": LEDGER_COST_AND_USAGE, "ContractCommitment": LEDGER_CONTRACT_COMMITMENT}


def detect_version(columns: Iterable[str], dataset: str = "CostAndUsage") -> str:
    """The oldest FOCUS version that has all the FOCUS columns given, read as a delivery of that version.

    1.4 is told by a column of its own, or by the absence of both columns that it removed from 1.3's.
    """
    names = {name.casefold() for name in columns}
    versions = [version for version in VERSIONS if dataset == "CostAndUsage" or version >= "1.3"]
    introduced = [
        version
        for version in versions
        for entry in document({"CostAndUsage": "cost_and_usage"}.get(dataset, "contract_commitment"))[
            "columns"
        ]
        if entry.get("since", versions[0]) == version and entry["name"].casefold() in names
    ]
    newest = max(introduced, default=versions[0])
    removed = {"providername", "publishername"}
    if (
        dataset == "CostAndUsage"
        and newest == "1.3"
        and not names & removed
        and "serviceprovidername" in names
    ):
        return "1.4"
    return newest


def read_cell(column: LedgerColumn, name: str, sql_type: str) -> str:
    """SQL of an input cell in the ledger column's type; text is parsed, nested values become JSON or maps."""
    cell, kind, reader = quoted(name), kind_of(sql_type), _READERS.get(column.sql_type)
    if column.sql_type == TAGS:
        if sql_type.startswith("MAP"):
            return f"CAST({cell} AS {TAGS})"
        return f"tag_map({cell}::VARCHAR)" if kind == "text" else f"tag_map(to_json({cell})::VARCHAR)"
    if reader and kind in {"text", "float"}:
        # The shortest text of a float is what the producer meant; its binary digits are not.
        return f"{reader}({cell}::VARCHAR)"
    if kind == "nested":
        return f"to_json({cell})::VARCHAR"
    return cell if kind == "text" and not reader else f"CAST({cell} AS {column.sql_type})"


class _Input:
    """The input's columns by FOCUS name."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        self.types = columns
        self._actual = {name.casefold(): name for name in columns}

    def actual(self, name: str) -> str | None:
        return name if name in self.types else self._actual.get(name.casefold())

    def text(self, name: str) -> str:
        """SQL of a text cell; NULL for a column that the input lacks."""
        actual = self.actual(name)
        if actual is None:
            return "NULL::VARCHAR"
        kind = kind_of(self.types[actual])
        return f"to_json({quoted(actual)})::VARCHAR" if kind == "nested" else f"{quoted(actual)}::VARCHAR"

    def has(self, *names: str) -> bool:
        return all(self.actual(name) is not None for name in names)


def _family(text: str) -> str:
    """SQL: the company behind a name; the name itself, in lower case, when it is in no family."""
    families = document("providers")["families"]
    words = {word: family["name"] for family in families for word in family["words"]}
    longest_first = "|".join(sorted(words, key=len, reverse=True))
    cases = " ".join(f"WHEN {literal(word)} THEN {literal(name)}" for word, name in words.items())
    pattern = literal(rf"\b({longest_first})\b")
    found = f"regexp_extract(lower({text}), {pattern})"
    return f"CASE {found} {cases} ELSE lower({text}) END"


def _is_cloud(text: str) -> str:
    clouds = [family["name"] for family in document("providers")["families"] if family["cloud"]]
    return f"{_family(text)} IN ({', '.join(map(literal, clouds))})"


def _providers(given: _Input) -> dict[str, str]:
    provider, publisher = given.text("ProviderName"), given.text("PublisherName")
    # Null when either is null: then it is no such sale.
    sold = f"({publisher} <> {provider} AND {_family(publisher)} <> {_family(provider)})"
    service, host = given.text("ServiceProviderName"), given.text("HostProviderName")
    issuer = given.text("InvoiceIssuerName")
    resold = f"({host} <> {service} AND {_family(host)} = {_family(issuer)} AND {_family(host)} <> {_family(service)})"
    found: dict[str, str] = {}
    if given.has("ProviderName") or given.has("PublisherName"):
        found["ServiceProviderName"] = (
            f"CASE WHEN {sold} THEN {publisher} ELSE coalesce({provider}, {publisher}) END"
        )
        found["HostProviderName"] = (
            f"CASE WHEN {sold} THEN CASE WHEN {_is_cloud(provider)} THEN {provider} END"
            f" ELSE coalesce({provider}, {publisher}) END"
        )
    if given.has("ServiceProviderName"):
        found["ProviderName"] = f"CASE WHEN {resold} THEN {host} ELSE {service} END"
        found["PublisherName"] = service
    return found


def _subcategory(given: _Input) -> str:
    service, category = f"lower({given.text('ServiceName')})", given.text("ServiceCategory")
    parents: dict[str, list[str]] = {}
    for parent, subs in document("service_categories")["categories"].items():
        for sub in subs:
            names = document("service_subcategories")["services"].get(sub)
            if names:
                listed = ", ".join(map(literal, names))
                parents.setdefault(parent, []).append(f"WHEN {service} IN ({listed}) THEN {literal(sub)}")
    cases = " ".join(
        f"WHEN {literal(parent)} THEN CASE {' '.join(whens)} END" for parent, whens in parents.items()
    )
    return f"CASE {category} {cases} END"


def _sku(given: _Input, key: str) -> str:
    """A member of Microsoft's x_SkuDetails, or NULL."""
    return f"TRY(json_extract_string({given.text('x_SkuDetails')}::JSON, '$.{key}'))"


def _sku_price_details(given: _Input) -> str:
    """x_SkuDetails as SkuPriceDetails: FOCUS-defined properties by their name, others with the x_ prefix."""
    details = f"TRY({given.text('x_SkuDetails')}::JSON)"
    key = "CASE k WHEN 'ServiceType' THEN 'InstanceType' WHEN 'VCPUs' THEN 'CoreCount' ELSE 'x_' || k END"
    value = f"json_extract({details}, '/' || replace(replace(k, '~', '~0'), '/', '~1'))"
    pairs = f"list_transform(json_keys({details}), lambda k: {{'key': {key}, 'value': {value}}})"
    return f"CASE WHEN len(json_keys({details})) > 0 THEN to_json(map_from_entries({pairs}))::VARCHAR END"


def _microsoft_gaps(given: _Input) -> dict[str, str]:
    category, status = given.text("ChargeCategory"), given.text("CommitmentDiscountCategory")
    provider = f"coalesce({given.text('ProviderName')}, {given.text('ServiceProviderName')})"
    microsoft = f"{_family(provider)} = 'Microsoft'"
    reservation = _sku(given, "VMCapacityReservationId")
    found: dict[str, str] = {}
    if given.has("x_SkuDetails"):
        found["CapacityReservationId"] = reservation
        found["CapacityReservationStatus"] = (
            f"CASE WHEN {reservation} IS NOT NULL AND {category} = 'Usage' THEN CASE WHEN"
            f" lower({given.text('ResourceId')}) = lower({reservation}) THEN 'Unused' ELSE 'Used' END END"
        )
        found["SkuPriceDetails"] = _sku_price_details(given)
        found["x_InstanceType"] = _sku(given, "ServiceType")
    if given.has("CommitmentDiscountCategory", "CommitmentDiscountId", "EffectiveCost", "BilledCost"):
        spent = f"CASE {category} WHEN 'Usage' THEN {_money(given, 'EffectiveCost')}"
        spent += f" WHEN 'Purchase' THEN {_money(given, 'BilledCost')} END"
        applies = f"{status} = 'Spend' AND {given.text('CommitmentDiscountId')} IS NOT NULL AND {microsoft}"
        found["CommitmentDiscountQuantity"] = f"CASE WHEN {applies} THEN CAST({spent} AS {QUANTITY}) END"
        found["CommitmentDiscountUnit"] = (
            f"CASE WHEN {applies} AND {spent} IS NOT NULL THEN {given.text('BillingCurrency')} END"
        )
    return found


def _money(given: _Input, name: str) -> str:
    actual = given.actual(name) or name
    return read_cell(LedgerColumn(name, MONEY, ""), actual, given.types[actual])


def _respelled(sql: str) -> str:
    """ContractApplied with the keys …Id."""
    return f"""replace(replace({sql}, '"ContractID"', '"ContractId"'), '"ContractCommitmentID"', '"ContractCommitmentId"')"""


def ledger_expressions(
    columns: Mapping[str, str], *, dataset: str = "CostAndUsage", custom: Iterable[str] = ()
) -> dict[str, str]:
    """Ledger column to SQL expression over an input whose columns and DuckDB types are given.

    Columns are found in any case. Ledger columns about which the input says nothing are left out. `custom` names
    x_ columns of the ledger that the input really means as ours (as in a file that we exported); other x_ columns
    of the input are the producer's and not read, except those that fill a gap.
    """
    ledger = _TABLES[dataset]
    given = _Input(columns)
    own = frozenset(custom)
    found = {
        column.name: read_cell(column, actual, columns[actual])
        for column in ledger
        if (actual := given.actual(column.name)) and (not column.name.startswith("x_") or column.name in own)
    }
    if dataset != "CostAndUsage":
        return found
    derived: dict[str, str] = {**_providers(given), **_microsoft_gaps(given)}
    if given.has("ServiceName", "ServiceCategory"):
        derived["ServiceSubcategory"] = _subcategory(given)
    for name, sql in derived.items():
        found[name] = f"coalesce({found[name]}, {sql})" if name in found else sql
    finished: dict[str, Callable[[str], str]] = {"ContractApplied": _respelled}
    return {name: finished[name](sql) if name in finished else sql for name, sql in found.items()}


def missing_columns(columns: Iterable[str], version: str, dataset: str = "CostAndUsage") -> list[str]:
    """FOCUS columns of `version` that an input lacks, in the specification's order."""
    names = {name.casefold() for name in columns}
    return [name for name in model(dataset, version).columns if name.casefold() not in names]
