"""What job_submit.lua adds to a submission, measured inside a real slurmctld: 300 jobs that draw on a budget.

The script's own clock is read around each call (processor time of slurmctld, so other threads of it count too). Beside
it: a register of 2,000 cost centres, prices and earlier runs, and the journal on disk.
"""

import re
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tests.telemetry.slurm_cluster import SlurmCluster, missing_tools

from gpuledger.core.policy import Budget, History, Policy, Rate
from gpuledger.core.policy.model import Limit, Require
from gpuledger.core.policy.render import Setting
from gpuledger.core.policy.render.slurm import Left, cache, render

JOBS = 300
BUDGET_US = 2000
END = "return slurm.SUCCESS\n"
CLOCK = """
local asked = slurm_job_submit
function slurm_job_submit(...)
  local began = os.clock()
  local answer = asked(...)
  slurm.log_info("took %.0f us", (os.clock() - began) * 1e6)
  return answer
end
"""
POLICY = Policy(
    mode="enforce",
    require=(
        Require(dimension="cost_center", register="centers"),
        Require(dimension="team", pattern="[a-z][a-z0-9-]*"),
    ),
    limit=(Limit(name="large", max_gpus=Decimal(64), max_cost_usd=Decimal(5000)),),
    budget=(Budget(name="lab", owner="ada@example.com", amount_usd=Decimal(10**6), match={"team": "nlp"}),),
)


def install(cluster: SlurmCluster) -> None:
    """Write script, policy and cache beside slurm.conf, and restart the controller with them."""
    now = datetime.now(UTC)
    registers = {"centers": frozenset(f"CC-{number}" for number in range(4000, 6000))}
    for name, text in render(POLICY, Setting(now=now, registers=registers)).files.items():
        body = str(text)
        if name == "job_submit.lua":
            body = body.removesuffix(END) + CLOCK + END
        (cluster.root / name).write_text(body)
    rates = {"H100": Rate(Decimal("2.10"), "your bills of 30 days")}
    runs: dict[tuple[str, str | None, str], list[Decimal]] = {
        ("SlurmJob", "CC-4100", f"train-{number}x"): [Decimal(1)] * 5 for number in range(1000)
    }
    left = [Left("lab", Decimal(10**6), now, now + timedelta(days=30))]
    (cluster.root / "gpuledger-cache.lua").write_text(cache(rates, History(runs), left, now))
    conf = cluster.root / "slurm.conf"
    conf.write_text(conf.read_text() + "JobSubmitPlugins=lua\n")
    cluster.stop_daemon("slurmctld")
    cluster.start_slurmctld()


def main() -> int:
    """Print what was measured; return 1 over budget."""
    if absent := missing_tools():
        print(f"not measured: no {', '.join(absent)}")
        return 0
    cluster = SlurmCluster()
    try:
        cluster.start()
        install(cluster)
        for _ in range(JOBS):
            cluster.submit(
                "true", "--hold", "--gres=gpu:h100:4", "--time=60", "--account=CC-4100", "--comment=team=nlp"
            )
        log = (cluster.root / "slurmctld.log").read_text()
    finally:
        cluster.stop()
    took = sorted(int(found) for found in re.findall(r"took (\d+) us", log))
    p99 = took[len(took) * 99 // 100]
    print(f"{len(took)} submissions: median {took[len(took) // 2]} µs, p99 {p99} µs, longest {took[-1]} µs")
    print(f"budget: p99 {BUDGET_US} µs")
    return int(len(took) != JOBS or p99 > BUDGET_US)


if __name__ == "__main__":
    sys.exit(main())
