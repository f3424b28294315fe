"""JSON pages of usage and cost APIs as a relation, with every number's text as the API wrote it.

DuckDB reads a JSON number that has a fraction as DOUBLE; a bill's numbers must not pass through one. So the numbers of
the keys that hold money and quantities are put into quotes before the text is parsed. A key in a page can't be taken
for text inside a string there: inside a string its quotes are escaped.

A file is one page, as the API answered, or JSON lines: a page a line, or one with the request beside it
(`{"request": …, "response": …}`), or `{"labels": …}` with account, names and tags that the pages lack.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from gpuledger.core.contracts import Delivery, SourceFile, Tree
from gpuledger.core.deliveries import is_data
from gpuledger.errors import SourceError

_MONTH = re.compile(r"^(\d{4}-\d{2})/")
_HINT = "Fetch it again; the ledger keeps its last good state."


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of pages: its path, whether it is JSON lines, and its documents."""

    path: str
    lines: bool
    documents: tuple[Any, ...]

    @property
    def pages(self) -> Iterator[Mapping[str, Any]]:
        """The pages themselves."""
        for document in self.documents:
            page = document.get("response", document) if isinstance(document, Mapping) else None
            if isinstance(page, Mapping) and isinstance(page.get("data"), list):
                yield page


def parse(path: str, content: bytes) -> PageFile:
    """Parse a file. Raises SourceError, with the line, for what isn't JSON or is cut off."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(
            "not a JSON text", where=path, hint="Unpack it first if it is compressed."
        ) from error
    try:
        return PageFile(path, lines=False, documents=(json.loads(text),))
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            raise SourceError(f"not valid JSON: {error}", where=path, hint=_HINT) from error
    documents = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                documents.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise SourceError(
                    f"not valid JSON: {error.msg}", where=f"{path}:{number}", hint=_HINT
                ) from error
    return PageFile(path, lines=True, documents=tuple(documents))


def by_month(tree: Tree, has_rows: Callable[[bytes], bool]) -> list[Delivery]:
    """One delivery per folder `YYYY-MM`, as pollers leave them; data files elsewhere are one delivery together.

    A month whose files have no rows, as `has_rows` sees it, is no delivery yet: nothing happened in it so far.
    """
    folders: dict[str, list[SourceFile]] = {}
    for file in tree.files:
        if is_data(file.path):
            match = _MONTH.match(file.path)
            folders.setdefault(match[1] if match else "", []).append(file)
    found = []
    for month, files in sorted(folders.items()):
        largest = sorted(files, key=lambda file: -file.size)
        if not month or any(has_rows(tree.read(file.path)) for file in largest):
            found.append(Delivery(files=tuple(files), billing_period=month or None))
    return found


def relation(files: Sequence[PageFile], bounds: tuple[str, str], exact: Sequence[str]) -> str:
    """SQL for the pages' results: `_file`, `_row` from 1 in each file, the two `bounds`, `result`, `labels`.

    `bounds` name the start and the end of a bucket, an element of a page's `data`; `result` is one of its `results`, or
    the bucket itself when it has none, as JSON. `exact` names the keys whose numbers become texts. `_file` is relative
    to the files' common folder. `labels` is the same JSON text in every row; NULL where no file has any.
    """
    folder = _common(files)
    keys = "|".join(exact)
    number = r"-?[0-9][0-9.]*(?:[eE][-+]?[0-9]+)?"
    texts = " UNION ALL ".join(
        f"SELECT substr(filename, {len(folder) + 1}) AS _file, {pieces} AS pieces FROM read_text({_list(paths)})"
        for paths, pieces in (
            ([file.path for file in files if not file.lines], "[content]"),
            ([file.path for file in files if file.lines], "string_split(content, chr(10))"),
        )
        if paths
    )
    # A bucket is let go before its results are spread: carried along, it would be there once for each of them.
    return f"""
        WITH piece AS (
            SELECT _file, unnest(pieces) AS text, generate_subscripts(pieces, 1) AS line FROM ({texts})
        ),
        page AS (
            SELECT _file, line, from_json(coalesce(doc -> '$.response', doc) -> '$.data', '["JSON"]') AS buckets
            FROM (SELECT _file, line, regexp_replace(ltrim(text, chr(65279)),
                      '"({keys})"\\s*:\\s*({number})', '"\\1":"\\2"', 'g')::JSON AS doc
                  FROM piece WHERE trim(text, E' \\t\\r\\n') <> '')
        ),
        bucket AS (
            SELECT _file, line, unnest(buckets) AS bucket, generate_subscripts(buckets, 1) AS place FROM page
        ),
        outcome AS (
            SELECT _file, line, place, {", ".join(f"bucket ->> '$.{name}' AS {name}" for name in bounds)},
                CASE WHEN json_exists(bucket, '$.results') THEN from_json(bucket -> '$.results', '["JSON"]')
                     ELSE [bucket] END AS results
            FROM bucket
        ),
        result AS (
            SELECT * EXCLUDE (results), unnest(results) AS result, generate_subscripts(results, 1) AS nth FROM outcome
        )
        SELECT _file, row_number() OVER (PARTITION BY _file ORDER BY line, place, nth) AS _row, {", ".join(bounds)}, result,
            {_labels(files)} AS labels
        FROM result"""


def values(rows: Iterable[Sequence[str | int | None]], names: Sequence[str]) -> str:
    """SQL for a small relation of texts; without rows it is empty."""
    listed = [f"({', '.join('NULL' if cell is None else _text(cell) for cell in row)})" for row in rows]
    columns = ", ".join(names)
    if not listed:
        return f"(SELECT {', '.join(f'NULL::VARCHAR AS {name}' for name in names)} WHERE false)"
    return f"(SELECT * FROM (VALUES {', '.join(listed)}) AS given({columns}))"


def _labels(files: Sequence[PageFile]) -> str:
    """SQL for the labels of the last file that has some."""
    found = [
        document["labels"]
        for file in files
        for document in file.documents
        if isinstance(document, Mapping) and isinstance(document.get("labels"), Mapping)
    ]
    return _text(json.dumps(found[-1], ensure_ascii=False)) if found else "NULL::VARCHAR"


def _common(files: Sequence[PageFile]) -> str:
    """Return the folder that all files are in, with its final separator."""
    folders = [PurePath(file.path).parent.parts for file in files]
    shared = folders[0]
    for parts in folders[1:]:
        same = 0
        while same < min(len(shared), len(parts)) and shared[same] == parts[same]:
            same += 1
        shared = shared[:same]
    text = str(PurePath(*shared)) if shared else ""
    return text if text.endswith("/") or not text else text + "/"


def _text(value: object) -> str:
    return "'" + str(value).replace("'", "''") + "'"


def _list(paths: Sequence[str]) -> str:
    return "[" + ", ".join(_text(path) for path in paths) + "]"
