"""What every connector's rows get in the same way: GPU and model recognition, and canonical tags."""

from gpuledger.engines import duckdb


def prepare(con: duckdb.Connection) -> None:
    """Load the lookup tables that `enriched` joins."""


def enriched(con: duckdb.Connection, relation: str) -> str:
    """Return a query over `relation` (ledger columns) with recognised and canonical columns filled."""
    _ = con
    return f"SELECT * FROM {relation}"
