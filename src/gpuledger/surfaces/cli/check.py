"""`gpuledger check`: the policy's decision and the price of workloads in files, before anything is scheduled."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuledger.surfaces.cli._context import FORMATS, Context, pass_context

if TYPE_CHECKING:
    from gpuledger.pipeline.check import Checked

_SHOWN = ("object", "decision", "gpus", "gpu_model", "usd_per_hour", "est_cost_p90")


@click.command(name="check", short_help="Policy decision and price of manifests, scripts and plans.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option(
    "--policy",
    "policy_file",
    metavar="FILE",
    help="TOML or YAML. Default: gpuledger-policy.toml (or .yaml) here; without one, prices only.",
)
@click.option("--namespace", metavar="NAME", help="Namespace of objects that name none.")
@click.option(
    "--format",
    "own_format",
    type=click.Choice((*FORMATS, "sarif", "markdown")),
    help="sarif for code scanning, markdown for a pull request; else as everywhere.",
)
@click.option("--all", "everything", is_flag=True, help="List objects that run nothing too (table only).")
@pass_context
def command(
    context: Context,
    paths: tuple[str, ...],
    policy_file: str | None,
    namespace: str | None,
    own_format: str | None,
    *,
    everything: bool,
) -> int:
    """Decide on workloads in files: Kubernetes YAML (Helm and Kustomize output too), sbatch scripts, Ray job
    specifications, SkyPilot tasks and Terraform plans (JSON). A folder means the files in it, - standard input.

    Exit code 1 when something is refused. With a ledger, prices are your own rates and hours those of earlier runs.
    """  # noqa: D205 - click prints the first paragraph as it is
    from gpuledger.pipeline import check, policy_files
    from gpuledger.surfaces import ci_check

    if own_format in FORMATS:
        context.output = own_format
    loaded = policy_files.load(policy_files.find(policy_file))
    now = datetime.now(UTC)
    learnt, diagnostics = check.learn(context.ledger(), loaded.policy, now)
    checked = list(check.check([Path(path) for path in paths], loaded, learnt, now, namespace))
    totals = _totals(checked, loaded.path)
    if own_format == "sarif":
        click.echo(json.dumps(ci_check.sarif(checked), indent=2, ensure_ascii=False))
    elif own_format == "markdown":
        click.echo(ci_check.markdown(checked, totals))
    elif context.format == "table":
        _show(checked, totals, everything=everything)
    else:
        context.emit("check", [check.row(one) for one in checked], totals=totals, diagnostics=diagnostics)
    return 1 if totals["denied"] else 0


def _totals(checked: "list[Checked]", policy: Path | None) -> dict[str, Any]:
    outcomes = [one.outcome for one in checked]
    hourly = [
        one.decision.estimate.usd_per_hour
        for one in checked
        if one.decision and one.entry.submission and one.entry.submission.accelerated
    ]
    return {
        "objects": len(checked),
        "allowed": outcomes.count("allow"),
        "warned": outcomes.count("warn"),
        "denied": outcomes.count("deny"),
        "usd_per_hour": sum((price for price in hourly if price is not None), Decimal(0)),
        "unpriced": hourly.count(None),
        "policy": str(policy) if policy else None,
    }


def _show(checked: "list[Checked]", totals: dict[str, Any], *, everything: bool) -> None:
    from gpuledger.pipeline.check import row
    from gpuledger.surfaces.cli._table import show

    interesting = [
        one
        for one in checked
        if everything
        or one.outcome != "allow"
        or (one.entry.submission is not None and one.entry.submission.accelerated)
    ]
    rows = [row(one) for one in interesting]
    title = f"Policy {totals['policy']}" if totals["policy"] else "No policy: prices only"
    show([{key: found[key] for key in _SHOWN} for found in rows], {}, title)
    for found in rows:
        if found["decision"] != "allow":
            click.echo(f"{found['decision']}: {found['object']} ({found['file']}:{found['line']})")
            for reason in found["reasons"]:
                click.echo(f"   {reason}")
    click.echo(
        f"{totals['objects']} objects: {totals['denied']} refused, {totals['warned']} with warnings; "
        f"those that ask for cards cost {totals['usd_per_hour']:,.2f} USD an hour"
        + (f", {totals['unpriced']} have no price" if totals["unpriced"] else "")
    )
