"""`--help` and `--version` answer before any engine is imported."""

import subprocess
import sys

import click
import pytest

from gpuledger import __version__
from gpuledger.surfaces.cli import cli

HEAVY = {
    "arro3",
    "deltalake",
    "duckdb",
    "fastapi",
    "genai_prices",
    "httpx",
    "obstore",
    "pydantic",
    "rich",
    "uvicorn",
}
PROGRAM = """
import sys
from gpuledger.surfaces.cli import main
try:
    main(sys.argv[1:])
finally:
    print("imported:", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
"""


def verbs() -> list[str]:
    return cli.list_commands(click.Context(cli))


def imported(*words: str) -> tuple[set[str], str]:
    run = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    line = run.stderr.strip().splitlines()[-1]
    assert line.startswith("imported:")
    return set(line.split()[1:]), run.stdout


def test_help_imports_no_engine() -> None:
    modules, out = imported("--help")
    assert "click" in modules
    assert modules & HEAVY == set()
    assert all(verb in out for verb in verbs())


def test_version_imports_no_engine() -> None:
    modules, out = imported("--version")
    assert modules & HEAVY == set()
    assert out.strip().endswith(__version__)


@pytest.mark.parametrize("verb", verbs())
def test_the_help_of_a_verb_imports_no_engine(verb: str) -> None:
    modules, out = imported(verb, "--help")
    assert modules & HEAVY == set()
    assert out.startswith(f"Usage: gpuledger {verb}")
