"""Makes the facts of unit economics, keeps them beside the ledger, and says whether they still hold.

`gpuledger build` writes them; a question makes them anew when bills, allocation or telemetry are newer.
"""

import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gpuledger.core.token_usage import LOSS_CAUSES
from gpuledger.engines import duckdb
from gpuledger.models.allocation.relations import sql as allocation_sql
from gpuledger.models.unit_economics import WEIGHT, query
from gpuledger.pipeline.built import Built
from gpuledger.pipeline.views import unit_of

if TYPE_CHECKING:
    from gpuledger.pipeline.ledger import Ledger
    from gpuledger.pipeline.store import Store

NAME: Final = "unit_economics"
_VERSION: Final = "1"  # raise it when the same ledger gives other facts
_SOURCES: Final = (
    "cost_and_usage",
    "estimated_cost",
    "allocated_cost",
    "job",
    "token_interval",
    "training_interval",
)
_TOKENS: Final = (
    "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "requests", "failed_requests",
    "rated_requests", "good_requests", "rated_output", "good_output",
)  # fmt: skip
# Who takes idle machines and unused commitments: the first of these levels that has anybody.
_LEVELS: Final = (
    ("idle", "unit_idle_taker", ("cluster", "gpu_model", "day")),
    ("idle", "unit_idle_taker", ("cluster", "day")),
    ("idle", "unit_idle_taker", ("cluster",)),
    ("unused", "unit_unused_taker", ("commitment", "day")),
    ("unused", "unit_unused_taker", ("commitment",)),
)


def fingerprint(store: "Store") -> str:
    """Return what the facts depend on, as one word."""
    files = [[file.rpartition("/")[2] for file in sorted(store.files(table))] for table in _SOURCES]
    return hashlib.sha256(repr((_VERSION, files)).encode()).hexdigest()[:32]


def load(ledger: "Ledger") -> duckdb.Connection:
    """Return a connection with the relation `unit_fact`: the written facts if they still hold, else made anew."""
    files = _written(ledger, fingerprint(ledger.store))
    if files:
        con = duckdb.connect(memory_limit=ledger.config.ledger.memory_limit)
        con.execute(f"CREATE VIEW unit_fact AS SELECT * FROM read_parquet({duckdb.literals(files)})")
        return con
    con = ledger.connect()
    make(con, days(ledger.store))
    return con


def write(ledger: "Ledger", progress: Callable[[str], None] = lambda _: None) -> Built:
    """Write the facts beside the ledger, unless those that are there still hold."""
    from deltalake import CommitProperties, WriterProperties, write_deltalake

    wanted, uri = fingerprint(ledger.store), f"{ledger.location}/models/{NAME}"
    con = ledger.connect()
    try:
        if files := _written(ledger, wanted):
            rows = con.execute(f"SELECT count(*) FROM read_parquet({duckdb.literals(files)})").fetchall()[0][
                0
            ]
            return Built(NAME, "model", rows, "ok", _PURPOSE)
        make(con, days(ledger.store), progress)
        write_deltalake(
            uri, con.sql("SELECT * FROM unit_fact"), mode="overwrite", schema_mode="overwrite",
            writer_properties=WriterProperties(compression="ZSTD", max_row_group_size=122_880),
            commit_properties=CommitProperties(custom_metadata={"gpuledger": json.dumps({"fingerprint": wanted})}),
        )  # fmt: skip
        return Built(
            NAME, "model", con.execute("SELECT count(*) FROM unit_fact").fetchall()[0][0], "ok", _PURPOSE
        )
    finally:
        con.close()


def _written(ledger: "Ledger", wanted: str) -> list[str] | None:
    """Return the files of the written facts, if they were made from what the ledger holds now."""
    from deltalake import DeltaTable
    from deltalake.exceptions import TableNotFoundError

    if ledger.store.remote:  # the engine reads local files only: they are made anew
        return None
    try:
        table = DeltaTable(f"{ledger.location}/models/{NAME}")
    except TableNotFoundError:
        return None
    note = json.loads(table.history(1)[0].get("gpuledger", "{}"))
    return table.file_uris() if note.get("fingerprint") == wanted else None


_PURPOSE: Final = "What each deployment, run and API model cost and made, hour by hour."


def days(store: "Store") -> list[str]:
    """Return the UTC days that have token telemetry."""
    return sorted({unit_of(file)[1] for file in store.files("token_interval")})


def make(con: duckdb.Connection, days: list[str], progress: Callable[[str], None] = lambda _: None) -> None:
    """Make the table `unit_fact` from the views of a ledger connection; `days` have token telemetry."""
    con.execute(allocation_sql("macros"))
    con.execute(query("macros"))
    progress("unit economics: what jobs cost by hour")
    for name in ("charge", "hour_cost", "main", "job_hour", "pool", "pod_day"):
        _table(con, name, query(name))
    _share(con)
    _tell(con, days, progress)
    lost = ",\n        ".join(
        f"sum(unit_share14(lost_seconds['{cause}'], since, until, CAST(whole AS HUGEINT))) AS lost_{cause}"
        for cause in LOSS_CAUSES
    )
    _table(con, "run_hour", query("run_hour", {"lost": lost}))
    _table(con, "bill", query("bill"))
    _table(con, "call", query("call"))
    weight = dict(zip(("output", "input", "cached"), map(str, WEIGHT), strict=True))
    _table(con, "placed", query("placed", {"sums": _sums("s."), **weight}))
    _app(con, "trained", "unit_run_hour", ("run_id", "name", "model"), "run_us")
    _app(con, "served", "unit_placed", ("deployment", "provider", "model"), "weight")
    _table(con, "fact", query("fact", {"sums": _sums("s.")}))


def _table(con: duckdb.Connection, name: str, text: str) -> None:
    con.execute(f"CREATE OR REPLACE TEMP TABLE unit_{name} AS {text}")


def _sums(of: str = "") -> str:
    return ", ".join(f"sum({of}{name}) AS {name}" for name in _TOKENS)


def _tell(con: duckdb.Connection, days: list[str], progress: Callable[[str], None]) -> None:
    """Fill `unit_served`, one day at a time: a month of pods by the hour doesn't fit into memory."""
    for number, day in enumerate(days or ["1970-01-01"]):
        progress(f"unit economics: tokens of {day}")
        _table(con, "told", query("told", {"day": day}))
        served = query("served", {"sums": _sums()})
        if number:
            con.execute(f"INSERT INTO unit_served BY NAME {served}")
        else:
            _table(con, "served", served)


def _share(con: duckdb.Connection) -> None:
    """Give idle machines and unused commitments to jobs; what is left in `unit_pool` nobody could take."""
    cost = "CAST(trunc(greatest(effective, 0) * 1000000000) AS HUGEINT)"
    _table(con, "idle_taker", f"SELECT *, hour // 24 AS day, {cost} AS weight FROM unit_job_hour")
    _table(
        con, "unused_taker",
        f"""SELECT h.* REPLACE (coalesce(h.gpu_model, m.gpu_model) AS gpu_model), hour // 24 AS day, {cost} AS weight
            FROM unit_hour_cost AS h LEFT JOIN unit_main AS m USING (job_id)
            WHERE h.commitment IS NOT NULL AND h.part = 'held'""",
    )  # fmt: skip
    con.execute(
        "CREATE OR REPLACE TEMP TABLE unit_shared (part VARCHAR, job_id VARCHAR, cluster VARCHAR, gpu_model VARCHAR, "
        "hour BIGINT, billing_period VARCHAR, currency VARCHAR, amount DECIMAL(38, 18))"
    )
    for part, takers, keys in _LEVELS:
        columns = ", ".join(keys)
        values = {
            "part": part, "takers": takers, "keys": columns, "places": ", ".join(f"t.{key}" for key in keys),
            "match": " AND ".join(f"w.{key} IS NOT DISTINCT FROM t.{key}" for key in keys),
        }  # fmt: skip
        _table(con, "level", query("share", values))
        con.execute(
            "INSERT INTO unit_shared SELECT part, job_id, taker_cluster, taker_card, hour, billing_period, currency, amount FROM unit_level"
        )
        same = " AND ".join(
            f"p.{key} IS NOT DISTINCT FROM l.{key}" for key in (*keys, "billing_period", "currency")
        )
        con.execute(
            f"DELETE FROM unit_pool AS p WHERE p.part = '{part}' AND EXISTS (FROM unit_level AS l WHERE {same})"
        )
    _table(con, "job_hour", query("loaded"))


def _app(con: duckdb.Connection, kind: str, made: str, keys: tuple[str, ...], weight: str) -> None:
    """Give the cost of jobs to what they served or trained. A job that trained is a training job, even if it serves too."""
    taken = "" if kind == "trained" else "WHERE job_id NOT IN (SELECT job_id FROM unit_app_trained)"
    source = f"(SELECT * REPLACE (CAST({weight} AS HUGEINT) AS {weight}) FROM {made} {taken})"
    if kind == "trained":
        # A run's time is of the job, whichever cards it held then.
        placed = f"""(SELECT r.* EXCLUDE (gpu_model), h.gpu_model FROM (SELECT *, NULL AS gpu_model FROM {source}) AS r
            JOIN (SELECT DISTINCT job_id, hour, gpu_model FROM unit_job_hour) AS h USING (job_id, hour))"""
    else:
        placed = source
    values = {
        "kind": kind, "made": source, "placed": placed, "weight": weight, "keys": ", ".join(keys),
        "m_keys": ", ".join(f"m.{key}" for key in keys),
        "n_keys": " AND ".join(f"n.{key} IS NOT DISTINCT FROM m.{key}" for key in keys),
    }  # fmt: skip
    _table(con, f"app_{kind}", query("app", values))
