"""Deliveries into the ledger: read, map, tie to the bill, and replace the unit in one transaction."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Literal

from gpuledger import registry
from gpuledger.config import TagsSection
from gpuledger.core import deliveries
from gpuledger.core.contracts import Delivery, FileConnector, Tree
from gpuledger.diagnostics import Diagnostic
from gpuledger.engines import duckdb
from gpuledger.errors import ConflictError, SourceError
from gpuledger.pipeline import enrich, mapping, native, written
from gpuledger.pipeline.locations import clear, content_id
from gpuledger.pipeline.store import DataFile, Store, Unit, slug

Action = Literal["loaded", "replaced", "unchanged", "rejected"]
_COSTS = "cost_and_usage"
_COMMITMENTS = "contract_commitment"


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of one billing period of a delivery, per currency; unknown is None."""

    source: str
    billing_period: str | None
    delivery_id: str
    rows: int
    billed_cost: Decimal | None
    effective_cost: Decimal | None
    currency: str | None
    action: Action


@dataclass(slots=True)
class Report:
    """Rows of `gpuledger ingest`, and what was found on the way."""

    rows: list[Ingested] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def extend(self, other: "Report") -> None:
        """Add another report's findings."""
        self.rows += other.rows
        self.diagnostics += other.diagnostics


@dataclass(frozen=True, slots=True)
class Options:
    """How to ingest. `source` names the source; None lets the delivery or its accounts name it.

    Rows are checked against the rules of `focus_version` before they are committed; None leaves that out.
    """

    source: str | None = None
    force: bool = False
    focus_version: str | None = "1.3"
    progress: Callable[[str], None] = lambda _: None
    settings: Mapping[str, Any] = field(default_factory=dict)
    tags: TagsSection | None = None


def ingest(store: Store, tree: Tree, connector: FileConnector, options: Options | None = None) -> Report:
    """Bring every delivery of the tree into the ledger, oldest first.

    A delivery that can't be read is reported as rejected with a Diagnostic, and the others go on.
    """
    options = options or Options()
    report = Report()
    if (configure := getattr(connector, "configure", None)) is not None:
        connector = configure(options.settings, tree)
    discover: Callable[[Tree], list[Delivery]] = getattr(connector, "discover", deliveries.plain)
    found = discover(tree)
    if not found:
        raise SourceError(
            "no data files here", where=tree.location, hint="A bill is CSV(.gz), JSON or Parquet."
        )
    for delivery in sorted(
        found, key=lambda d: (d.delivered_at or datetime.max.replace(tzinfo=UTC), d.delivery_id or "")
    ):
        report.diagnostics += delivery.diagnostics
        run = _Run(store, tree, connector, delivery, options)
        try:
            run.run()
        except (SourceError, ConflictError) as error:
            run.report.diagnostics.append(
                Diagnostic(
                    "delivery-rejected",
                    "error",
                    error.where or tree.location,
                    error.message,
                    error.hint or "",
                )
            )
            name = options.source or delivery.source or connector.TYPE
            identity = delivery.delivery_id or "unknown"
            run.report.rows.append(
                Ingested(name, delivery.billing_period, identity, 0, None, None, None, "rejected")
            )
        report.extend(run.report)
    return report


class _Run:
    """One delivery on its way into the ledger."""

    def __init__(
        self, store: Store, tree: Tree, connector: FileConnector, delivery: Delivery, options: Options
    ) -> None:
        self.store, self.tree, self.connector = store, tree, connector
        self.delivery, self.options, self.report = delivery, options, Report()
        self.mapping_id = _mapping_id(connector, options)

    def run(self) -> None:
        if self.delivery.missing:
            raise SourceError(
                f"{len(self.delivery.missing)} file(s) that the manifest names are missing: {self.delivery.missing[0]}",
                where=self.tree.location,
                hint="The delivery is not complete yet, or the copy isn't: ingest again when all parts are there.",
            )
        self._check_sizes()
        identity = slug(
            self.delivery.delivery_id or content_id([self.tree.local(f.path) for f in self.delivery.files])
        )
        if self._already(identity):
            return
        scratch = scratch_folder(self.store)
        try:
            self._load(identity, scratch)
        finally:
            clear(scratch)

    def _check_sizes(self) -> None:
        for file in self.delivery.files:
            expected = self.delivery.expected_bytes.get(file.path)
            if expected is not None and file.size < expected:
                raise SourceError(
                    f"the manifest promises {expected} bytes, the file has {file.size}",
                    where=file.path,
                    hint="The file is truncated: copy the delivery again. The ledger keeps its last good state.",
                )

    def _already(self, identity: str) -> bool:
        """Recognise a delivery that the ledger holds (unchanged) or held before a newer one (refused)."""
        if self.options.force:
            return False
        past, table = self._past(identity)
        units = self.store.units(table) if past else {}
        newest = {(note["source"], note["billing_period"]): note for note in reversed(past)}
        known = Report()
        for key, note in sorted(newest.items(), key=lambda item: item[0]):
            held = units.get(key)
            if held is None or held.delivery_id != identity:
                known.diagnostics.append(
                    _older(self.tree.location, *key, dated=self.delivery.delivered_at is not None)
                )
                known.rows.append(Ingested(*key, identity, 0, None, None, None, "rejected"))
            elif note.get("mapping") == self.mapping_id:
                known.rows += _unchanged(note)
            else:
                return False  # the same bill, but we would read it differently now
        self.report.extend(known)
        return bool(past)

    def _past(self, identity: str) -> tuple[list[dict[str, Any]], str]:
        """Return the notes of this delivery in the ledger's history, and the table.

        Commitments speak for a delivery only where they came alone: else its charges may still be missing, after a
        crash between the two commits.
        """
        for table in (_COSTS, _COMMITMENTS):
            past = [
                note
                for note in self.store.history(table)
                if note["delivery_id"] == identity
                and note.get("type") == self.connector.TYPE
                and (table == _COSTS or note.get("alone"))
            ]
            if self.options.source:
                past = [note for note in past if note["source"] == slug(self.options.source)]
            if past:
                return past, table
        return [], _COSTS

    def _load(self, identity: str, scratch: Path) -> None:
        report = self.report
        con = duckdb.connect(keep_order=True, spill=scratch / "spill")
        self.options.progress(f"reading {self.tree.location}")
        found = native.read(con, self.tree, self.delivery, self.connector, scratch)
        report.diagnostics += found.diagnostics
        con.execute("SET preserve_insertion_order = false")
        self.options.progress(f"mapping {found.rows:,} rows to FOCUS")
        aliases = enrich.known_aliases(self.connector.PROVIDER, self.options.tags)
        commitments = mapping.map_commitments(con, self.connector, scratch)
        costs = mapping.map_costs(con, self.connector, scratch, self.tree.location, aliases)
        if costs.files and self.options.focus_version:
            self.options.progress(f"checking {found.rows:,} rows against FOCUS {self.options.focus_version}")
            version = self.options.focus_version
            report.diagnostics += written.conformance(con, costs.files, version, self.tree.location)
        con.close()
        report.diagnostics += costs.diagnostics
        if not costs.files and not commitments.files:
            raise SourceError(
                "the file has a header but no charges", where=self.tree.location, hint="Nothing has changed."
            )
        source = self._source_name(costs)
        if commitments.files:
            self._commit(_COMMITMENTS, source, identity, commitments, told=not costs.files)
        if costs.files:
            self._commit(_COSTS, source, identity, costs, told=True)
            report.diagnostics += list(self._overlaps(source, costs))

    def _source_name(self, costs: written.Mapped) -> str:
        """Name the source: as told, as the manifest calls the export, or after the billing account.

        A restated file of the same account thus replaces the earlier one whatever its name is.
        """
        if self.options.source:
            return slug(self.options.source)
        if self.delivery.source:
            return slug(f"{self.connector.TYPE}-{self.delivery.source}")
        if len(costs.accounts) == 1:
            return slug(f"{self.connector.TYPE}-{costs.accounts[0]}")
        if costs.accounts:
            together = sha256("|".join(costs.accounts).encode()).hexdigest()[:8]
            return slug(f"{self.connector.TYPE}-{len(costs.accounts)}-accounts-{together}")
        return slug(f"{self.connector.TYPE}-{Path(self.delivery.files[0].path).name.split('.')[0]}")

    def _commit(self, table: str, source: str, identity: str, mapped: written.Mapped, *, told: bool) -> None:
        """Replace the units in the ledger. A delivery is told by its charges; commitments alone by themselves."""
        moment = self.delivery.delivered_at or datetime.now(UTC)
        order = int(moment.timestamp() * 1_000_000)
        before = self.store.units(table)
        orders: dict[str, int] = {}
        for period in mapped.periods:
            held = self.store.order(table, source, period)
            if held is not None and held > order and not self.options.force:
                self.report.diagnostics.append(_older(self.tree.location, source, period, dated=True))
                self.report.rows.append(Ingested(source, period, identity, 0, None, None, None, "rejected"))
            else:
                orders[period] = (
                    max(order, (held or 0) + 1)
                    if self.options.force or not self.delivery.delivered_at
                    else order
                )
        files = [file for file in mapped.files if file.billing_period in orders]
        if not files:
            return
        notes = {period: self._note(mapped, period) | {"alone": told} for period in orders}
        self.options.progress(f"committing {source} {', '.join(orders)}")
        self.store.replace(table, source, identity, files, orders=orders, notes=notes)
        self.report.diagnostics += [
            _shrunk(source, unit, files)
            for period in orders
            if (unit := before.get((source, period))) and _rows(files, period) * 2 < unit.rows
        ]
        if told:
            for total in mapped.totals:
                if total.billing_period in orders:
                    action: Action = "replaced" if (source, total.billing_period) in before else "loaded"
                    self.report.rows.append(
                        Ingested(
                            source,
                            total.billing_period,
                            identity,
                            total.rows,
                            total.billed_cost,
                            total.effective_cost,
                            total.currency,
                            action,
                        )
                    )

    def _note(self, mapped: written.Mapped, period: str) -> dict[str, Any]:
        totals = [
            {
                "currency": t.currency,
                "rows": t.rows,
                "billed_cost": _text(t.billed_cost),
                "effective_cost": _text(t.effective_cost),
            }
            for t in mapped.totals
            if t.billing_period == period
        ]
        moment = self.delivery.delivered_at
        return {
            "type": self.connector.TYPE,
            "mapping": self.mapping_id,
            "location": self.tree.location,
            "delivered_at": moment.isoformat() if moment else None,
            "accounts": mapped.accounts,
            "totals": totals,
        }

    def _overlaps(self, source: str, costs: written.Mapped) -> Iterator[Diagnostic]:
        """Warn when another source holds charges of the same account and period: they would count twice."""
        units = self.store.units(_COSTS)
        told = set()
        for note in self.store.history(_COSTS):
            other, period = note["source"], note["billing_period"]
            held = units.get((other, period))
            if (
                other == source
                or (other, period) in told
                or held is None
                or held.delivery_id != note["delivery_id"]
            ):
                continue
            shared = sorted(set(note.get("accounts", ())) & set(costs.accounts))
            if shared and period in costs.periods:
                told.add((other, period))
                yield Diagnostic(
                    "same-account-twice", "warning", f"{source} {period}",
                    f"{other} already holds charges of billing account {shared[0]} for {period}: they may be counted twice",
                    f"If it is the same bill, ingest it with --source {other} so that it replaces the other.",
                )  # fmt: skip


def _unchanged(note: Mapping[str, Any]) -> list[Ingested]:
    return [
        Ingested(
            note["source"], note["billing_period"], note["delivery_id"], total["rows"], _decimal(total["billed_cost"]),
            _decimal(total["effective_cost"]), total["currency"], "unchanged",
        )
        for total in note["totals"]
    ]  # fmt: skip


def _older(where: str, source: str, period: str, *, dated: bool) -> Diagnostic:
    """A delivery with a date of its own is known to be the older one; without one, it may be meant as the newest."""
    return Diagnostic(
        "older-delivery", "info" if dated else "warning", where, f"the ledger holds a newer delivery of {source} {period}: this one was not loaded",
        "That is usually right. To go back to it all the same, ingest it with --force.",
    )  # fmt: skip


def _rows(files: Sequence[DataFile], period: str) -> int:
    return sum(file.rows for file in files if file.billing_period == period)


def _shrunk(source: str, unit: Unit, files: Sequence[DataFile]) -> Diagnostic:
    return Diagnostic(
        "much-smaller", "warning", f"{source} {unit.billing_period}",
        f"{_rows(files, unit.billing_period):,} charges replaced {unit.rows:,}: is this delivery only a part of the month?",
        "A delivery states its billing periods whole. Ingest the folder with all parts; what was replaced is in the history.",
    )  # fmt: skip


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def _mapping_id(connector: FileConnector, options: Options) -> str:
    """Change whenever the same bill would be read differently: by other SQL, settings, tag aliases or lookup tables."""
    parts = [
        enrich.identity(connector.PROVIDER, options.tags),
        registry.sql(connector) or "",
        registry.sql(connector, "commitments") or "",
        repr(sorted((key, value) for key, value in options.settings.items() if key != "api_key")),
    ]
    parts.append(Path(str(getattr(connector, "__file__", ""))).read_text("utf-8"))
    parts.append(getattr(connector, "IDENTITY", ""))
    return sha256("\0".join(parts).encode()).hexdigest()[:12]


def scratch_folder(store: Store) -> Path:
    """Make a scratch folder on the ledger's own file system, so that finished files move into it by rename."""
    if store.remote:
        return Path(mkdtemp(prefix="gpuledger-"))
    parent = Path(store.location, ".scratch")
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.iterdir():  # a killed process can't clean up after itself
        owner = left.name.partition("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            clear(left)
    return Path(mkdtemp(prefix=f"{os.getpid()}-", dir=parent))


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
