"""What this package asks of a database connection: DuckDB's, passed in and typed by its shape.

`focus` knows no engine; it writes DuckDB SQL and runs it on a connection that its caller opened.
"""

from typing import Any, Protocol


class Result(Protocol):
    """Rows of a query."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """Return all remaining rows."""
        ...

    def fetchone(self) -> tuple[Any, ...] | None:
        """Return the next row, or None."""
        ...


class Connection(Protocol):
    """A DuckDB connection."""

    def execute(self, query: str, parameters: object = ..., /) -> Result:
        """Run one SQL statement."""
        ...
