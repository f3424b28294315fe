"""What savings rules read: spend in atoms, and telemetry of the same time in the shape that rules ask for.

Relations are made when a rule first names them, each as a temporary table of a ledger's connection: the files of this
package, from the ledger's views and from `savings_charge` (allocated charges), `savings_whole` (charges as billed),
`held_usage` and `fact` (name, key, value), which whoever asks has made; what isn't SQL is made by `makers`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final

from gpuledger.core.contracts import Connection
from gpuledger.core.windows import Window

_NAMES: Final = tuple(
    sorted(
        entry.name.removesuffix(".sql") for entry in files(__name__).iterdir() if entry.name.endswith(".sql")
    )
)
_WORDS: Final = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)")


@cache
def _text(name: str) -> str:
    return files(__name__).joinpath(f"{name}.sql").read_text("utf-8").rstrip()


@dataclass(slots=True)
class Relations:
    """The relations of one question; a table is made once, with what it rests on."""

    con: Connection
    window: Window
    values: dict[str, str] = field(default_factory=dict)
    makers: Mapping[str, Callable[["Relations"], None]] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)

    def rows(self, query: str) -> list[dict[str, Any]]:
        """Return the rows of a query over relations."""
        text = self.filled(query)
        self.need(text)
        cursor = self.con.execute(text)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def need(self, text: str) -> None:
        """Make the relations that an SQL text names."""
        for name in dict.fromkeys(_WORDS.findall(text)):
            if name in self.made or (name not in _NAMES and name not in self.makers):
                continue
            self.made.add(name)
            if name in self.makers:
                self.makers[name](self)
                continue
            body = self.filled(_text(name))
            self.need(body)
            self.con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {body}")

    def filled(self, text: str) -> str:
        """Put the window and the settings in their places, such as {since} and {headroom}."""
        moments = {"since": self.window.start, "until": self.window.end}
        values = {name: f"TIMESTAMPTZ '{moment.isoformat()}'" for name, moment in moments.items()}
        for place, value in (values | self.values).items():
            text = text.replace("{" + place + "}", value)
        return text
