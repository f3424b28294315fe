"""Reading a policy file: TOML or YAML, checked key by key, with its registers; and its JSON Schema."""

import csv
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gpuledger.core.policy.model import Policy, Register
from gpuledger.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

NAMES: Final = ("gpuledger-policy.toml", "gpuledger-policy.yaml", "gpuledger-policy.yml")
_LARGEST: Final = 4 << 20
_HINT: Final = "docs/policy.md lists every key."


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy, where it is from (None: none was given), and the values of its registers."""

    policy: Policy
    path: Path | None
    registers: Mapping[str, frozenset[str]]


def find(given: str | None, folder: Path | None = None) -> Path | None:
    """Return the policy file: the one given, else one by its usual name in the folder; None without any."""
    if given is not None:
        return Path(given)
    return next((path for name in NAMES if (path := (folder or Path()) / name).is_file()), None)


def load(path: Path | None) -> LoadedPolicy:
    """Read a policy file; without one, a policy that asks for nothing. Raises ConfigError that names file and key."""
    if path is None:
        return LoadedPolicy(Policy(mode="off"), None, {})
    policy = parse(_document(path), str(path))
    registers = {
        name: frozenset(register.values) | _listed(name, register, path)
        for name, register in policy.registers.items()
    }
    return LoadedPolicy(policy, path, registers)


def parse(document: object, where: str) -> Policy:
    """Check a policy's document. Raises ConfigError."""
    from pydantic import ValidationError

    try:
        policy = _adapter().validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ConfigError(f"{key}: {first['msg'].lower()}{more}", where=where, hint=_HINT) from error
    _check(policy, where)
    return policy


def schema() -> dict[str, Any]:
    """Return the JSON Schema of policy files."""
    form = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_adapter().json_schema()}
    return form | {"title": "gpuledger policy"}


@cache
def _adapter() -> "TypeAdapter[Policy]":
    from pydantic import TypeAdapter

    return TypeAdapter(Policy)


def _document(path: Path) -> object:
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST).decode("utf-8")  # a longer one is cut, and doesn't parse
        if path.suffix == ".toml":
            return tomllib.loads(content)
        import yaml

        return yaml.safe_load(content)
    except OSError as error:
        raise ConfigError(
            f"can't be read: {error.strerror}", where=str(path), hint="Give --policy FILE."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ConfigError(f"can't be parsed: {error}", where=str(path), hint="Mend that line.") from error
    except Exception as error:
        if type(error).__module__.startswith("yaml"):
            raise ConfigError(f"can't be parsed: {error}", where=str(path), hint="Mend that line.") from error
        raise


def _check(policy: Policy, where: str) -> None:
    """Refuse what each key allows but the whole doesn't: unknown registers, patterns that aren't, names twice."""
    for number, rule in enumerate(policy.require):
        at = f"require.{number}"
        if rule.register is not None and rule.register not in policy.registers:
            raise ConfigError(
                f"{at}.register: there is no [registers.{rule.register}]", where=where, hint=_HINT
            )
        try:
            re.compile(rule.pattern or "")
        except re.error as error:
            raise ConfigError(
                f"{at}.pattern: {error}", where=where, hint="Write a regular expression."
            ) from error
    for what, names in (
        ("limit", [one.name for one in policy.limit]),
        ("budget", [one.name for one in policy.budget]),
        ("exemption", [one.name for one in policy.exemption]),
    ):
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"{what}: {twice[0]!r} is there twice", where=where, hint="Rename one.")
    try:
        _ = policy.calendar.timezone == "UTC" or ZoneInfo(policy.calendar.timezone)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(
            f"calendar.timezone: no time zone {policy.calendar.timezone!r}",
            where=where,
            hint="Use a name such as Europe/Berlin.",
        ) from error
    if not 0 <= policy.calendar.opens < policy.calendar.closes <= 24:  # noqa: PLR2004 - hours of a day
        raise ConfigError("calendar: opens before it closes, 0 to 24", where=where, hint=_HINT)


def _listed(name: str, register: Register, policy: Path) -> frozenset[str]:
    if register.file is None:
        return frozenset()
    path = policy.parent / register.file
    where = f"registers.{name}: {path}"
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"can't be read: {error}", where=where, hint="Is the path relative to the policy file?"
        ) from error
    if register.column is None:
        lines = (line.strip() for line in text.splitlines())
        found = frozenset(line for line in lines if line and not line.startswith("#"))
    else:
        rows = csv.DictReader(text.splitlines())
        if register.column not in (rows.fieldnames or ()):
            raise ConfigError(
                f"there is no column {register.column!r}",
                where=where,
                hint=f"Columns: {', '.join(rows.fieldnames or ())}.",
            )
        found = frozenset(value for row in rows if (value := (row.get(register.column) or "").strip()))
    if not found:
        raise ConfigError("lists no value", where=where, hint="An empty register would refuse everything.")
    return found
