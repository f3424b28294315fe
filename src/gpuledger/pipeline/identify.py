"""Which kind of bill a file is, by its columns."""

from pathlib import Path

from gpuledger import registry
from gpuledger.core.deliveries import is_data
from gpuledger.engines import duckdb
from gpuledger.errors import GpuledgerError
from gpuledger.pipeline.headers import resolve, text_shape

_SIZE = 50  # files looked at per folder: a delivery's files are alike


def header_of(path: Path) -> list[str]:
    """Return the column names of a text, JSON or Parquet file; empty when it can't be read."""
    name = path.name.lower()
    try:
        if name.endswith(".parquet"):
            return list(
                duckdb.columns(
                    duckdb.connect(), f"read_parquet({duckdb.literal(path)}, hive_partitioning = false)"
                )
            )
        if ".json" in name or ".ndjson" in name:
            query = f"SELECT json_keys(json) FROM read_json_objects({duckdb.literal(path)}, format = 'auto') LIMIT 1"
            row = duckdb.connect().execute(query).fetchone()
            return [str(key) for key in row[0]] if row and row[0] else []
        return list(text_shape(path, str(path), {}, ()).header)
    except (GpuledgerError, duckdb.EngineError, OSError):
        return []


def candidates(header: list[str]) -> list[str]:
    """Return the connector types that the columns fit, best first."""
    scored = []
    for connector in registry.sources():
        found = resolve(header, {name: [*spellings] for name, spellings in connector.COLUMNS.items()})
        fits = connector.REQUIRED and all(set(names.split("|")) & set(found) for names in connector.REQUIRED)
        if fits:
            scored.append((len(found) / max(len(header), 1), len(connector.REQUIRED), connector.TYPE))
    return [name for _, _, name in sorted(scored, reverse=True)]


def bills_below(folder: Path) -> dict[str, str]:
    """Find bills in a folder: path of a file, or of the folder that holds several of one type, to its type."""
    found: dict[str, str] = {}
    parents: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if (
            path.is_file()
            and is_data(path.name)
            and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        ):
            parents.setdefault(path.parent, []).append(path)
    for parent, paths in parents.items():
        types = {path: kinds[0] for path in paths[:_SIZE] if (kinds := candidates(header_of(path)))}
        if len(set(types.values())) == 1 and len(types) == len(paths[:_SIZE]) and parent != folder:
            found[str(parent)] = next(iter(types.values()))
        else:
            found |= {str(path): kind for path, kind in types.items()}
    return found
