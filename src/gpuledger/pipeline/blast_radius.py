"""Inputs of a blast radius: typed on the command line, in a TOML file, from dated prices; each with its origin."""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from gpuledger.core import blast_radius as core
from gpuledger.core.calendar import Unattended
from gpuledger.core.draws import Dist, Unit, fixed, parse, value, write
from gpuledger.diagnostics import Diagnostic
from gpuledger.errors import UsageError
from gpuledger.pipeline.blast_prices import KINDS, machine_price, token_price

UNITS: Final[dict[str, Unit]] = {
    "gpus": "count", "quota": "count", "autoscaler_max": "count", "obtainable": "count", "lease_cap": "count",
    "max_hours": "hours", "detect": "duration", "respond": "duration", "look": "duration",
    "storage_usd": "usd", "egress_usd": "usd", "storage_usd_per_hour": "usd", "egress_usd_per_hour": "usd", "price": "usd",
}  # fmt: skip
_INPUTS: Final = tuple(name for name in UNITS if name not in {"price", "gpus"})
_TIMES: Final = ("max_hours", "detect", "respond", "look")
GPU_KEYS: Final = (
    "name", "gpus", "instances", "instance_type", "region", "pricing", "gpus_per_instance", "usd_per_gpu_hour",
    "usd_per_instance_hour", *_INPUTS, "lease_usd", "idle_commitment_gpus",
)  # fmt: skip
TOKEN_KEYS: Final = (
    "name", "usd_per_hour", "tokens_per_minute", "usd_per_mtok", "model", "provider",
    *(f"{kind}_tokens_per_minute" for kind in KINDS), "lease_usd", *core.SUMS, *core.RATES, *_TIMES,
)  # fmt: skip
RAIL_UNITS: Final[dict[str, Unit]] = {
    "detect": "duration", "respond": "duration", "max_hours": "hours", "look": "duration", "lease_cap": "count",
    "lease_usd": "usd", "quota_percent": "count", "autoscaler_percent": "count",
}  # fmt: skip
_FILE_KEYS: Final = (
    "seed",
    "samples",
    "detect",
    "respond",
    "calendar",
    "holidays",
    "hours",
    "timezone",
    "begins",
    "pools",
    "tokens_pools",
    "guardrails",
)
_GPU_HINT: Final = "--pool name=weekend,gpus=1600,usd_per_gpu_hour=4.05,max_hours=11"
_MOST_PER_UNIT: Final = 1024
_MOST_PERCENT: Final = 100
PRICE_CEILING: Final = 100_000 * 1_000_000


@dataclass(frozen=True, slots=True)
class Written:
    """A pool as somebody wrote it: values as text, and where each came from."""

    values: Mapping[str, str]
    origins: Mapping[str, str]
    kind: core.Kind = "gpu"


@dataclass(slots=True)
class Inputs:
    """All inputs of one calculation. `origins` is by pool and key."""

    pools: list[core.Pool] = field(default_factory=list)
    origins: dict[tuple[str, str], str] = field(default_factory=dict)
    diagnostics: list[Diagnostic] = field(default_factory=list)

    def rows(self) -> list[dict[str, str]]:
        """Return each input with its value and origin."""
        return [
            {"pool": pool, "key": key, "value": text, "origin": self.origins.get((pool, key), "default")}
            for pool, key, text in self._values()
        ]

    def _values(self) -> Iterable[tuple[str, str, str]]:
        for pool in self.pools:
            for key, dist in pool.inputs.items():
                if pool.kind == "gpu" or key != "gpus":
                    yield pool.name, key, write(dist, UNITS[key])
            if pool.per_unit > 1:
                yield pool.name, "gpus_per_instance", str(pool.per_unit)
            if pool.idle:
                yield pool.name, "idle_commitment_gpus", str(pool.idle)
            if pool.lease_usd is not None:
                yield pool.name, "lease_usd", write(fixed(pool.lease_usd), "usd")


@dataclass(frozen=True, slots=True)
class Shared:
    """What holds for every pool that doesn't say otherwise: key to (text, origin), and the calendar's answer."""

    times: Mapping[str, tuple[str, str]]
    today: date
    look: Unattended | None = None
    random_begin: bool = False


def split(text: str, what: str) -> dict[str, str]:
    """Split `name=a,gpus=triangular(1,2,3)` at the commas outside parentheses. Raises UsageError."""
    found: dict[str, str] = {}
    for part in re.split(r",(?![^(]*\))", text):
        key, sign, said = part.partition("=")
        key = key.strip().lower().replace("-", "_")
        if not sign or not key or not said.strip():
            raise UsageError(f"can't read {part!r}", where=what, hint=f"Write KEY=VALUE: {_GPU_HINT}.")
        if key in found:
            raise UsageError(f"{key} is given twice", where=what, hint="Give it once.")
        found[key] = said.strip()
    return found


def typed(specs: Sequence[str], kind: core.Kind) -> list[Written]:
    """Read the pools of the command line."""
    option = "--pool" if kind == "gpu" else "--tokens-pool"
    found = []
    for number, spec in enumerate(specs, 1):
        values = split(spec, f"{option} {number}")
        found.append(Written(values, dict.fromkeys(values, "typed"), kind))
    return found


def read_file(path: str) -> tuple[dict[str, Any], list[Written]]:
    """Read a TOML file: its settings, and its pools. Numbers keep every digit. Raises UsageError."""
    try:
        content = tomllib.loads(Path(path).read_text("utf-8"), parse_float=str)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"not valid TOML: {error}", where=path, hint="Mend that line.") from error
    if unknown := sorted(set(content) - set(_FILE_KEYS)):
        raise UsageError(f"no key {unknown[0]!r}", where=path, hint=f"There are: {', '.join(_FILE_KEYS)}.")
    pools: list[Written] = []
    for key, kind in (("pools", "gpu"), ("tokens_pools", "tokens")):
        for number, table in enumerate(_tables(content, key, path), 1):
            values = {
                name: _text(told, f"{path}: [[{key}]] {number}, {name}") for name, told in table.items()
            }
            origins = dict.fromkeys(values, f"file {path}")
            pools.append(Written(values, origins, "gpu" if kind == "gpu" else "tokens"))
    content["guardrails"] = [
        {name: _text(told, f"{path}: [[guardrails]], {name}") for name, told in table.items()}
        for table in _tables(content, "guardrails", path)
    ]
    return content, pools


def _tables(content: Mapping[str, Any], key: str, path: str) -> list[dict[str, Any]]:
    found = content.get(key, [])
    if not isinstance(found, list) or not all(isinstance(table, dict) for table in found):
        raise UsageError(f"{key} is no list of tables", where=path, hint=f"Write [[{key}]] above each.")
    return found


def _text(told: object, where: str) -> str:
    if isinstance(told, bool) or not isinstance(told, str | int):
        raise UsageError(
            f"{told!r} is neither text nor a number", where=where, hint="Write a value or a text."
        )
    return str(told)


def resolve(written: Iterable[Written], shared: Shared) -> Inputs:
    """Turn pools as written into pools of numbers: prices looked up, shared times filled in. Raises UsageError."""
    inputs = Inputs()
    for number, pool in enumerate(written, 1):
        name = pool.values.get("name", f"pool-{number}")
        if not re.fullmatch(r"[^\x00-\x1f;,]{1,60}", name):
            raise UsageError(
                "not a name",
                where=f"pool {name!r}",
                hint="Use up to 60 characters, without comma and semicolon.",
            )
        keys = GPU_KEYS if pool.kind == "gpu" else TOKEN_KEYS
        if unknown := [key for key in pool.values if key not in keys]:
            raise UsageError(
                f"no key {unknown[0]!r}", where=f"pool {name}", hint=f"There are: {', '.join(keys)}."
            )
        resolved = _Resolver(name, pool, shared).pool()
        inputs.pools.append(resolved[0])
        inputs.origins.update({(name, key): origin for key, origin in resolved[1].items()})
    return inputs


class _Resolver:
    """One pool being worked out; `origins` grows with it."""

    def __init__(self, name: str, written: Written, shared: Shared) -> None:
        self.name = name
        self.written = written
        self.values = written.values
        self.shared = shared
        self.inputs: dict[str, Dist] = {}
        self.origins: dict[str, str] = dict(written.origins)

    def pool(self) -> tuple[core.Pool, dict[str, str]]:
        """Return the pool and where its inputs came from."""
        size, idle = 1, 0
        if self.written.kind == "gpu":
            size = self._size()
            self._count(size)
            self._price(size)
            idle = self._plain("idle_commitment_gpus", "count") or 0
        else:
            self.inputs["gpus"] = fixed(1)
            if "usd_per_hour" in self.values:
                self._take("price", of="usd_per_hour")
            else:
                found = token_price(self.name, self.values, self.origins, self.shared.today)
                self.inputs["price"], self.origins["price"] = found
        for key in _INPUTS:
            if key in self.values:
                self._take(key)
        self._times()
        lease = self._plain("lease_usd", "usd")
        for key in ("gpus", "price", "max_hours"):
            if key in self.inputs and self.inputs[key].highest == 0:
                raise self._error(key, "0 costs nothing", "Leave this pool out, or give what it really is.")
        for key in ("price", *core.RATES):
            if key in self.inputs and self.inputs[key].highest > PRICE_CEILING:
                raise self._error(
                    key, "above 100000 dollars an hour", "Prices are per GPU, instance or pool, and hour."
                )
        return core.Pool(
            self.name, self.inputs, self.written.kind, size, idle, lease
        ), self.origins  # fmt: skip

    def _where(self, key: str) -> str:
        return f"pool {self.name}, {key}"

    def _error(self, key: str, message: str, hint: str) -> UsageError:
        return UsageError(message, where=self._where(key), hint=hint)

    def _take(self, key: str, of: str | None = None) -> Dist:
        self.inputs[key] = parse(self.values[of or key], UNITS[key], self._where(of or key))
        if of:
            self.origins[key] = self.origins[of]
        return self.inputs[key]

    def _plain(self, key: str, unit: Unit) -> int | None:
        return value(self.values[key], unit, self._where(key)) if key in self.values else None

    def _size(self) -> int:
        """GPUs of a priced unit: of an instance where the pool is of instances, else 1."""
        if size := self._plain("gpus_per_instance", "count"):
            if size > _MOST_PER_UNIT:
                raise self._error("gpus_per_instance", f"no instance has {size} GPUs", "Check the number.")
            return size
        if "instance_type" in self.values:
            from gpuledger.prices import gpu_type

            known = gpu_type(self.values["instance_type"])
            if known is None or known.gpu_count is None or known.gpu_count < 1:
                raise self._error(
                    "instance_type",
                    f"no GPUs are known of {self.values['instance_type']!r}",
                    "Give gpus_per_instance=…",
                )
            self.origins["gpus_per_instance"] = (
                f"gpu_types.csv ({known.source}): {known.instance_type} has {known.gpu_count} × {known.gpu_model}"
            )
            return int(known.gpu_count)
        if {"instances", "usd_per_instance_hour", "gpus_per_instance"} & set(self.values):
            raise self._error(
                "gpus_per_instance",
                "how many GPUs an instance has isn't said",
                "Give gpus_per_instance=8 or instance_type=….",
            )
        return 1

    def _count(self, size: int) -> None:
        if ("gpus" in self.values) == ("instances" in self.values):
            raise self._error("gpus", "give gpus=… or instances=…, one of them", f"As in {_GPU_HINT}.")
        if "gpus" in self.values:
            self._take("gpus")
            return
        told = parse(self.values["instances"], "count", self._where("instances"))
        dist = Dist(told.shape, tuple(point * size for point in told.points))
        self.inputs["gpus"] = dist
        self.origins["gpus"] = (
            f"{self.origins['instances']}: {self.values['instances']} instances × {size} GPUs"
        )

    def _price(self, size: int) -> None:
        keys = [key for key in ("usd_per_gpu_hour", "usd_per_instance_hour") if key in self.values]
        if len(keys) > 1:
            raise self._error("usd_per_gpu_hour", "the price is given twice", f"Leave out {keys[1]}.")
        if not keys:
            found = machine_price(self.name, self.values, size, self.shared.today)
            self.inputs["price"], self.origins["price"] = found
            return
        price = self._take("price", of=keys[0])
        if keys == ["usd_per_gpu_hour"] and size > 1:
            self.inputs["price"] = Dist(price.shape, tuple(point * size for point in price.points))
            self.origins["price"] = f"{self.origins[keys[0]]}: {self.values[keys[0]]} per GPU × {size}"

    def _times(self) -> None:
        for key, (text, origin) in self.shared.times.items():
            if key not in self.inputs:
                self.inputs[key] = parse(text, UNITS[key], f"--{key}")
                self.origins[key] = origin
        look = self.shared.look
        if look is not None and "look" not in self.inputs:
            if self.shared.random_begin and look.seconds:
                self.inputs["look"] = Dist("uniform", (0, look.seconds))
                self.origins["look"] = f"{look.told}; begins at any moment of it"
            else:
                self.inputs["look"] = fixed(look.seconds)
                self.origins["look"] = look.told
        if "detect" in self.inputs and "respond" not in self.inputs:
            self.inputs["respond"] = fixed(0)
            self.origins["respond"] = "default: none was given, so stopping it takes no time"


def guardrails(written: Iterable[Mapping[str, str]]) -> list[core.Guardrail]:
    """Read guardrails: a name and limits. Raises UsageError."""
    found = []
    for number, limits in enumerate(written, 1):
        name = limits.get("name", f"guardrail {number}")
        if unknown := [key for key in limits if key not in RAIL_UNITS and key != "name"]:
            raise UsageError(
                f"no key {unknown[0]!r}",
                where=f"guardrail {name}",
                hint=f"There are: {', '.join(RAIL_UNITS)}.",
            )
        read = {
            key: value(text, RAIL_UNITS[key], f"guardrail {name}, {key}")
            for key, text in limits.items()
            if key != "name"
        }
        if not read:
            raise UsageError(
                "it limits nothing", where=f"guardrail {name}", hint="Add detect=15m or the like."
            )
        for key in ("quota_percent", "autoscaler_percent"):
            if read.get(key, 0) > _MOST_PERCENT:
                raise UsageError("more than 100 %", where=f"guardrail {name}, {key}", hint="Give 0 to 100.")
        found.append(core.Guardrail(name, **read))
    return found


def usual_guardrails(pools: Sequence[core.Pool]) -> list[core.Guardrail]:
    """Guardrails that are worth a look for any pools; those of off-hours where a calendar is given."""
    hour, dollars = 3600, 1_000_000
    found = [
        core.Guardrail("alert within 15 min", detect=900),
        core.Guardrail("respond within 15 min", respond=900),
        core.Guardrail("job time limit of 4 h", max_hours=4 * hour),
    ]
    if any(pool.kind == "gpu" for pool in pools):
        found += [
            core.Guardrail("half the quota", quota_percent=50),
            core.Guardrail("lease cap of 64 GPUs per pool", lease_cap=64),
        ]
    found.append(core.Guardrail("dollar lease of $5,000 per pool", lease_usd=5000 * dollars))
    if any("look" in pool.inputs for pool in pools):
        found.append(core.Guardrail("someone looks every 4 h", look=4 * hour))
        if any(pool.kind == "gpu" for pool in pools):
            found.append(core.Guardrail("autoscaler at a quarter off-hours", autoscaler_percent=25))
    return found


def dollars(micro: int) -> Decimal:
    """Millionths of a dollar as exact dollars."""
    return Decimal(micro).scaleb(-6)


def page_model(
    inputs: Inputs, rails: Sequence[core.Guardrail] | None, *, seed: int, samples: int
) -> dict[str, Any]:
    """Return what the page calculates from: every input as text that both sides read alike. `rails` None: the usual."""
    limits = [name for name in core.Guardrail.__dataclass_fields__ if name != "name"]
    return {
        "seed": seed,
        "samples": samples,
        "pools": [
            {
                "name": pool.name,
                "kind": pool.kind,
                "per_unit": pool.per_unit,
                "idle": pool.idle,
                "lease_usd": "" if pool.lease_usd is None else write(fixed(pool.lease_usd), "usd"),
                "inputs": {key: write(dist, UNITS[key]) for key, dist in pool.inputs.items()},
                "origins": {key: told for (name, key), told in inputs.origins.items() if name == pool.name},
            }
            for pool in inputs.pools
        ],
        "guardrails": None
        if rails is None
        else [
            {"name": rail.name}
            | {key: getattr(rail, key) for key in limits if getattr(rail, key) is not None}
            for rail in rails
        ],
    }
