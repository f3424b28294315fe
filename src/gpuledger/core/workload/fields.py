"""Reading parsed Kubernetes objects whose shape nobody checked: a wrong type reads as missing, never as a crash.

Quantities follow apimachinery's `resource.Quantity` and times RFC 3339, see the Kubernetes API reference.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any, Final

Json = Mapping[str, Any]

_QUANTITY: Final = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,3}))?")
_FACTORS: Final = {
    **{suffix: Decimal(10) ** power for suffix, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)},
    **{f"{letter}i": Decimal(2) ** (10 * place) for place, letter in enumerate("KMGTPE", 1)},
}  # fmt: skip
# A GiB is 2^30 bytes, so a byte has 30 decimals: wide enough to divide exactly.
_EXACT: Final = Context(prec=80)
_GIB: Final = Decimal(2**30)


def mapping(value: object) -> Json:
    """Return the value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> list[Json]:
    """Return the mappings of a list; anything else has none."""
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, (list, tuple)) else []


def at(value: object, *path: str) -> Any:  # noqa: ANN401 - whatever the object holds there
    """Return what stands at a path of keys, None where a step is missing."""
    for key in path:
        value = mapping(value).get(key)
    return value


def text(value: object) -> str | None:
    """Return a non-empty text without surrounding white space; numbers as YAML writes them become text."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return str(value).strip() or None


def texts(value: object) -> dict[str, str]:
    """Return the entries of a map of labels or annotations that have a text."""
    return {str(key): found for key, item in mapping(value).items() if (found := text(item)) is not None}


def whole(value: object) -> int | None:
    """Return a count: an integer that isn't negative, or the text of one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if value >= 0 else None
    found = text(value)
    return int(found) if found is not None and found.isascii() and found.isdigit() else None


def quantity(value: object) -> Decimal | None:
    """Return a Kubernetes quantity ('500m', '2Gi', '1e3', 4) exactly, None when it is none."""
    found = text(value)
    match = _QUANTITY.fullmatch(found) if found is not None else None
    if match is None:
        return None
    number, suffix, exponent = match.groups()
    factor = Decimal(10) ** int(exponent) if exponent else _FACTORS.get(suffix, Decimal(1))
    return _EXACT.multiply(Decimal(number), factor)


def gib(size: Decimal) -> Decimal:
    """Turn bytes into GiB, exactly."""
    return _EXACT.divide(size, _GIB)


def instant(value: object) -> datetime | None:
    """Return a time of the API ('2026-11-02T08:00:00Z', with or without fractions) in UTC."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)


def metadata(obj: Json) -> Json:
    """Return the object's metadata."""
    return mapping(obj.get("metadata"))


def labels(obj: Json) -> dict[str, str]:
    """Return the object's labels."""
    return texts(metadata(obj).get("labels"))


def annotations(obj: Json) -> dict[str, str]:
    """Return the object's annotations."""
    return texts(metadata(obj).get("annotations"))


def kind(obj: Json) -> str:
    """Return the object's kind, empty when it says none."""
    return text(obj.get("kind")) or ""


def group(obj: Json) -> str:
    """Return the API group of the object, empty for the core group."""
    version = text(obj.get("apiVersion")) or ""
    return version.rpartition("/")[0]


def sort(obj: Json) -> str:
    """Return what kind of object it is among all groups: `Pod`, `Job.batch`, `Job.batch.volcano.sh`."""
    return f"{kind(obj)}.{group(obj)}" if group(obj) else kind(obj)


def name(obj: Json) -> str:
    """Return the object's name; before it exists, the prefix that its name will have."""
    own = metadata(obj)
    return text(own.get("name")) or text(own.get("generateName")) or ""


def namespace(obj: Json) -> str | None:
    """Return the object's namespace, None when it has or says none."""
    return text(metadata(obj).get("namespace"))


def uid(obj: Json) -> str | None:
    """Return the object's uid, None before it exists."""
    return text(metadata(obj).get("uid"))


def condition(obj: Json, wanted: str) -> Json | None:
    """Return the condition of that type when it is True."""
    for found in items(at(obj, "status", "conditions")):
        if found.get("type") == wanted and str(found.get("status")) == "True":
            return found
    return None
