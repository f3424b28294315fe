"""`gpuledger zombies`: which GPUs burn money for nothing, from whatever is at hand."""

import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import UsageError
from gpuledger.surfaces.cli._context import Context, pass_context, tell
from gpuledger.surfaces.cli._zombies_apply import Choice, applied
from gpuledger.surfaces.cli._zombies_text import history_rows, report, slack_text

if TYPE_CHECKING:
    from gpuledger.pipeline.zombie_rates import Rates
    from gpuledger.pipeline.zombies import Inputs, Scan, Settings

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = timedelta(days=90)


@click.command(name="zombies", short_help="Find GPUs that burn money for nothing. Needs no ledger.")
@click.option(
    "--prometheus", "prometheus_url", metavar="URL", help="Where DCGM's metrics are. See below for logins."
)
@click.option("--kube", is_flag=True, help="Ask the Kubernetes API (kubeconfig, or the pod's account).")
@click.option("--slurm", is_flag=True, help="Ask Slurm (scontrol, sacct).")
@click.option(
    "--nvidia-smi",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Run nvidia-smi, or read its -q -x or --format=csv output.",
)
@click.option(
    "--amd-smi",
    is_flag=False,
    flag_value="",
    metavar="[FILE]",
    help="Run amd-smi or rocm-smi, or read their JSON.",
)
@click.option(
    "--dcgm", multiple=True, metavar="URL|FILE", help="A DCGM exporter's metrics page (repeatable)."
)
@click.option(
    "--aws",
    multiple=True,
    is_flag=False,
    flag_value="",
    metavar="[PROFILE][/REGION]",
    help="Ask AWS for EC2 instances, SageMaker endpoints and notebooks (repeatable).",
)
@click.option(
    "--serving",
    multiple=True,
    metavar="[POD=]URL|FILE",
    help="A model server's metrics page: what served is a warm replica (repeatable).",
)
@click.option(
    "--progress",
    multiple=True,
    metavar="METRIC",
    help="A counter of Prometheus that moves while jobs get on, such as of steps (repeatable).",
)
@click.option(
    "--min-idle", default="15m", show_default=True, metavar="TIME", help="How long a card has to be idle."
)
@click.option(
    "--idle-at-most",
    default="1",
    show_default=True,
    metavar="PERCENT",
    help="Engine activity that still counts as idle.",
)
@click.option(
    "--look-back", default="24h", show_default=True, metavar="TIME", help="How far back Prometheus is asked."
)
@click.option("--at", metavar="TIME", help="Look back from this moment (RFC 3339) instead of now.")
@click.option(
    "--price",
    metavar="USD_PER_GPU_HOUR",
    help="What a card costs (default: the ledger's bills if there is one, else dated list prices).",
)
@click.option("--match", multiple=True, metavar="LABEL=VALUE", help="Only such series of Prometheus.")
@click.option(
    "--fail-over", metavar="USD_PER_HOUR", help="Exit with 1 only if idle cards cost more than that."
)
@click.option("--all", "show_all", is_flag=True, help="Show busy cards too.")
@click.option("--history", is_flag=True, help="Show idle runs of the whole look-back (Prometheus only).")
@click.option("--watch", type=click.IntRange(min=1), metavar="SECONDS", help="Look again and again.")
@click.option("--slack", is_flag=True, help="Print a text for a Slack message.")
@click.option("--apply", is_flag=True, help="Run the commands of verdicts, each after a y of yours.")
@click.option("--yes", multiple=True, metavar="GPU", help="With --apply: y to this card's row (repeatable).")
@click.option("--dry-run", is_flag=True, help="Say what --apply would run, and run nothing.")
@click.option("--apply-log", metavar="FILE", help="Where --apply logs. [default: state folder]")
@pass_context
@click.pass_context
def command(
    ctx: click.Context,
    context: Context,
    prometheus_url: str | None,
    kube: bool,
    slurm: bool,
    nvidia_smi: str | None,
    amd_smi: str | None,
    dcgm: tuple[str, ...],
    aws: tuple[str, ...],
    serving: tuple[str, ...],
    progress: tuple[str, ...],
    min_idle: str,
    idle_at_most: str,
    look_back: str,
    at: str | None,
    price: str | None,
    match: tuple[str, ...],
    fail_over: str | None,
    show_all: bool,
    history: bool,
    watch: int | None,
    slack: bool,
    apply: bool,
    yes: tuple[str, ...],
    dry_run: bool,
    apply_log: str | None,
) -> None:
    """Find GPUs that are paid and do nothing: unallocated, held-idle, orphan or stalled, dearest first.

    Without inputs it looks for nvidia-smi, amd-smi, rocm-smi, a kubeconfig, Slurm, PROMETHEUS_URL and AWS keys, and
    says what it found. One look names candidates only; verdicts need a look-back (Prometheus, CloudWatch, or --watch).
    Prometheus is let in by PROMETHEUS_TOKEN, or PROMETHEUS_USERNAME and PROMETHEUS_PASSWORD.

    Nothing is changed anywhere: the commands that reclaim a card are printed. With --apply each verdict's command is
    run after you typed y to its row, and logged.

    Exit codes: 0 nothing idle, 1 verdicts (or --fail-over exceeded), 3 nobody could tell.
    """
    from gpuledger.pipeline import zombies

    if watch is not None and (apply or dry_run):
        raise UsageError(
            "--watch and --apply don't go together", where="--apply", hint="Watch first, then apply."
        )
    if yes and not apply:
        raise UsageError("--yes is a y to --apply", where="--yes", hint="Add --apply, or leave it out.")
    settings = replace(
        _settings(min_idle, idle_at_most, look_back, at, price, match, show_all),
        progress=_metrics(progress),
        rates=_rates(context),
    )
    limit = None if fail_over is None else _amount(fail_over, "--fail-over")
    inputs = zombies.Inputs(prometheus_url, kube, slurm, nvidia_smi, amd_smi, dcgm, aws, serving)
    notes: list[Diagnostic] = []
    asked = bool(inputs)
    if not asked:
        inputs, notes = zombies.detect(settings.environ)
        inputs = replace(inputs, serving=serving)
    if history:
        ctx.exit(_history(context, inputs, settings))
    choice = Choice(yes, dry_run, apply_log) if apply or dry_run else None
    ctx.exit(_run(context, inputs, settings, notes, _How(slack, watch, limit, asked, choice)))


@dataclass(frozen=True, slots=True)
class _How:
    """What is done with a scan: how it is shown, how often, what is too much, and what is applied."""

    slack: bool
    watch: int | None
    limit: Decimal | None
    asked: bool
    choice: Choice | None


def _run(context: Context, inputs: "Inputs", settings: "Settings", notes: list[Diagnostic], how: _How) -> int:
    """Look once, or again and again; return the exit code."""
    from gpuledger.pipeline import zombies

    memory = zombies.Memory()

    def look() -> "Scan":
        return zombies.scan(inputs, settings, memory=memory, progress=context.progress(), notes=notes)

    while True:
        found = look()
        _print(context, found, slack=how.slack, everything=settings.show_all)
        if how.choice is not None:
            return applied(found, inputs, settings, how.choice, look)
        if how.watch is None:
            return _code(found, how.limit, asked=how.asked)
        time.sleep(how.watch)


def _metrics(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if not re.fullmatch(r"[a-zA-Z_:][a-zA-Z0-9_:]*", name):
            raise UsageError(
                f"{name!r} is no metric's name", where="--progress", hint="Such as train_steps_total."
            )
    return names


def _rates(context: Context) -> "Callable[[], tuple[Rates | None, list[Diagnostic]]] | None":
    """Return how to read the ledger's rates, None where there is no ledger: it is looked for without starting an engine."""
    from gpuledger.pipeline.zombie_rates import is_there, rates_of

    location = context.location
    if location is None and (context.config_path or Path("gpuledger.toml").is_file()):
        location = context.config.ledger.location
    if not is_there(location or "ledger"):
        return None
    return lambda: rates_of(context.ledger())


def _code(found: "Scan", limit: Decimal | None, *, asked: bool) -> int:
    """Return 1 for findings. Unpriced ones exceed any limit, and a source that failed is never 'all fine'."""
    totals = found.totals
    if limit is None:
        if totals["verdicts"]:
            return 1
    elif (totals["usd_per_hour"] or 0) > limit or totals["unpriced"]:
        return 1
    return 3 if not found.seen or (asked and found.failed) else 0


def _print(context: Context, found: "Scan", *, slack: bool, everything: bool) -> None:
    diagnostics = list(found.diagnostics)
    if not found.seen:
        diagnostics.append(
            Diagnostic(
                "zombies-unknown",
                "error",
                "zombies",
                "no card's state could be told: that is not the same as all being well",
                "Run it where nvidia-smi is, or give --prometheus URL with DCGM's metrics, or --dcgm URL.",
            )
        )
    if slack:
        click.echo(slack_text(found.rows, found.totals))
        for told in diagnostics:
            tell(told)
        return
    if context.format != "table":
        context.emit("zombies", found.rows, totals=found.totals, diagnostics=diagnostics)
        return
    width = min(shutil.get_terminal_size((80, 24)).columns, 120)
    for line in report(found.rows, found.totals, width, everything=everything):
        click.echo(line)
    for told in diagnostics:
        tell(told)


def _history(context: Context, inputs: "Inputs", settings: "Settings") -> int:
    from gpuledger.pipeline.zombie_history import idle_history

    if not inputs.prometheus:
        raise UsageError(
            "only Prometheus has a history", hint="Give --prometheus URL, or set PROMETHEUS_URL."
        )
    rows, totals = idle_history(inputs.prometheus, settings, context.progress())
    context.emit("zombies", history_rows(rows) if context.format == "table" else rows, totals=totals)
    return 0 if rows else 3


def _settings(
    min_idle: str,
    idle_at_most: str,
    look_back: str,
    at: str | None,
    price: str | None,
    match: tuple[str, ...],
    show_all: bool,
) -> "Settings":
    from gpuledger.core.zombies import Limits
    from gpuledger.pipeline.zombies import Settings

    percent = _amount(idle_at_most, "--idle-at-most")
    if percent >= 100:  # noqa: PLR2004
        raise UsageError("every card is idle then", where="--idle-at-most", hint="Such as 1 or 5.")
    warn, back = _span(min_idle, "--min-idle"), _span(look_back, "--look-back")
    if back < warn:
        raise UsageError("the look-back is shorter than --min-idle", where="--look-back", hint="Such as 24h.")
    pairs = [pair.partition("=") for pair in match]
    if any(not name or not sign for name, sign, _ in pairs):
        raise UsageError("no LABEL=VALUE", where="--match", hint="Such as --match cluster=prod.")
    return Settings(
        limits=Limits(warn=warn, idle=percent / 100),
        price=None if price is None else _amount(price, "--price"),
        look_back=back,
        at=None if at is None else _moment(at),
        show_all=show_all,
        match={name: value for name, _, value in pairs},
    )


def _span(text: str, option: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,7})([smhd])", text.strip())
    span = timedelta(seconds=int(found[1]) * _UNITS[found[2]]) if found else timedelta(0)
    if not timedelta(0) < span <= _LONGEST:
        raise UsageError(f"{text!r} is no length of time", where=option, hint="Such as 90s, 15m, 24h or 7d.")
    return span


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text!r} is no time", where="--at", hint="Such as 2026-11-24T06:00:00Z.") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _amount(text: str, option: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount < 10**9:
        raise UsageError(f"{text!r} is no amount", where=option, hint="A number from 0, such as 2.50.")
    return amount
