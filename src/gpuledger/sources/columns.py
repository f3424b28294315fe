"""Anybody's bill, by a column map: a TOML file says which column of the file is which column of the ledger.

docs/connectors/columns.md is the reference of the map. Maps for CoreWeave, Nebius, RunPod and Lambda are in the
package (`columns_maps/`). Without `map`, the connector takes the `columns.toml` that lies beside the data.

Missing by nature: what the file doesn't say and the map doesn't fix is unknown (null), in particular list prices.
"""

import difflib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any, Final

from gpuledger.core import column_map_parser, deliveries
from gpuledger.core.column_map import ColumnMap
from gpuledger.core.column_map_sql import Statement
from gpuledger.core.contracts import Delivery, Tree
from gpuledger.errors import ConfigError

TYPE = "columns"
TITLE = "any file, by a column map"
PROVIDER = None
VERSION = "column map"
COLUMNS: Mapping[str, Sequence[str]] = {}
REQUIRED: Sequence[str] = ()
TOTAL = ""

_BESIDE: Final = "columns.toml"


def configure(settings: Mapping[str, Any], tree: Tree) -> "Mapped":
    """Return the connector for one map: `settings["map"]` is a path, a shipped name or a table.

    Raises ConfigError when there is no such map or it is wrong.
    """
    content, where, read = _load(settings, tree)
    if (base := content.get("extends")) is not None:
        content = column_map_parser.merged(_shipped(str(base), where), content)
    return Mapped(column_map_parser.parse(content, where, read))


def shipped() -> list[str]:
    """Return the names of the maps in the package."""
    folder = resources.files("gpuledger.sources").joinpath("columns_maps")
    return sorted(
        entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
    )


def _load(settings: Mapping[str, Any], tree: Tree) -> tuple[Mapping[str, Any], str, Callable[[str], str]]:
    given = settings.get("map")
    if isinstance(given, Mapping) or (given is None and "columns" in settings):
        content = given if isinstance(given, Mapping) else settings
        return content, "the map in gpuledger.toml", _reader(Path())
    if isinstance(given, str) and (path := Path(given)).suffix == ".toml":
        if not path.is_file():
            raise ConfigError(
                "no such map file", where=given, hint=f"Shipped maps go by name: {', '.join(shipped())}."
            )
        return _toml(path.read_text("utf-8-sig"), given), given, _reader(path.parent)
    if isinstance(given, str):
        return _shipped(given, "map"), f"shipped map {given}", _reader(Path())
    beside = [file.path for file in tree.files if file.path.rsplit("/", 1)[-1] == _BESIDE]
    if len(beside) != 1:
        raise ConfigError(
            f"no column map: {'several' if beside else 'no'} {_BESIDE} beside the data",
            where=tree.location,
            hint=f"Say --map FILE, or --map NAME for a shipped one: {', '.join(shipped())}.",
        )
    folder = beside[0].rpartition("/")[0]
    where = f"{tree.location}/{beside[0]}"

    def read(name: str) -> str:
        wanted = f"{folder}/{name}".lstrip("/")
        if wanted not in {file.path for file in tree.files}:
            raise ConfigError(
                f"no file {name}", where=where, hint="A rate card's path is relative to its map."
            )
        return tree.read(wanted).decode("utf-8")

    return _toml(tree.read(beside[0]).decode("utf-8-sig"), where), where, read


def _reader(folder: Path) -> Callable[[str], str]:
    def read(name: str) -> str:
        path = folder / name
        if not path.is_file():
            raise ConfigError(
                "no such file", where=str(path), hint="A rate card's path is relative to its map."
            )
        return path.read_text("utf-8")

    return read


def _shipped(name: str, where: str) -> Mapping[str, Any]:
    if name not in shipped():
        near = difflib.get_close_matches(name, shipped(), n=1)
        hint = (
            f"Did you mean {near[0]}?"
            if near
            else f"There are: {', '.join(shipped())}; or give a file that ends in .toml."
        )
        raise ConfigError(f"no shipped column map {name!r}", where=where, hint=hint)
    text = resources.files("gpuledger.sources").joinpath(f"columns_maps/{name}.toml").read_text("utf-8")
    return _toml(text, f"shipped map {name}")


def _toml(text: str, where: str) -> Mapping[str, Any]:
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}", where=where, hint="Mend that line.") from error


@dataclass(frozen=True)
class Mapped:
    """A column map as a connector: the names that `FileConnector` asks for, and `select`."""

    map: ColumnMap
    __file__ = __file__
    TYPE = TYPE

    @property
    def TITLE(self) -> str:  # noqa: N802  # the name is the contract's
        """What the file should have been, for messages."""
        return self.map.title

    @property
    def PROVIDER(self) -> str | None:  # noqa: N802
        """Whose tag aliases apply."""
        return self.map.provider

    @property
    def VERSION(self) -> str:  # noqa: N802
        """Goes to x_SourceVersion."""
        return self.map.version

    @property
    def COLUMNS(self) -> dict[str, Sequence[str]]:  # noqa: N802
        """Columns of the file under their own names; no other spellings."""
        return dict.fromkeys(self.map.used(), ())

    @property
    def REQUIRED(self) -> list[str]:  # noqa: N802
        """Columns that the file must have."""
        return self.map.required()

    @property
    def PREFIXES(self) -> dict[str, Sequence[str]]:  # noqa: N802
        """Headers that are tags by their prefix."""
        return {"_tags": self.map.tags.prefixes} if self.map.tags.prefixes else {}

    @property
    def RECORDS(self) -> str | None:  # noqa: N802
        """Where in a JSON document the list of lines is."""
        return self.map.records

    @property
    def DELIMITER(self) -> str | None:  # noqa: N802
        """What separates the cells of a text file; None: find out."""
        return self.map.delimiter

    @property
    def IDENTITY(self) -> str:  # noqa: N802
        """Changes with the map, so that the same file is read again when its map is mended."""
        return sha256(repr(self.map).encode()).hexdigest()

    @property
    def TOTAL(self) -> str:  # noqa: N802
        """What the file's own numbers add up to: its total line where there is one, else its cost column."""
        return Statement(self.map).total()

    def discover(self, tree: Tree) -> list[Delivery]:
        """Take all data files as one delivery; it is the vendor's, where its lines don't name an account."""
        named = "BillingAccountId" in self.map.values
        return [
            delivery if named else replace(delivery, source=self.map.provider or self.map.title)
            for delivery in deliveries.plain(tree)
        ]

    def select(self, columns: Mapping[str, str], part: str) -> str | None:
        """Return the mapping as one SELECT from `native`; there are no commitments."""
        _ = columns
        return None if part else Statement(self.map).select()
