"""Which files of a folder make one delivery: by the vendor's manifest where there is one, else all data files.

Manifests: AWS Data Exports `metadata/BILLING_PERIOD=…/<export>-Manifest.json`
(docs.aws.amazon.com/cur/latest/userguide/dataexports-export-delivery.html), AWS legacy CUR `<report>-Manifest.json`
(…/userguide/understanding-manifest-files.html) and Azure Cost Management `manifest.json`
(learn.microsoft.com/azure/cost-management-billing/costs/tutorial-improved-exports).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from gpuledger.core.contracts import Delivery, SourceFile, Tree
from gpuledger.diagnostics import Diagnostic

DATA_SUFFIXES = (
    ".csv", ".csv.gz", ".csv.zst", ".tsv", ".parquet", ".json", ".json.gz", ".jsonl", ".jsonl.gz", ".ndjson",
    ".ndjson.gz", ".zip",
)  # fmt: skip
_TIME_IN_PATH = re.compile(r"(20\d{2})-?(\d{2})-?(\d{2})T(\d{2}):?(\d{2}):?(\d{2})(?:\.(\d{1,6})\d*)?Z")


def is_data(path: str) -> bool:
    """Say whether the file can hold charges: a known suffix, and neither a manifest nor a marker."""
    name = path.rsplit("/", 1)[-1].lower()
    return name.endswith(DATA_SUFFIXES) and not name.endswith(
        ("manifest.json", "_metadata.json", "truth.json")
    )


def plain(tree: Tree) -> list[Delivery]:
    """Take every data file of the tree as one delivery, identified by its content."""
    files = tuple(file for file in tree.files if is_data(file.path))
    return [Delivery(files=files)] if files else []


def by_manifest(tree: Tree) -> list[Delivery]:
    """One delivery per AWS or Azure manifest; without any manifest, the same as `plain`.

    Data files below a folder that has manifests, but named by none of them, belong to an older refresh or to one
    that is still being written: they are left out and told.
    """
    manifests = [file for file in tree.files if file.path.lower().endswith("manifest.json")]
    deliveries = [found for file in manifests if (found := _read_manifest(tree, file)) is not None]
    if not deliveries:
        return plain(tree)
    return tell_strays(tree, deliveries)


def tell_strays(tree: Tree, deliveries: list[Delivery]) -> list[Delivery]:
    """Put a diagnostic on the first delivery when the tree has data files that no manifest names."""
    named = {file.path for delivery in deliveries for file in delivery.files}
    strays = [file.path for file in tree.files if is_data(file.path) and file.path not in named]
    if strays:
        told = Diagnostic(
            "file-not-in-manifest", "warning", f"{tree.location}: {strays[0]}",
            f"{len(strays)} data file(s) are named by no manifest and were not read",
            "Older refreshes of an export may be deleted; a manifest that is still to come will bring newer ones.",
        )  # fmt: skip
        first = deliveries[0]
        deliveries[0] = replace(first, diagnostics=(*first.diagnostics, told))
    return deliveries


def _read_manifest(tree: Tree, file: SourceFile) -> Delivery | None:
    try:
        content = json.loads(tree.read(file.path).decode("utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        told = Diagnostic(
            "bad-manifest", "error", f"{tree.location}: {file.path}", f"this manifest is not JSON ({error})",
            "Copy the delivery again, or delete the file to read the data files without their manifest.",
        )  # fmt: skip
        return Delivery(files=(), missing=(file.path,), diagnostics=(told,))
    if not isinstance(content, Mapping):
        return None
    if "blobs" in content:
        return azure_manifest(tree, file, content)
    if "dataFiles" in content or "reportKeys" in content:
        return _aws(tree, file, content)
    return None


def _aws(tree: Tree, file: SourceFile, content: Mapping[str, Any]) -> Delivery:
    keys = [str(key) for key in content.get("dataFiles") or content.get("reportKeys") or ()]
    found, missing = _locate(tree, keys)
    columns = tuple(
        "/".join(part for part in (str(c.get("category") or ""), str(c.get("name") or "")) if part)
        for c in content.get("columns") or ()
        if isinstance(c, Mapping)
    )
    name = (
        content.get("exportName")
        or content.get("reportName")
        or file.path.rsplit("/", 1)[-1][: -len("-Manifest.json")]
    )
    period = re.search(r"BILLING_PERIOD=(\d{4}-\d{2})", file.path)
    identity = content.get("executionId") or content.get("assemblyId")
    return Delivery(
        files=found,
        missing=missing,
        columns=columns,
        source=str(name) or None,
        billing_period=period.group(1) if period else None,
        delivery_id=str(identity) if identity else None,
        delivered_at=_moment(content.get("createdAt"), *keys[:1], file.path) or file.modified,
    )


def azure_manifest(tree: Tree, file: SourceFile, content: Mapping[str, Any]) -> Delivery:
    """Read one run of an Azure export: its blobs with their sizes and row counts."""
    blobs = [blob for blob in content.get("blobs") or () if isinstance(blob, Mapping)]
    keys = [str(blob.get("blobName")) for blob in blobs]
    found, missing = _locate(tree, keys)
    paths = dict(zip(keys, (_match(tree, key) for key in keys), strict=True))
    rows = {
        p: int(b["dataRowCount"])
        for b in blobs
        if (p := paths[str(b.get("blobName"))]) and "dataRowCount" in b
    }
    size = {
        p: int(b["byteCount"]) for b in blobs if (p := paths[str(b.get("blobName"))]) and "byteCount" in b
    }
    run = content.get("runInfo") if isinstance(content.get("runInfo"), Mapping) else {}
    config = content.get("exportConfig") if isinstance(content.get("exportConfig"), Mapping) else {}
    total = content.get("dataRowCount")
    return Delivery(
        files=found,
        missing=missing,
        source=str(config["exportName"]) if config and config.get("exportName") else None,
        delivery_id=str(run["runId"]) if run and run.get("runId") else None,
        delivered_at=_moment(run.get("submittedTime") if run else None, file.path) or file.modified,
        expected_rows=rows,
        expected_bytes=size,
        expected_total=int(total) if total is not None else None,
    )


def _moment(*texts: object) -> datetime | None:
    """Return the first ISO moment in one of the texts; UTC."""
    for text in texts:
        found = _TIME_IN_PATH.search(str(text)) if text else None
        if found:
            year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
            fraction = int((found.group(7) or "").ljust(6, "0"))
            return datetime(year, month, day, hour, minute, second, fraction, tzinfo=UTC)
    return None


def _match(tree: Tree, key: str) -> str | None:
    """Find the tree's file that a manifest calls by bucket or container key."""
    key = re.sub(r"^[a-z0-9]+://[^/]+/", "", key).lstrip("/")
    best = None
    for file in tree.files:
        same = key == file.path or key.endswith("/" + file.path) or file.path.endswith("/" + key)
        if same and (best is None or len(file.path) > len(best)):
            best = file.path
    return best


def _locate(tree: Tree, keys: list[str]) -> tuple[tuple[SourceFile, ...], tuple[str, ...]]:
    by_path = {file.path: file for file in tree.files}
    matches = [(key, _match(tree, key)) for key in keys]
    return (
        tuple(by_path[path] for _, path in matches if path is not None),
        tuple(key for key, path in matches if path is None),
    )
