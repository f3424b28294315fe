"""Samples of serving engines' metrics into intervals of tokens, in SQL alone: any number of samples takes little memory.

    make = Downsampler(con, engines, cluster="prod")
    make.span("SELECT s, t, v FROM …", series)            # samples of a span of time; spans in order of time
    con.execute(make.rows())                              # columns of token_interval

`series` is SQL of `s`, `name` and `labels` (a MAP), asked when a span has series that are new; `t` is in microseconds.
What a counter gained counts in the interval of the later of two samples. After a reset it began at 0. Over a gap longer
than `gap` the gain is a row of its own that covers the gap; means are unknown there. The first sample of a new target
says nothing yet. Samples that come sorted by series and time are read as they stream by, others are sorted first.
"""

from collections.abc import Container, Iterable, Iterator, Sequence
from datetime import timedelta
from importlib.resources import files
from typing import Final

from gpuledger.core.contracts import Connection
from gpuledger.core.serving_metrics import AVERAGED, COUNTED, HISTOGRAMS, MEANS, Engine, rules
from gpuledger.core.usage_tables import QUANTITIES, columns_of
from gpuledger.focus.schema import QUANTITY

_IDENTITY: Final = ("cluster", "namespace", "deployment", "pod", "model", "role", "team", "owner")
# Tokens whose other half is told by pods of the other role.
_PREFILLED: Final = ("input_tokens", "cached_input_tokens", "cache_write_tokens")
_DECODED: Final = ("output_tokens", "reasoning_tokens", "requests")
# A row without any of these says nothing.
_NEEDED: Final = ("input_tokens", "output_tokens", "requests", "failed_requests", "spend", "running")
_MACROS: Final = """
CREATE OR REPLACE MACRO exact_quantity(d) AS
    CASE WHEN abs(d) < 9e15 AND d = trunc(d) THEN CAST(CAST(d AS BIGINT) AS DECIMAL(38, 14)) ELSE quantity(CAST(d AS VARCHAR)) END
"""
_TABLES: Final = """
CREATE OR REPLACE TEMP TABLE series_told (
    s UBIGINT, replica UBIGINT, target UBIGINT,
    "column" VARCHAR, part VARCHAR, le VARCHAR, kind VARCHAR, grp INTEGER, rank INTEGER, scale DOUBLE, work UBIGINT
);
CREATE OR REPLACE TEMP TABLE replica_told (
    replica UBIGINT, provider VARCHAR, "cluster" VARCHAR, namespace VARCHAR, deployment VARCHAR, pod VARCHAR,
    model VARCHAR, role VARCHAR, team VARCHAR, "owner" VARCHAR
);
CREATE OR REPLACE TEMP TABLE series_seen (s UBIGINT);
CREATE OR REPLACE TEMP TABLE last_sample (s UBIGINT, t BIGINT, v DOUBLE);
CREATE OR REPLACE TEMP TABLE target_seen (target UBIGINT, t BIGINT);
CREATE OR REPLACE TEMP TABLE series_rule (
    name VARCHAR, engine INTEGER, provider VARCHAR, "column" VARCHAR, part VARCHAR, kind VARCHAR, grp INTEGER,
    rank INTEGER, scale DOUBLE, bound DOUBLE, only_label VARCHAR, only_values VARCHAR[], unless_label VARCHAR,
    unless_values VARCHAR[], repeating VARCHAR[]
);
"""


class Downsampler:
    """Turns samples into intervals on one connection, whose temporary tables hold what is known so far."""

    def __init__(
        self,
        con: Connection,
        engines: Sequence[Engine],
        *,
        cluster: str | None = None,
        step: timedelta = timedelta(minutes=5),
        gap: timedelta | None = None,
    ) -> None:
        self.con, self.engines, self.cluster = con, engines, cluster
        self.step = step // timedelta(microseconds=1)
        self.gap = (gap or 2 * step) // timedelta(microseconds=1)
        self.con.execute(_MACROS)
        for statement in _TABLES.split(";"):
            if statement.strip():
                con.execute(statement)
        con.execute(f"INSERT INTO series_rule VALUES {', '.join(_rules(engines))}")

    @property
    def names(self) -> list[str]:
        """Names of metrics that any of the engines has."""
        return sorted({rule.name for engine in self.engines for rule in rules(engine)})

    def span(self, samples: str, series: str) -> None:
        """Take in the samples of a span of time that lies after those before. Its intervals are what `rows` gives next."""
        self.con.execute(f"CREATE OR REPLACE TEMP TABLE sample AS {samples}")
        if not self._sorted():
            self.con.execute(
                """CREATE OR REPLACE TEMP TABLE sample AS
                SELECT s, t, max(v) AS v FROM sample GROUP BY s, t ORDER BY s, t"""
            )
            self._make("edge")
        self._make("piece")
        self._know(series, "SELECT s FROM edge WHERE s IS DISTINCT FROM ps")
        self._see()
        self._make("around")
        self.con.execute(
            f"""CREATE OR REPLACE TEMP VIEW timed AS
            SELECT s, b * {self.step} AS start, (b + 1) * {self.step} AS "end", gained, mean FROM piece
            UNION ALL FROM around"""
        )
        self._remember()

    def _sorted(self) -> bool:
        """Say whether each series' samples lie together, in order of time."""
        self._make("edge")
        row = self.con.execute(
            """SELECT count(*) FILTER (s = ps AND t <= pt), count(DISTINCT s) FILTER (s IS DISTINCT FROM ps),
                count(*) FILTER (s IS DISTINCT FROM ps) FROM edge"""
        ).fetchone()
        return row is None or (not row[0] and row[1] == row[2])

    def _make(self, name: str) -> None:
        sql = _sql(name).format(step=self.step, gap=self.gap)
        self.con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {sql}")

    def pages(self, samples: str, series: str) -> None:
        """Take in samples of moments: between two of them is an interval, however long it is."""
        self._know(series, f"SELECT s FROM ({samples})")
        self.con.execute(
            f"""CREATE OR REPLACE TEMP VIEW timed AS
            SELECT s, pt AS start, t AS "end", CASE WHEN v >= pv THEN v - pv ELSE v END AS gained, (v + pv) / 2 AS mean
            FROM (SELECT s, t, v, lag(t) OVER w AS pt, lag(v) OVER w AS pv FROM ({samples})
                  WINDOW w AS (PARTITION BY s ORDER BY t))
            WHERE pt < t"""
        )

    def _know(self, series: str, present: str) -> None:
        """Take in the series that are there for the first time."""
        row = self.con.execute(f"SELECT count(*) FROM ({present}) ANTI JOIN series_seen USING (s)").fetchone()
        if row is None or not row[0]:
            return
        for statement in _sql("series").format(series=series, identity=self._identity()).split(";"):
            self.con.execute(statement)

    def _see(self) -> None:
        """Note when each target was first seen, before the starts of its series are judged."""
        self.con.execute(
            """INSERT INTO target_seen
            SELECT s.target, min(e.t) FROM edge AS e JOIN series_told AS s USING (s)
            WHERE e.s IS DISTINCT FROM e.ps GROUP BY ALL HAVING s.target NOT IN (SELECT target FROM target_seen)"""
        )

    def _remember(self) -> None:
        """Keep each series' last sample for the next span."""
        self.con.execute(
            """CREATE OR REPLACE TEMP TABLE last_sample AS
            SELECT s, max(t) AS t, arg_max(v, t) AS v
            FROM (FROM last_sample UNION ALL SELECT ps, pt, pv FROM edge WHERE s IS DISTINCT FROM ps AND ps IS NOT NULL
                UNION ALL SELECT s, t, v FROM sample WHERE rowid = (SELECT max(rowid) FROM sample))
            GROUP BY s"""
        )

    def rows(self) -> str:
        """Return SQL of the last span's intervals, in the columns of token_interval."""
        averaged = ", ".join(f"'{name}'" for name in sorted(AVERAGED))
        told = {(str(column), str(part)) for column, part in self.con.execute('SELECT DISTINCT "column", part FROM series_told').fetchall()}  # fmt: skip
        needed = ", ".join(f"w.{name}" for name in _NEEDED if (name, "") in told) or "NULL"
        buckets = _sql("bucket") if any(part == "bucket" for _, part in told) else ""
        start = _sql("plain_rows" if self._plain() else "rows").format(averaged=averaged)
        return start + _sql("table").format(columns=_columns(told), given=self._given(bool(buckets)), buckets=buckets, needed=needed)  # fmt: skip

    def _plain(self) -> bool:
        row = self.con.execute(
            """SELECT bool_and(ranks = 1 AND works = series) FROM (
                SELECT count(DISTINCT rank) OVER g AS ranks, 1 AS works, 1 AS series FROM series_told WINDOW g AS (PARTITION BY replica, grp)
                UNION ALL
                SELECT 1, count(DISTINCT work), count(*) FROM series_told GROUP BY replica, grp, part, le
            )"""
        ).fetchone()
        return row is None or row[0] is not False

    def _identity(self) -> str:
        found = ["provider"]
        for name in _IDENTITY:
            if name == "cluster" and self.cluster is not None:
                found.append(f'{_text(self.cluster)} AS "cluster"')
                continue
            cases = " ".join(
                f"WHEN {number} THEN {_label(engine, name)}" for number, engine in enumerate(self.engines)
            )
            found.append(f'CASE engine {cases} END AS "{name}"')
        return ", ".join(found)

    def _given(self, buckets: bool) -> str:  # noqa: FBT001 - whether there are any
        none = f"NULL::{QUANTITIES}"
        fixed = {
            "job_id": "NULL::VARCHAR",
            "provider": "i.provider",
            "start": "make_timestamptz(w.start)",
            "end": 'make_timestamptz(w."end")',
            "ttft_buckets": "b.ttft_buckets" if buckets else none,
            "tpot_buckets": "b.tpot_buckets" if buckets else none,
            "spend": "CAST(w.spend AS DECIMAL(32, 18))",
            "spend_currency": f"CASE WHEN w.spend IS NOT NULL THEN {self._currency()} END",
            **{name: f'i."{name}"' for name in _IDENTITY},
            **{name: f"CASE WHEN i.role IS DISTINCT FROM 'decode' THEN w.{name} END" for name in _PREFILLED},
            **{name: f"CASE WHEN i.role IS DISTINCT FROM 'prefill' THEN w.{name} END" for name in _DECODED},
        }  # fmt: skip
        return ",\n    ".join(f'{fixed.get(name, f"w.{name}")} AS "{name}"' for name in columns_of("token_interval"))  # fmt: skip

    def _currency(self) -> str:
        known = {engine.provider: engine.currency for engine in self.engines if engine.currency}
        cases = " ".join(f"WHEN {_text(provider)} THEN {_text(code)}" for provider, code in known.items())
        return f"CASE i.provider {cases} END" if cases else "NULL::VARCHAR"


def _columns(told: Container[tuple[str, str]]) -> str:
    """SQL of the columns that are one number each; those that no series fills are null."""
    wanted = [(name, "", name) for name in (*COUNTED, *MEANS)]
    wanted += [(name, part, f"{name}_seconds_{part}") for name in HISTOGRAMS for part in ("sum", "count")]
    found = []
    for column, part, name in wanted:
        total = "avg(average)" if column in AVERAGED else "sum(value)"
        chosen = f"\"column\" = '{column}' AND part = '{part}'"
        value = (
            f"exact_quantity({total} FILTER ({chosen}))" if (column, part) in told else f"NULL::{QUANTITY}"
        )
        found.append(f"{value} AS {name}")
    return ",\n        ".join(found)


def _rules(engines: Sequence[Engine]) -> Iterator[str]:
    """SQL of the rules' values: an insert for each of them would take longer than many a span."""
    for number, engine in enumerate(engines):
        for rule in rules(engine):
            chosen = (
                next(iter(found.items()), (None, ())) for found in (rule.metric.only, rule.metric.unless)
            )
            labels = [part for label, values in chosen for part in (_text(label), _texts(values))]
            cells = [
                *(
                    _text(rule.name),
                    str(number),
                    _text(engine.provider),
                    _text(rule.column),
                    _text(rule.part),
                ),
                *(
                    _text(rule.kind),
                    str(rule.group),
                    str(rule.rank),
                    repr(_scale(rule.metric.scale, rule.part)),
                ),
                *(repr(rule.metric.scale), *labels, _texts(engine.repeating)),
            ]
            yield f"({', '.join(cells)})"


def _scale(scale: float, part: str) -> float:
    """A histogram's observations have no unit; only their sum and, elsewhere, the bounds do."""
    return 1.0 if part in {"count", "bucket"} else scale


def _label(engine: Engine, name: str) -> str:
    labels = {
        "cluster": ("cluster", "k8s_cluster_name"),
        "namespace": engine.namespace,
        "deployment": engine.deployment,
        "pod": engine.pod,
        "model": engine.model,
        "role": engine.role,
        "team": engine.team,
        "owner": engine.owner,
    }[name]
    if not labels:
        return "NULL::VARCHAR"
    found = "coalesce(" + ", ".join(f"nullif(labels[{_text(label)}], '')" for label in labels) + ")"
    if name != "role":
        return found
    cases = " ".join(f"WHEN {_text(theirs)} THEN {_text(ours)}" for theirs, ours in engine.roles.items())
    return f"CASE {found} {cases} END"


def _text(value: str | None) -> str:
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


def _texts(values: Iterable[str]) -> str:
    return f"[{', '.join(map(_text, values))}]::VARCHAR[]"


def _sql(name: str) -> str:
    return files(__package__).joinpath(f"{name}.sql").read_text("utf-8")
