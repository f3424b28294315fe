"""`gpuledger blast-radius`: what a bad weekend could cost, and which guardrail takes most off it."""

import os
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import UsageError
from gpuledger.surfaces.cli._context import Context, pass_context

if TYPE_CHECKING:
    from gpuledger.core.blast_radius import Radius
    from gpuledger.core.calendar import WorkingHours
    from gpuledger.pipeline.blast_radius import Inputs, Shared, Written

_MOST_SEED = 2**53 - 1


@click.command(
    name="blast-radius", short_help="What a bad weekend could cost, and which guardrail is worth most."
)
@click.option(
    "--pool",
    "pools",
    multiple=True,
    metavar="KEY=VALUE,…",
    help="A GPU pool: name, gpus (or instances), usd_per_gpu_hour (or usd_per_instance_hour, or instance_type and region, and pricing=spot), max_hours, quota, autoscaler_max, obtainable, lease_cap, lease_usd, idle_commitment_gpus, storage_usd, egress_usd, storage_usd_per_hour, egress_usd_per_hour, detect, respond (repeatable).",
)
@click.option(
    "--tokens-pool",
    "tokens",
    multiple=True,
    metavar="KEY=VALUE,…",
    help="A pool of tokens: name, usd_per_hour (or tokens_per_minute and usd_per_mtok, or model and input_, output_, cache_read_, cache_write_tokens_per_minute), max_hours, lease_usd (repeatable).",
)
@click.option(
    "--detect",
    metavar="DIST",
    help="Time until an alert: 24h, 5m..15m..1h (triangular), 5m..1h (uniform), lognormal(20m,3h) (median and 90th percentile).",
)
@click.option("--respond", metavar="DIST", help="Time from the alert until the pool is stopped.")
@click.option(
    "--calendar",
    metavar="WHEN",
    help="Until someone looks: weekend, night, days off as 2026-12-24..2027-01-01, or the moment it begins, 2026-10-10T02:00.",
)
@click.option(
    "--hours",
    "hours",
    metavar="FROM-TO",
    help="Working hours, Monday to Friday (default 8-20).",
)
@click.option(
    "--timezone",
    metavar="ZONE",
    help="Of the calendar, such as Europe/Berlin: then changes of the clock count.",
)
@click.option("--holidays", multiple=True, metavar="DATE,…", help="Days on which nobody works.")
@click.option(
    "--begins",
    type=click.Choice(["leave", "random"]),
    help="It begins as people leave (default), or at any moment of the calendar's gap.",
)
@click.option(
    "--guardrail",
    "rails",
    multiple=True,
    metavar="KEY=VALUE,…",
    help="A guardrail to weigh: name, detect, respond, max_hours, look, lease_cap, lease_usd, quota_percent, autoscaler_percent (repeatable; replaces the usual ones).",
)
@click.option("--file", "file", metavar="TOML", help="Read all of this from a file; options come before it.")
@click.option(
    "--from-ledger", "from_ledger", is_flag=True, help="Add the GPU pools that the ledger's bills show."
)
@click.option(
    "--from-live",
    "from_live",
    is_flag=True,
    help="Add pools of what is at hand of AWS, Kubernetes and Slurm.",
)
@click.option("--aws", is_flag=True, help="Add AWS' quotas of P, G and VT instances, less what runs.")
@click.option(
    "--aws-region",
    "regions",
    multiple=True,
    metavar="REGION",
    help="Of --aws (repeatable; default: your AWS region).",
)
@click.option("--kube", is_flag=True, help="Add what Kubernetes' quotas, queues and autoscalers let through.")
@click.option("--slurm", is_flag=True, help="Add what Slurm's partitions, QOS and associations let through.")
@click.option(
    "--price",
    metavar="USD_PER_GPU_HOUR",
    help="Of live pools that no price file knows (default: the lowest list price).",
)
@click.option("--seed", type=click.IntRange(0, _MOST_SEED), help="Of the random draws (default 1).")
@click.option("--samples", type=click.IntRange(100, 200_000), help="Number of draws (default 10000).")
@click.option(
    "--html",
    "html",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write the calculator with these inputs as one offline page.",
)
@click.option("--serve", is_flag=True, help="Show that page in a browser, from this machine only.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8123,
    show_default=True,
    help="Port of --serve; 0: any free one.",
)
@pass_context
def command(
    context: Context,
    /,
    seed: int | None,
    samples: int | None,
    html: str | None,
    port: int,
    *,
    serve: bool,
    **given: Any,  # noqa: ANN401 - click's other options, by name
) -> None:
    """Say what a mistake in GPU or token pools can cost before somebody stops it.

    Loss = GPUs that can be started × price × time until it ends; every input is shown with its origin, the arithmetic line
    by line. Distributions are your assumptions: P50, P90 and P99 are only as good as they are. Exits with 1 when a live
    source that was asked for could not be read.
    """
    from gpuledger.core.blast_radius import SAMPLES, assess
    from gpuledger.pipeline import blast_radius as pipeline

    settings, written = pipeline.read_file(given["file"]) if given["file"] else ({}, [])
    written += pipeline.typed(given["pools"], "gpu") + pipeline.typed(given["tokens"], "tokens")
    asked = bool(written)
    hours = _working_hours(given, settings)
    shared = _shared(given, settings, hours)
    written, diagnostics, failed = _found(context, given, written, hours, shared)
    if not written and diagnostics:
        context.emit("blast-radius", [], diagnostics=diagnostics)
        click.get_current_context().exit(1)
    if not written and (html or serve):
        written = pipeline.typed([_EXAMPLE], "gpu")
        shared = _shared({**given, "detect": given["detect"] or "24h"}, settings, hours)
    elif not asked and shared.look is None and "detect" not in shared.times:
        shared = _shared({**given, "calendar": "weekend"}, settings, hours)
        if shared.look is not None:
            shared = replace(
                shared,
                look=replace(shared.look, told=f"default, since nothing else ends it: {shared.look.told}"),
            )
    inputs = pipeline.resolve(written, shared)
    inputs.diagnostics += diagnostics
    said = [pipeline.split(text, "--guardrail") for text in given["rails"]] or settings.get("guardrails", [])
    rails = pipeline.guardrails(said) if said else pipeline.usual_guardrails(inputs.pools)
    seed = _whole(settings, "seed", 0, _MOST_SEED, 1) if seed is None else seed
    samples = _whole(settings, "samples", 100, 200_000, SAMPLES) if samples is None else samples
    radius = assess(inputs.pools, rails, seed=seed, samples=samples)
    if html or serve:
        from gpuledger.surfaces.blast_radius_page import render, serve_page

        page = render(pipeline.page_model(inputs, rails if said else None, seed=seed, samples=samples))
        if html:
            Path(html).write_text(page, "utf-8")
            click.echo(f"wrote {html}: open it in a browser, it needs no network", err=True)
        if serve:
            serve_page(page, port, lambda text: click.echo(text, err=True))
            return
    _show(context, radius, inputs, {"seed": seed, "samples": samples})
    if failed:
        click.get_current_context().exit(1)


def _found(
    context: Context, given: dict[str, Any], written: "list[Written]", hours: "WorkingHours", shared: "Shared"
) -> "tuple[list[Written], list[Diagnostic], bool]":
    """Return the pools with those that the ledger and live systems show, what there is to say, and whether one failed."""
    from gpuledger.pipeline import blast_live

    environ, diagnostics = dict(os.environ), []
    sources = {name for name in ("aws", "kube", "slurm") if given[name]}
    if given["from_live"]:
        there, told = blast_live.at_hand(environ)
        sources |= set(there)
        diagnostics.append(told)
    failed = False
    gave: list[str] = []
    if sources:
        live = blast_live.Live(
            shared.today,
            aws="aws" in sources,
            kube="kube" in sources,
            slurm="slurm" in sources,
            regions=given["regions"],
            price=given["price"],
            environ=environ,
        )
        written, found = blast_live.pools(live, written, context.progress())
        written += found.written
        diagnostics += found.diagnostics
        failed, gave = found.failed, found.sources
    if given["from_ledger"]:
        from gpuledger.pipeline.blast_ledger import pools_of

        pools, notes = pools_of(context.ledger(), hours, shared.today)
        written += pools
        diagnostics += notes
        gave = [*gave, "ledger"]
    diagnostics += blast_live.overlapping(gave)
    return written, diagnostics, failed


_EXAMPLE = "name=example,instances=200,gpus_per_instance=8,usd_per_instance_hour=32.4,max_hours=11"


def _whole(settings: dict[str, Any], key: str, low: int, high: int, default: int) -> int:
    found = settings.get(key, default)
    if not isinstance(found, int) or isinstance(found, bool) or not low <= found <= high:
        raise UsageError(f"{key} = {found!r} is no whole number from {low} to {high}", hint="Mend the file.")
    return found


def _working_hours(given: dict[str, Any], settings: dict[str, Any]) -> "WorkingHours":
    from gpuledger.core.calendar import WorkingHours, holidays, time_zone

    said = str(given["hours"] or settings.get("hours", "8-20"))
    opens, dash, closes = said.partition("-")
    if not dash or not opens.isdecimal() or not closes.isdecimal() or not 0 <= int(opens) < int(closes) <= 24:  # noqa: PLR2004
        raise UsageError(f"can't read --hours {said!r}", hint="Write 8-20: whole hours, from before to.")
    told = given["holidays"] or settings.get("holidays", [])
    days = [str(day) for day in told] if isinstance(told, list | tuple) else [str(told)]
    zone = given["timezone"] or settings.get("timezone")
    return WorkingHours(int(opens), int(closes), holidays(days), time_zone(str(zone)) if zone else None)


def _shared(given: dict[str, Any], settings: dict[str, Any], hours: "WorkingHours") -> "Shared":
    from gpuledger.core.calendar import unattended
    from gpuledger.pipeline.blast_radius import Shared

    times: dict[str, tuple[str, str]] = {}
    for key in ("detect", "respond"):
        if given[key] is not None:
            times[key] = (given[key], "typed")
        elif key in settings:
            times[key] = (str(settings[key]), f"file {given['file']}")
    when = given["calendar"] or settings.get("calendar")
    begins = given["begins"] or settings.get("begins", "leave")
    if begins not in {"leave", "random"}:
        raise UsageError(f"begins = {begins!r} is neither leave nor random", hint="Mend the file.")
    look = unattended(str(when), hours) if when else None
    return Shared(times, datetime.now(UTC).date(), look, random_begin=begins == "random")


def _show(context: Context, radius: "Radius", inputs: "Inputs", basis: dict[str, int]) -> None:
    from gpuledger.core.blast_lines import lines
    from gpuledger.pipeline.blast_radius import dollars
    from gpuledger.surfaces.cli._table import show

    rows = [
        {
            "pool": one.pool.name,
            "kind": one.pool.kind,
            "gpus": one.gpus,
            "hours": (Decimal(one.seconds) / 3600).quantize(Decimal("0.000001")),
            "usd_per_hour": dollars(one.usd_per_hour),
            "loss_p50": dollars(one.loss.p50),
            "loss_p90": dollars(one.loss.p90),
            "loss_p99": dollars(one.loss.p99),
            "worst_case": dollars(one.worst),
        }
        for one in radius.pools
    ]
    weighed = [
        {
            "name": one.guardrail.name,
            "removes_usd": dollars(one.removes_p99),
            "removes_p50_usd": dollars(one.removes_p50),
            "leaves_p99_usd": dollars(one.left.p99),
        }
        for one in radius.guardrails
    ]
    totals: dict[str, Any] = {
        f"{name}_{rank}": dollars(getattr(found, rank))
        for name, found in (("same_mistake", radius.same), ("independent", radius.independent))
        for rank in ("p50", "p90", "p99")
    }
    totals |= {"worst_case": dollars(radius.worst), "currency": "USD", **basis}
    together = None if radius.together is None else dollars(radius.together.removes_p99)
    if context.format != "table":
        totals |= {
            "guardrails": weighed, "all_guardrails_remove_usd": together, "arithmetic": lines(radius), "inputs": inputs.rows(),
        }  # fmt: skip
        context.emit("blast-radius", rows, totals=totals, diagnostics=inputs.diagnostics)
        return
    shown = {f"loss_{rank}": totals[f"same_mistake_{rank}"] for rank in ("p50", "p90", "p99")}
    context.emit(
        "blast-radius",
        rows,
        totals=shown | {"worst_case": totals["worst_case"]},
        diagnostics=inputs.diagnostics,
    )
    _tell(totals, weighed, together, inputs)
    click.echo("\n".join(["Arithmetic", *lines(radius), ""]))
    show(inputs.rows(), {}, "Inputs and where they came from")


def _tell(
    totals: dict[str, Any], weighed: list[dict[str, Any]], together: Decimal | None, inputs: "Inputs"
) -> None:
    from gpuledger.surfaces.cli._table import show

    worst, p50, p99 = (totals[name] for name in ("worst_case", "same_mistake_p50", "same_mistake_p99"))
    said = f"One mistake costs ${p50:,.2f}."
    if worst != p50:
        said = f"One mistake costs up to ${p99:,.2f} in 99 of 100 cases, ${p50:,.2f} in the middle, ${worst:,.2f} at worst."
    if weighed and weighed[0]["removes_usd"]:
        said += f" Worth most: {weighed[0]['name']}. It alone leaves ${weighed[0]['leaves_p99_usd']:,.2f}."
    if len(inputs.pools) > 1:
        said += (
            f"\nThe last line is one mistake in all pools at once. Independent mistakes: P50 {totals['independent_p50']:,.2f}, "
            f"P90 {totals['independent_p90']:,.2f}, P99 {totals['independent_p99']:,.2f}."
        )
    click.echo(
        f"{said}\n{totals['samples']:,} draws, seed {totals['seed']}; distributions are assumptions of whoever gave them.\n"
    )
    show(weighed, {}, "What each guardrail alone takes off the loss of one mistake (removes_usd: off P99)")
    if together is not None:
        click.echo(f"All of them together take {together:,.2f} off; alone they overlap and don't add up.\n")
