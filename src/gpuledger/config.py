"""gpuledger.toml: what is allowed in it, where each value came from, and secrets by environment reference only.

Unknown keys are refused. A setting that ends in `_env` names an environment variable, and is resolved to the
setting without that ending: `api_key_env = "OPENAI_ADMIN_KEY"` gives `api_key`. A secret written into the file
itself is refused.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gpuledger.errors import ConfigError

DEFAULT_FILE = "gpuledger.toml"
_SECRET = re.compile(r"(api_?key|secret|password|token|credential)s?$", re.IGNORECASE)
_HARMLESS = {"token_basis"}

CanonicalTag = Literal["cost_center", "team", "owner", "project", "environment", "model", "experiment", "job"]


class Section(BaseModel):
    """A table of gpuledger.toml; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class LedgerSection(Section):
    """`[ledger]`: where the tables are, and how much memory the engine may take."""

    location: str = Field(
        "ledger", description="folder, or s3://, az://, abfs://, gs:// address, of the ledger"
    )
    memory_limit: str = Field(
        "1200MB", pattern=r"^\d+(\.\d+)?\s*(MB|GB|MiB|GiB)$", description="memory of the query engine"
    )
    focus_version: Literal["1.0", "1.1", "1.2", "1.3", "1.4"] = Field(
        "1.3", description="FOCUS version of exports and checks"
    )


class SourceSection(BaseModel):
    """`[sources.NAME]`: one bill. Keys beside these are the connector's own settings."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: str = Field(description="connector type, such as aws-cur2; `gpuledger ingest --help` lists them")
    path: str | None = Field(
        None, description="file, folder or object store address that deliveries arrive at"
    )

    @property
    def settings(self) -> dict[str, Any]:
        """The connector's own settings, secrets resolved from the environment."""
        resolved = {}
        for key, value in (self.model_extra or {}).items():
            if key.endswith("_env"):
                resolved[key.removesuffix("_env")] = os.environ.get(str(value))
            else:
                resolved[key] = value
        return resolved


class TelemetrySection(SourceSection):
    """`[telemetry.NAME]`: what ran where. Keys beside these are the type's own settings (docs/telemetry.md)."""

    type: str = Field(
        description="kubernetes, prometheus, slurm, dcgm, nvidia-smi, amd-smi, records, or one of docs/token-telemetry.md such as vllm"
    )
    path: str | None = Field(None, description="for types of files: folder or object store address of theirs")


class TagsSection(Section):
    """`[tags]`: more spellings of the canonical keys, for all providers and for one."""

    aliases: dict[CanonicalTag, list[str]] = Field(
        default_factory=dict, description="canonical key = its spellings"
    )
    providers: dict[str, dict[CanonicalTag, list[str]]] = Field(
        default_factory=dict, description="the same for one provider, such as [tags.providers.AWS]"
    )


class PriceSection(Section):
    """`[[prices.custom]]`: what machines cost you. Exactly as entered; write more than 15 digits as text."""

    instance_type: str | None = Field(None, description="instance type; the price is per instance and hour")
    gpu_model: str | None = Field(
        None, description="or an accelerator, such as H100; the price is per card and hour"
    )
    region: str | None = Field(None, description="region that the price holds in; everywhere if not given")
    spot: bool | None = Field(
        None, description="true: spot machines only; false: others only; both if not given"
    )
    usd_per_hour: Decimal = Field(ge=0, lt=10**9, max_digits=27, decimal_places=18, description="USD an hour")
    valid_from: datetime | None = Field(
        None, description="since when, a date or time (UTC); always if not given"
    )

    @field_validator("valid_from", mode="before")
    @classmethod
    def _whole_day(cls, value: object) -> object:
        if isinstance(value, date) and not isinstance(value, datetime):
            return datetime.combine(value, time(), UTC)
        return value

    @field_validator("valid_from")
    @classmethod
    def _in_utc(cls, value: datetime | None) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value

    @model_validator(mode="after")
    def _of_one_thing(self) -> "PriceSection":
        if (self.instance_type is None) == (self.gpu_model is None):
            raise ValueError("a price is of an instance_type or of a gpu_model")
        return self


class PricesSection(Section):
    """`[prices]`: how machines that run are priced before their bill comes (see docs/metering.md)."""

    learn_days: int = Field(
        30, ge=0, le=400, description="days of bills that your effective rates are learnt from; 0: none"
    )
    prefer_custom: bool = Field(
        default=False, description="true: [[prices.custom]] comes before rates learnt from bills"
    )
    custom: list[PriceSection] = Field(
        default_factory=list, description="prices of your own, see [[prices.custom]]"
    )


class OverheadSection(Section):
    """`[[allocation.overhead]]`: charges of no machine, such as a control plane's fee, and who bears them."""

    where: list[str] = Field(
        min_length=1,
        description='which charges: conditions of `costs --where` that all hold, such as ["ServiceName=Amazon Elastic Kubernetes Service"]',
    )
    cluster: str | None = Field(
        None,
        description="cluster that they are of; else the known one that the resource or a cluster tag names, or the only one",
    )
    method: Literal["none", "even", "proportional", "fixed"] = Field(
        "proportional",
        description="who bears them: nobody, each job of the cluster the same, by what its machines cost them, or `shares`",
    )
    shares: dict[str, Decimal] = Field(
        default_factory=dict, description='for method = "fixed": target = weight'
    )

    @model_validator(mode="after")
    def _complete(self) -> "OverheadSection":
        if (self.method == "fixed") != bool(self.shares):
            raise ValueError('shares belong to method = "fixed", and it needs some')
        return self


class AllocationSection(Section):
    """`[allocation]`: how machines' charges are split among jobs (see docs/jobs.md)."""

    idle: Literal["none", "even", "proportional", "fixed"] = Field(
        "none",
        description="who bears what nobody held: nobody, or the machine's jobs of that time, or `shares`",
    )
    shares: dict[str, Decimal] = Field(
        default_factory=dict,
        description='for idle = "fixed": target = weight, such as { research = 60, web = 40 }',
    )
    gpu: Decimal | None = Field(
        None, ge=0, description="price of a card-hour, as a ratio to the other two; list prices if not given"
    )
    cpu: Decimal | None = Field(None, ge=0, description="price of a core-hour")
    memory: Decimal | None = Field(None, ge=0, description="price of a GiB-hour of memory")
    overhead: list[OverheadSection] = Field(
        default_factory=list, description="charges of no machine to share, see [[allocation.overhead]]"
    )

    @model_validator(mode="after")
    def _complete(self) -> "AllocationSection":
        if (self.idle == "fixed") != bool(self.shares):
            raise ValueError('shares belong to idle = "fixed", and it needs some')
        if len({price is None for price in (self.gpu, self.cpu, self.memory)}) > 1:
            raise ValueError("gpu, cpu and memory are given together: only their ratio counts")
        return self


class SavingsSection(Section):
    """`[savings]`: targets that savings rules measure against, and what no telemetry tells (see docs/savings.md)."""

    headroom: Decimal = Field(
        Decimal("0.8"), gt=0, le=1, description="highest part of a replica's capacity that its peak may take"
    )
    goodput: Decimal = Field(
        Decimal("0.9"), gt=0, le=1, description="part of a training run's time that should make progress"
    )
    cold_start_minutes: Decimal = Field(
        Decimal(10), ge=0, le=1440, description="time until an endpoint that was scaled to zero serves again"
    )
    expiry_days: int = Field(90, ge=1, le=1100, description="how soon an ending commitment is told")
    facts: dict[str, dict[str, str | bool | int | Decimal]] = Field(
        default_factory=dict,
        description='what you know of a job, deployment, model, project or instance type: [savings.facts."NAME"]',
    )


class Config(Section):
    """The whole of gpuledger.toml."""

    ledger: LedgerSection = Field(default_factory=lambda: LedgerSection.model_validate({}))
    sources: dict[str, SourceSection] = Field(default_factory=dict)
    telemetry: dict[str, TelemetrySection] = Field(default_factory=dict)
    tags: TagsSection = Field(default_factory=lambda: TagsSection.model_validate({}))
    prices: PricesSection = Field(default_factory=lambda: PricesSection.model_validate({}))
    allocation: AllocationSection = Field(default_factory=lambda: AllocationSection.model_validate({}))
    savings: SavingsSection = Field(default_factory=lambda: SavingsSection.model_validate({}))

    @model_validator(mode="after")
    def _one_name_each(self) -> "Config":
        if both := sorted(set(self.sources) & set(self.telemetry)):
            raise ValueError(f"{both[0]} is the name of a source and of a telemetry source: rename one")
        return self


def load(path: str | None = None) -> Config:
    """Read the configuration file. Without a path, `gpuledger.toml` if it exists, else the defaults.

    Raises ConfigError that names the file and the key.
    """
    file = Path(path or DEFAULT_FILE)
    if not file.is_file():
        if path is not None:
            raise ConfigError("no such file", where=path, hint="`gpuledger init` writes one.")
        return Config()
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not valid TOML: {error}", where=str(file), hint="Mend that line.") from error
    _refuse_secrets(content, str(file))
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{key}: {first['msg'].lower()}"
            + (f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""),
            where=str(file),
            hint="The configuration reference in docs/config.md lists every key.",
        ) from error


def _refuse_secrets(content: Mapping[str, Any], file: str, at: tuple[str, ...] = ()) -> None:
    for key, value in content.items():
        if isinstance(value, Mapping):
            _refuse_secrets(value, file, (*at, key))
        elif isinstance(value, str) and _SECRET.search(key) and key not in _HARMLESS:
            raise ConfigError(
                f"{'.'.join((*at, key))} holds a secret",
                where=file,
                hint=f'Put it into an environment variable and name that here: {key}_env = "NAME_OF_VARIABLE".',
            )


def explain(path: str | None, config: Config, environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Say for every setting what it is and where it came from: file, environment variable or default."""
    file = path or (DEFAULT_FILE if Path(DEFAULT_FILE).is_file() else None)
    for row in _settings("", config, f"file {file}", environ):
        if row["key"] == "ledger.location" and (other := environ.get("GPULEDGER_LEDGER")):
            row |= {"value": other, "origin": "environment GPULEDGER_LEDGER"}
        yield row


def _settings(at: str, section: BaseModel, file: str, environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for name in type(section).model_fields:
        value, given = getattr(section, name), name in section.model_fields_set
        if value is None and not given:
            continue
        yield from _setting(f"{at}{name}", value, file if given else "default", file, environ)
    for name, value in (section.model_extra or {}).items():
        yield from _setting(f"{at}{name}", value, file, file, environ)


def _setting(
    key: str, value: object, origin: str, file: str, environ: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    if isinstance(value, BaseModel):
        yield from _settings(f"{key}.", value, file, environ)
    elif isinstance(value, Mapping):
        for name, one in value.items():
            yield from _setting(f"{key}.{name}", one, origin, file, environ)
    elif isinstance(value, list) and any(isinstance(one, BaseModel) for one in value):
        for number, one in enumerate(value, start=1):
            yield from _setting(f"{key}[{number}]", one, origin, file, environ)
    elif key.endswith("_env"):
        known = str(value) in environ
        yield {
            "key": key,
            "value": f"${value}" + ("" if known else " (not set)"),
            "origin": f"{origin}, secret from the environment",
            "state": "ok" if known else "fail",
            "hint": "" if known else f"Set the environment variable {value}.",
        }
    elif not isinstance(value, list) or value:
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        shown = shown if isinstance(shown, bool | int | str) else str(shown)
        yield {"key": key, "value": shown, "origin": origin, "state": "ok", "hint": ""}
