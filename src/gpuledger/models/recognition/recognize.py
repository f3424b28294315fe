"""Builds the recognition query from `recognize.sql` and the facts of `gpuledger.prices`."""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from importlib.resources import files

from gpuledger.core.contracts import Connection
from gpuledger.prices.accelerators import gpu_types
from gpuledger.prices.skus import AiFamily, ai_families, ai_models, ai_needs, ai_providers, gpu_sku_patterns

# Units whose quantity is hours of an instance, and hours of an accelerator; lower case.
HOURS = ("hours", "hour", "hrs", "hr", "h", "1 hour", "1 hours", "instance-hours", "instance-hour")
GPU_HOURS = (
    "gpu-hours",
    "gpu-hour",
    "gpu hours",
    "gpu hour",
    "gpu_hours",
    "gpu_hour",
    "gpu per hour",
    "gpu*hour",
)

# AWS usage types that are an instance running: EC2's, then SageMaker's. Others name an instance type too
# (EBSOptimized, Reservation, UnusedBox, SoftwareUsage …) and would count the same hour twice.
RUNNING = (
    *("boxusage", "spotusage", "heavyusage", "dedicatedusage", "hostboxusage"),
    *("host", "train", "notebk", "processing", "tsform", "cluster"),
)
_NOT_RUNNING = "(?i)licen[cs]e|unused|software|ebs[ -]optimi"
_AWS_TYPES = r"\b((?:ml\.)?(?:p|g|gr|trn|inf|dl)[0-9][a-z0-9-]*\.(?:[0-9]*xlarge|metal))\b"
_HOSTS = "(?i)^(?:amazon|aws|microsoft|google|oracle|alibaba|coreweave|lambda|nebius|runpod|hyperstack)"
# Every text of gpu_sku_patterns.csv has one of these.
_GPU_NEEDS = ("gpu", "tpuv", "tpu7", "rtx ")
_UNITS = ("ConsumedUnit", "PricingUnit")
_NAMING = ("SkuMeter", "ChargeDescription")
# Where an instance type is found, best first: column, what the text must satisfy, and SQL of the type or ''. The
# source's own word; else the meter, as AWS (…BoxUsage:p5.48xlarge) and Azure (ND96isr H100 v5) write it; else AWS's
# sentence.
_TYPES = (
    ("x_InstanceType", "true", "lower(x_InstanceType)"),
    (
        "SkuPriceDetails",
        "contains(SkuPriceDetails, 'nstanceType')",
        """lower(regexp_extract(SkuPriceDetails, '"(?:x_)?[Ii]nstanceType"\\s*:\\s*"([^"]*)"', 1))""",
    ),
    (
        "SkuMeter",
        "contains(SkuMeter, ':') OR starts_with(lower(SkuMeter), 'n')",
        "regexp_replace(lower(SkuMeter), '(?s)^(?:.*:|[^n].*$)', '')",
    ),
    (
        "ChargeDescription",
        "contains(ChargeDescription, 'xlarge') OR contains(ChargeDescription, '.metal')",
        f"regexp_extract(lower(ChargeDescription), '{_AWS_TYPES}', 1)",
    ),
)
# Columns whose distinct texts say what recognition can find.
TEXTS = (*(column for column, _, _ in _TYPES), *_UNITS)
_GPU = ("x_GpuModel", "x_GpuCount", "x_GpuMemoryGiB", "x_GpuHours")
_AI = ("x_AiModel", "x_TokenType", "x_ServiceTier")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the texts of some rows can hold; by default anything.

    `few` are the columns with few distinct texts. `types` are the columns that name a known instance type; `skus` and
    `families` number the patterns that match a text, from 1; `gpu_hours`: a unit is accelerator-hours.
    """

    few: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset(column for column, _, _ in _TYPES)
    skus: frozenset[int] = field(default_factory=lambda: _numbers(gpu_sku_patterns()))
    families: frozenset[int] = field(default_factory=lambda: _numbers(ai_families()))
    gpu_hours: bool = True

    def fills(self, given: Collection[str]) -> frozenset[str]:
        """Return the recognition columns that recognition may fill, where `given` columns are not null."""
        hours = bool(self.types or self.skus) or self.gpu_hours or "x_GpuCount" in given
        gpu = _GPU if self.types or self.skus else _GPU[-1:] if hours else ()
        return frozenset((*gpu, *(_AI if self.families else ())))


def load(con: Connection) -> None:
    """Create the tables `recognized_gpu_types` (one row per instance type) and `recognized_ai_models`."""
    con.execute(
        """CREATE OR REPLACE TABLE recognized_gpu_types (
               instance_type VARCHAR, cloud VARCHAR, gpu_model VARCHAR, gpu_count DECIMAL(9, 3), numerator INTEGER,
               denominator INTEGER, gpu_memory_gib DECIMAL(9, 2), vendor VARCHAR, per_accelerator BOOLEAN)"""
    )
    rows = [
        (
            known.instance_type,
            known.cloud,
            known.gpu_model,
            None
            if known.gpu_count is None
            else _decimal(known.gpu_count.numerator, known.gpu_count.denominator),
            None if known.gpu_count is None else known.gpu_count.numerator,
            None if known.gpu_count is None else known.gpu_count.denominator,
            known.gpu_memory_gib,
            known.vendor,
            known.billed_per_accelerator,
        )
        for known in gpu_types()
    ]
    _insert(con, "recognized_gpu_types", rows)
    con.execute("CREATE OR REPLACE TABLE recognized_ai_models (spelling VARCHAR, model VARCHAR)")
    _insert(con, "recognized_ai_models", list(ai_models().items()))


def seen(con: Connection, relation: str, few: Collection[str], given: Collection[str]) -> Seen:
    """Look at the distinct texts of a relation with the columns `given`; its connection must have seen `load`.

    Columns among `TEXTS` that are in `few` have few distinct texts; the others may hold anything.
    """
    types: set[str] = set()
    skus: set[int] = set()
    families: set[int] = set()
    gpu_hours, anything = False, Seen()
    patterns, vendors = _sku_cases(anything.skus), _family_cases(anything.families)
    for column in (name for name in TEXTS if name in given):
        if column not in few:
            types |= {column} & anything.types
            skus |= anything.skus if column in _NAMING else set()
            families |= anything.families if column in _NAMING else set()
            gpu_hours |= column in _UNITS
            continue
        con.execute(f"CREATE OR REPLACE TEMP TABLE seen_texts AS SELECT DISTINCT {column} FROM {relation}")
        for name, _, value in _TYPES:
            known = f"SELECT 1 FROM seen_texts JOIN recognized_gpu_types ON instance_type = {value} LIMIT 1"
            types |= {name} if name == column and con.execute(known).fetchall() else set()
        if column in _NAMING:
            texts = f"SELECT lower({column}) AS _text FROM seen_texts"
            found = con.execute(f"SELECT DISTINCT CASE {patterns} END, CASE {vendors} END FROM ({texts})")
            for sku, family in found.fetchall():
                skus |= {sku} - {None}
                families |= {family} - {None}
        if column in _UNITS:
            hours = f"SELECT 1 FROM seen_texts WHERE {_one_of(column, GPU_HOURS)} LIMIT 1"
            gpu_hours |= bool(con.execute(hours).fetchall())
    return Seen(frozenset(few), frozenset(types), frozenset(skus), frozenset(families), gpu_hours)


def recognition_sql(relation: str, found: Seen | None = None) -> str:
    """Return a SELECT with the columns of `relation`, the recognition columns filled where they are null.

    `relation` is a table, view or parenthesised query with all columns of the Cost and Usage table, in their types.
    The query reads it once and streams; its connection must have seen `load`. x_GpuHours is exact to 14 decimals and
    null unless the row is the accelerator (or its instance) running. What `found` rules out isn't looked for.
    """
    return _template(found or Seen()).replace("{relation}", relation)


@cache
def _template(found: Seen) -> str:
    families = [
        (number, family) for number, family in enumerate(ai_families(), 1) if number in found.families
    ]
    patterns = gpu_sku_patterns()
    types, type_columns = _types(found)
    parts = {
        "relation": "{relation}",
        "types": ", ".join(types),
        "type_columns": ", ".join(type_columns),
        "type": _first_of(type_columns),
        "any_type": str(bool(found.types)).lower(),
        "any_family": str(bool(found.families)).lower(),
        "sku_models": _list([_nullable(p.gpu_model) for p in patterns], "VARCHAR"),
        "sku_memories": _list([_number(p.gpu_memory_gib) for p in patterns], "DECIMAL(9, 2)"),
        "sku_counts": _list([str(p.unit == "gpu-hours").lower() for p in patterns], "BOOLEAN"),
        "consumed_hours": _one_of("ConsumedUnit", HOURS),
        "priced_hours": _one_of("PricingUnit", HOURS),
        "consumed_gpu_hours": _one_of("ConsumedUnit", GPU_HOURS) if found.gpu_hours else "false",
        "priced_gpu_hours": _one_of("PricingUnit", GPU_HOURS) if found.gpu_hours else "false",
        "running": f"(?i)(?:^|-)(?:{'|'.join(RUNNING)}):",
        "not_running": _NOT_RUNNING,
        "hosts": _HOSTS,
        "telling": f"(?i){'|'.join((*_GPU_NEEDS, *ai_needs()))}",
        "ai_provider": _one_of("ServiceProviderName", ai_providers()),
        "gpu_sku": _sku_cases(found.skus),
        "ai_family": _family_cases(found.families),
        "ai_spelling": _per_family(families, _spelling),
        "ai_token": _per_family(families, lambda f: _first(f.tokens, "NULL")),
        "ai_tier": _per_family(families, lambda f: _first(f.tiers, "'standard'")),
    }
    return (
        files("gpuledger.models.recognition").joinpath("recognize.sql").read_text("utf-8").format_map(parts)
    )


def _first_of(names: Sequence[str]) -> str:
    said = [f"nullif({name}, '')" for name in names]
    return f"coalesce({', '.join(said)})" if len(said) > 1 else names[0]


def _types(found: Seen) -> tuple[list[str], list[str]]:
    """Return select-list entries of the candidates for an instance type, and their names, best first."""
    # A candidate that isn't known hides those after it; after the last one that is known, none matters.
    last = max((place for place, (column, _, _) in enumerate(_TYPES) if column in found.types), default=0)
    entries, names = [], []
    for column, gate, value in _TYPES[: last + 1]:
        # Many texts: not each of them is worth a regular expression.
        sql = value if column in found.few else f"CASE WHEN {gate} THEN {value} END"
        names.append(f"_type_{column}")
        entries.append(f"{sql if found.types else 'NULL::VARCHAR'} AS {names[-1]}")
    return entries, names


def _sku_cases(numbers: Collection[int]) -> str:
    found = [
        (f"contains(_text, {_text(p.needs)}) AND regexp_matches(_text, {_text(p.pattern)})", str(number))
        for number, p in enumerate(gpu_sku_patterns(), 1)
        if number in numbers
    ]
    return _cases([("_text IS NULL", "NULL"), *found])


def _family_cases(numbers: Collection[int]) -> str:
    found = [
        (f"contains(_text, {_text(f.needs)}) AND regexp_matches(_text, {_text(f.when)})", str(number))
        for number, f in enumerate(ai_families(), 1)
        if number in numbers
    ]
    return _cases([("_text IS NULL", "NULL"), *found])


def _numbers(facts: Sequence[object]) -> frozenset[int]:
    return frozenset(range(1, len(facts) + 1))


def _spelling(family: AiFamily) -> str:
    if family.model:
        found = f"nullif(regexp_extract(_text, {_text(family.model)}, 1), '')"
    elif family.strip:
        found = f"nullif(regexp_replace(_text, {_text(family.strip)}, '', 'g'), '')"
    elif family.service:
        found = f"nullif(regexp_extract(lower(ServiceName), {_text(family.service)}, 1), '')"
    else:
        return "NULL"
    if family.prefix is None:
        return found
    pattern, literal, prefix = family.prefix
    texts = "lower(concat_ws(' ', SkuMeter, ServiceName, ChargeDescription))"
    said = f"regexp_matches({found}, {_text(pattern)}) AND contains({texts}, {_text(literal)})"
    return f"CASE WHEN {said} THEN {_text(prefix)} || {found} ELSE {found} END"


def _per_family(families: Sequence[tuple[int, AiFamily]], of: Callable[[AiFamily], str]) -> str:
    cases = _cases([(str(number), of(family)) for number, family in families])
    return f"CASE _family {cases} END" if cases else "NULL::VARCHAR"


def _first(words: Iterable[tuple[str, str]], otherwise: str) -> str:
    """The value of the first literal in the text; '' stands for unknown."""
    found = [(f"contains(_text, {_text(literal)})", _nullable(value)) for literal, value in words]
    return f"CASE {_cases(found)} ELSE {otherwise} END" if found else otherwise


def _cases(pairs: Iterable[tuple[str, str]]) -> str:
    return " ".join(f"WHEN {condition} THEN {value}" for condition, value in pairs)


def _list(values: Iterable[str], sql_type: str) -> str:
    return f"CAST([{', '.join(values)}] AS {sql_type}[])"


def _one_of(column: str, values: Iterable[str]) -> str:
    """Return equality with any of the values, in any case. It is computed once per distinct text, unlike IN."""
    pattern = f"(?i)^(?:{'|'.join(map(re.escape, values))})$"
    return f"regexp_extract({column}, {_text(pattern)}) <> ''"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _nullable(value: str | None) -> str:
    return _text(value) if value else "NULL"


def _number(value: Decimal | None) -> str:
    return "NULL" if value is None else str(value)


def _decimal(numerator: int, denominator: int) -> Decimal:
    return (Decimal(numerator) / denominator).quantize(Decimal("0.001"))


def _insert(con: Connection, table: str, rows: Sequence[Sequence[object]]) -> None:
    marks = ", ".join("?" * len(rows[0]))
    placeholders = ", ".join([f"({marks})"] * len(rows))
    con.execute(f"INSERT INTO {table} VALUES {placeholders}", [value for row in rows for value in row])
