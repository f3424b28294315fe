"""Estimates give way to the bill: the queries, over any two relations of ledger columns."""

from functools import cache
from importlib.resources import files


def current(final: str, estimated: str) -> str:
    """Return a query of the bill's rows and the estimates that it hasn't replaced."""
    return _query("current").format(final=final, unreplaced=unreplaced(final, estimated))


def unreplaced(final: str, estimated: str) -> str:
    """Return a query of the estimates that no Final row of the same machine and time replaces."""
    names = {"keys": keys("ResourceId"), "name_keys": keys("ResourceName")}
    return _query("unreplaced").format(final=final, estimated=estimated, **names)


def keys(column: str) -> str:
    """Return SQL of the list of names that a machine's ResourceId goes by, in lower case.

    Numbers of machines in a scale set repeat, so Azure's paths are compared whole, and as the set that bills them.
    """
    text = f"lower({column})"
    return (
        f"CASE WHEN starts_with({text}, '/subscriptions/') "
        f"THEN list_distinct([{text}, regexp_replace({text}, '(/virtualmachinescalesets/[^/]+)/.*$', '\\1')]) "
        f"ELSE list_distinct([{text}, coalesce(nullif(regexp_extract({text}, '[^/:]+$'), ''), {text})]) END"
    )


@cache
def _query(name: str) -> str:
    return files("gpuledger.models.metering").joinpath(f"{name}.sql").read_text("utf-8").rstrip()
