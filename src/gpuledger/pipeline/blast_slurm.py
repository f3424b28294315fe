"""What Slurm's partitions, QOS and associations let a mistake hold, as pools of a blast radius."""

from gpuledger.core import slurm_limits
from gpuledger.core.slurm_limits import Partition
from gpuledger.errors import SourceError
from gpuledger.pipeline.blast_live import Found, Live
from gpuledger.pipeline.blast_prices import Machine, card_price
from gpuledger.pipeline.blast_radius import Written
from gpuledger.prices import accelerator
from gpuledger.telemetry.slurm import Commands, notation


def limits(live: Live, found: Found, commands: Commands | None = None) -> None:
    """Add a pool for each partition and model of card. Raises SourceError when partitions or nodes can't be read."""
    commands = commands or Commands(timeout=20)
    seen = slurm_limits.Seen(
        slurm_limits.partitions_of(_said(commands, "scontrol", "-o", "show", "partition")),
        [
            _node(line)
            for line in _said(commands, "sinfo", "-h", "-a", "-N", "-o", "%R|%N|%G").splitlines()
            if line
        ],
        enforced=slurm_limits.enforced(_said(commands, "scontrol", "show", "config")),
    )
    if "limits" in seen.enforced:
        try:
            seen.associations = _listed(commands, "assoc", slurm_limits.ASSOCIATIONS)
            seen.qos = _listed(commands, "qos", slurm_limits.QOS)
        except SourceError as error:
            found.failed = True
            found.tell(
                "blast-radius-source-failed", "error", "slurm",
                f"{error.message}: limits of QOS and associations aren't known", error.hint or "",
            )  # fmt: skip
    else:
        found.tell(
            "blast-radius-not-enforced", "warning", "slurm",
            "AccountingStorageEnforce has no `limits`: what QOS and associations say limits nobody",
            "Set AccountingStorageEnforce=limits,qos in slurm.conf.",
        )  # fmt: skip
    partitions = slurm_limits.partitions(seen)
    if not partitions:
        found.tell(
            "blast-radius-no-pools",
            "warning",
            "slurm",
            "no partition has a node with GPUs",
            "Is it the right cluster?",
        )
    for partition in partitions:
        _add(partition, live, found)
    for note in dict.fromkeys(seen.notes):
        found.tell("blast-radius-no-limit", "info", "slurm", note, "Set GrpTRES or MaxTRESPerUser.")


def _add(partition: Partition, live: Live, found: Found) -> None:
    if partition.shared and not partition.cards:
        found.tell(
            "blast-radius-counted-before", "info", "slurm",
            f"all {partition.shared} nodes of partition {partition.name} are in a partition that allows longer jobs: they count there",
            "",
        )  # fmt: skip
    left = partition.gpus.value
    priced = []
    for kind, cards in partition.cards.items():
        known = accelerator(kind) if kind else None
        price, basis = card_price(Machine(gpu_model=known.model if known else None), live.price, live.today)
        priced.append((kind or "GPU", cards, price, basis))
    for kind, cards, price, basis in sorted(priced, key=lambda one: -(one[2] or -1)):
        if price is None:
            found.tell(
                "blast-radius-unpriced", "warning", "slurm",
                f"no price is known for {kind} in partition {partition.name}: {cards} GPUs are left out",
                "Give --price USD, what an hour of one card costs.",
            )  # fmt: skip
            continue
        if left == 0:
            continue
        values = {
            "name": f"slurm {partition.name} {kind}"[:60], "gpus": str(cards), "obtainable": str(cards), "usd_per_gpu_hour": format(price.normalize(), "f"),
        }  # fmt: skip
        origins = {
            "name": "Slurm", "gpus": "Slurm: all that the partition has", "usd_per_gpu_hour": basis,
            "obtainable": f"Slurm: {partition.nodes} nodes of partition {partition.name}; jobs that hold some may end before a mistake does",
        }  # fmt: skip
        if left is not None:
            values["quota"], origins["quota"] = (
                str(left),
                f"Slurm: {partition.gpus.why}; no user may hold more",
            )
            left -= min(left, cards)
        if partition.seconds.value is not None:
            values["max_hours"], origins["max_hours"] = (
                f"{partition.seconds.value}s",
                f"Slurm: {partition.seconds.why}",
            )
        found.written.append(Written(values, origins))


def _node(line: str) -> tuple[str, str, dict[str, int]]:
    partition, node, gres = (*line.split("|"), "", "")[:3]
    cards = {
        name.removeprefix("gpu").removeprefix(":"): count
        for name, count in notation.gres(gres).items()
        if name == "gpu" or name.startswith("gpu:")
    }
    return partition, node, cards


def _listed(commands: Commands, what: str, names: tuple[str, ...]) -> list[dict[str, str]]:
    said = _said(commands, "sacctmgr", "-nP", "show", what, f"format={','.join(names)}")
    return slurm_limits.rows(said, names)


def _said(commands: Commands, *words: str) -> str:
    with commands.run(*words) as spool:
        if not spool.whole:
            raise spool.error()
        return spool.text()
