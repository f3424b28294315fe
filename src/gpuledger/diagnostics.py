"""Problems in the data, as values: they are collected, shown and counted, and never stop the other rows."""

from dataclasses import asdict, dataclass
from typing import Literal

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding about input data.

    `code` is stable and documented; `source` names the file, line, column or connector; `hint` says what to do.
    """

    code: str
    severity: Severity
    source: str
    message: str
    hint: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return the five keys of the command-line contract."""
        return asdict(self)
