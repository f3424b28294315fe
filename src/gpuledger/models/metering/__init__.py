"""Machines that run, priced before the bill comes: SQL over telemetry and relations of ledger columns.

    load(con)                                                  # once per connection
    machines(con, "node_interval", start, end)                 # metered_machine: each machine, told once
    prices(con, book, start, end)                              # metered_price: what its kind costs over time
    con.execute(f"CREATE TABLE rows AS {estimate()}")          # Estimated FOCUS 1.3 rows

`billed_days(con, final, start, end)` is what bills say of instance types, for `gpuledger.core.metering.learn`.

Estimates give way to the bill: `unreplaced(final, estimated)` are those that no bill has replaced,
`current(final, estimated)` these and the bill. An estimate is replaced as a whole row when a Final row of ChargeCategory
'Usage' of the same machine overlaps its charge period. Machines are the same when their ids are equal in any case, or
end in the same part of a path or ARN (`keys`); a node of an Azure scale set is also billed under the set's id.
ResourceId of an estimate is the node's provider_id, or `<cluster>/<node>` where nobody knows that.

`compare(final, estimated, groups, cost)` sets the two side by side and classifies every difference.

Arguments that name relations are tables, views, or queries in parentheses.
"""

from gpuledger.models.metering.compared import CLASSES, LAG, compare
from gpuledger.models.metering.replaced import current, keys, unreplaced
from gpuledger.models.metering.rows import billed_days, estimate, load, machines, prices, shapes

__all__ = [
    "CLASSES",
    "LAG",
    "billed_days",
    "compare",
    "current",
    "estimate",
    "keys",
    "load",
    "machines",
    "prices",
    "shapes",
    "unreplaced",
]
