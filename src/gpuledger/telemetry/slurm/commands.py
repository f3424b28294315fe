"""Running Slurm's commands: output spooled to a file, a time limit, and errors that say what to do.

Times come as Unix seconds (SLURM_TIME_FORMAT=%s) and are asked for in UTC (TZ), so that no time zone gets in between.
"""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Self

from gpuledger.errors import SourceError
from gpuledger.telemetry.slurm.answers import Answer

ENVIRONMENT: Final = {"TZ": "UTC", "SLURM_TIME_FORMAT": "%s", "LC_ALL": "C"}

# What Slurm says on stderr, and what helps.
_HINTS: Final = (
    (r"accounting storage is disabled|AccountingStorageType", "Set AccountingStorageType=accounting_storage/slurmdbd in slurm.conf: without it Slurm keeps no job history."),
    (r"configuration (file|source)|slurm\.conf|DNS SRV", "Run it where slurm.conf is, or say where by SLURM_CONF."),
    (r"munge|authentication", "Is munged running on this machine, with the cluster's key?"),
    (r"database|persist|DBD|slurmdbd", "Is slurmdbd up? `sacctmgr show cluster` asks it."),
    (r"contact (slurm )?controller|slurm_load|Unable to contact", "Is slurmctld up? `scontrol ping` asks it."),
    (r"invalid field", "This Slurm lacks a field that we ask for; `sacct --helpformat` lists its fields."),
    (r"permission|access denied|not authorized", "Run it as a user with AdminLevel=Operator, or root."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Commands:
    """How to reach Slurm's commands.

    `prefix` goes before each: `("ssh", "login1")`, `("sudo", "-n", "-u", "slurm")`, `("docker", "exec", "head")`.
    `timeout` is in seconds, per command. `folder` is where output is spooled; the default is the system's.
    """

    prefix: tuple[str, ...] = ()
    timeout: float = 300
    folder: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str) -> "Spool":
        """Run a command and return its whole output. Raises SourceError when it can't be run or takes too long."""
        output = tempfile.TemporaryFile(prefix="gpuledger-slurm-", dir=self.folder)  # noqa: SIM115 - the spool closes it
        spool = Spool(words[0], output)
        try:
            self._run(words, spool)
        except BaseException:
            spool.close()
            raise
        return spool

    def _run(self, words: Sequence[str], spool: "Spool") -> None:
        with tempfile.TemporaryFile(dir=self.folder) as said:
            try:
                process = subprocess.Popen(  # noqa: S603 - words are ours, the prefix the user's own
                    self._command(words),
                    stdin=subprocess.DEVNULL,
                    stdout=spool.output,
                    stderr=said,
                    env=os.environ | ENVIRONMENT | self.environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise SourceError(
                    f"can't run {words[0]}: {error.strerror}",
                    where="slurm",
                    hint=f"Run it where Slurm's commands are, give a prefix such as ssh to a login node, or a file of {words[0]}.",
                ) from error
            try:
                spool.code = process.wait(self.timeout)
            except subprocess.TimeoutExpired:
                spool.late = True
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            except BaseException:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
            said.seek(0)
            spool.said = said.read(20_000).decode("utf-8", "replace").strip()
        spool.seconds = self.timeout

    def _command(self, words: Sequence[str]) -> list[str]:
        told = [f"{name}={value}" for name, value in (ENVIRONMENT | self.environment).items()]
        command = ["env", *told, *words] if self.prefix else list(words)
        if self.prefix and Path(self.prefix[0]).name == "ssh":
            command = [shlex.join(command)]  # the other side's shell takes it apart again
        return [*self.prefix, *command]


@dataclass(slots=True)
class Spool:
    """A command's output and how it ended."""

    name: str
    output: IO[bytes]
    code: int = 0
    late: bool = False
    said: str = ""
    seconds: float = 0

    @property
    def whole(self) -> bool:
        """Whether the command ended well. sacct may say an error and still exit with 0."""
        return not self.late and self.code == 0 and not re.search(r"\b(error|fatal):", self.said)

    def error(self) -> SourceError:
        """Say what went wrong and what helps."""
        if self.late:
            return SourceError(
                f"{self.name} didn't answer within {self.seconds:g} s",
                where="slurm",
                hint="Ask for a shorter time, or give it more seconds; `sdiag` shows what keeps Slurm busy.",
            )
        lines = [line for line in self.said.splitlines() if line.strip()]
        text = "; ".join(lines[:3])[:400] or f"exit code {self.code}"
        hint = next(
            (hint for words, hint in _HINTS if re.search(words, self.said, re.IGNORECASE)),
            f"Run `{self.name}` yourself.",
        )
        return SourceError(f"{self.name} failed: {text}", where="slurm", hint=hint)

    def answer(self, name: str, *, scheduler: bool = False) -> Answer:
        """Return the output as an answer, which can be read again until the spool is closed."""

        def opened() -> IO[bytes]:
            self.output.seek(0)
            return os.fdopen(os.dup(self.output.fileno()), "rb")

        return Answer(name, opened, scheduler)

    def text(self) -> str:
        """Return the whole output."""
        self.output.seek(0)
        return self.output.read().decode("utf-8", "replace")

    def close(self) -> None:
        """Forget the output."""
        self.output.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
