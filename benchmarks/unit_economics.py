"""Unit economics of a month of 5,000 cards told every five minutes, against a bare DuckDB group-by and join of the same rows.

The data is synthetic: 625 machines of eight cards by the hour, each card a pod of one of 500 services, their tokens
every five minutes (44.6 million intervals: what 223 million samples of a minute become at ingest). The bare query sums
tokens and cost by service and hour and joins them, and nothing else; ours finds whose pods they are, shares idle
machines and unused commitments exactly, and keeps all measures. Then questions to what was made: as a command, and warm
through the facade, on this ledger and on the example company with ten million charges.
"""

import shutil
import sys
import time

from benchmarks._measure import GPULEDGER, WORK, Run, bare, line, measure, python

DAYS, NODES = 31, 625
PODS = NODES * 8
FOLDER = WORK / f"unit-economics-{NODES}-{DAYS}"
SECONDS, MEMORY_MB, WARM = 60.0, 3072.0, 0.3
COMPANY_ROWS = 10_000_000

_MAKE = """
from datetime import date, timedelta
from pathlib import Path
from gpuledger.engines import duckdb
from gpuledger.focus.schema import ALLOCATED_COST, LEDGER_COST_AND_USAGE, select_list
from gpuledger.core.usage_tables import TELEMETRY_TABLES
from gpuledger.pipeline.store import DataFile, Store
store = Store({ledger!r})
con = duckdb.connect(memory_limit="2500MB")
scratch = Path({ledger!r}) / "part.parquet"
scratch.parent.mkdir(parents=True, exist_ok=True)
keep = {{"x_Source", "x_BillingPeriod", "x_DeliveryId"}}
def put(table, columns, source, period, given, relation):
    names = [column for column in columns if column.name not in keep]
    con.execute(f"COPY (SELECT {{select_list(names, given)}} FROM {{relation}}) TO '{{scratch}}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)")
    count = con.execute(f"SELECT count(*) FROM '{{scratch}}'").fetchone()[0]
    store.replace(table, source, "d", [DataFile(scratch, count, period)], orders={{period: 1}}, notes={{period: {{"fingerprint": ""}}}})
hours = "(SELECT n, h, TIMESTAMPTZ '2026-10-01 00:00:00+00' + to_hours(h) AS moment FROM range({nodes}) AS a(n), range({days} * 24) AS b(h) ORDER BY h, n)"
money = {{name: "CASE WHEN n % 9 = 0 THEN 61.123456 ELSE 98.32 END" for name in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost")}}
common = {{"ChargePeriodStart": "moment", "ChargePeriodEnd": "moment + INTERVAL 1 HOUR", "BillingCurrency": "'USD'", "ChargeCategory": "'Usage'",
    "CommitmentDiscountId": "CASE WHEN n % 9 = 0 THEN 'plan' END", "CommitmentDiscountStatus": "CASE WHEN n % 9 = 0 THEN 'Used' END", "x_GpuModel": "CASE WHEN n % 2 = 0 THEN 'H100' ELSE 'A100' END"}}
put("cost_and_usage", LEDGER_COST_AND_USAGE, "bill", "2026-10", money | common | {{"ResourceId": "'i-' || n", "x_GpuHours": "8"}}, hours)
file = store.files("cost_and_usage")[0].rpartition("/")[2].removesuffix(".parquet")
parts = f"(SELECT n, h, moment, g, n * 8 + g AS p, (n + g + h // 50) % 11 = 0 AS idle, h * {nodes} + n AS row FROM {{hours}}, range(8) AS c(g))"
part = {{name: f"CAST(({{text}}) AS DECIMAL(32, 18)) * CAST(0.125 AS DECIMAL(4, 3))" for name, text in money.items()}}
put("allocated_cost", ALLOCATED_COST, "bill", "2026-10", part | common | {{"x_OriginChargeId": f"'{{file}}:' || row", "AllocatedMethodId": "'bench'",
    "x_JobId": "CASE WHEN NOT idle THEN 'east/svc-' || (p % 500) END", "x_AllocationState": "CASE WHEN idle THEN 'idle' ELSE 'running' END", "x_Cluster": "'east'",
    "x_Namespace": "CASE WHEN NOT idle THEN 'team-' || (p % 40) END", "x_Pod": "CASE WHEN NOT idle THEN 'pod-' || p END", "x_GpuHours": "1", "x_HeldGpuHours": "1"}}, parts)
for day in range({days}):
    name = (date(2026, 10, 1) + timedelta(day)).isoformat()
    slots = f"(SELECT p, TIMESTAMPTZ '{{name}} 00:00:00+00' + to_minutes(5 * s) AS moment, (hash(p, s, {{day}}) % 90000)::BIGINT AS made FROM range(288) AS a(s), range({pods}) AS b(p))"
    put("token_interval", TELEMETRY_TABLES["token_interval"], "prom", name, {{"cluster": "'east'", "namespace": "'team-' || (p % 40)", "deployment": "'svc-' || (p % 500)",
        "pod": "'pod-' || p", "provider": "'vllm'", "model": "'model-' || (p % 25)", "start": "moment", "end": "moment + INTERVAL 5 MINUTE",
        "input_tokens": "made * 6", "cached_input_tokens": "made * 2", "output_tokens": "made", "requests": "made // 300", "good_requests": "made // 310",
        "good_output_tokens": "made // 310 * 300", "running": "(made % 640) / 10.0", "kv_cache_usage": "0.5", "ttft_seconds_sum": "made / 1000.0", "ttft_seconds_count": "made // 300"}}, slots)
    if day == 0:
        jobs = f"(SELECT s, TIMESTAMPTZ '{{name}} 00:00:00+00' AS moment FROM range(500) AS a(s))"
        put("job", TELEMETRY_TABLES["job"], "k8s", name, {{"job_id": "'east/svc-' || s", "cluster": "'east'", "kind": "'Deployment'", "name": "'svc-' || s",
            "namespace": "'team-' || (s % 40)", "team": "'team-' || (s % 40)", "submitted": "moment", "started": "moment"}}, jobs)
"""

_BARE = """CREATE TEMP TABLE answer AS
WITH token AS (
    SELECT deployment, model, date_trunc('hour', "start") AS hour, sum(output_tokens) AS made, sum(input_tokens) AS given,
        sum(requests) AS requests, sum(good_requests) AS good
    FROM read_parquet('{ledger}/token_interval/*/*/*/*.parquet') GROUP BY ALL
), cost AS (
    SELECT x_JobId[6:] AS deployment, ChargePeriodStart AS hour, sum(EffectiveCost) AS cost, sum(x_GpuHours) AS gpu_hours
    FROM read_parquet('{ledger}/allocated_cost/*/*/*/*.parquet') GROUP BY ALL
)
SELECT deployment, model, sum(made), sum(given), sum(requests), sum(good), sum(cost), sum(gpu_hours)
FROM token JOIN cost USING (deployment, hour) GROUP BY ALL"""

_FACTS = """
from gpuledger.pipeline import unit_facts
from gpuledger.pipeline.ledger import Ledger
print(unit_facts.write(Ledger({ledger!r})))
"""


def warm(ledger: str) -> Run:
    """Ask three questions through the facade twice; return the slowest of the second time."""
    from gpuledger.pipeline.ledger import Ledger
    from gpuledger.pipeline.unit_economics import unit_economics

    opened, slowest = Ledger(ledger), 0.0
    for again in (False, True):
        for groups in ((), ("team",), ("gpu_model", "day")):
            began = time.perf_counter()
            found = unit_economics(opened, group_by=groups)
            if again:
                slowest = max(slowest, time.perf_counter() - began)
            if not found.rows:
                raise SystemExit("the benchmark's ledger answers nothing")
    return Run(slowest, 0.0)


def generate(ledger: str) -> None:
    """Write the ledger once."""
    marker = FOLDER / "complete"
    if not marker.exists():
        shutil.rmtree(FOLDER, ignore_errors=True)
        measure(python(_MAKE.format(ledger=ledger, nodes=NODES, days=DAYS, pods=PODS)))
        marker.touch()


def company() -> str:
    """Return the example company's ledger with ten million charges, built; made once."""
    folder = WORK / f"company-{COMPANY_ROWS}"
    ledger, marker = str(folder / "ledger"), folder / "complete"
    if not marker.exists():
        shutil.rmtree(folder, ignore_errors=True)
        base = [str(GPULEDGER), "--ledger", ledger]
        measure([*base, "demo", "--rows", str(COMPANY_ROWS), "--out", str(folder / "bills")])
        measure([*base, "build"])
        shutil.rmtree(folder / "bills")
        marker.touch()
    return ledger


def run(*, small: bool) -> bool:
    """Print all; return whether budgets were kept."""
    ledger = str(FOLDER / "ledger")
    generate(ledger)
    rows = DAYS * 288 * PODS
    limits = (
        'con.execute("SET memory_limit = \'2500MB\'"); con.execute("SET preserve_insertion_order = false")'
    )
    other = measure(bare(_BARE.format(ledger=ledger), limits))
    shutil.rmtree(f"{ledger}/models", ignore_errors=True)
    made = measure(python(_FACTS.format(ledger=ledger)))
    line(f"unit economics, {rows:,} token intervals", made, other, f"{SECONDS:g} s, {MEMORY_MB:g} MB", rows)
    asked = measure([str(GPULEDGER), "--ledger", ledger, "unit-economics"], repeats=3)
    line("a question, as a command", asked, None, "none stated")
    kept = made.seconds <= SECONDS and max(made.peak_mb, asked.peak_mb) <= MEMORY_MB
    line("the slowest of three warm, 5,000 cards", warm(ledger), None, "none stated")
    if small:
        return kept
    found = warm(company())
    line(f"the slowest of three warm, company of {COMPANY_ROWS:,} charges", found, None, f"{WARM:g} s")
    return kept and found.seconds <= WARM


if __name__ == "__main__":
    sys.exit(0 if run(small="--small" in sys.argv) else 1)
