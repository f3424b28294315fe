"""Which charges are of which machine: bills and telemetry brought together, for `gpuledger.models.allocation`.

Relations that are read: `charge` (rows of the Cost and Usage table with their key `charge_id`), `seen_node` and
`held_usage` (node and usage intervals of the time concerned). Made, in this order:

1. `resource`: resources that charges name, `place`: machines and volumes that telemetry knows.
2. `machine`: the machine of each resource. A resource that is several nodes, such as an Azure scale set, or a machine
   that was registered twice, is one machine whose capacity is theirs together. One that two clusters claim goes to
   the cluster that knew it longer.
3. `machine_charge`: the charges to split, with `part` where a bill has cards, cores and memory apart (Google), and
   `machine_seconds`, the time paid for, from the hours that the bill states.
4. `node` and `usage`, as allocation reads them. A volume is a machine that has nothing but GiB, and its claims hold it.

Machines are the same when `gpuledger.models.metering.keys` of their ids meet; Google's also by the instance's name,
where the project is the same. A node without a provider id is billed as `<cluster>/<node>`, if at all.
"""

from functools import cache
from importlib.resources import files
from typing import Final

from gpuledger.core.contracts import Connection
from gpuledger.models import metering

VOLUME_METHOD: Final = "gpuledger-volume-1"


def find(con: Connection) -> int:
    """Create `resource`, `place`, `machine`; return how many resources telemetry knows."""
    for name in ("resource", "place", "machine"):
        con.execute(f"CREATE OR REPLACE TABLE {name} AS {_sql(name)}")
    row = con.execute("SELECT count(*) FROM machine").fetchone()
    return int(row[0]) if row else 0


def charges() -> str:
    """Return the query of the charges to split: rows of `charge` with cluster, node, part and so on."""
    return _sql("machine_charge")


def relations(con: Connection) -> tuple[str, str]:
    """Create the views `node` and `usage` for allocation; return their names.

    Usage is long, and read several times: it is read for pools and volumes only where there are any.
    """
    con.execute(f"CREATE OR REPLACE TABLE pool_node AS {_sql('pool_node')}")
    row = con.execute(
        "SELECT coalesce(bool_or(len(nodes) > 1), false), coalesce(bool_or(kind = 'volume'), false) FROM machine"
    )
    pools, volumes = row.fetchall()[0]
    parts = [("usage", True), ("usage_pool", pools), ("usage_volume", volumes)]
    usage = " UNION ALL ".join(_sql(name) for name, there in parts if there)
    con.execute(f"CREATE OR REPLACE VIEW usage AS {usage}")
    nodes = [("node", True), ("node_volume", volumes)]
    con.execute(
        f"CREATE OR REPLACE VIEW node AS {' UNION ALL BY NAME '.join(_sql(name) for name, there in nodes if there)}"
    )
    return "node", "usage"


@cache
def _sql(name: str) -> str:
    text = files("gpuledger.models.machines").joinpath(f"{name}.sql").read_text("utf-8").rstrip()
    for column in ("ResourceId", "provider_id", "device"):
        text = text.replace("{keys " + column + "}", metering.keys(column))
    return text
