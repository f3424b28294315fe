"""Relations of savings rules that aren't SQL: list prices of machines and tokens, and what could run on idle commitments."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, cast

from gpuledger.engines import duckdb
from gpuledger.models.savings import Relations
from gpuledger.prices.points import load_prices
from gpuledger.prices.tokens import newest_prices

_MONEY: Final = "DECIMAL(32, 18)"


def _machine_price(relations: Relations) -> None:
    """Create `machine_price`: the newest list price of each kind of machine and region, as of the window."""
    until = relations.window.end.date()
    newest = {
        (point.cloud, point.region, point.instance_type): point
        for point in sorted(load_prices(), key=lambda point: point.as_of)
        if point.as_of <= until
    }
    _table(
        relations,
        "machine_price",
        f"cloud VARCHAR, region VARCHAR, instance_type VARCHAR, on_demand {_MONEY}, spot {_MONEY}",
        [(*key, point.on_demand, point.spot) for key, point in newest.items()],
    )


def _token_price(relations: Relations) -> None:
    """Create `token_price`: the makers' list prices of the models that are called or named, USD per token."""
    called = relations.rows(
        """SELECT DISTINCT ai_model AS model FROM atom WHERE ai_model IS NOT NULL
        UNION SELECT DISTINCT model FROM tokens WHERE job_id IS NULL AND model IS NOT NULL
        UNION SELECT DISTINCT value FROM fact WHERE key IN ('cheaper-model', 'model')"""
    )
    prices = newest_prices((row["model"] for row in called), relations.window.end.date())
    rows = [(price.model, price.kind, price.price) for price in prices]
    _table(relations, "token_price", f"model VARCHAR, kind VARCHAR, price {_MONEY}", rows)


def _idle_move(relations: Relations) -> None:
    """Create `idle_move`: on-demand work that fits idle commitments at its own time, as `commitments rebalance` has it."""
    from gpuledger.pipeline import commitment_moves

    con = cast("duckdb.Connection", relations.con)  # models know connections by their methods only
    found = commitment_moves.ask(con, relations.window, commitment_moves.Rules())
    rows = [
        (
            row["commitment_id"], row["job_id"], row["name"], row["account"], row["region"], row["instance_type"],
            row["saved"], row["stranded_used"], row["blocker"], row["action"],
        )
        for row in found.rows
        if row["saved"] > 0
    ]  # fmt: skip
    _table(
        relations,
        "idle_move",
        "commitment_id VARCHAR, holder VARCHAR, name VARCHAR, account VARCHAR, region VARCHAR, instance_type VARCHAR, "
        f"saved {_MONEY}, stranded_used {_MONEY}, blocker VARCHAR, action VARCHAR",
        rows,
    )


def _table(relations: Relations, name: str, columns: str, rows: Sequence[Sequence[object]]) -> None:
    con = relations.con
    con.execute(f"CREATE OR REPLACE TEMP TABLE {name} ({columns})")
    values = ", ".join(
        "(" + ", ".join("NULL" if value is None else duckdb.literal(value) for value in row) + ")"
        for row in rows
    )
    if values:
        con.execute(f"INSERT INTO {name} VALUES {values}")


MAKERS: Final[Mapping[str, Callable[[Relations], None]]] = {
    "machine_price": _machine_price,
    "token_price": _token_price,
    "idle_move": _idle_move,
}
