"""Usage that comes in columns, written down as blocks of the table."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Self

from gpuledger.core.telling import Block
from gpuledger.core.usage_columns import UsageColumns
from gpuledger.engines import duckdb

_PARQUET: Final = "FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE 122880"


class Blocks:
    """Writes blocks into a folder of its own, from where they are taken: a context manager."""

    def __enter__(self) -> Self:
        self.folder = TemporaryDirectory(prefix="gpuledger-")
        self.con = duckdb.connect(spill=Path(self.folder.name) / "spill")
        self.count = 0
        return self

    def __exit__(self, *_about: object) -> None:
        self.con.close()
        self.folder.cleanup()

    def block(self, told: UsageColumns) -> Block:
        """Write usage down."""
        tables, query = told.tables()
        path = Path(self.folder.name) / f"usage-{self.count}.parquet"
        self.count += 1
        for name, columns in tables.items():
            self.con.register(name, columns)
        self.con.execute(f"COPY ({query}) TO {duckdb.literal(path)} ({_PARQUET})")
        for name in tables:
            self.con.unregister(name)
        return Block("usage_interval", path, len(told))
