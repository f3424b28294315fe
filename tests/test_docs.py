"""The reference pages say what the code does, every link leads somewhere, and the README's commands run.

`UPDATE_DOCS=1` writes the generated pages anew.
"""

import ast
import io
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.text import Text

from gpuledger import registry
from gpuledger.config import (
    AllocationSection,
    Config,
    LedgerSection,
    OverheadSection,
    PriceSection,
    PricesSection,
    SavingsSection,
    SourceSection,
    TagsSection,
    TelemetrySection,
)
from gpuledger.surfaces.cli import cli

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
NOTE = "<!-- Generated from the code: `UPDATE_DOCS=1 make test ARGS='-k reference'` writes it anew. -->\n"


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for verb in group.list_commands(context):
        command = group.get_command(context, verb)
        assert command is not None
        yield f"{name} {verb}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {verb}")


def cli_page() -> str:
    parts = [f"{NOTE}# Command line\n"]
    for name, command in [("gpuledger", cli), *commands(cli, "gpuledger")]:
        words = name.split()[1:]
        shown = CliRunner().invoke(cli, [*words, "--help"], prog_name="gpuledger", terminal_width=110)
        assert shown.exit_code == 0, f"{name}: {shown.output}"
        assert command.help, f"{name} has no help"
        parts.append(f"## `{name}`\n\n```text\n{shown.output.rstrip()}\n```\n")
    return "\n".join(parts)


def config_page() -> str:
    parts = [f"{NOTE}# gpuledger.toml\n", (Config.__doc__ or ""), ""]
    for model in (
        LedgerSection,
        SourceSection,
        TelemetrySection,
        TagsSection,
        PricesSection,
        PriceSection,
        AllocationSection,
        OverheadSection,
        SavingsSection,
    ):
        parts += [f"## {(model.__doc__ or '').strip()}\n", "| key | default | meaning |", "|---|---|---|"]
        for key, field in model.model_fields.items():
            default = (
                "required"
                if field.is_required()
                else ""
                if field.default in {None, ...}
                else f"`{field.default}`"
            )
            parts.append(
                f"| `{key}` | {'' if 'PydanticUndefined' in default else default} | {field.description} |"
            )
        parts.append("")
    import gpuledger.config as module

    return "\n".join(parts) + "\n" + (module.__doc__ or "").split("\n\n", 1)[1]


def connectors_page() -> str:
    rows = [f"{NOTE}# Connectors\n", "| `--type` | what it reads | must have columns |", "|---|---|---|"]
    for connector in registry.sources():
        required = (
            ", ".join(f"`{name.replace('|', '` or `')}`" for name in connector.REQUIRED) or "as its map says"
        )
        rows.append(f"| `{connector.TYPE}` | {connector.TITLE} | {required} |")
    rows.append("")
    for connector in registry.sources():
        rows += [f"## {connector.TYPE}\n", (connector.__doc__ or "").strip(), ""]
    return "\n".join(rows)


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "config.md": config_page,
    "connectors.md": connectors_page,
}


@pytest.mark.parametrize("name", PAGES)
def test_reference_page(name: str) -> None:
    page, path = PAGES[name]().rstrip() + "\n", DOCS / "reference" / name
    if os.environ.get("UPDATE_DOCS"):
        path.write_text(page, "utf-8")
    assert path.read_text("utf-8") == page


def test_the_picture_of_the_readme_is_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example company's report, from its native bills through the connectors, is what the picture shows."""
    monkeypatch.chdir(tmp_path)
    for words in (["demo"], ["build"]):
        assert CliRunner().invoke(cli, ["--ledger", "ledger", *words]).exception is None
    shown = CliRunner().invoke(cli, ["--ledger", "ledger", "--format", "table", "report"]).output
    (first,) = re.findall(r"most likely owns them:\n(?:.*\n){3}(.*)", shown)
    assert "200 × p4d.24xlarge" in first  # the weekend run is named first
    console = Console(record=True, width=140, file=io.StringIO())
    for line in ["$ gpuledger report", *shown.splitlines()]:
        console.print(Text(line.rstrip()), no_wrap=True, overflow="ignore", crop=True)
    picture = console.export_svg(title="gpuledger report: a synthetic company", unique_id="report")
    picture = re.sub(
        r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL
    )  # no font is fetched from elsewhere
    path = DOCS / "images" / "report.svg"
    if os.environ.get("UPDATE_DOCS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(picture, "utf-8")
    assert path.read_text("utf-8") == picture


def diagnostic_codes() -> set[str]:
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Diagnostic" and node.args:
                first = node.args[0]
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    found.add(first.value)
    return found


def test_every_diagnostic_code_is_explained() -> None:
    page = (DOCS / "diagnostics.md").read_text("utf-8")
    explained = set(re.findall(r"^\| `([a-z0-9-]+)`", page, re.MULTILINE))
    assert diagnostic_codes() <= explained


def test_every_link_in_the_docs_leads_somewhere() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")]
    links = [
        (page, link)
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8"))
        if not re.match(r"[a-z]+://|mailto:", link)
    ]
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


def test_the_drawing_names_the_folders_that_exist() -> None:
    page = (DOCS / "architecture.md").read_text("utf-8")
    package = ROOT / "src" / "gpuledger"
    folders = {path.name for path in package.iterdir() if path.is_dir() and path.name != "__pycache__"}
    named = set(re.findall(r"^  ([a-z_]+)/", page, re.MULTILINE))
    assert named == folders


def readme_commands() -> list[str]:
    text = (ROOT / "README.md").read_text("utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ gpuledger")]


def test_the_commands_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, in an empty folder; `bills/` there stands for the reader's own bills."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bills").mkdir()
    header = "BilledCost,EffectiveCost,BillingAccountId,BillingCurrency,BillingPeriodStart,ChargePeriodStart,ServiceName,Tags"
    row = '1.25,1.25,0042,USD,2026-10-01T00:00:00Z,2026-10-03T00:00:00Z,Compute,"{""team"": ""vision""}"'
    (tmp_path / "bills" / "focus-2026-10.csv").write_text(f"{header}\n{row}\n", "utf-8")
    found = readme_commands()
    assert len(found) > 4
    for line in found:
        words = shlex.split(line, comments=True)[1:]
        result = CliRunner().invoke(cli, words)
        code = result.return_value if isinstance(result.return_value, int) else result.exit_code
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            f"{line}: {result.exception}"
        )
        assert code in {0, 1}, f"{line}: {result.output}"
