"""Prometheus' text exposition format 0.0.4, written: families of samples, escaped as the format says.

Source: Prometheus documentation, "Exposition formats". The other way round is `core.exposition`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final, Literal

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_LABEL_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})

Value = int | float | Decimal


@dataclass(slots=True)
class Family:
    """One metric: name, type, help and samples. Labels without a value are left out, as empty ones mean the same."""

    name: str
    kind: Literal["gauge", "counter"]
    help: str
    samples: list[tuple[Mapping[str, str | None], Value]] = field(default_factory=list)

    def add(self, value: Value | None, **labels: str | None) -> None:
        """Add a sample; a value that isn't known makes none."""
        if value is not None:
            self.samples.append((labels, value))

    def lines(self) -> Iterable[str]:
        """Yield the lines of the family; none when it has no samples."""
        if not self.samples:
            return
        yield f"# HELP {self.name} {self.help.translate(_HELP_ESCAPES)}"
        yield f"# TYPE {self.name} {self.kind}"
        for labels, value in self.samples:
            inside = ",".join(
                f'{name}="{text.translate(_LABEL_ESCAPES)}"' for name, text in labels.items() if text
            )
            yield f"{self.name}{{{inside}}} {_number(value)}" if inside else f"{self.name} {_number(value)}"


def text(families: Iterable[Family]) -> str:
    """Return the exposition of families, in their order."""
    return "".join(f"{line}\n" for family in families for line in family.lines())


def _number(value: Value) -> str:
    if isinstance(value, Decimal):
        shown = format(value, "f")
        return shown.rstrip("0").rstrip(".") if "." in shown else shown
    return repr(value)
