"""Writes the whole example: native exports of all providers, README and marker files, and truth.json."""

import shutil
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

from gpuledger.demo import anthropic, aws, azure, files, gcp, neocloud, openai, telemetry
from gpuledger.demo.company import COMPANY, LABEL, Month
from gpuledger.demo.files import Written
from gpuledger.demo.truth import Truth
from gpuledger.errors import UsageError

_WHAT: Final = {
    "aws": "AWS Data Exports, CUR 2.0 as csv.gz, two deliveries of the month with their manifests.",
    "azure": "Azure cost details (EA), exports ActualCost and AmortizedCost with their manifests.",
    "gcp": "Google Cloud detailed billing export as BigQuery extracts it: JSON lines, gzip.",
    "neocloud": "A neocloud's usage CSV; columns.toml says which column is which.",
    "anthropic": "Anthropic usage report and cost report, raw pages of the API.",
    "openai": "OpenAI completions usage and costs, raw pages of the API.",
}
# Connector type of each folder, in the order in which they are worth ingesting.
_TYPES: Final = {
    "aws": "aws-cur2",
    "azure": "azure",
    "gcp": "gcp",
    "neocloud": "columns",
    "anthropic": "anthropic",
    "openai": "openai",
}


@dataclass(frozen=True, slots=True)
class Source:
    """A provider's folder and the connector type that reads it."""

    name: str
    type: str
    path: Path


@dataclass(frozen=True, slots=True)
class Manifest:
    """What `write` left on disk. `billed` is the exact sum of BilledCost per provider; `rows` counts final data rows.

    `telemetry` are the record files, in one folder; `files` are the bills' alone.
    """

    root: Path
    month: str
    seed: int
    sources: tuple[Source, ...]
    files: tuple[Written, ...]
    telemetry: tuple[Written, ...]
    billed: dict[str, Decimal]
    rows: int
    truth: Path


def _prepare(root: Path) -> None:
    """Empty the folder when an earlier run made it; refuse any other folder that holds something."""
    if root.is_file():
        raise UsageError("this is a file", where=str(root), hint="Name a folder for the example company.")
    if root.is_dir() and any(root.iterdir()):
        if not (root / "SYNTHETIC").is_file():
            raise UsageError(
                "the folder is not empty and holds no SYNTHETIC marker",
                where=str(root),
                hint="Name a new folder: the example never writes among other files.",
            )
        for name in (*_WHAT, telemetry.FOLDER):
            shutil.rmtree(root / name, ignore_errors=True)
    root.mkdir(parents=True, exist_ok=True)


def write(out_dir: str | Path, *, seed: int = 7, month: str = "2026-10", rows: int | None = None) -> Manifest:
    """Write the example company into a folder and say what was written.

    The same arguments give the same bytes. `month` is 'YYYY-MM'; `rows` is the number of data rows in all final
    files together: about 55,000 at least, more are filled up with small AWS usage. Raises UsageError when `month` is no
    month, or when `out_dir` holds files that no earlier run wrote.
    """
    try:
        period = Month.parse(month)
    except ValueError as error:
        raise UsageError(
            f"not a month: {month!r}", where="--month", hint="Write it as YYYY-MM, e.g. 2026-10."
        ) from error
    root = Path(out_dir)
    _prepare(root)
    files.mark(
        root,
        f"The bills of {COMPANY} for {month}, seed {seed}, and its telemetry. truth.json says what is in them.",
    )
    setting = files.Setting(root, period, seed)
    truth = Truth(period, seed)
    for name, what in _WHAT.items():
        files.mark(root / name, what)
    parts = [
        *azure.write(setting, truth), *gcp.write(setting, truth), *neocloud.write(setting, truth),
        *anthropic.write(setting, truth), *openai.write(setting, truth),
    ]  # fmt: skip
    done = sum(part.rows for part in parts)
    parts = [*aws.write(setting, truth, None if rows is None else rows - done), *parts]
    records = telemetry.write(setting, truth, parts)
    files.write_json(root / "truth.json", truth.as_dict())
    first = aws.data_path(setting, period.first_delivery, 1)
    return Manifest(
        root=root,
        month=month,
        seed=seed,
        sources=tuple(Source(name, kind, root / name) for name, kind in _TYPES.items()),
        files=tuple(parts),
        telemetry=tuple(records),
        billed=truth.billed(),
        rows=sum(part.rows for part in parts if part.path != first),
        truth=root / "truth.json",
    )


__all__ = ["LABEL", "Manifest", "Source", "write"]
