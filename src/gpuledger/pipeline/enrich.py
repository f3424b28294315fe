"""What every connector's rows get in the same way: GPU and model recognition, and canonical tags.

Bills repeat few distinct texts over many rows. So a survey of a delivery's rows comes first: each distinct tag text is
parsed once, and recognition only looks for what a text can need.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuledger.config import TagsSection
from gpuledger.core import tags
from gpuledger.engines import duckdb
from gpuledger.focus.schema import quoted
from gpuledger.models import recognition
from gpuledger.prices.accelerators import gpu_types
from gpuledger.prices.skus import ai_models

_TAG_COLUMNS = ("AllocatedTags", "Tags")  # whoever receives a split cost outranks what was split
_FEW = 100_000  # distinct texts that are worth a table of their own


def known_aliases(provider: str | None, section: TagsSection | None) -> tags.TagAliases:
    """Return the tag aliases that apply to a provider's rows: the user's, then the defaults."""
    if section is None:
        return tags.aliases(provider)
    extra = {str(name): spellings for name, spellings in section.aliases.items()}
    by_provider = {
        provider_name: {str(name): spellings for name, spellings in table.items()}
        for provider_name, table in section.providers.items()
    }
    return tags.aliases(provider, extra, by_provider)


def identity(provider: str | None, section: TagsSection | None) -> str:
    """Return a text that changes whenever rows would be enriched differently."""
    return repr((known_aliases(provider, section), recognition.recognition_sql(""), gpu_types(), ai_models()))


@dataclass(frozen=True, slots=True)
class Survey:
    """What a look at some rows found, before they are enriched.

    `lookups` are the tag columns whose few distinct texts have a table `<column>_lookup`, each with the canonical
    columns that it holds; `parsed` are the other tag columns, `texts` all tag columns that are JSON text; `unread` are
    those with a text that is no set of tags. `given` are the columns that the connector gives.
    """

    given: frozenset[str]
    found: recognition.Seen
    texts: tuple[str, ...]
    lookups: Mapping[str, list[str]] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()

    @property
    def parsed(self) -> list[str]:
        """Tag columns that are maps row by row."""
        return [column for column in _TAG_COLUMNS if column in self.given and column not in self.lookups]

    def columns(self) -> dict[str, str]:
        """SQL of the tag columns that are text, for the select list of ledger columns."""
        return {
            column: "NULL" if column in self.lookups else f"tag_map({quoted(column)})"
            for column in self.texts
        }

    def carried(self) -> list[str]:
        """Select-list entries that carry texts along, which `enriched` needs and takes away."""
        return [f"{quoted(column)} AS _text_{column}" for column in self.texts]


def survey(
    con: duckdb.Connection, relation: str, given: Mapping[str, str], aliases: tags.TagAliases
) -> Survey:
    """Look at the distinct texts of a connector's rows; `given` maps their columns to DuckDB types."""
    recognition.load(con)
    texts = [column for column in _TAG_COLUMNS if given.get(column) == "VARCHAR"]
    few = _few(con, relation, [*texts, *(column for column in recognition.TEXTS if column in given)])
    found = recognition.seen(con, relation, few & set(recognition.TEXTS), given)
    lookups = {column: _lookup(con, relation, column, aliases) for column in texts if column in few}
    unread = {
        column
        for column in texts
        if column not in few
        or con.execute(f"FROM {column}_lookup WHERE unread IS NOT NULL LIMIT 1").fetchall()
    }
    return Survey(frozenset(given), found, tuple(texts), lookups, frozenset(unread))


def _few(con: duckdb.Connection, relation: str, columns: list[str]) -> set[str]:
    """The columns with few distinct values, more or less: counting exactly could take much memory."""
    if not columns:
        return set()
    counts = ", ".join(f"approx_count_distinct({quoted(column)})" for column in columns)
    row = con.execute(f"SELECT {counts} FROM {relation}").fetchone() or ()
    return {column for column, count in zip(columns, row, strict=True) if count <= _FEW}


def _lookup(con: duckdb.Connection, relation: str, column: str, aliases: tags.TagAliases) -> list[str]:
    """Create the table `<column>_lookup` of texts, their tags and canonical columns; return the latter's names."""
    con.execute(
        f"""CREATE OR REPLACE TABLE {column}_parsed AS SELECT text, tag_map(text) AS parsed
            FROM (SELECT DISTINCT {quoted(column)} AS text FROM {relation}) WHERE text IS NOT NULL"""
    )
    found = _canonical(con, f"{column}_parsed", "parsed", aliases)
    values = "".join(f", {value} AS {quoted(name)}" for name, value in found.items())
    con.execute(
        f"""CREATE OR REPLACE TABLE {column}_lookup AS
            SELECT text, parsed, {_unread("text", "parsed", column)} AS unread{values} FROM {column}_parsed"""
    )
    return list(found)


def _canonical(
    con: duckdb.Connection, relation: str, column: str, aliases: tags.TagAliases
) -> dict[str, str]:
    return tags.tag_expressions(aliases.resolve(tags.tag_keys(con, relation, (column,))), (column,))


def _unread(text: str, value: str, column: str) -> str:
    return (
        f"CASE WHEN {text} IS NOT NULL AND {value} IS NULL AND {text} NOT IN ('{{}}', '[]') "
        f"THEN '{column}: \"' || left({text}, 40) || '\" can''t be read' END"
    )


def enriched(
    con: duckdb.Connection, relation: str, seen: Survey, aliases: tags.TagAliases
) -> tuple[str, frozenset[str]]:
    """Return a query over `relation` with recognised and canonical columns filled, and which columns those are.

    `relation` has the ledger columns, the tag columns as `Survey.columns` says, and what `Survey.carried` says. Joins
    come last: they take away the dictionaries of texts, which make functions cheap.
    """
    filled = set(seen.found.fills(seen.given))
    rows = recognition.recognition_sql(relation, seen.found) if filled else f"SELECT * FROM {relation}"
    canonical: dict[str, list[str]] = {}
    for column in (name for name in _TAG_COLUMNS if name in seen.given):
        if column in seen.lookups:
            values = {name: f"{column}_lookup.{quoted(name)}" for name in seen.lookups[column]}
        else:
            values = _canonical(con, relation, column, aliases)
        for name, value in values.items():
            canonical.setdefault(name, []).append(value)
    replaced = [f"{column}_lookup.parsed AS {column}" for column in seen.lookups]
    for name, found in canonical.items():
        replaced.append(f"coalesce(r.{quoted(name)}, {', '.join(found)}) AS {quoted(name)}")
    if seen.unread:
        unread = [
            f"{column}_lookup.unread"
            if column in seen.lookups
            else _unread(f"r._text_{column}", f"r.{column}", column)
            for column in seen.texts
            if column in seen.unread
        ]
        replaced.append(f"nullif(concat_ws('; ', r.x_DataIssues, {', '.join(unread)}), '') AS x_DataIssues")
        filled.add("x_DataIssues")
    changes = f" REPLACE ({', '.join(replaced)})" if replaced else ""
    carried = f" EXCLUDE ({', '.join(f'_text_{column}' for column in seen.texts)})" if seen.texts else ""
    joins = "".join(
        f" LEFT JOIN {column}_lookup ON r._text_{column} = {column}_lookup.text" for column in seen.lookups
    )
    return f"SELECT r.*{carried}{changes} FROM ({rows}) AS r{joins}", frozenset(filled | set(canonical))
