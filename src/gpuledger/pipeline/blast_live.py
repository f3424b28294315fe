"""Pools of a blast radius as live systems limit them: AWS' quotas, Kubernetes' and Slurm's limits, each with its origin.

A source that can't be asked is told and done without; nothing is changed anywhere.
"""

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import GpuledgerError
from gpuledger.pipeline.blast_radius import Written


@dataclass(frozen=True, slots=True)
class Live:
    """What to ask. `price` is what an hour of a card costs where no list says it; `regions` are AWS'."""

    today: date
    aws: bool = False
    kube: bool = False
    slurm: bool = False
    regions: Sequence[str] = ()
    price: str | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)


@dataclass(slots=True)
class Found:
    """Pools and what there is to say; `failed` when a source that was asked for could not be read."""

    written: list[Written] = field(default_factory=list)
    diagnostics: list[Diagnostic] = field(default_factory=list)
    failed: bool = False
    sources: list[str] = field(default_factory=list)

    def tell(self, code: str, severity: str, source: str, message: str, hint: str) -> None:
        """Add a diagnostic."""
        self.diagnostics.append(Diagnostic(code, severity, source, message, hint))  # type: ignore[arg-type]


def at_hand(environ: Mapping[str, str]) -> tuple[tuple[str, ...], Diagnostic]:
    """Return which of aws, kube and slurm seem to be at hand, without asking anybody, and what was looked for."""
    from gpuledger.pipeline import aws_login

    kubeconfig = environ.get("KUBECONFIG") or str(Path(environ.get("HOME", "/")) / ".kube" / "config")
    there = {
        "aws": ("AWS keys", aws_login.at_hand(environ)),
        "kube": (
            "a kubeconfig or a pod's service account",
            bool(environ.get("KUBERNETES_SERVICE_HOST"))
            or any(Path(part).is_file() for part in kubeconfig.split(os.pathsep) if part),
        ),
        "slurm": ("Slurm (sinfo)", bool(shutil.which("sinfo", path=environ.get("PATH")))),
    }
    yes = ", ".join(words for words, found in there.values() if found) or "nothing"
    no = ", ".join(words for words, found in there.values() if not found) or "nothing"
    told = Diagnostic(
        "blast-radius-looked-for",
        "info" if any(found for _, found in there.values()) else "warning",
        "blast-radius",
        f"found {yes}; did not find {no}",
        "Name them by --aws, --kube, --slurm, or give pools by --pool.",
    )
    return tuple(name for name, (_, found) in there.items() if found), told


def pools(
    live: Live, typed: Sequence[Written], progress: Callable[[str], None] = lambda _: None
) -> tuple[list[Written], Found]:
    """Ask each source; return the typed pools, with the quotas that AWS has for them, and what was found beside them."""
    given, found = list(typed), Found()

    def tried(source: str, ask: Callable[[], None]) -> None:
        progress(f"asking {source}")
        before = len(found.written)
        try:
            ask()
            found.sources += [source] if len(found.written) > before else []
        except GpuledgerError as error:
            found.failed = True
            where = f"{source} ({error.where})" if error.where and error.where != source else source
            found.tell("blast-radius-source-failed", "error", where, error.message, error.hint or "")

    def aws() -> None:
        from gpuledger.pipeline.blast_aws import quotas

        given[:] = quotas(live, given, found)

    def kube() -> None:
        from gpuledger.pipeline.blast_kubernetes import limits

        limits(live, found)

    def slurm() -> None:
        from gpuledger.pipeline.blast_slurm import limits

        limits(live, found)

    for asked, source, ask in (
        (live.aws, "aws", aws), (live.kube, "kubernetes", kube), (live.slurm, "slurm", slurm),
    ):  # fmt: skip
        if asked:
            tried(source, ask)
    return given, found


def overlapping(sources: Sequence[str]) -> list[Diagnostic]:
    """Say that pools of several sources may be the same GPUs: a cluster's nodes come out of its cloud's quota."""
    if len(sources) < 2:  # noqa: PLR2004 - one source counts nothing twice
        return []
    return [
        Diagnostic(
            "blast-radius-may-overlap", "warning", ", ".join(sources),
            "pools of several sources may be the same GPUs, which the total then counts twice",
            "Look at each pool for itself, or ask one source at a time.",
        )
    ]  # fmt: skip
