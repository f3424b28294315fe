"""`gpuledger policy`: what belongs to a policy file."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpuledger.core.policy.render import targets
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import UsageError
from gpuledger.surfaces.cli._context import Context, pass_context, tell

if TYPE_CHECKING:
    from gpuledger.core.policy.render import Setting
    from gpuledger.pipeline.policy_files import LoadedPolicy


@click.group(name="policy", short_help="The policy file: its form, and what the webhook knows beside it.")
def command() -> None:
    """The policy file: its form, and what the webhook knows beside it."""


@command.command(name="snapshot")
@click.argument("file", metavar="FILE")
@pass_context
def snapshot(context: Context, file: str) -> None:
    """Write rates and earlier runs of the ledger to FILE, for `admission serve --snapshot`.

    The webhook decides from memory and opens no ledger: run this where the ledger is, such as once an hour. FILE is
    replaced at once, and the webhook reads it anew by itself.
    """
    from gpuledger.pipeline import policy_prices
    from gpuledger.surfaces.admission.state import snapshot_document

    ledger = context.ledger()
    ledger.require()
    con = ledger.connect()
    rates, history = policy_prices.learnt_rates(con), policy_prices.history(con)
    path = Path(file)
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(snapshot_document(rates, history, datetime.now(UTC)), indent=1), "utf-8")
    part.replace(path)
    rows = [{"gpu_model": model, "usd_per_gpu_hour": price} for model, price in sorted(rates.items())]
    context.emit(
        "policy snapshot", rows, totals={"file": str(path), "jobs": len(history.hours)}, title="Rates"
    )


@command.command(name="coverage")
@click.argument("logs", nargs=-1, required=True, metavar="LOG…", type=click.Path(path_type=Path))
@click.option(
    "--policy", "policy_file", metavar="FILE", help="Default: gpuledger-policy.toml (or .yaml) here."
)
@pass_context
def coverage(context: Context, logs: tuple[Path, ...], policy_file: str | None) -> None:
    """Show which share of admitted GPU dollars says whose it is, by week and namespace, from decision logs.

    Dollars are expected costs at admission. `would_refuse` is what audit and warn let through and enforcing would have
    refused. With a policy, exemptions that end within 30 days are told too.
    """
    from gpuledger.pipeline import policy_coverage, policy_files

    path = policy_files.find(policy_file)
    policy = policy_files.load(path).policy if path is not None else None
    found = policy_coverage.coverage(logs, policy, datetime.now(UTC))
    context.emit(
        "policy coverage",
        found.rows,
        totals=found.totals,
        diagnostics=found.diagnostics,
        title="Admitted, USD expected",
    )


@command.command(name="schema")
def schema() -> None:
    """Print the JSON Schema of policy files, for editors and other tools."""
    from gpuledger.pipeline import policy_files

    click.echo(json.dumps(policy_files.schema(), indent=2))


@command.command(name="render")
@click.option("--target", required=True, type=click.Choice(targets()), help="Who enforces it.")
@click.option(
    "--policy", "policy_file", metavar="FILE", help="Default: gpuledger-policy.toml (or .yaml) here."
)
@click.option(
    "--out", metavar="DIR", help="Folder to write to. Without one, a single file goes to standard output."
)
@click.option(
    "--cluster", metavar="NAME", help="Name of the cluster it is for, for rules that name clusters."
)
@click.option("--image", metavar="IMAGE", help="webhook: image that has gpuledger. There is none of ours.")
@click.option(
    "--ca-bundle", metavar="FILE", help="webhook: CA certificate (PEM) that the API server shall trust."
)
@click.option(
    "--namespace", default="gpuledger", show_default=True, metavar="NAME", help="webhook: where it runs."
)
@click.option(
    "--failure-policy",
    type=click.Choice(("Ignore", "Fail")),
    default="Ignore",
    show_default=True,
    help="What the API server does where a rule can't be evaluated or the webhook can't be reached.",
)
@click.option("--strict", is_flag=True, help="Exit code 1 when a rule isn't enforced there.")
@pass_context
def render(context: Context, /, **given: Any) -> int:  # noqa: ANN401 - click's options
    """Write the policy in another plane's own words, for one that enforces it without a server of ours, or with it.

    What a plane can't keep is told, and stands in the files: it is never left out silently.
    """
    from gpuledger.core.policy import render as planes
    from gpuledger.pipeline import policy_files, policy_render

    path = policy_files.find(given["policy_file"])
    if path is None:
        raise UsageError("there is no policy file here", hint="Give --policy FILE.")
    loaded = policy_files.load(path)
    rendered = planes.render(given["target"], loaded.policy, _setting(loaded, path, given))
    texts = policy_render.texts(given["target"], rendered)
    told = [
        Diagnostic(
            "policy-not-enforced",
            "info" if note.state == "partly" else "warning",
            f"{given['target']}: {note.rule}",
            note.text,
        )
        for note in rendered.notes
    ]
    lost = [note for note in rendered.notes if note.state == "not enforced"]
    if given["out"] is None:
        if len(texts) > 1:
            raise UsageError(f"{given['target']} is {len(texts)} files", hint="Give --out DIR.")
        click.echo("".join(texts.values()), nl=False)
        for one in told:
            tell(one)
    else:
        rows = policy_render.write(Path(given["out"]), texts)
        totals = {"target": given["target"], "not_enforced": len(lost), "partly": len(told) - len(lost)}
        context.emit("policy render", rows, totals=totals, diagnostics=told, title="Rendered policy")
    return 1 if lost and given["strict"] else 0


def _setting(loaded: "LoadedPolicy", path: Path, given: dict[str, Any]) -> "Setting":
    from gpuledger.core.policy.render import Setting

    bundle = None
    try:
        if given["ca_bundle"] is not None:
            bundle = base64.b64encode(Path(given["ca_bundle"]).read_bytes()).decode()
        listed = {
            one.file: (path.parent / one.file).read_text("utf-8")
            for one in loaded.policy.registers.values()
            if one.file is not None
        }
        source = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"can't be read: {error}", where=str(path), hint="Is the file there, as text?"
        ) from error
    return Setting(
        now=datetime.now(UTC),
        registers=loaded.registers,
        cluster=given["cluster"],
        failure_policy=given["failure_policy"],
        namespace=given["namespace"],
        image=given["image"],
        ca_bundle=bundle,
        source=source,
        source_name=path.name,
        listed=listed,
    )
