"""Any number of synthetic FOCUS rows, for benchmarks: written by DuckDB, labelled synthetic, clean under validation."""

from importlib import resources
from pathlib import Path
from typing import Final

from gpuledger.demo.company import Month
from gpuledger.errors import UsageError

VERSIONS: Final = ("1.2", "1.3")
_ISO: Final = "strftime({}, '%Y-%m-%dT%H:%M:%SZ')"
_TYPED: Final = "({})::TIMESTAMP AT TIME ZONE 'UTC'"
_SUFFIXES: Final = {
    ".parquet": "FORMAT parquet, COMPRESSION zstd",
    ".csv": "FORMAT csv, HEADER",
    ".csv.gz": "FORMAT csv, HEADER, COMPRESSION gzip",
}


def query(month: Month, *, version: str = "1.2", typed: bool = False) -> str:
    """Return the SELECT of the rows; `$rows`, `$seed` and `$start` are to be bound.

    `typed` gives times as TIMESTAMPTZ, else as ISO 8601 text.
    """
    text = resources.files("gpuledger.demo").joinpath("focus_rows.sql").read_text("utf-8")
    form = _TYPED if typed else _ISO
    more = ""
    if version == "1.3":
        more = (
            ",\n    'Example Cloud (synthetic)' AS HostProviderName"
            ",\n    'Example Cloud (synthetic)' AS ServiceProviderName"
        )
    for name, value in {
        "hours": str(month.hours),
        "period_start": form.format("$start::TIMESTAMP"),
        "period_end": form.format(f"$start::TIMESTAMP + INTERVAL {month.days} DAY"),
        "charge_start": form.format("hour"),
        "charge_end": form.format("hour + INTERVAL 1 HOUR"),
        "more": more,
    }.items():
        text = text.replace(f"{{{name}}}", value)
    return text


def focus_rows(
    path: str | Path, rows: int, *, seed: int = 7, month: str = "2026-10", version: str = "1.2"
) -> Path:
    """Write `rows` synthetic FOCUS rows to a .parquet, .csv or .csv.gz file; returns its path.

    All 57 columns of FOCUS 1.2 (and the two that 1.3 makes mandatory, with `version` '1.3'): 20 SKUs, 6 regions, 60 sub
    accounts, one resource per 50 rows, tags as JSON, commitments that balance. Money is exact: DECIMAL with 16
    decimals in Parquet. The same arguments give the same rows. Raises UsageError for another suffix or version.
    """
    target = Path(path)
    form = next((options for suffix, options in _SUFFIXES.items() if target.name.endswith(suffix)), None)
    if form is None or version not in VERSIONS or rows < 0:
        raise UsageError(
            f"can't write {rows} rows of FOCUS {version} as {target.name}",
            where=str(target),
            hint=f"Name a file that ends in {', '.join(_SUFFIXES)}, and a version of {', '.join(VERSIONS)}.",
        )
    import duckdb

    target.parent.mkdir(parents=True, exist_ok=True)
    period = Month.parse(month)
    sql = query(period, version=version, typed=target.suffix == ".parquet")
    name = str(target).replace("'", "''")
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY ({sql}) TO '{name}' ({form})",
            {"rows": rows, "seed": seed, "start": period.start.replace(tzinfo=None)},
        )
    return target
