"""Names to modules: `aws-cur2` is `gpuledger.sources.aws_cur2`, or a third party's entry point of that name.

Third parties register connectors in the entry point group `gpuledger.sources`, telemetry modules in
`gpuledger.telemetry`, savings rules in `gpuledger.savings`.
"""

import difflib
import importlib
import pkgutil
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import cast

import gpuledger.savings
import gpuledger.sources
import gpuledger.telemetry
from gpuledger.core.contracts import FileConnector
from gpuledger.core.savings import Rule
from gpuledger.core.telling import TelemetryModule
from gpuledger.errors import GpuledgerError, UsageError

_GROUP = "gpuledger.sources"
_TELEMETRY = "gpuledger.telemetry"
_SAVINGS = "gpuledger.savings"


def source_names() -> list[str]:
    """Return the connector types that are installed, sorted; nothing is imported."""
    return _names(gpuledger.sources, _GROUP)


def source(name: str) -> FileConnector:
    """Return the connector of that type. Raises UsageError with the nearest names when there is none."""
    return cast("FileConnector", _module(gpuledger.sources, _GROUP, name, FileConnector, "connector"))


def sources() -> Iterator[FileConnector]:
    """Import and return every connector."""
    return (source(name) for name in source_names())


def telemetry_names() -> list[str]:
    """Return the types of telemetry that are installed, sorted; nothing is imported."""
    return _names(gpuledger.telemetry, _TELEMETRY)


def telemetry(name: str) -> TelemetryModule:
    """Return the telemetry module of that type. Raises UsageError with the nearest names when there is none."""
    found = _module(gpuledger.telemetry, _TELEMETRY, name, TelemetryModule, "telemetry")
    return cast("TelemetryModule", found)


def savings_names() -> list[str]:
    """Return the savings rules that are installed, sorted; nothing is imported."""
    return _names(gpuledger.savings, _SAVINGS)


def savings_rule(name: str) -> Rule:
    """Return the savings rule of that name. Raises UsageError with the nearest names when there is none."""
    return cast("Rule", _module(gpuledger.savings, _SAVINGS, name, Rule, "savings rule"))


def _names(package: ModuleType, group: str) -> list[str]:
    own = [info.name.replace("_", "-") for info in pkgutil.iter_modules(package.__path__)]
    return sorted({*own, *(point.name for point in entry_points(group=group))})


def _module(package: ModuleType, group: str, name: str, contract: type, what: str) -> ModuleType:
    for point in entry_points(group=group):
        if point.name == name:
            return _checked(point.load(), name, contract)
    if name in (names := _names(package, group)):
        return _checked(
            importlib.import_module(f"{package.__name__}.{name.replace('-', '_')}"), name, contract
        )
    raise _unknown(f"no {what} of type {name!r}", name, names)


def _unknown(message: str, name: str, names: list[str]) -> UsageError:
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(names)}."
    return UsageError(message, hint=hint)


def _checked(module: ModuleType, name: str, contract: type) -> ModuleType:
    missing = [part for part in contract.__annotations__ if not hasattr(module, part)]
    if missing:
        raise GpuledgerError(
            f"the connector {name} lacks {', '.join(missing)}",
            where=module.__name__,
            hint="CONTRIBUTING.md says what a connector module must have.",
        )
    return module


def sql(connector: FileConnector, part: str = "") -> str | None:
    """Return the SQL beside a connector's module (`part` such as `commitments`), or None where there is no such file.

    A connector whose format another one already maps names that one's files: `SQL = "aws_cur2"`.
    """
    module = cast("ModuleType", connector)
    path = Path(str(module.__file__))
    stem = getattr(module, "SQL", path.stem)
    beside = path.with_name(f"{stem}.{part}.sql" if part else f"{stem}.sql")
    return beside.read_text("utf-8") if beside.is_file() else None
