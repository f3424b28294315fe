"""Ledger rows as a FOCUS dataset of a given version: the select list, and the dataset's metadata.

The ledger is a superset of 1.3 and 1.4, so an export is a projection: the version's columns in the specification's
(alphabetical) order. What a version wants and a row lacks is derived where the specification says how: provider and
publisher of older versions from service and host provider, and back. Tag columns become JSON text. For text formats
(`text=True`) times are ISO 8601 in UTC with Z, and decimals plain, without exponent or trailing zeros.

FOCUS 1.4 lets an entry of ContractApplied state its cost or its quantity, not both; where a row states both, the
cost stays and the quantity moves to x_ keys.

Metadata objects follow the specification's Schema, DatasetInstance, Recency and DataGenerator, (c) FinOps Foundation
/ Joint Development Foundation, CC BY 4.0.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gpuledger.errors import UsageError
from gpuledger.focus.model import document, model
from gpuledger.focus.schema import (
    INSTANT,
    LEDGER_CONTRACT_COMMITMENT,
    LEDGER_COST_AND_USAGE,
    TAGS,
    LedgerColumn,
    quoted,
)

_TABLES: Final = {"CostAndUsage": LEDGER_COST_AND_USAGE, "ContractCommitment": LEDGER_CONTRACT_COMMITMENT}
# What a version asks for and an older or newer row does not have, by the columns that replaced it.
_FALLBACKS: Final = {
    "ProviderName": ("ServiceProviderName",),
    "PublisherName": ("ServiceProviderName",),
    "ServiceProviderName": ("ProviderName", "PublisherName"),
    "HostProviderName": ("ProviderName",),
}
_QUANTITY_KEYS: Final = ("ContractCommitmentAppliedQuantity", "ContractCommitmentAppliedUnit")


def focus_columns(dataset: str, version: str, custom: Iterable[str] = ()) -> list[LedgerColumn]:
    """The ledger columns that make up `dataset` in FOCUS `version`, then the wanted x_ columns.

    Raises UsageError for an unknown version, a dataset that the ledger has not, or an x_ column it lacks.
    """
    wanted = model(dataset, version).columns
    if dataset not in _TABLES:
        raise UsageError(
            f"the ledger has no dataset {dataset}",
            where="dataset",
            hint=f"Use one of {', '.join(_TABLES)}.",
        )
    ledger = {column.name: column for column in _TABLES[dataset]}
    extra = list(custom)
    unknown = [name for name in extra if name not in ledger or not name.startswith("x_")]
    if unknown:
        raise UsageError(
            f"no such custom column: {', '.join(unknown)}",
            where="export",
            hint="Custom columns are the ledger's x_ columns.",
        )
    return [ledger[name] for name in sorted(wanted)] + [ledger[name] for name in extra]


def projection(
    dataset: str, version: str, *, text: bool = False, custom: Iterable[str] = (), fallback: bool = True
) -> str:
    """The select list over a ledger table that gives `dataset` in FOCUS `version`.

    `fallback` False leaves a missing provider or publisher null instead of taking it from the columns that replaced
    it (and back).
    """
    columns = focus_columns(dataset, version, custom)
    fallback = fallback and dataset == "CostAndUsage"  # commitments have no columns to fall back on
    return ",\n".join(
        f"  {_cell(column, version, text, fallback)} AS {quoted(column.name)}" for column in columns
    )


def _cell(column: LedgerColumn, version: str, text: bool, fallback: bool) -> str:  # noqa: FBT001  # as they come
    cell = quoted(column.name)
    if fallback and column.name in _FALLBACKS:
        cell = f"coalesce({', '.join(map(quoted, (column.name, *_FALLBACKS[column.name])))})"
    if column.name == "ContractApplied" and version >= "1.4":
        return _cost_or_quantity(cell)
    if column.sql_type == TAGS:
        return f"to_json({cell})::VARCHAR"
    if text and column.sql_type == INSTANT:
        return f"strftime({cell} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%SZ')"
    if text and column.sql_type.startswith("DECIMAL"):
        return f"rtrim(rtrim({cell}::VARCHAR, '0'), '.')"
    return cell


def _cost_or_quantity(cell: str) -> str:
    """ContractApplied as 1.4 wants it: in entries that state both, the quantity's keys get the x_ prefix.

    Done on the text, for a JSON writer would round the amounts; entries are flat objects.
    """
    both = " AND ".join(
        f"coalesce(json_type(e, '$.{key}'), 'NULL') <> 'NULL'"
        for key in ("ContractCommitmentAppliedCost", _QUANTITY_KEYS[0])
    )
    entries = rf"regexp_extract_all({cell}, '\{{[^{{}}]*\}}')"
    chosen = f"list_filter({entries}, lambda e: CASE WHEN json_valid(e) THEN {both} ELSE FALSE END)"
    renamed = "e"
    for key in _QUANTITY_KEYS:
        renamed = f"""replace({renamed}, '"{key}"', '"x_{key}"')"""
    return f"list_reduce({chosen}, lambda text, e: replace(text, e, {renamed}), {cell})"


@dataclass(frozen=True, slots=True)
class Sector:
    """A part of a time series: [start, end), whether no more rows are expected in it, when it last changed."""

    start: datetime
    end: datetime
    complete: bool
    updated: datetime


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with Z, to the second. ValueError for a time without a zone."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def data_generator(name: str = "gpuledger") -> dict[str, Any]:
    """The DataGenerator object."""
    return {"DataGenerator": name}


def dataset_instance(instance_id: str, name: str, dataset: str) -> dict[str, Any]:
    """The DatasetInstance object: one table of one dataset."""
    return {"DatasetInstanceId": instance_id, "DatasetInstanceName": name, "FocusDatasetId": dataset}


def recency(
    instance_id: str, updated: datetime, written: datetime, sectors: Sequence[Sector]
) -> dict[str, Any]:
    """The Recency object of a time series: when data last changed, and which periods are complete.

    A sector is complete when all its rows are Final and its source's billing period is closed; estimated rows make
    it incomplete. `written` is the time of this object itself.
    """
    return {
        "DatasetInstanceId": instance_id,
        "DatasetInstanceLastUpdated": iso(updated),
        "RecencyLastUpdated": iso(written),
        "TimeSectors": [
            {
                "TimeSectorStart": iso(sector.start),
                "TimeSectorEnd": iso(sector.end),
                "TimeSectorComplete": sector.complete,
                "TimeSectorLastUpdated": iso(sector.updated),
            }
            for sector in sorted(sectors, key=lambda sector: sector.start)
        ],
    }


def schema(
    dataset: str,
    version: str,
    *,
    instance_id: str,
    created: datetime,
    generator_version: str,
    custom: Iterable[str] = (),
    tag_prefixes: Sequence[str] = (),
) -> dict[str, Any]:
    """The Schema object of an export. Its id changes with its content, so artifacts of one shape share one object."""
    definitions = [
        _definition(column, dataset, version, tag_prefixes)
        for column in focus_columns(dataset, version, custom)
    ]
    content = json.dumps([dataset, version, generator_version, definitions], sort_keys=True)
    return {
        "SchemaId": hashlib.sha256(content.encode()).hexdigest()[:16],
        "FocusVersion": version,
        "DataGeneratorVersion": generator_version,
        "CreationDate": iso(created),
        "DatasetInstanceId": instance_id,
        "ColumnDefinition": definitions,
    }


def _definition(
    column: LedgerColumn, dataset: str, version: str, tag_prefixes: Sequence[str]
) -> Mapping[str, Any]:
    known = model(dataset, version).columns.get(column.name)
    types = {"string": "STRING", "decimal": "DECIMAL", "datetime": "DATETIME", "json": "JSON"}
    decimal = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", column.sql_type)
    kind = (
        types[known.type]
        if known
        else "DECIMAL"
        if decimal
        else "JSON"
        if column.sql_type == TAGS
        else "STRING"
    )
    found: dict[str, Any] = {"ColumnName": column.name, "DataType": kind}
    if decimal:
        found |= {"NumericPrecision": int(decimal[1]), "NumberScale": int(decimal[2])}
    if kind in {"STRING", "JSON"}:
        found["StringEncoding"] = "UTF-8"
    if column.name == "Tags":
        found["ProviderTagPrefixes"] = list(tag_prefixes)
    if version == "1.3" and _removed_next(dataset, column.name):
        found["Deprecated"] = True
    return found


def _removed_next(dataset: str, name: str) -> bool:
    content = document({"CostAndUsage": "cost_and_usage"}.get(dataset, "contract_commitment"))
    return any(entry["name"] == name and entry.get("until") == "1.3" for entry in content["columns"])
