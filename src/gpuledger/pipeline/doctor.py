"""The set-up checklist and the health of what the ledger holds: is each bill there, how late, what is not understood."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from gpuledger import registry
from gpuledger.config import Config, SourceSection
from gpuledger.core import tags
from gpuledger.engines import duckdb
from gpuledger.errors import GpuledgerError, UsageError
from gpuledger.models import recognition
from gpuledger.pipeline import telemetry_health
from gpuledger.pipeline.enrich import known_aliases
from gpuledger.pipeline.ledger import Ledger
from gpuledger.pipeline.locations import is_remote, open_tree
from gpuledger.pipeline.store import slug

State = Literal["ok", "warn", "fail", "unknown"]
# Clouds bring charges 18-48 hours late; more than that means that a delivery stopped coming.
_LATE = timedelta(hours=48)
# Telemetry can be collected at any time, so that it is behind means that nobody does.
_STALE = timedelta(hours=3)
_SHOWN = 8
_LITTLE = Decimal("0.80")


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the checklist."""

    check: str
    state: State
    detail: str
    hint: str = ""


def examine(ledger: Ledger, now: datetime | None = None) -> Iterator[Check]:
    """Run all checks, cheap ones first; a check that can't be made says why."""
    now = now or datetime.now(UTC)
    yield from _configuration(ledger.config)
    yield from _telemetry(ledger, now)
    try:
        units = ledger.units()
    except GpuledgerError as error:
        yield Check("ledger", "fail", error.message, error.hint or "")
        return
    if not units:
        yield Check(
            "ledger",
            "warn",
            f"{ledger.location} is empty",
            "gpuledger ingest --type TYPE PATH, or gpuledger demo.",
        )
        return
    rows = sum(unit.rows for unit in units)
    sources = {unit.source for unit in units}
    yield Check(
        "ledger",
        "ok",
        f"{rows:,} charges of {len(sources)} sources in {len({u.billing_period for u in units})} billing periods",
    )
    con = ledger.connect()
    newest = max(
        units, key=lambda unit: (unit.billing_period != "unknown", unit.billing_period)
    ).billing_period
    yield from _lags(con, now)
    yield from _values(con, newest)
    yield from _tags(con, newest, ledger.config)
    yield from _unknown_accelerators(con)


def _configuration(config: Config) -> Iterator[Check]:
    if not config.sources:
        yield Check(
            "sources",
            "warn",
            "no sources are configured",
            "gpuledger init finds bills and writes gpuledger.toml.",
        )
    for name, source in config.sources.items():
        try:
            connector = registry.source(source.type)
        except UsageError as error:
            yield Check(f"source {name}", "fail", error.message, error.hint or "")
            continue
        if unset := _unset(source):
            yield Check(
                f"source {name}",
                "fail",
                f"the environment variable {unset} is not set",
                f"export {unset}=…",
            )
        elif source.path is not None:
            yield _reachable(name, source.path, connector.TITLE)
        else:
            yield Check(f"source {name}", "ok", f"{connector.TITLE}, polled")


def _telemetry(ledger: Ledger, now: datetime) -> Iterator[Check]:
    """Say per telemetry source whether it can be asked, how far behind it is, and what came last."""
    configured = ledger.config.telemetry
    try:
        found = {one.source: one for one in telemetry_health.health(ledger)}
    except GpuledgerError as error:
        yield Check("telemetry", "fail", error.message, error.hint or "")
        return
    for name, section in configured.items():
        check = f"telemetry {name}"
        held = found.pop(slug(name), None)
        try:
            title = registry.telemetry(section.type).TITLE
        except UsageError as error:
            yield Check(check, "fail", error.message, error.hint or "")
            continue
        if unset := _unset(section):
            yield Check(check, "fail", f"the environment variable {unset} is not set", f"export {unset}=…")
        elif held is None:
            yield Check(check, "warn", f"{title}: nothing is collected yet", f"gpuledger ingest {name}")
        else:
            yield _lag(check, held, now, due=True)
    for name, held in found.items():
        yield _lag(f"telemetry {name}", held, now, due=False)


def _lag(check: str, held: telemetry_health.Health, now: datetime, *, due: bool) -> Check:
    """`due` says that the source is configured here, so that somebody ought to collect it."""
    last = f"last delivery {held.delivery_id} at {held.committed:%Y-%m-%d %H:%M}Z"
    if held.until is None:
        return Check(check, "unknown", f"{held.rows:,} rows without intervals, {last}")
    lag = max(now - held.until, timedelta(0))
    detail = f"up to {held.until:%Y-%m-%d %H:%M}Z ({_span(lag)} ago), {held.rows:,} rows of {held.days} days, {last}"
    if held.unknown:
        detail += f"; {held.unknown.total_seconds() / 60:.0f} min of {held.last_day} are unknown"
    if due and lag > _STALE:
        return Check(
            check, "warn", detail, "Collect it every few minutes to hours: what isn't seen is unknown."
        )
    return Check(check, "ok", detail)


def _unset(section: SourceSection) -> str | None:
    """Return the first environment variable that a section names and that is not set."""
    named = (str(v) for k, v in (section.model_extra or {}).items() if k.endswith("_env"))
    return next((name for name in named if name not in os.environ), None)


def _reachable(name: str, path: str, title: str) -> Check:
    from pathlib import Path

    try:
        tree = open_tree(path, Path.home() / ".cache" / "gpuledger")
    except GpuledgerError as error:
        return Check(f"source {name}", "fail", f"{path}: {error.message}", error.hint or "")
    newest = max((file.modified for file in tree.files if file.modified), default=None)
    when = f", newest {newest:%Y-%m-%d %H:%M}Z" if newest else ""
    place = "object store" if is_remote(path) else "folder"
    return Check(
        f"source {name}",
        "ok" if tree.files else "warn",
        f"{title}, {place} with {len(tree.files)} files{when}",
    )


def _lags(con: duckdb.Connection, now: datetime) -> Iterator[Check]:
    rows = con.execute(
        "SELECT x_Source, max(ChargePeriodEnd), count(*), max(x_BillingPeriod) FROM cost_and_usage GROUP BY 1 ORDER BY 1"
    ).fetchall()
    for source, end, count, period in rows:
        if end is None:
            yield Check(
                f"delivery {source}",
                "unknown",
                f"{count:,} charges without a time",
                "The bill has no charge periods.",
            )
            continue
        lag = max(now - end, timedelta(0))
        late = lag > _LATE and period == now.strftime("%Y-%m")
        detail = f"charges up to {end:%Y-%m-%d %H:%M}Z ({_span(lag)} ago), {count:,} charges"
        yield Check(
            f"delivery {source}", "warn" if late else "ok", detail, "Did the export stop?" if late else ""
        )


def _span(lag: timedelta) -> str:
    if lag < timedelta(hours=1):
        return f"{lag.total_seconds() / 60:.0f} min"
    return f"{lag.days} days" if lag > _LATE else f"{lag.total_seconds() / 3600:.0f} h"


def _values(con: duckdb.Connection, period: str) -> Iterator[Check]:
    issues = con.execute(
        "SELECT count(*), any_value(x_SourceFile), any_value(x_DataIssues) FROM cost_and_usage WHERE x_DataIssues IS NOT NULL"
    ).fetchone() or (0, None, None)
    if issues[0]:
        yield Check(
            "values",
            "warn",
            f"{issues[0]:,} charges have values that can't be read, such as {issues[2]}",
            f"Look at {issues[1]}.",
        )
    else:
        yield Check("values", "ok", "every value could be read")
    unowned: Mapping[str, Any] = dict(
        con.execute(
            """SELECT BillingCurrency, CASE WHEN sum(EffectiveCost) > 0 THEN
                 round(100 * coalesce(sum(EffectiveCost) FILTER (WHERE x_Team IS NULL AND x_Owner IS NULL AND x_CostCenter IS NULL), 0)
                       / sum(EffectiveCost), 1)::DECIMAL(9,1) END
               FROM cost_and_usage WHERE x_BillingPeriod = ? GROUP BY 1 ORDER BY 1""",
            [period],
        ).fetchall()
    )
    for currency, share in unowned.items():
        name = f"attribution {period} {currency or ''}".strip()
        if share is None:
            yield Check(name, "unknown", "no positive cost to attribute")
        else:
            hint = "Add spellings of your tag keys under [tags.aliases]." if share > 10 else ""  # noqa: PLR2004  # percent
            yield Check(
                name,
                "warn" if hint else "ok",
                f"{share} % of the cost has no team, owner or cost centre",
                hint,
            )


def _tags(con: duckdb.Connection, period: str, config: Config) -> Iterator[Check]:
    """Say per provider which canonical tags its charges carry, and which keys nobody has mapped."""
    relation = f"(SELECT * FROM cost_and_usage WHERE x_BillingPeriod = {duckdb.literal(period)})"
    shares: dict[str, list[tags.Coverage]] = {}
    for part in tags.coverage(con, relation):
        shares.setdefault(f"{part.provider or 'unknown provider'} {part.currency or ''}".strip(), []).append(
            part
        )
    for name, parts in shares.items():
        said = [f"{part.name} {_percent(part.cost_share)}" for part in parts if part.rows_tagged]
        owner = max(
            part.cost_share or Decimal(0) for part in parts if part.name in {"team", "owner", "cost_center"}
        )
        detail = "share of cost: " + ", ".join(said) if said else "no charge carries a canonical tag"
        state: State = "ok" if owner >= _LITTLE else "warn"
        yield Check(
            f"tags {name}", state, detail, "" if state == "ok" else "docs/tags.md: how keys are mapped."
        )
    unmapped = [
        key for key in tags.unmapped_keys(con, relation, known_aliases(None, config.tags)) if not key.system
    ]
    if unmapped:
        shown = ", ".join(f"{key.key} ({key.rows:,} charges)" for key in unmapped[:_SHOWN])
        more = f", {len(unmapped) - _SHOWN} more" if len(unmapped) > _SHOWN else ""
        yield Check(
            "tag keys",
            "ok",
            f"keys without a canonical meaning: {shown}{more}",
            "Map them under [tags.aliases].",
        )


def _percent(share: Decimal | None) -> str:
    return "unknown" if share is None else f"{share * 100:.1f} %"


def _unknown_accelerators(con: duckdb.Connection) -> Iterator[Check]:
    unknown = recognition.unknown_skus(con, "cost_and_usage")
    for sku in unknown[:_SHOWN]:
        cost = "at an unknown cost" if sku.cost is None else f"{sku.cost:,.2f} {sku.currency or ''}".strip()
        detail = f"looks like an accelerator and isn't in the table: {sku.rows:,} charges, {cost}"
        yield Check(
            f"unknown SKU {sku.name}",
            "warn",
            detail,
            "Please report it; docs/gpu-recognition.md says how to add it.",
        )
    if len(unknown) > _SHOWN:
        yield Check("unknown SKUs", "warn", f"{len(unknown) - _SHOWN} more look like accelerators")
    if not unknown:
        yield Check("accelerators", "ok", "every SKU that looks like an accelerator is known")
