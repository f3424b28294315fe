"""Public traces of single requests to models, as token telemetry by the minute and as what `--stats` needs.

Three are known by their columns, CSV or JSON lines as published or Parquet with the same or shorter names:

- Azure's LLM inference traces (github.com/Azure/AzurePublicDataset, CC BY 4.0), with a real clock;
- Mooncake's (github.com/kvcache-ai/Mooncake, Apache-2.0), milliseconds from a first request, with hashes of their
  512-token blocks. Their first request is put on Monday 2026-06-01, 00:00 UTC, by decree;
- requests for images of cluster-trace-v2026-GenAI (github.com/alibaba/clusterdata), whose clock its publisher shifted.

A trace's data is its publisher's; nothing of it is part of gpuledger.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gpuledger.demo import traces
from gpuledger.errors import SourceError

if TYPE_CHECKING:
    import duckdb

BLOCK: Final = 512
"""Tokens of a block with a hash of its own."""
MARK: Final = "Token telemetry made from a published trace of requests. The trace's data is its publisher's: keep to its terms."
_SUFFIXES: Final = (".parquet", ".csv", ".csv.gz", ".jsonl", ".jsonl.gz")
_NO_TOKENS: Final = "NULL::BIGINT AS input, NULL::BIGINT AS output, NULL::BIGINT[] AS blocks"
# SQL of the common columns, from those as published and from shorter names; a file is of the first kind whose columns it
# has all of.
_PUBLISHED_MOONCAKE: Final = (
    "'all' AS series, timestamp::BIGINT * 1000 AS us, input_length::BIGINT AS input, output_length::BIGINT AS output, "
    "hash_ids::BIGINT[] AS blocks"
)
_MOONCAKE: Final = "'all' AS series, ts_ms::BIGINT * 1000 AS us, in_tok::BIGINT AS input, out_tok::BIGINT AS output, hash_ids::BIGINT[] AS blocks"
_PUBLISHED_AZURE: Final = (
    "regexp_extract($name, '([^_.]+)[.]', 1) AS series, epoch_us(\"TIMESTAMP\"::TIMESTAMP) AS us, ContextTokens::BIGINT AS input, "
    "GeneratedTokens::BIGINT AS output, NULL::BIGINT[] AS blocks"
)
_AZURE: Final = "svc AS series, epoch_us(ts::TIMESTAMP) AS us, in_tok::BIGINT AS input, out_tok::BIGINT AS output, NULL::BIGINT[] AS blocks"
_GENAI: Final = (
    f"'all' AS series, epoch_us(gmt_create::TIMESTAMP) AS us, {_NO_TOKENS}, predict_status AS status, "
    'exec_time_seconds::DOUBLE AS seconds, "groupId" AS tenant, num_images_per_prompt::DOUBLE AS images, '
    "checkpoint_model_version_id AS model"
)
_FORMS: Final = (
    ("mooncake", "timestamp input_length output_length hash_ids", _PUBLISHED_MOONCAKE),
    ("mooncake", "ts_ms in_tok out_tok hash_ids", _MOONCAKE),
    ("azure-llm", "TIMESTAMP ContextTokens GeneratedTokens", _PUBLISHED_AZURE),
    ("azure-llm", "svc ts in_tok out_tok", _AZURE),
    (
        "genai",
        "gmt_create predict_status exec_time_seconds groupId num_images_per_prompt checkpoint_model_version_id",
        _GENAI,
    ),
)


@dataclass(frozen=True, slots=True)
class Found:
    """A trace that was recognised: its kind, its files, and which spelling of columns they have."""

    kind: str
    paths: tuple[Path, ...]
    columns: str


@dataclass(frozen=True, slots=True)
class Tenant:
    """What one tenant asked for: requests, and seconds of work for them (None when never told)."""

    name: str
    requests: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Requests:
    """A trace's requests: microseconds since 1970 in order, and tokens beside them, by series.

    `images`, `exec_seconds`, `models` and `tenants` (most seconds first) are of a trace of images, as `failed` requests
    are; images and seconds of those that succeeded.
    """

    kind: str
    telemetry: Path
    rows: int
    moments: dict[str, list[int]]
    inputs: dict[str, list[int]]
    outputs: dict[str, list[int]]
    failed: int = 0
    images: float | None = None
    exec_seconds: float | None = None
    all_seconds: float | None = None
    models: int = 0
    tenants: list[Tenant] = field(default_factory=list)

    @property
    def clock(self) -> str:
        """Say whose clock the moments are of."""
        return {
            "azure-llm": "the trace's, UTC", "mooncake": "first request on a Monday 00:00 UTC by decree",
            "genai": "as published, shifted by its publisher",
        }[self.kind]  # fmt: skip


def recognise(path: Path) -> Found | None:
    """Return the trace of requests at a path, a file or a folder; None when there is none. Raises SourceError for several."""
    if not path.exists():
        return None
    listed = [path] if path.is_file() else sorted(path.iterdir())
    found: dict[tuple[str, str], list[Path]] = {}
    import duckdb

    with duckdb.connect() as con:
        for file in listed:
            if not file.is_file() or not file.name.endswith(_SUFFIXES):
                continue
            there = _columns(con, file)
            for kind, needed, columns in _FORMS:
                if set(needed.split()) <= there:
                    found.setdefault((kind, columns), []).append(file)
                    break
    if not found:
        return None
    (kind, columns), paths = next(iter(found.items()))
    if len(found) > 1 or (len(paths) > 1 and kind != "azure-llm"):
        listing = ", ".join(file.name for some in found.values() for file in some)
        raise SourceError(
            f"several traces of requests: {listing}", where=str(path), hint="Name one of the files."
        )
    return Found(kind, tuple(paths), columns)


def convert(found: Found, out: str | Path) -> Requests:
    """Write a trace's token telemetry below `out`, a row per minute, series, model and tenant. Raises SourceError."""
    target = Path(out) / found.kind
    traces.empty(target, MARK, ("telemetry",))
    import duckdb

    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        con.execute("SET threads = 1")  # so that the same trace gives the same bytes
        try:
            _load(con, found)
        except duckdb.Error as error:
            text = str(error).splitlines()[0]
            raise SourceError(
                f"can't be read: {text}", where=str(found.paths[0]), hint="Is this file as published?"
            ) from error
        name = str(target / "telemetry" / "token_interval.parquet").replace("'", "''")
        rows = con.execute(
            f"COPY ({_MINUTES}) TO '{name}' (FORMAT parquet, COMPRESSION zstd)", {"kind": found.kind}
        ).fetchone()
        return _requests(con, found.kind, target / "telemetry", int(rows[0]) if rows else 0)


_MINUTES: Final = """
SELECT
    $kind AS cluster, series AS deployment, $kind AS provider, coalesce(model, series) AS model, tenant AS team,
    make_timestamp(us // 60000000 * 60000000)::TIMESTAMPTZ AS start,
    make_timestamp(us // 60000000 * 60000000 + 60000000)::TIMESTAMPTZ AS "end",
    sum(input)::DECIMAL(38, 14) AS input_tokens, sum(cached)::DECIMAL(38, 14) AS cached_input_tokens,
    sum(output)::DECIMAL(38, 14) AS output_tokens,
    count(*) FILTER (status = 'SUCCEED')::DECIMAL(38, 14) AS requests,
    count(*) FILTER (status = 'FAILED')::DECIMAL(38, 14) AS failed_requests
FROM request
GROUP BY series, model, tenant, us // 60000000
ORDER BY start, series, model, tenant
"""
# A block is cached when an earlier request of the trace had it: what is read from the cache is the run of such blocks
# that a request begins with, at most its input.
_CACHED: Final = f"""
CREATE TABLE request AS
WITH block AS (SELECT number, unnest(blocks) AS hash, generate_subscripts(blocks, 1) AS place FROM raw),
first AS (SELECT hash, min(number) AS number FROM block GROUP BY hash),
run AS (
    SELECT block.number, coalesce(min(place) FILTER (first.number >= block.number) - 1, count(*)) AS length
    FROM block JOIN first USING (hash) GROUP BY block.number
)
SELECT raw.* EXCLUDE (blocks), CASE WHEN blocks IS NOT NULL THEN least(input, {BLOCK} * coalesce(run.length, 0)) END AS cached
FROM raw LEFT JOIN run USING (number)
"""


def _columns(con: "duckdb.DuckDBPyConnection", file: Path) -> set[str]:
    import duckdb

    try:
        found = con.execute(f"DESCRIBE SELECT * FROM {_reader(file)}", {"file": str(file)}).fetchall()
    except duckdb.Error:  # some other file: it is no trace of requests
        return set()
    return {row[0] for row in found}


def _reader(file: Path) -> str:
    if file.suffix == ".parquet":
        return "read_parquet($file)"
    if ".jsonl" in file.name:
        return "read_json($file, format = 'newline_delimited')"
    return "read_csv($file, header = true, all_varchar = true)"


def _load(con: "duckdb.DuckDBPyConnection", found: Found) -> None:
    parts = []
    for place, file in enumerate(found.paths):
        values = {"file": str(file)}
        if "$name" in found.columns:
            values["name"] = file.name
        con.execute(f"CREATE TABLE part{place} AS SELECT {found.columns} FROM {_reader(file)}", values)
        parts.append(f"SELECT * FROM part{place}")
    con.execute(f"CREATE TABLE told AS {' UNION ALL '.join(parts)}")
    given = {row[0] for row in con.execute("DESCRIBE told").fetchall()}
    missing = {
        "status": "'SUCCEED'",
        "seconds": "NULL::DOUBLE",
        "tenant": "NULL::VARCHAR",
        "images": "NULL::DOUBLE",
        "model": "NULL::VARCHAR",
    }
    added = "".join(f", {value} AS {name}" for name, value in missing.items() if name not in given)
    decreed = int(traces.MONDAY.timestamp()) * 1_000_000 if found.kind == "mooncake" else 0
    con.execute(
        f"CREATE TABLE raw AS SELECT * REPLACE (us + {decreed} AS us), rowid + 1 AS number{added} FROM told"
    )
    con.execute(_CACHED)


def _requests(con: "duckdb.DuckDBPyConnection", kind: str, telemetry: Path, rows: int) -> Requests:
    series: dict[str, tuple[list[int], list[int], list[int]]] = {}
    for name, us, given, output in con.execute(
        "SELECT series, us, input, output FROM request ORDER BY series, us, number"
    ).fetchall():
        moments, inputs, outputs = series.setdefault(name, ([], [], []))
        moments.append(us)
        if given is not None:
            inputs.append(given)
            outputs.append(output)
    told = con.execute(
        """SELECT count(*) FILTER (status = 'FAILED'), sum(images) FILTER (status = 'SUCCEED'),
            sum(seconds) FILTER (status = 'SUCCEED'), sum(seconds), count(DISTINCT model) FROM request"""
    ).fetchone() or (0, None, None, None, 0)
    tenants = con.execute(
        """SELECT tenant, count(*), sum(seconds) FROM request WHERE tenant IS NOT NULL
        GROUP BY 1 ORDER BY 3 DESC NULLS LAST, 1"""
    ).fetchall()
    return Requests(
        kind, telemetry, rows, {name: found[0] for name, found in series.items()},
        {name: found[1] for name, found in series.items()}, {name: found[2] for name, found in series.items()},
        told[0], told[1], told[2], told[3], told[4], [Tenant(*row) for row in tenants],
    )  # fmt: skip
