"""The example's token telemetry: what its services and its API callers made of the time, as record files.

Synthetic throughout. Rates are of the order that public benchmarks show for such cards and models, and no measurement.
Services tell by pod, by job or by the name of their deployment alone, as real sources do. What is there to be found:

- `rag-llama-70b` on small cards is full; the same model on trial on eight H100 is not: the larger card loses.
- `llm-playground-0` is an endpoint that nobody calls.
- `agent-planner` answers, but seldom in time.
- in Frankfurt the machines' price rises at mid-month while load stays as it was.

API callers go through a gateway that counts the tokens of the bill, hour by hour.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final, Literal

from gpuledger.core.usage import Job, UsageInterval
from gpuledger.demo import anthropic, files, openai
from gpuledger.demo.company import GPUS, HOUR, LIST_PRICE, PROJECTS, WORKSPACES, busy, stream
from gpuledger.demo.telemetry_machines import AKS, CKS, EUROPE, GKE, PROD, SHAPES, Span, joined
from gpuledger.demo.telemetry_rows import FOLDER, Records, packed

_STEP: Final = timedelta(minutes=15)
_TWELVE: Final = Decimal("0.000000000001")
# Dollars an hour that a GiB and a core are worth, and a card where the machine's list price isn't known: the default
# ratios of allocation, docs/allocation.md.
_CORE, _GIB, _CARD = Fraction("0.031611"), Fraction("0.004237"), Fraction("2.933908")


@dataclass(frozen=True, slots=True)
class Service:
    """How a deployment serves.

    `capacity` is output tokens a second of one full replica, `load` the part of it that comes at work and outside hours;
    `given` and `made` are tokens of a request, `cached` and `good` parts in a hundred (of input, of requests). `told` is
    what its source says of where it runs.
    """

    cluster: str
    job: str
    deployment: str
    model: str
    engine: str
    told: Literal["pod", "job", "name"]
    capacity: int
    load: tuple[str, str]
    given: int = 1800
    made: int = 240
    cached: int = 35
    good: int = 97
    wait: str = "0.4"
    pace: str = "0.028"


SERVICES: Final = (
    Service(GKE, "trial", "trial-llama-70b", "llama-70b", "vllm", "job", 4600, ("0.31", "0.12"), cached=10, good=100, wait="0.15", pace="0.011"),
    Service(PROD, "rag-llama-70b", "rag-llama-70b", "llama-70b", "vllm", "pod", 640, ("0.96", "0.81"), wait="0.9"),
    Service(EUROPE, "rag-llama-70b", "rag-llama-70b", "llama-70b", "vllm", "name", 640, ("0.62", "0.35")),
    Service(CKS, "agent-planner", "agent-planner", "qwen-32b", "sglang", "pod", 780, ("0.74", "0.33"), 5200, 420, 61, 58, "4.1", "0.061"),
    Service(AKS, "llm-playground-0", "llm-playground-0", "llama-8b", "vllm", "pod", 1900, ("0", "0")),
    Service(AKS, "llm-playground-1", "llm-playground-1", "llama-8b", "vllm", "pod", 1900, ("0.08", "0.01"), 700, 190, 5),
)  # fmt: skip


def _spans(records: Records, job: Job) -> dict[str, tuple[Span, ...]]:
    """When each pod of a job held cards, running."""
    found: dict[str, list[Span]] = {}
    for row in records.rows:
        if (
            isinstance(row, UsageInterval)
            and row.job_id == job.job_id
            and row.resource == "gpu"
            and row.state == "running"
        ):
            found.setdefault(row.pod or "", []).append((row.start, row.end))
    return {pod: joined(sorted(spans)) for pod, spans in found.items()}


def named(records: Records, cluster: str, name: str) -> Job:
    """Return the job of that name in a cluster."""
    return next(job for job in records.jobs.values() if (job.cluster, job.name) == (cluster, name))


def steps(span: Span, step: timedelta) -> Iterator[Span]:
    """Cut a span at whole steps of the clock."""
    at, end = span
    while at < end:
        midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
        until = min(end, midnight + ((at - midnight) // step + 1) * step)
        yield at, until
        at = until


class _Tokens:
    """Collects rows of `token_interval` and what is true of each deployment."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self.setting = records.setting
        self.rows: list[dict[str, Any]] = []
        self.truth: list[dict[str, Any]] = []

    def serve(self, service: Service) -> None:
        job = named(self.records, service.cluster, service.job)
        rng = stream(self.setting.seed, self.setting.month, f"serving/{service.cluster}/{service.deployment}")
        sums: dict[str, int] = dict.fromkeys(("input", "cached", "output", "requests", "good"), 0)
        for pod, spans in sorted(_spans(self.records, job).items()):
            for span in (part for whole in spans for part in steps(whole, _STEP)):
                wobble = Decimal(rng.randint(960, 1040)) / 1000
                load = Decimal(service.load[0] if busy(span[0]) else service.load[1]) * wobble
                row = self._interval(service, span, load)
                self.rows.append(self._where(service, job, pod) | row)
                for name, column in (
                    ("input", "input_tokens"), ("cached", "cached_input_tokens"), ("output", "output_tokens"),
                    ("requests", "requests"), ("good", "good_requests"),
                ):  # fmt: skip
                    sums[name] += row[column]
        self.truth.append(self._true(service, job, sums))

    def _where(self, service: Service, job: Job, pod: str) -> dict[str, Any]:
        found: dict[str, Any] = {"provider": service.engine, "model": service.model}
        if service.told == "job":
            return found | {"deployment": service.deployment, "job_id": job.job_id}
        found |= {"cluster": service.cluster, "namespace": job.namespace, "deployment": service.deployment}
        return found | ({"pod": pod} if service.told == "pod" else {})

    def _interval(self, service: Service, span: Span, load: Decimal) -> dict[str, Any]:
        seconds = (span[1] - span[0]) // timedelta(seconds=1)
        requests = int(service.capacity * load * seconds) // service.made
        given = requests * service.given
        good = requests * service.good // 100
        wait = Decimal(service.wait) * (1 + load)
        pace = Decimal(service.pace) * (Decimal("0.6") + load * Decimal("0.4"))
        busy_with = (requests * (wait + pace * service.made) / seconds).quantize(Decimal("0.01"))
        return {
            "start": span[0], "end": span[1], "input_tokens": given, "cached_input_tokens": given * service.cached // 100,
            "output_tokens": requests * service.made, "requests": requests, "failed_requests": requests // 500,
            "good_requests": good, "good_output_tokens": good * service.made, "running": busy_with,
            "waiting": Decimal(0) if load < Decimal("0.9") else Decimal("1.5"),
            "kv_cache_usage": min(load, Decimal(1)).quantize(Decimal("0.001")),
            "ttft_seconds_sum": (requests * wait).quantize(Decimal("0.001")), "ttft_seconds_count": requests,
            "tpot_seconds_sum": (requests * pace).quantize(Decimal("0.00001")), "tpot_seconds_count": requests,
        }  # fmt: skip

    def _true(self, service: Service, job: Job, sums: dict[str, int]) -> dict[str, Any]:
        """What the deployment made, and what its machines' time cost: claims times the machine's prices."""
        cost = job_cost(self.records, job)
        return {
            "deployment": service.deployment, "cluster": service.cluster, "job_id": job.job_id, "model": service.model,
            "input_tokens": str(sums["input"]), "cached_input_tokens": str(sums["cached"]),
            "output_tokens": str(sums["output"]), "requests": str(sums["requests"]), "good_requests": str(sums["good"]),
            "cost": exact(cost), "tps_per_dollar": exact(sums["output"] / (3600 * cost)),
        }  # fmt: skip

    def call(self) -> None:
        """API callers of OpenAI's projects and Anthropic's workspaces, by hour; keys of nobody pass by the gateway."""
        for when, project, model, (fresh, cached, output), requests in openai.calls(self.setting):
            row = {
                "provider": "OpenAI", "model": model, "deployment": project, "team": PROJECTS[project],
                "input_tokens": fresh + cached, "cached_input_tokens": cached, "cache_write_tokens": 0,
                "output_tokens": output, "requests": requests,
            }  # fmt: skip
            self.rows.append(row | {"start": when, "end": when + HOUR})
        for when, workspace, model, (fresh, output, read, short, long) in anthropic.calls(self.setting):
            if workspace is not None:
                row = {
                    "provider": "Anthropic", "model": model, "deployment": workspace, "team": WORKSPACES[workspace],
                    "input_tokens": fresh + read + short + long, "cached_input_tokens": read,
                    "cache_write_tokens": short + long, "output_tokens": output, "requests": output // 350,
                }  # fmt: skip
                self.rows.append(row | {"start": when, "end": when + HOUR})


def job_cost(records: Records, job: Job) -> Fraction:
    """Dollars that a job's claims on machines cost, as seen: hours x claim x price of its part of the machine."""
    kinds = {(row.cluster, row.node): row for row in records.rows if not isinstance(row, UsageInterval)}
    total = Fraction(0)
    change = records.setting.month.price_change
    for row in records.rows:
        if isinstance(row, UsageInterval) and row.job_id == job.job_id:
            machine = kinds[row.cluster, row.node]
            for start, end in ((row.start, min(row.end, change)), (max(row.start, change), row.end)):
                if start < end:
                    rates = _rates(records, machine.instance_type or "", machine.region or "", start)
                    hours = Fraction((end - start) // timedelta(seconds=1), 3600)
                    total += hours * Fraction(row.requested or 0) * rates[row.resource]
    return total


def _rates(records: Records, kind: str, region: str, when: datetime) -> dict[str, Fraction]:
    """Dollars an hour of one card, core and GiB of a machine: its price, divided as list prices of such parts are."""
    if kind == "a3-highgpu-8g":  # Google sells them apart
        return {"gpu": Fraction("9.796550569"), "cpu": Fraction("0.02931"), "memory": Fraction("0.0025534")}
    cores, gib = SHAPES[kind]
    cards = GPUS[kind][1]
    if region == "eu-central-1":  # no list price is known there: cards by default
        price = Fraction("13.1158" if when < records.setting.month.price_change else "14.2962")
        whole = cards * _CARD + cores * _CORE + gib * _GIB
        return {"gpu": price * _CARD / whole, "cpu": price * _CORE / whole, "memory": price * _GIB / whole}
    price = Fraction(LIST_PRICE[kind])
    return {"gpu": (price - cores * _CORE - gib * _GIB) / cards, "cpu": _CORE, "memory": _GIB}


def exact(value: Fraction) -> str:
    """Twelve decimals, half even."""
    return f"{(Decimal(value.numerator) / Decimal(value.denominator)).quantize(_TWELVE):f}"


def write(records: Records) -> tuple[list[files.Written], list[dict[str, Any]]]:
    """Write `token_interval`, and return the truth about each deployment that runs on the company's own machines."""
    tokens = _Tokens(records)
    for service in SERVICES:
        tokens.serve(service)
    tokens.call()
    path = records.setting.root / FOLDER / "token_interval.jsonl.gz"
    packed(path, tokens.rows)
    return [files.written(records.setting, path, FOLDER, len(tokens.rows))], tokens.truth
