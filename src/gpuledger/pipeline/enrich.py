"""What every connector's rows get in the same way: GPU and model recognition, and canonical tags."""

from collections.abc import Mapping

from gpuledger.config import TagsSection
from gpuledger.core import tags
from gpuledger.engines import duckdb
from gpuledger.focus.schema import quoted
from gpuledger.models import recognition
from gpuledger.prices.accelerators import gpu_types
from gpuledger.prices.skus import ai_models

_TAG_COLUMNS = ("AllocatedTags", "Tags")
_FEW = 100_000  # distinct tag texts that are worth a lookup table


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


def parsed_tags(
    con: duckdb.Connection, relation: str, given: Mapping[str, str], aliases: tags.TagAliases
) -> str:
    """Return a query over `relation` whose tag columns that are JSON text have become maps.

    Bills repeat few distinct tag texts over many rows: each is parsed once, together with its canonical values, and
    joined. Where there are too many of them, rows are parsed one by one. `given` maps columns to DuckDB types.
    """
    texts = [column for column in _TAG_COLUMNS if given.get(column) == "VARCHAR"]
    if not texts:
        return f"SELECT * FROM {relation}"
    few = [column for column in texts if _distinct(con, relation, column) <= _FEW]
    canonical: dict[str, list[str]] = {}
    for column in few:
        for name in _lookup(con, relation, column, aliases):
            canonical.setdefault(name, []).append(f"{column}_lookup.{quoted(name)}")
    maps = {column: f"{column}_lookup.tags" if column in few else f"tag_map(r.{column})" for column in texts}
    replaced = [f"{value} AS {column}" for column, value in maps.items()]
    if "x_DataIssues" in given:
        unread = [_unread(f"r.{column}", value, column) for column, value in maps.items()]
        replaced.append(f"nullif(concat_ws('; ', r.x_DataIssues, {', '.join(unread)}), '') AS x_DataIssues")
    added: list[str] = []
    for name, values in canonical.items():
        known = [f"r.{quoted(name)}"] if name in given else []
        (replaced if known else added).append(f"coalesce({', '.join([*known, *values])}) AS {quoted(name)}")
    joins = "".join(f" LEFT JOIN {column}_lookup ON r.{column} = {column}_lookup.text" for column in few)
    return f"SELECT r.* REPLACE ({', '.join(replaced)}){''.join(', ' + one for one in added)} FROM {relation} AS r{joins}"


def _distinct(con: duckdb.Connection, relation: str, column: str) -> int:
    row = con.execute(
        f"SELECT count(*) FROM (SELECT DISTINCT {column} FROM {relation} LIMIT {_FEW + 1})"
    ).fetchone()
    return int(row[0]) if row else 0


def _lookup(con: duckdb.Connection, relation: str, column: str, aliases: tags.TagAliases) -> list[str]:
    """Create the table `<column>_lookup`: text, tags and canonical columns. Return the names of the latter."""
    con.execute(
        f"""CREATE OR REPLACE TABLE {column}_parsed AS SELECT text, tag_map(text) AS tags
            FROM (SELECT DISTINCT {column} AS text FROM {relation}) WHERE text IS NOT NULL"""
    )
    found = tags.tag_expressions(
        aliases.resolve(tags.tag_keys(con, f"{column}_parsed", ("tags",))), ("tags",)
    )
    values = "".join(f", {value} AS {quoted(name)}" for name, value in found.items())
    con.execute(f"CREATE OR REPLACE TABLE {column}_lookup AS SELECT text, tags{values} FROM {column}_parsed")
    return list(found)


def _unread(text: str, value: str, column: str) -> str:
    return (
        f"CASE WHEN {text} IS NOT NULL AND {value} IS NULL AND {text} NOT IN ('{{}}', '[]') "
        f"THEN '{column}: \"' || left({text}, 40) || '\" can''t be read' END"
    )


def enriched(
    con: duckdb.Connection, relation: str, given: Mapping[str, str], aliases: tags.TagAliases
) -> str:
    """Return a query over `relation` (ledger columns) with recognised and canonical columns filled.

    `given` are the columns and types that the connector gave: tags given as text have their canonical values already.
    """
    recognition.load(con)
    columns = [column for column in _TAG_COLUMNS if given.get(column, "VARCHAR") != "VARCHAR"]
    if any(
        given.get(column) == "VARCHAR" and _distinct(con, relation, column) > _FEW for column in _TAG_COLUMNS
    ):
        columns = [column for column in _TAG_COLUMNS if column in given]
    if not columns:
        return recognition.recognition_sql(relation)
    keys = tags.tag_keys(con, relation, columns)
    return recognition.recognition_sql(f"({tags.tagged_sql(relation, aliases, keys, columns)})")
