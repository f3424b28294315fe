"""What runs on each cluster of the example. Everything is made up; how busy cards are follows what clusters report.

Some cards are busy to nine tenths, some hold memory and do little, some are held by nobody, of some nobody knows.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final

from gpuledger.demo.company import DAY, HOUR, TEAMS, ZERO
from gpuledger.demo.telemetry_machines import AKS, CKS, EUROPE, GKE, PROD, RESEARCH, SLURM, WEST, Machine
from gpuledger.demo.telemetry_plan import Life, Plan, Work, turns
from gpuledger.demo.telemetry_rows import Claim, Slice

_D: Final = Decimal
_TYPE: Final = "gpuledger.io/workload-type"
_QUARTER: Final = Fraction(1, 4)


def sliced(sharing: str, cards: Sequence[tuple[int, Sequence[Fraction]]], claim: Claim) -> list[Claim]:
    """Claims on parts of cards, in order: a card's number and its parts."""
    if sharing not in {"mig", "time-slicing"}:
        raise ValueError(f"not a way to share a card here: {sharing}")
    return [
        replace(claim, slice=Slice("mig" if sharing == "mig" else "time-slicing", card, part))
        for card, parts in cards
        for part in parts
    ]


def _slurm(plan: Plan, pool: dict[str, list[Machine]]) -> None:
    nodes = pool["p5"]
    user = TEAMS["llm-pretraining"].owner.partition("@")[0]
    whose = ("llm-pretraining", user)
    first = plan.month.start
    job = plan.slurm(SLURM, 41001, "pretrain-atlas-7b", whose, Life(first - 2 * DAY, first, state="RUNNING"))
    claim = Claim(cards=8, cores=176, memory=1800, busy=_D("0.86"), load=_D("0.6"))
    for node in nodes[:2]:
        for span in node.runs:
            plan.records.hold(replace(plan.pod(job, job.name), container=None), node, span, claim)
    number = 41001
    names = ("sft-atlas-7b", "eval-mmlu", "pretrain-ablate-lr", "dpo-atlas-7b", "eval-code")
    for node in nodes[2:]:
        rng = plan.rng(f"slurm/{node.node}")
        for start, end in turns(rng, node.runs, 5, 30):
            number += 1
            name = rng.choice(names)
            who = rng.choice((whose, whose, whose, ("recsys", "barbara")))
            state = rng.choices(("COMPLETED", "FAILED", "TIMEOUT"), (8, 1, 1))[0]
            life = Life(start - timedelta(minutes=rng.randint(1, 300)), start, end, state)
            job = plan.slurm(SLURM, number, name, who, life)
            cards = 4 if name.startswith("eval") else 8
            level = _D("0.12") if name == "eval-code" else _D(rng.randint(45, 93)) / 100
            claim = Claim(cards=cards, cores=22 * cards, memory=220 * cards, busy=level, load=_D("0.4"))
            plan.records.hold(replace(plan.pod(job, job.name), container=None), node, (start, end), claim)
    _nightly(plan, pool["p5-nightly"])


def _nightly(plan: Plan, nodes: Sequence[Machine]) -> None:
    """An evaluation in the night, on a machine of its own: one job each time."""
    user = TEAMS["llm-pretraining"].owner.partition("@")[0]
    for node in nodes:
        for number, (start, end) in enumerate(node.runs):
            life = Life(start - timedelta(minutes=5), start, end, "COMPLETED")
            job = plan.slurm(SLURM, 52001 + number, "eval-nightly", ("llm-pretraining", user), life)
            claim = Claim(cards=8, cores=160, memory=1600, busy=_D("0.77"), load=_D("0.5"))
            plan.records.hold(replace(plan.pod(job, job.name), container=None), node, (start, end), claim)


def _west(plan: Plan, pool: dict[str, list[Machine]]) -> None:
    """Runs of a sweep, one after the other, where there was room when it began."""
    rng = plan.rng("west")
    owner = TEAMS["llm-pretraining"].owner
    for node in pool["p5"]:
        for number, (start, end) in enumerate(turns(rng, node.runs, 8, 30)):
            work = Work(
                WEST,
                "Job",
                f"mix-ablation-{number}",
                "pretraining",
                "llm-pretraining",
                {_TYPE: "training"},
                owner,
            )
            job = plan.job(work, Life(start - timedelta(minutes=3), start, end, "Succeeded"))
            claim = Claim(cards=8, cores=170, memory=1700, busy=_D("0.83"), load=_D("0.5"))
            plan.records.hold(plan.pod(job, f"{work.name}-0"), node, (start, end), claim)
    bound = Work(WEST, "Deployment", "rag-records", "records", "rag-serving", {_TYPE: "inference"})
    plan.service(
        bound,
        [
            (node, Claim(cards=8, cores=160, memory=1500, busy=_D("0.44"), load=_D("0.3")))
            for node in pool["p5-serving"]
        ],
    )


def _prod(plan: Plan, pool: dict[str, list[Machine]]) -> None:
    rag = pool["rag"]
    serving = Work(PROD, "Deployment", "rag-llama-70b", "rag-serving", "rag-serving", {_TYPE: "inference", "model": "llama-70b"}, TEAMS["rag-serving"].owner)  # fmt: skip
    whole = Claim(cards=4, cores=40, memory=320, busy=_D("0.62"), load=_D("0.35"))
    plan.service(serving, [(node, whole) for node in rag[:3]], night=_D("0.18"))
    part = Claim(cores=4, memory=24, busy=_D("0.41"), load=_D("0.3"))
    shared = sliced("time-slicing", [(0, [_QUARTER] * 4), (1, [_QUARTER] * 4)], part)
    reranker = replace(serving, name="rag-reranker", labels={_TYPE: "inference", "model": "bge-reranker"})
    plan.service(reranker, [(rag[3], claim) for claim in shared], night=_D("0.07"))
    embed = replace(serving, name="rag-embed", labels={_TYPE: "inference", "model": "bge-m3"})
    one = Claim(cards=1, cores=8, memory=64, busy=_D("0.12"), load=_D("0.5"))
    plan.service(embed, [(rag[4], one)] * 3, night=_D("0.05"))
    nightly = replace(serving, kind="CronJob", name="rag-eval-nightly", labels={_TYPE: "evaluation"})
    job = plan.job(nightly, Life(plan.month.start - 40 * DAY, plan.month.start + 2 * HOUR, attempts=None))
    for day in range(plan.month.days):
        start = plan.month.start + day * DAY + 2 * HOUR
        pod = plan.pod(job, f"rag-eval-nightly-{day + 1}")
        plan.records.hold(
            pod, rag[4], (start, start + 90 * timedelta(minutes=1)), replace(one, busy=_D("0.71"))
        )
    ranker = Work(
        PROD, "Deployment", "ranker", "recsys-prod", labels={_TYPE: "inference", "model": "recsys-ranker"}
    )
    plan.service(ranker, [(pool["recsys"][0], replace(one, busy=_D("0.55")))] * 6, night=_D("0.31"))
    agents = Work(PROD, "Deployment", "agent-gateway", "agents", "agents-platform", {_TYPE: "agent"})
    plan.service(agents, [(node, Claim(cores=12, memory=40, load=_D("0.7"))) for node in pool["general"]])
    etl = Work(PROD, "Workflow", "etl-hourly", "etl", "data-platform")
    plan.service(etl, [(node, Claim(cores=8, memory=64, load=_D("1.3"))) for node in pool["general"]])
    embeddings = Work(PROD, "Job", "embed-backfill", "etl", "data-platform", {_TYPE: "batch-inference"})
    plan.gang(embeddings, pool["spot"], Claim(cards=1, cores=3, memory=24, busy=_D("0.78")), failures=3)


def _europe(plan: Plan, pool: dict[str, list[Machine]]) -> None:
    """Nobody exports what the cards of this cluster do."""
    serving = Work(EUROPE, "Deployment", "rag-llama-70b", "rag-serving", "rag-serving", {_TYPE: "inference", "model": "llama-70b"}, TEAMS["rag-serving"].owner)  # fmt: skip
    claim = Claim(cards=4, cores=40, memory=320, load=_D("0.2"))
    plan.service(serving, [(node, claim) for node in pool["rag"]])


def _research(plan: Plan, pool: dict[str, list[Machine]]) -> None:
    rng = plan.rng("research")
    eight = Claim(cards=8, cores=88, memory=1000, load=_D("0.3"))
    dino = Work(RESEARCH, "PyTorchJob", "dino-p5", "vision-research", "vision-research", {_TYPE: "training"}, TEAMS["vision-research"].owner)  # fmt: skip
    plan.gang(dino, pool["p5"], Claim(cards=8, cores=170, memory=1700, busy=_D("0.74"), load=_D("0.5")))
    kinds = (("RayJob", "detr-sweep", _D("0.12")), ("PyTorchJob", "vit-l-finetune", _D("0.81")))
    for node, (kind, name, level) in zip(pool["p4d"], kinds, strict=True):
        for number, (start, end) in enumerate(turns(rng, node.runs, 9, 40)):
            state = rng.choices(("Succeeded", "Failed"), (9, 1))[0]
            team = "vision-research" if number % 4 else None  # people forget the label now and then
            work = Work(RESEARCH, kind, f"{name}-{number}", "vision-research", team, {_TYPE: "training"})
            job = plan.job(work, Life(start - timedelta(minutes=4), start, end, state))
            plan.records.hold(plan.pod(job, f"{work.name}-0"), node, (start, end), replace(eight, busy=level))
    for number, (start, end) in enumerate(turns(rng, pool["p4d-open"][0].runs, 6, 30)):
        work = Work(RESEARCH, "Job", f"test-run-{number}", "default")
        job = plan.job(work, Life(start, start, end, "Succeeded"))
        claim = replace(eight, busy=_D(rng.randint(5, 60)) / 100)
        plan.records.hold(plan.pod(job, f"{work.name}-0"), pool["p4d-open"][0], (start, end), claim)
    desk = Claim(cards=1, cores=3, memory=26, load=_D("0.2"))
    for number, node in enumerate(pool["desk"]):
        work = Work(RESEARCH, "StatefulSet", f"notebook-{number}", "desks-vision", labels={_TYPE: "notebook"})
        plan.service(work, [(node, replace(desk, busy=_D(rng.randint(2, 40)) / 100))])
    for number, node in enumerate(pool["desk-open"]):
        plan.service(
            Work(RESEARCH, "Pod", f"tmp-shell-{number}", "default"), [(node, replace(desk, busy=_D("0.09")))]
        )
    edsger = Work(RESEARCH, "StatefulSet", "notebook-edsger", "desks-vision", "vision-research", {_TYPE: "notebook"}, TEAMS["vision-research"].owner)  # fmt: skip
    plan.service(
        edsger, [(pool["notebook"][0], Claim(cards=4, cores=44, memory=360, busy=ZERO, load=_D("0.01")))]
    )


def _aks(plan: Plan, pool: dict[str, list[Machine]]) -> None:
    owner = TEAMS["llm-pretraining"].owner
    atlas = Work(AKS, "JobSet", "atlas-70b", "pretraining", "llm-pretraining", {_TYPE: "training", "model": "atlas-70b"}, owner)  # fmt: skip
    claim = Claim(cards=8, cores=90, memory=1700, busy=_D("0.91"), load=_D("0.55"))
    plan.gang(atlas, pool["h100"], claim, failures=2)
    asked = plan.month.start + 4 * DAY
    waits = replace(atlas, name="atlas-70b-ablation")
    plan.job(waits, Life(asked, None, state="Pending", attempts=0))
    part = Claim(cores=3, memory=28, busy=_D("0.37"), load=_D("0.4"))
    profiles = [Fraction(3, 7), Fraction(2, 7), Fraction(1, 7)]
    retrieval = Work(
        AKS, "Deployment", "retrieval", "recsys-prod", labels={_TYPE: "inference", "model": "two-tower"}
    )
    places = [(node, one) for node in pool["a100"][:4] for one in sliced("mig", [(0, profiles)], part)]
    plan.service(retrieval, places, night=_D("0.15"))
    for number, node in enumerate(pool["a100"][4:]):
        work = Work(AKS, "Deployment", f"llm-playground-{number}", "sandbox")
        plan.service(work, [(node, Claim(cards=1, cores=16, memory=160, busy=_D("0.06")))])


def _gke(plan: Plan, pool: dict[str, list[Machine]]) -> None:
    rng = plan.rng("gke")
    node = pool["a3"][0]
    for number, (start, end) in enumerate(turns(rng, node.runs, 8, 44)):
        mine = number % 2 == 0
        state = rng.choices(("Succeeded", "Failed"), (4, 1))[0]
        tries = rng.choice((1, 1, 3))
        cards = 8 if number % 4 else 4
        labels = {_TYPE: "training", "experiment": f"sam-{number // 6}"} if mine else {}
        kind = "PyTorchJob" if mine else "RayJob"
        work = Work(GKE, kind, f"sam-train-{number}" if mine else f"ray-{number}", "vision", "vision-research" if mine else None, labels)  # fmt: skip
        job = plan.job(work, Life(start - timedelta(minutes=9), start, end, state, tries))
        claim = Claim(cards=cards, cores=24 * cards, memory=220 * cards, busy=_D(rng.randint(38, 88)) / 100)
        cut = (end - start) // timedelta(minutes=tries) * timedelta(minutes=1)
        for attempt in range(1, tries + 1):
            until = end if attempt == tries else start + cut - timedelta(minutes=2)
            plan.records.hold(plan.pod(job, f"{work.name}-master-0", attempt), node, (start, until), claim)
            start += cut  # noqa: PLW2901
    trial = Work(GKE, "Job", "trial", "default")
    plan.gang(trial, pool["trial"], Claim(cards=8, cores=190, memory=1700, busy=_D("0.22")))
    never = Work(GKE, "PyTorchJob", "whisper-xl", "vision", "vision-research", {_TYPE: "training"})
    asked = plan.month.start + 17 * DAY + 9 * HOUR
    plan.job(never, Life(asked, None, asked + 3 * DAY, "Failed", attempts=0))
    etl = Work(GKE, "CronJob", "etl-daily", "etl", "data-platform")
    job = plan.job(etl, Life(plan.month.start - 200 * DAY, plan.month.start + HOUR, attempts=None))
    for day in range(plan.month.days):
        start = plan.month.start + day * DAY + HOUR
        for one in pool["etl"]:
            pod = plan.pod(job, f"etl-daily-{day + 1}-{one.node[-1]}")
            plan.records.hold(
                pod, one, (start, start + 15 * HOUR), Claim(cores=12, memory=48, load=_D("0.8"))
            )


def _cks(plan: Plan, pool: dict[str, list[Machine]]) -> None:
    moe = Work(CKS, "PyTorchJob", "atlas-moe", "pretraining", "llm-pretraining", {_TYPE: "training", "model": "atlas-moe"}, TEAMS["llm-pretraining"].owner)  # fmt: skip
    claim = Claim(cards=8, cores=120, memory=1900, busy=_D("0.88"), load=_D("0.6"))
    job = plan.gang(moe, pool["h100"], claim, failures=1)
    plan.records.volume(
        job, "shared-vast", (plan.month.start, plan.month.end), 40960, _D(11800), pool["h100"][0].node
    )
    part = Claim(cores=3, memory=32, busy=_D("0.24"), load=_D("0.3"))
    runtime = Work(CKS, "Deployment", "agent-runtime", "agents", "agents-platform", {_TYPE: "agent"})
    node = pool["a100"][0]
    parts = sliced("mig", [(0, [Fraction(1, 7)] * 7), (1, [Fraction(2, 7)] * 3)], part)
    plan.service(runtime, [(node, one) for one in parts], night=_D("0.1"))
    planner = replace(
        runtime, kind="RayService", name="agent-planner", labels={_TYPE: "inference", "model": "qwen-32b"}
    )
    plan.service(planner, [(node, Claim(cards=2, cores=24, memory=400, busy=_D("0.47")))], night=_D("0.2"))
    ads = Work(CKS, "Deployment", "ads", "recsys-ads", labels={_TYPE: "inference", "model": "ads-dlrm"})
    node = pool["l40s"][0]
    shared = sliced("time-slicing", [(0, [_QUARTER] * 4), (1, [_QUARTER] * 4)], part)
    plan.service(ads, [(node, one) for one in shared], night=_D("0.15"))
    feed = Work(CKS, "LeaderWorkerSet", "feed", "default", labels={"app.kubernetes.io/name": "feed"})
    plan.service(feed, [(node, Claim(cards=4, cores=48, memory=400, busy=_D("0.33")))], night=_D("0.21"))
    bulk = Work(CKS, "Job", "bulk-captions", "default")
    plan.gang(bulk, pool["l40s-open"], Claim(cards=8, cores=100, memory=800, busy=_D("0.58")))


CLUSTERS: Final[dict[str, Callable[[Plan, dict[str, list[Machine]]], None]]] = {
    SLURM: _slurm, PROD: _prod, EUROPE: _europe, RESEARCH: _research, AKS: _aks, GKE: _gke, CKS: _cks, WEST: _west,
}  # fmt: skip
