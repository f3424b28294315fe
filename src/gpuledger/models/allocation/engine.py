"""Runs the allocation's SQL over a DuckDB connection, one batch of charges after another."""

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Final, Protocol

from gpuledger.core.contracts import Connection
from gpuledger.diagnostics import Diagnostic, Severity
from gpuledger.errors import LedgerError
from gpuledger.focus.schema import MONEY, QUANTITY
from gpuledger.models.allocation import relations
from gpuledger.models.allocation.relations import Inputs, sql, typed

METHOD: Final = "gpuledger-node-1"
BATCH_CHARGES: Final = 60_000

_HOUR: Final = 3_600_000_000  # microseconds
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# Numbers that each column's amount may have: its own, or that of an equal one before it.
_NUMBERS: Final = {
    "billed": (2, 2), "effective": (2, 3), "list": (2, 4), "contracted": (2, 5), "pricing_currency": (2, 6),
    "consumed": (7, 7), "pricing": (7, 8), "commitment": (7, 9),
}  # fmt: skip
_EFFECTIVE: Final = range(_NUMBERS["effective"][0], _NUMBERS["effective"][1] + 1)
_QUANTITIES: Final = 7  # numbers from here on are quantities, those before are costs
# What a usage row says apart from times and measurements, and what stands for it in sums: a hash, or a digest where two
# combinations share a hash.
_SAID: Final = (
    "cluster, node, job_id, pod_uid, device, namespace, pod, {container}, attempt, state, resource, sharing, "
    "share_numerator, share_denominator, requested"
)
_SAMENESS: Final = (f"hash({_SAID})", f"md5_number(CAST(row({_SAID}) AS VARCHAR))")

_FINDINGS: Final[Mapping[str, tuple[Severity, str, str]]] = {
    "not-seen": (
        "warning",
        "no telemetry of their machine; their cost is unknown, not idle",
        "is the cluster monitored, and do the bill's resource ids match its nodes?",
    ),
    "no-ratio": (
        "warning",
        "no unit prices of that time to split GPU, CPU and memory by; their cost is unknown",
        "give prices with an earlier valid_from",
    ),
    "shape-unknown": (
        "warning",
        "cards, cores or memory of the machine aren't known; what is known shares the cost",
        "node telemetry that states the capacity completes it",
    ),
    "over-capacity": (
        "warning",
        "claims exceed what the machine has; they were scaled down in proportion",
        "look for usage reported twice, or for sharing that telemetry takes for whole cards",
    ),
    "claim-unknown": (
        "warning",
        "somebody held a part that can't be told; the rest is unknown, not idle",
        "usage rows without request, usage or share say who",
    ),
}


class Cursors(Connection, Protocol):
    """A connection that opens others to the same database."""

    def cursor(self) -> "Cursors":
        """Return another connection, with temporary tables of its own."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """Charges whose period starts in [from_us, to_us), in microseconds since 1970; [since_us, until_us) has all of them.

    Usage is summed in buckets of `grid_us`, the widest that the periods are made of; 0 when they are made of none (usage
    is cut to each period then), -1 when they are no periods.
    """

    grid_us: int
    from_us: int
    to_us: int
    since_us: int
    until_us: int
    charges: int


class Allocation:
    """Splits charges of machines among the jobs that held them.

    `batches` lists the work; `run` does one of them and leaves its rows in the temporary table `allocated`. With
    `by_container` a pod's containers get rows of their own, if usage tells them apart; with `by_resource` rows say what
    of EffectiveCost pays for which resource (x_GpuCost, x_CpuCost, x_MemoryCost). `found` counts the charges of each
    finding, `examples` names one of them.
    """

    def __init__(
        self, con: Connection, inputs: Inputs, *, by_container: bool = False, by_resource: bool = False
    ) -> None:
        self._con = con
        self._by_resource = by_resource
        self._names = {
            "charges": typed(con, inputs.charges, relations.CHARGES, relations.CHARGES_OPTIONAL),
            "usage": relations.usage(con, inputs.usage),
            "nodes": typed(con, inputs.nodes, relations.NODES, relations.NODES_OPTIONAL),
            "prices": typed(con, inputs.prices, relations.PRICES, relations.PRICES_OPTIONAL),
            "jobs": typed(con, inputs.jobs, relations.JOBS, relations.JOBS_OPTIONAL),
            "container": "container" if by_container else "CAST(NULL AS VARCHAR)",
            "method": METHOD,
        }
        self.found: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        con.execute(sql("macros"))

    def batches(self, limit: int = BATCH_CHARGES) -> list[Batch]:
        """Return all charges as batches of about `limit`, by the start of their periods.

        Raises LedgerError when two charges have one `charge_id`: their rows couldn't be told apart.
        """
        made: list[Batch] = []
        self._require_distinct()
        for row in self._con.execute(sql("batch", self._names)).fetchall():
            grid, from_us, since_us, until_us, charges = row
            to_us = from_us + _HOUR
            last = made[-1] if made else None
            if last and last.grid_us == grid and last.charges + charges <= limit:
                made.pop()
                from_us, since_us = last.from_us, last.since_us
                until_us, charges = max(until_us, last.until_us), last.charges + charges
            made.append(Batch(grid, from_us, to_us, since_us, until_us, charges))
        return made

    def run(self, batch: Batch) -> None:
        """Allocate one batch; its rows replace the temporary table `allocated`."""
        names = self._names | _names(batch)
        self._make("bill", names)
        self._con.execute(
            "CREATE OR REPLACE TEMP VIEW alloc_charge AS SELECT CAST(rowid AS INTEGER) AS charge_no, * FROM alloc_bill"
        )
        for step in ("machine", "seen", "weight", "capacity"):
            self._make(step, names)
        self._sum(names)
        for step in ("hold", "claim", "run", "part", "total", "share"):
            self._make(step, names)
        self._make("row", names | self._amounts())
        self._make("allocated", names)
        for code, count, example in self._con.execute(sql("finding")).fetchall():
            self.found[code] += count
            self.examples.setdefault(code, str(example))

    def add_findings(self, other: "Allocation") -> None:
        """Count what another worker found too."""
        self.found.update(other.found)
        self.examples = {**other.examples, **self.examples}

    def diagnostics(self) -> list[Diagnostic]:
        """Return what the batches so far showed about their input, one finding of a kind with its count."""
        return [
            Diagnostic(
                f"allocation.{code}", severity, self.examples[code], f"{self.found[code]} charges: {text}", hint
            )
            for code, (severity, text, hint) in _FINDINGS.items()
            if self.found[code]
        ]  # fmt: skip

    def _require_distinct(self) -> None:
        twice = self._con.execute(
            f"SELECT charge_id FROM {self._names['charges']} GROUP BY charge_id HAVING count(*) > 1 LIMIT 1"
        ).fetchone()
        if twice:
            raise LedgerError(
                f"two charges have the id {twice[0]}",
                where="allocation",
                hint="charge_id must be a key: use a row number where the bill has none",
            )

    def _make(self, step: str, names: Mapping[str, str]) -> None:
        table = step if step == "allocated" else f"alloc_{step}"
        self._con.execute(f"CREATE OR REPLACE TEMP TABLE {table} AS {sql(step, names)}")

    def _sum(self, names: dict[str, str]) -> None:
        """Sum usage by combinations of what its rows say."""
        for sameness in _SAMENESS:
            names["sameness"] = sameness.replace("{container}", names["container"])
            self._make("tag", names)
            tags, hashes, spanning = self._con.execute(
                "SELECT count(*), count(DISTINCT sameness), coalesce(bool_or(spans), false) FROM alloc_tag"
            ).fetchall()[0]
            if tags == hashes:
                break
        else:
            raise LedgerError(
                "usage can't be summed: two different rows have one digest",
                where="allocation",
                hint="report this, with the usage of that day",
            )
        self._make("piece", names | {"spanning": str(spanning)})
        self._make("who", names)
        self._make("holder", names)

    def _amounts(self) -> dict[str, str]:
        """SQL for the amounts that the batch has: one sum each, chosen by each column's number."""
        found = "SELECT DISTINCT amount_no FROM alloc_part WHERE amount_no > 1 ORDER BY 1"
        used = [number for (number,) in self._con.execute(found).fetchall()]
        names = {"sums": "", "amounts": "", "by_resource": ""}
        for number in used:
            names["sums"] += f",\n        sum(amount) FILTER (amount_no = {number}) AS a{number}"
            decimal = "alloc_dec18" if number < _QUANTITIES else "alloc_dec14"
            names["amounts"] += f",\n        {decimal}(coalesce(a{number}, 0)) AS d{number}"
        for name, (first, last) in _NUMBERS.items():
            cases = " ".join(f"WHEN {number} THEN a.d{number}" for number in used if first <= number <= last)
            zero = f"CAST(0 AS {MONEY if first < _QUANTITIES else QUANTITY})"
            names[name] = f"CASE c.{name}_no {cases} ELSE {zero} END" if cases else zero
        if self._by_resource:
            self._add_resources(names, [number for number in used if number in _EFFECTIVE])
        return names

    @staticmethod
    def _add_resources(names: dict[str, str], used: list[int]) -> None:
        for resource, column in enumerate(("x_GpuCost", "x_CpuCost", "x_MemoryCost"), start=1):
            cases = ""
            for number in used:
                part = f"{number}_{resource}"
                names["sums"] += (
                    f",\n        sum(amount) FILTER (amount_no = {number} AND resource = {resource}) AS a{part}"
                )
                names["amounts"] += f",\n        alloc_dec18(coalesce(a{part}, 0)) AS d{part}"
                cases += f" WHEN {number} THEN a.d{part}"
            cost = f"CASE c.effective_no{cases} END" if cases else f"CAST(0 AS {MONEY})"
            names["by_resource"] += f",\n    alloc_signed(c.EffectiveCost, {cost}) AS {column}"


def allocate_all(
    con: Cursors,
    inputs: Inputs,
    use: Callable[[Connection], None],
    *,
    by_container: bool = False,
    by_resource: bool = False,
    workers: int = 2,
) -> list[Diagnostic]:
    """Run all batches, `workers` at a time; return the findings.

    `use` gets the connection whose table `allocated` has a batch's rows; it is called once a batch, from several
    threads but never from two at once. Small steps leave cores idle: two batches side by side take a fifth less time.
    `inputs` must be visible to all cursors of `con`, so no temporary tables.
    """
    works = []
    for _ in range(workers):
        cursor = con.cursor()
        cursor.execute("SET TimeZone = 'UTC'")
        works.append((cursor, Allocation(cursor, inputs, by_container=by_container, by_resource=by_resource)))
    queue = SimpleQueue[Batch]()
    for batch in works[0][1].batches():
        queue.put(batch)
    turn = Lock()

    def drain(cursor: Connection, work: Allocation) -> None:
        while True:
            try:
                batch = queue.get_nowait()
            except Empty:
                return
            work.run(batch)
            with turn:
                use(cursor)

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(drain, *work) for work in works]:
            done.result()
    first = works[0][1]
    for _, other in works[1:]:
        first.add_findings(other)
    return first.diagnostics()


def focus_rows(con: Connection, origin: str, key: str = "x_OriginChargeId") -> str:
    """Return a query that gives the rows of `allocated` as full FOCUS rows, with all else as in their origin.

    `origin` is the relation of ledger rows that the charges came from; its column `key` has their charge_id.
    """
    ours = [row[0] for row in con.execute("DESCRIBE allocated").fetchall()]
    theirs = {row[0] for row in con.execute(f"DESCRIBE SELECT * FROM {origin}").fetchall()}
    replaced = ", ".join(f"a.{name} AS {name}" for name in ours if name in theirs)
    added = "".join(f", a.{name}" for name in ours if name not in theirs)
    return f"SELECT o.* REPLACE ({replaced}){added} FROM allocated AS a JOIN {origin} AS o ON o.{key} = a.x_OriginChargeId"


def _names(batch: Batch) -> dict[str, str]:
    cut = batch.grid_us <= 0
    since, until = _moment(batch.since_us), _moment(batch.until_us)
    start, end = "epoch_us(ChargePeriodStart)", "epoch_us(ChargePeriodEnd)"
    started = f"{start} >= {batch.from_us} AND {start} < {batch.to_us} AND " if batch.grid_us >= 0 else ""
    return {
        "batch": f"{started}alloc_grid({start}, {end}) = {batch.grid_us}",
        "grid": str(_HOUR if cut else batch.grid_us),
        "since_us": str(batch.since_us),
        "until_us": str(batch.until_us),
        "during": f'"start" < {until} AND "end" > {since} AND "end" > "start"',
        "span": "start_us, end_us" if cut else "end_us - start_us AS span_us",
        "held_us": "least(p.end_us, s.end_us) - greatest(p.start_us, s.start_us)" if cut else "p.span_us",
    }


def _moment(microseconds: int) -> str:
    return f"TIMESTAMPTZ '{_EPOCH + timedelta(microseconds=microseconds)}'"
