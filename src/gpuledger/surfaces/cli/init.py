"""`gpuledger init`: guided set-up."""

import os
import re
import shutil
from pathlib import Path

import click

from gpuledger.errors import UsageError
from gpuledger.surfaces.cli._context import Context, pass_context

_KEYS = {"ANTHROPIC_ADMIN_KEY": "anthropic", "OPENAI_ADMIN_KEY": "openai"}


@click.command(name="init", short_help="Find bills and write gpuledger.toml.")
@click.option(
    "--scan",
    metavar="DIR",
    multiple=True,
    help="Folder to look for bills in (default: this one; repeatable).",
)
@click.option("--yes", is_flag=True, help="Take everything that was found, ask nothing.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@pass_context
def command(context: Context, scan: tuple[str, ...], *, yes: bool, force: bool) -> None:
    """Look for bills, API keys in the environment, a Kubernetes configuration, Prometheus and Slurm.

    Writes gpuledger.toml with the sources that you want; secrets are named there, never written.
    """
    from gpuledger.pipeline.identify import bills_below

    target = Path(context.config_path or "gpuledger.toml")
    if target.exists() and not force:
        raise UsageError(
            "there is a configuration already",
            where=str(target),
            hint="Edit it, or add --force to replace it.",
        )
    rows = []
    for folder in scan or (".",):
        for path, kind in bills_below(Path(folder)).items():
            rows.append({"found": "bill", "name": _name(path, kind), "type": kind, "where": path})
    for variable, kind in _KEYS.items():
        if os.environ.get(variable):
            rows.append({"found": "API key", "name": kind, "type": kind, "where": f"${variable}"})
    chosen = [
        row
        for row in rows
        if yes or click.confirm(f"{row['type']:12} {row['where']}: use it?", default=True, err=True)
    ]
    _unique(chosen)
    location = context.location or "ledger"
    target.write_text(_toml(location, chosen), "utf-8")
    rows += _surroundings()
    context.emit("init", rows, totals={"written": str(target), "sources": len(chosen)})
    click.echo(f"Wrote {target}. Next: gpuledger config check, then gpuledger ingest.", err=True)


def _name(path: str, kind: str) -> str:
    stem = re.sub(r"[^a-z0-9]+", "-", Path(path).name.split(".")[0].lower()).strip("-")
    return stem if stem.startswith(kind) else f"{kind}-{stem}"


def _unique(rows: list[dict[str, str]]) -> None:
    seen: dict[str, int] = {}
    for row in rows:
        seen[row["name"]] = seen.get(row["name"], 0) + 1
        if seen[row["name"]] > 1:
            row["name"] += f"-{seen[row['name']]}"


def _surroundings() -> list[dict[str, str]]:
    """What later commands can use; nothing of it is written into the configuration."""
    found = []
    kube = Path(os.environ.get("KUBECONFIG", Path.home() / ".kube" / "config"))
    if kube.is_file():
        found.append({"found": "Kubernetes", "name": "", "type": "kubernetes", "where": str(kube)})
    if url := os.environ.get("PROMETHEUS_URL"):
        found.append({"found": "Prometheus", "name": "", "type": "prometheus", "where": url})
    if sinfo := shutil.which("sinfo"):
        found.append({"found": "Slurm", "name": "", "type": "slurm", "where": sinfo})
    if smi := shutil.which("nvidia-smi"):
        found.append({"found": "GPU", "name": "", "type": "nvidia-smi", "where": smi})
    return found


def _toml(location: str, rows: list[dict[str, str]]) -> str:
    lines = [
        "# Written by `gpuledger init`; docs/config.md lists every key.",
        "",
        "[ledger]",
        f"location = {_text(location)}",
    ]
    for row in rows:
        lines += ["", f"[sources.{row['name']}]", f"type = {_text(row['type'])}"]
        if row["found"] == "bill":
            lines.append(f"path = {_text(row['where'])}")
        else:
            lines.append(f"api_key_env = {_text(row['where'].removeprefix('$'))}")
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
