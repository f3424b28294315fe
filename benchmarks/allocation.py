"""A month's node-hours among jobs by 71 million five-minute usage rows, against a bare DuckDB interval join of the same rows.

The data is synthetic: 1,104 machines of eight cards, held by gangs of eight, four, two or one card that live between
three hours and a day and a half, a tenth of the time idle. The bare join gives each charge's holders with their seconds
and usage, and nothing else; ours gives exact costs, idle, ratios, names and findings too.
"""

import sys

from benchmarks._measure import WORK, bare, line, measure, python

DAYS = 31
NODES = 1104
FOLDER = WORK / f"allocation-{NODES}-{DAYS}"
TIMES = 2.0
MEMORY_MB = 4096

_DAY = """
con.execute('''COPY (
    WITH slot AS (
        SELECT TIMESTAMPTZ '2026-10-01 00:00:00+00' + INTERVAL ({day}) DAY + to_minutes(5 * s) AS "start", {day} * 288 + s AS t
        FROM range(288) AS r(s)
    ), held AS (
        SELECT
            n, g, t, "start",
            CASE n % 4 WHEN 0 THEN 0 WHEN 1 THEN g // 4 WHEN 2 THEN g // 2 ELSE g END AS k,
            (t + n * 7 + k * 13) // (40 + (n * 31 + k * 7) % 400) AS life
        FROM slot, range({nodes}) AS m(n), range(8) AS c(g)
    )
    SELECT
        'cluster-' || (n % 3) AS cluster, 'node-' || n AS node,
        'cluster-' || (n % 3) || '/' || md5('job' || (n // 4) || '-' || life) AS job_id, 1 AS attempt,
        'team-' || (n % 20) AS namespace, 'pod-' || n || '-' || k || '-' || life AS pod,
        md5('pod' || n || '-' || k || '-' || life) AS pod_uid, 'main' AS container, 'gpu' AS resource,
        'GPU-' || md5(n || '-' || g) AS device, 'whole' AS sharing, CAST(1 AS BIGINT) AS share_numerator,
        CAST(1 AS BIGINT) AS share_denominator, CAST(1 AS DECIMAL(38, 14)) AS requested,
        CAST((hash(n, g, t) % 1000) / 1000.0 AS DECIMAL(38, 14)) AS used, 'running' AS state,
        "start", "start" + INTERVAL 5 MINUTE AS "end"
    FROM held
    WHERE (life * 7 + n + k) % 10 > 0
    ORDER BY "start", n, g
) TO '{target}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)''')
"""

# Eight cards an hour at a list price; some hours are covered by a commitment, some nodes are spot and change price.
_CHARGES = f"""CREATE TABLE charges AS SELECT
    'charge-' || n || '-' || h AS charge_id, 'cluster-' || (n % 3) AS cluster, 'node-' || n AS node,
    TIMESTAMPTZ '2026-10-01 00:00:00+00' + to_hours(h) AS ChargePeriodStart,
    TIMESTAMPTZ '2026-10-01 00:00:00+00' + to_hours(h + 1) AS ChargePeriodEnd,
    CAST(CASE n % 5 WHEN 0 THEN 0 WHEN 1 THEN 31.07 + (hash(n // 100, h // 6) % 977) / 100 ELSE 98.32 END AS DECIMAL(32, 18)) AS BilledCost,
    CAST(CASE n % 5 WHEN 0 THEN 61.123456 WHEN 1 THEN 31.07 + (hash(n // 100, h // 6) % 977) / 100 ELSE 98.32 END AS DECIMAL(32, 18)) AS EffectiveCost,
    CAST(98.32 AS DECIMAL(32, 18)) AS ListCost, CAST(98.32 AS DECIMAL(32, 18)) AS ContractedCost,
    CAST(1 AS DECIMAL(38, 14)) AS ConsumedQuantity, CAST(1 AS DECIMAL(38, 14)) AS PricingQuantity,
    CAST(8 AS DECIMAL(38, 14)) AS x_GpuHours
FROM range({NODES}) AS a(n), range({DAYS} * 24) AS b(h)"""

_BARE = f"""CREATE TEMP TABLE held AS
SELECT c.charge_id, u.job_id, u.namespace, u.pod, u.pod_uid,
    sum(epoch_us(least(u."end", c.ChargePeriodEnd)) - epoch_us(greatest(u."start", c.ChargePeriodStart))) AS held_us,
    sum(u.used) AS used
FROM (
    SELECT *, unnest(generate_series(date_trunc('hour', "start"), "end" - INTERVAL 1 MICROSECOND, INTERVAL 1 HOUR)) AS hour
    FROM read_parquet('{FOLDER}/usage-*.parquet')
) AS u
JOIN (
    SELECT *, unnest(generate_series(date_trunc('hour', ChargePeriodStart), ChargePeriodEnd - INTERVAL 1 MICROSECOND, INTERVAL 1 HOUR)) AS hour
    FROM read_parquet('{FOLDER}/charges.parquet')
) AS c ON c.cluster = u.cluster AND c.node = u.node AND c.hour = u.hour
    AND u."start" < c.ChargePeriodEnd AND u."end" > c.ChargePeriodStart
GROUP BY ALL"""

_OURS = f"""
from gpuledger.engines import duckdb
from gpuledger.models.allocation import DEFAULT, Inputs, allocate_all, write_prices
con = duckdb.connect(memory_limit="2500MB")
con.execute('''CREATE TABLE node_interval AS SELECT cluster, node, min(ChargePeriodStart) AS "start", max(ChargePeriodEnd) AS "end",
    8 AS gpu_count, 192 AS cpu_cores, 2048 AS memory_gib FROM read_parquet('{FOLDER}/charges.parquet') GROUP BY ALL''')
costs = "BilledCost", "EffectiveCost", "ListCost", "ContractedCost"
sums = ", ".join(f"sum({{name}})" for name in costs)
found = [0] * 4
def add(con):
    row = con.execute(f"SELECT {{sums}} FROM allocated").fetchone()
    found[:] = [a + b for a, b in zip(found, row)]
problems = allocate_all(con, Inputs("(FROM read_parquet('{FOLDER}/charges.parquet'))",
    "(FROM read_parquet('{FOLDER}/usage-*.parquet'))", "node_interval", write_prices(con, [DEFAULT])), add)
bill = list(con.execute(f"SELECT {{sums}} FROM read_parquet('{FOLDER}/charges.parquet')").fetchone())
if found != bill or problems:
    raise SystemExit(f"allocated {{found}}, bill {{bill}}: {{problems}}")
"""

# Without a limit of its own the join takes most of the machine's memory.
_LIMITS = 'con.execute("SET memory_limit = \'2500MB\'"); con.execute("SET preserve_insertion_order = false")'
_SETUP = "import duckdb; con = duckdb.connect(); con.execute(\"SET TimeZone = 'UTC'\")"


def generate() -> int:
    """Write the month once, a file a day; return the number of usage rows."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for day in range(DAYS):
        target = FOLDER / f"usage-{day:02}.parquet"
        if not target.exists():
            part = target.with_suffix(".part")
            measure(python(_SETUP + _DAY.format(day=day, nodes=NODES, target=part)))
            part.rename(target)
    target = FOLDER / "charges.parquet"
    if not target.exists():
        part = target.with_suffix(".part")
        copy = f"con.execute('''{_CHARGES}'''); con.execute('''COPY charges TO '{part}' (FORMAT parquet, COMPRESSION zstd)''')"
        measure(python(f"{_SETUP}\n{copy}"))
        part.rename(target)
    import duckdb

    with duckdb.connect() as con:
        return int(
            con.execute(f"SELECT count(*) FROM read_parquet('{FOLDER}/usage-*.parquet')").fetchall()[0][0]
        )


def run() -> bool:
    """Print both; return whether ours kept within its times and memory."""
    rows = generate()
    other = measure(bare(_BARE, _LIMITS), repeats=2)
    ours = measure(python(_OURS), repeats=2)
    line(
        f"allocation, {rows:,} usage rows",
        ours,
        other,
        f"ratio >= {1 / TIMES} ({TIMES:g} times), {MEMORY_MB} MB",
        rows,
    )
    return ours.seconds <= TIMES * other.seconds and ours.peak_mb <= MEMORY_MB


if __name__ == "__main__":
    sys.exit(0 if run() else 1)
