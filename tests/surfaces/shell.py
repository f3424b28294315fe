"""Running `gpuledger` as a shell would, in this process or as the installed program, on small synthetic bills."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gpuledger.surfaces.cli import main

HEADER = "BilledCost,EffectiveCost,BillingAccountId,BillingCurrency,BillingPeriodStart,ChargePeriodStart,ServiceName,Tags"
# Synthetic: two months of one account.
SEPTEMBER = "2.50,2.25,0042,USD,2026-09-01T00:00:00Z,2026-09-03T00:00:00Z,Storage,"
OCTOBER = (
    '1.25,1.125,0042,USD,2026-10-01T00:00:00Z,2026-10-03T00:00:00Z,Compute,"{""team"": ""vision""}"',
    '0.000000000000000001,0.5,0042,USD,2026-10-01T00:00:00Z,2026-10-17T00:00:00Z,Storage,"{""team"": ""nlp""}"',
)
EUROS = "7,7,0043,EUR,2026-10-01T00:00:00Z,2026-10-05T00:00:00Z,Compute,"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Exit code, standard output and standard error of one command."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:  # noqa: ANN401  # JSON
        """Standard output as the one JSON object that it must be."""
        return json.loads(self.out)


def gpuledger(*words: object, environ: Mapping[str, str] | None = None) -> Outcome:
    """Run a command in this process, through the same entry point as the program."""
    code: str | int | None = None
    with CliRunner().isolation(env=environ) as (out, err, _):
        try:
            main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
        sys.stdout.flush()
        sys.stderr.flush()
        texts = out.getvalue().decode(), err.getvalue().decode()
    assert isinstance(code, int)
    return Outcome(code, *texts)


def program() -> str:
    """Path of the installed program."""
    found = shutil.which("gpuledger", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("the program is not installed beside this Python: pip install --no-deps -e .")
    return found


def installed(folder: Path, *words: object, environ: Mapping[str, str] | None = None) -> Outcome:
    """Run the installed program in a folder."""
    run = subprocess.run(
        [program(), *map(str, words)], cwd=folder, env={**os.environ, **(environ or {})}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    return Outcome(run.returncode, run.stdout, run.stderr)


def bill(path: Path, *rows: str, header: str = HEADER) -> Path:
    """Write a synthetic FOCUS bill."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return path
