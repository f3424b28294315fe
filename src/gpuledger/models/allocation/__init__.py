"""Who pays for machines: charges split among the jobs that held them, in SQL. `gpuledger.core.allocation` is the reference.

work = Allocation(con, Inputs("charges", "usage_interval", "node_interval", "unit_price"))
for batch in work.batches():
    work.run(batch)
    con.execute("COPY (SELECT * FROM allocated) TO …")
problems = work.diagnostics()
"""

from gpuledger.models.allocation.engine import METHOD, Allocation, Batch
from gpuledger.models.allocation.relations import Inputs

__all__ = ["METHOD", "Allocation", "Batch", "Inputs"]
