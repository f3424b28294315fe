"""Builds the recognition query from `recognize.sql` and the facts of `gpuledger.prices`."""

from collections.abc import Callable, Iterable, Sequence
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
_NOT_RUNNING = "licen[cs]e|unused|software|ebs[ -]optimi"
_AWS_TYPES = r"\b((?:ml\.)?(?:p|g|gr|trn|inf|dl)[0-9][a-z0-9-]*\.(?:[0-9]*xlarge|metal))\b"
_HOSTS = "^(?:amazon|aws|microsoft|google|oracle|alibaba|coreweave|lambda|nebius|runpod|hyperstack)"
# Every text of gpu_sku_patterns.csv has one of these.
_GPU_NEEDS = ("gpu", "tpuv", "tpu7", "rtx ")


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


def recognition_sql(relation: str) -> str:
    """Return a SELECT with the columns of `relation`, the recognition columns filled where they are null.

    `relation` is a table, view or parenthesised query with all columns of the Cost and Usage table, in their types.
    The query reads it once and streams; its connection must have seen `load`. x_GpuHours is exact to 14 decimals and
    null unless the row is the accelerator (or its instance) running.
    """
    return _template().replace("{relation}", relation)


@cache
def _template() -> str:
    patterns, families = gpu_sku_patterns(), ai_families()
    gpu_sku = [
        (f"contains(_text, {_text(p.needs)}) AND regexp_matches(_text, {_text(p.pattern)})", str(number))
        for number, p in enumerate(patterns, 1)
    ]
    family = [
        (f"contains(_text, {_text(f.needs)}) AND regexp_matches(_text, {_text(f.when)})", str(number))
        for number, f in enumerate(families, 1)
    ]
    parts = {
        "relation": "{relation}",
        "aws_types": _AWS_TYPES,
        "consumed_hours": _one_of("ConsumedUnit", HOURS),
        "priced_hours": _one_of("PricingUnit", HOURS),
        "consumed_gpu_hours": _one_of("ConsumedUnit", GPU_HOURS),
        "priced_gpu_hours": _one_of("PricingUnit", GPU_HOURS),
        "running": f"(?:^|-)(?:{'|'.join(RUNNING)}):",
        "not_running": _NOT_RUNNING,
        "hosts": _HOSTS,
        "telling": f"(?i){'|'.join((*_GPU_NEEDS, *ai_needs()))}",
        "ai_provider": _one_of("ServiceProviderName", ai_providers()),
        "gpu_sku": _cases([("_text IS NULL", "NULL"), *gpu_sku]),
        "ai_family": _cases([("_text IS NULL", "NULL"), *family]),
        "ai_spelling": _per_family(families, _spelling),
        "ai_token": _per_family(families, lambda f: _first(f.tokens, "NULL")),
        "ai_tier": _per_family(families, lambda f: _first(f.tiers, "'standard'")),
        "sku_models": _list([_nullable(p.gpu_model) for p in patterns], "VARCHAR"),
        "sku_memories": _list([_number(p.gpu_memory_gib) for p in patterns], "DECIMAL(9, 2)"),
        "sku_counts": _list([str(p.unit == "gpu-hours").lower() for p in patterns], "BOOLEAN"),
    }
    return (
        files("gpuledger.models.recognition").joinpath("recognize.sql").read_text("utf-8").format_map(parts)
    )


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


def _per_family(families: Sequence[AiFamily], of: Callable[[AiFamily], str]) -> str:
    return "_family " + _cases([(str(number), of(family)) for number, family in enumerate(families, 1)])


def _first(words: Iterable[tuple[str, str]], otherwise: str) -> str:
    """The value of the first literal in the text; '' stands for unknown."""
    found = [(f"contains(_text, {_text(literal)})", _nullable(value)) for literal, value in words]
    return f"CASE {_cases(found)} ELSE {otherwise} END" if found else otherwise


def _cases(pairs: Iterable[tuple[str, str]]) -> str:
    return " ".join(f"WHEN {condition} THEN {value}" for condition, value in pairs)


def _list(values: Iterable[str], sql_type: str) -> str:
    return f"CAST([{', '.join(values)}] AS {sql_type}[])"


def _one_of(column: str, values: Iterable[str]) -> str:
    """Return equality with any of the values; IN with many values would become a join of its own."""
    return "(" + " OR ".join(f"lower({column}) = {_text(value)}" for value in values) + ")"


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
