"""What the webhook knows, and how that is renewed: policy, registers, namespaces, rates and earlier runs.

Everything is read beside the requests, and replaced at once. What can't be read any more stays as it was, loudly.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from gpuledger.core.policy import Budget, History
from gpuledger.core.workload.fields import Json
from gpuledger.errors import ConfigError, GpuledgerError
from gpuledger.pipeline import policy_files, policy_prices
from gpuledger.surfaces.admission.review import Memory

log = logging.getLogger("gpuledger.admission")
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """Return the moment."""
    return datetime.now(UTC)


@dataclass(slots=True)
class State:
    """The files that decisions are made from, and what they said last.

    `snapshot` holds rates and earlier runs, as `gpuledger policy snapshot` writes them. `fetch_namespaces` asks the
    cluster for its namespaces; None: nobody asks, and their labels are no defaults.
    """

    policy: Path
    snapshot: Path | None = None
    cluster: str | None = None
    fetch_namespaces: Callable[[], Mapping[str, Json]] | None = None
    clock: Clock = utc_now
    failures: int = 0
    reloads: int = 0
    left: dict[str, Decimal] = field(default_factory=dict)
    _seen: dict[Path, tuple[int, int]] = field(default_factory=dict)
    _memory: Memory | None = None

    @property
    def memory(self) -> Memory:
        """Return what decisions are made from now."""
        assert self._memory is not None, "load() comes first"  # noqa: S101 - an order of our own calls
        return self._memory

    def load(self) -> None:
        """Read everything. Raises ConfigError or whatever else is wrong, and keeps what was known."""
        loaded = policy_files.load(self.policy)
        watched = [self.policy, *([self.snapshot] if self.snapshot else [])]
        watched += [self.policy.parent / one.file for one in loaded.policy.registers.values() if one.file]
        seen = {path: _stamp(path) for path in watched}
        rates, history = read_snapshot(self.snapshot) if self.snapshot else ({}, History({}))
        known = self._memory.namespaces if self._memory else {}
        self._memory = Memory(
            policy=loaded.policy,
            rates=policy_prices.rates(loaded.policy, rates, self.clock().date()),
            history=history,
            registers=loaded.registers,
            namespaces=known,
            left=self._left,
            cluster=self.cluster,
        )
        self._seen = seen

    def _left(self, budget: Budget) -> Decimal | None:
        return self.left.get(budget.name)

    def reload(self) -> bool:
        """Read anew if a file changed; True when it did. What is broken is logged, and the old policy stays."""
        if all(_stamp(path) == seen for path, seen in self._seen.items()):
            return False
        try:
            self.load()
        except GpuledgerError as error:
            self.failures += 1
            log.error("the policy stays as it was, its new version is broken: %s", error)  # noqa: TRY400 - told in words
            self._seen = {path: _stamp(path) for path in self._seen}
            return False
        self.reloads += 1
        log.warning("read %s anew: mode %s", self.policy, self.memory.policy.mode)
        return True

    def refresh_namespaces(self) -> None:
        """Ask the cluster for its namespaces; what can't be asked stays as it was."""
        if self.fetch_namespaces is None:
            return
        try:
            found = self.fetch_namespaces()
        except GpuledgerError as error:
            self.failures += 1
            log.error("namespaces can't be read, those known stay: %s", error)  # noqa: TRY400 - told in words
            return
        self._memory = replace(self.memory, namespaces=found)


def _stamp(path: Path) -> tuple[int, int]:
    """Return what changes when a file does; a mounted ConfigMap changes its link, so links are followed."""
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_ino)


def snapshot_document(rates: Mapping[str, Decimal], history: History, now: datetime) -> dict[str, Any]:
    """Return rates and earlier runs as a JSON document."""
    return {
        "version": 1,
        "written": now.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "usd_per_gpu_hour": {model: str(price) for model, price in sorted(rates.items())},
        "runs": [
            {"kind": kind, "namespace": namespace, "name": name, "hours": [str(one) for one in hours]}
            for (kind, namespace, name), hours in sorted(
                history.hours.items(), key=lambda item: (item[0][0], item[0][1] or "", item[0][2])
            )
        ],
    }


def read_snapshot(path: Path) -> tuple[dict[str, Decimal], History]:
    """Read rates and earlier runs. Raises ConfigError."""
    try:
        document = json.loads(path.read_text("utf-8"))
        if document["version"] != 1:
            raise ConfigError(f"version {document['version']} isn't known", where=str(path), hint=_HINT)
        rates = {str(model): Decimal(price) for model, price in document["usd_per_gpu_hour"].items()}
        runs = {
            (str(run["kind"]), run["namespace"], str(run["name"])): [Decimal(one) for one in run["hours"]]
            for run in document["runs"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InvalidOperation) as error:
        raise ConfigError(f"isn't a snapshot: {error!r}", where=str(path), hint=_HINT) from error
    return rates, History(runs)


_HINT = "`gpuledger policy snapshot FILE` writes one."
