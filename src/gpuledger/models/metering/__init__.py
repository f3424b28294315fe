"""Machines that run, priced before the bill comes: SQL over relations of ledger columns.

- `unreplaced(final, estimated)`: estimates that no bill has replaced; `current(final, estimated)`: these and the bill.
- An estimate is replaced as a whole row when a Final row of ChargeCategory 'Usage' of the same machine overlaps its
  charge period. Machines are the same when their ids are equal in any case, or end in the same part of a path or ARN
  (`keys`); a node of an Azure scale set is also billed under the set's id.
- ResourceId of an estimate is the node's provider_id, or `<cluster>/<node>` where nobody knows that.

The `final` and `estimated` arguments are names of tables or views, or queries in parentheses.
"""

from functools import cache
from importlib.resources import files


def current(final: str, estimated: str) -> str:
    """Return a query of the bill's rows and the estimates that it hasn't replaced."""
    return _query("current").format(final=final, unreplaced=unreplaced(final, estimated))


def unreplaced(final: str, estimated: str) -> str:
    """Return a query of the estimates that no Final row of the same machine and time replaces."""
    return _query("unreplaced").format(final=final, estimated=estimated, keys=keys("ResourceId"))


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
