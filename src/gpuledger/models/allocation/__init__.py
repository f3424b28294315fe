"""Who pays for machines: charges split among the jobs that held them. `gpuledger.core.allocation` is the reference.

    inputs = Inputs("charges", "usage_interval", "node_interval", write_prices(con, [DEFAULT]))

    def write(con):                                # the table `allocated` has the rows of one batch of charges
        share_idle(con, "proportional")            # if configured
        con.execute("COPY (SELECT * FROM allocated) TO …")

    problems = allocate_all(con, inputs, write)    # or, batch by batch: Allocation(con, inputs)

Relations that are read (columns in brackets are optional; others are ignored):

- charges of machines: charge_id (a key), cluster, node, ChargePeriodStart, ChargePeriodEnd, BilledCost, EffectiveCost,
  ListCost, ContractedCost [PricingCurrencyEffectiveCost, ConsumedQuantity, PricingQuantity,
  CommitmentDiscountQuantity, x_GpuHours, Tags; part: 'gpu', 'cpu' or 'memory' where the charge is for that alone;
  gpu_count: cards of the machine, where telemetry doesn't know them; machine_seconds: time that the charge pays for]
- usage: cluster, node, job_id, resource, start, end [attempt, namespace, pod, pod_uid, container, device, sharing,
  share_numerator and share_denominator or a STRUCT share, requested, used, state], as in `gpuledger.core.usage`
- nodes: cluster, node, start, end [gpu_count, cpu_cores, memory_gib, gpu_model, instance_type, region]
- prices: gpu, cpu, memory [valid_from, gpu_model, instance_type, region], see `gpuledger.models.allocation.prices`
- jobs, if there: job_id [name, tags MAP], for AllocatedResourceName and AllocatedTags

Columns of `allocated`: x_OriginChargeId (the charge_id), x_Cluster, x_Node, the five Allocated… columns of FOCUS 1.3,
the costs and quantities apportioned, x_JobId, x_AllocationState ('running', 'held', 'idle', 'unknown'; 'overhead' from
`allocate_overhead`), x_Attempt, x_Namespace, x_Pod, x_Container, GPU hours as telemetry saw them (x_HeldGpuHours, of
which x_MeasuredGpuHours have a usage, x_UsedGpuHours; they repeat on every charge of the same machine and time) and
x_OverCapacity. `focus_rows` joins them with their origins to whole FOCUS 1.3 rows.

Usage belongs to one holder once: where several sources tell of the same pod, its GPU claim is the larger of what is
told by device and what is told without one, and its CPU and memory claims the larger of request and usage.
"""

from gpuledger.models.allocation.engine import METHOD, Allocation, Batch, allocate_all, focus_rows
from gpuledger.models.allocation.overhead import allocate_overhead, share_idle
from gpuledger.models.allocation.prices import DEFAULT, list_price_ratios, write_prices
from gpuledger.models.allocation.relations import Inputs

__all__ = [
    "DEFAULT", "METHOD", "Allocation", "Batch", "Inputs", "allocate_all", "allocate_overhead", "focus_rows", "list_price_ratios", "share_idle", "write_prices",
]  # fmt: skip
