"""amd-smi and rocm-smi, run on this machine or read from a file: facts about AMD cards.

Documented by AMD: AMD SMI command line tool (`amd-smi metric|static|list --json`, values as `{"value", "unit"}` or
"N/A", in a list or below `gpu_data`), ROCm SMI (`rocm-smi … --json`, one object per `cardN`, keys that say the unit).
Written from those forms; no AMD card was at hand. Known to be missing: compute partitions, and who holds a card.
"""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from gpuledger.core.card_facts import CardFacts, canonical, ratio
from gpuledger.errors import SourceError

TYPE: Final = "amd-smi"
TITLE: Final = "amd-smi or rocm-smi on this machine"

_ROCM: Final = (
    "--showuse",
    "--showmeminfo",
    "vram",
    "--showpower",
    "--showproductname",
    "--showuniqueid",
    "--json",
)
_MIB: Final = {"B": Decimal(1) / 2**20, "KB": Decimal(1) / 2**10, "MB": Decimal(1), "GB": Decimal(2**10)}


def read(binary: str = "amd-smi", *, timeout: float = 15.0) -> tuple[CardFacts, ...]:
    """Ask amd-smi. Raises SourceError when it is missing, fails, or doesn't answer in time."""
    metric, static, names = (_run((binary, verb, "--json"), timeout) for verb in ("metric", "static", "list"))
    return tuple(from_amd_smi(metric, binary, static=static, names=names))


def read_rocm(binary: str = "rocm-smi", *, timeout: float = 15.0) -> tuple[CardFacts, ...]:
    """Ask rocm-smi, amd-smi's predecessor. Raises SourceError likewise."""
    return tuple(from_rocm_smi(_run((binary, *_ROCM), timeout), binary))


def from_amd_smi(metric: str, where: str, static: str = "[]", names: str = "[]") -> Iterator[CardFacts]:
    """Read `amd-smi metric --json`; `static --json` adds models, `list --json` adds uuids."""
    models = {one.get("gpu"): one for one in _entries(static, where)}
    listed = {one.get("gpu"): one for one in _entries(names, where)}
    for one in _entries(metric, where):
        gpu = one.get("gpu")
        name = _text(_at(models.get(gpu, {}), "asic", "market_name"))
        yield CardFacts(
            uuid=_text(_at(listed.get(gpu, {}), "uuid")),
            index=None if gpu is None else str(gpu),
            model_name=name,
            model=canonical(name),
            utilisation=ratio(_amount(_at(one, "usage", "gfx_activity"), "%"), 100),
            memory_used_mib=_mib(_at(one, "mem_usage", "used_vram")),
            memory_total_mib=_mib(_at(one, "mem_usage", "total_vram")),
            power_watts=_amount(_at(one, "power", "socket_power"), "W"),
        )


def from_rocm_smi(text: str, where: str) -> Iterator[CardFacts]:
    """Read `rocm-smi … --json`. Spelling of keys differs between versions in case only."""
    content = _json(text, where)
    cards = {key: value for key, value in _mapping(content).items() if re.fullmatch(r"card\d+", key)}
    if not cards:
        raise _other(where, "rocm-smi")
    for key, values in cards.items():
        told = {str(name).lower(): value for name, value in _mapping(values).items()}
        name = _text(told.get("card series")) or _text(told.get("card model"))
        power = ("current socket graphics package power (w)", "average graphics package power (w)")
        yield CardFacts(
            uuid=_text(told.get("unique id")),
            index=key.removeprefix("card"),
            model_name=name,
            model=canonical(name),
            utilisation=ratio(_number(told.get("gpu use (%)")), 100),
            memory_used_mib=_bytes(told.get("vram total used memory (b)")),
            memory_total_mib=_bytes(told.get("vram total memory (b)")),
            power_watts=next((said for one in power if (said := _number(told.get(one))) is not None), None),
        )


def _run(words: tuple[str, ...], timeout: float) -> str:
    hint = "Is the amdgpu driver loaded, and are you in the groups video and render?"
    try:
        done = subprocess.run(list(words), capture_output=True, timeout=timeout, check=False)  # noqa: S603 - no shell
    except subprocess.TimeoutExpired:
        raise SourceError(f"no answer within {timeout:g} s", where=words[0], hint=hint) from None
    except OSError as error:
        raise SourceError(
            f"can't be run: {error.strerror}", where=words[0], hint="Install ROCm's tools."
        ) from error
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).decode("utf-8", "replace").split())[:300]
        raise SourceError(f"failed with code {done.returncode}: {said}", where=words[0], hint=hint)
    return done.stdout.decode("utf-8", "replace")


def _json(text: str, where: str) -> Any:  # noqa: ANN401 - JSON
    # Warnings may stand before the content.
    start = re.search(r"^[\[{]", text, re.MULTILINE)
    try:
        return json.loads(text[start.start() :] if start else text, parse_float=Decimal)
    except ValueError as error:
        raise SourceError(f"no complete JSON: {error}", where=where, hint="Make it with --json.") from error


def _entries(text: str, where: str) -> list[Mapping[str, Any]]:
    content = _json(text, where)
    if isinstance(content, Mapping):
        content = content.get("gpu_data")
    if not isinstance(content, list) or not all(isinstance(one, Mapping) for one in content):
        raise _other(where, "amd-smi")
    return content


def _other(where: str, tool: str) -> SourceError:
    return SourceError(
        f"that is no output of {tool} --json", where=where, hint=f"Make it with {tool} … --json."
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _at(value: object, *path: str) -> object:
    for key in path:
        value = _mapping(value).get(key)
    return value


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value not in {"", "N/A"} else None


def _number(value: object) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
        return None
    try:
        found = Decimal(value)
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def _amount(value: object, unit: str) -> Decimal | None:
    """Read `{"value": 40, "unit": "%"}` or a bare number; None in another unit."""
    if isinstance(value, Mapping):
        return _number(value.get("value")) if value.get("unit") in {unit, None} else None
    return _number(value)


def _mib(value: object) -> Decimal | None:
    """AMD's MB are 2^20 bytes: an MI355X's 288 GiB are told as 294896 MB."""
    found, unit = _number(_at(value, "value")), _at(value, "unit")
    return found * _MIB[unit] if found is not None and isinstance(unit, str) and unit in _MIB else None


def _bytes(value: object) -> Decimal | None:
    found = _number(value)
    return None if found is None else found / 2**20
