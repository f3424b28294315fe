"""What savings rules need to know, in a person's words, and how each is brought into the ledger."""

from typing import Final

from gpuledger.core.savings import Need

_PROMETHEUS: Final = 'Collect DCGM through Prometheus: [telemetry.NAME] type = "prometheus".'
_ENGINE: Final = "Collect the serving engines' or gateways' metrics (docs/token-telemetry.md)."
_TRAINING: Final = "Read training logs (docs/token-telemetry.md)."

GPU_USE: Final = Need("card_use", "level", "how busy cards are", _PROMETHEUS)
HOLDERS: Final = Need(
    "card_use",
    "job_id",
    "which jobs hold cards",
    'Collect the scheduler: [telemetry.NAME] type = "kubernetes" or "slurm".',
)
NODES: Final = Need(
    "node_hour",
    "cards",
    "which machines with cards there are, and who holds them",
    'Collect the scheduler: [telemetry.NAME] type = "kubernetes" or "slurm".',
)
CPU_USE: Final = Need(
    "held_usage", "used", "how busy cores are", _PROMETHEUS, "resource = 'cpu' AND requested > 0"
)
REQUESTS: Final = Need(
    "serving_hour", "requests", "requests of endpoints by hour", _ENGINE, "job_id IS NOT NULL"
)
RATES: Final = Need(
    "serving_hour", "most_rate", "output tokens of replicas", _ENGINE, "job_id IS NOT NULL AND most_rate > 0"
)
CACHED: Final = Need(
    "serving_hour",
    "cached_input_tokens",
    "input tokens read from the prefix cache",
    _ENGINE,
    "job_id IS NOT NULL",
)
KV_USE: Final = Need("serving_hour", "most_kv", "use of the KV cache", _ENGINE, "job_id IS NOT NULL")
PREEMPTIONS: Final = Need("serving_hour", "preemptions", "preempted requests", _ENGINE, "job_id IS NOT NULL")
ROLES: Final = Need(
    "serving_hour",
    "most_running",
    "requests in work of replicas for prefill and for decoding",
    _ENGINE,
    "role IN ('prefill', 'decode')",
)
LATENCY: Final = Need("serving_hour", "tpot_count", "time per output token", _ENGINE, "job_id IS NOT NULL")
FAILED_CALLS: Final = Need("serving_hour", "failed_requests", "requests that failed", _ENGINE)
OUTPUTS: Final = Need(
    "serving_hour", "output_tokens", "output tokens and requests by hour", _ENGINE, "requests > 0"
)
CHECKPOINTS: Final = Need(
    "training",
    "checkpoints",
    "checkpoints of training runs",
    _TRAINING,
    "job_id IS NOT NULL AND checkpoints > 0",
)
GOODPUT: Final = Need(
    "training", "useful_seconds", "which time of training runs made progress", _TRAINING, "job_id IS NOT NULL"
)
LOSS: Final = Need("training", "loss", "the loss of training runs over time", _TRAINING, "job_id IS NOT NULL")
FLOPS: Final = Need(
    "training",
    "flops_per_token",
    "operations per token of training runs",
    _TRAINING,
    "job_id IS NOT NULL AND tokens > 0",
)
RANKS: Final = Need(
    "training",
    "step_seconds_sum",
    "step times of single ranks",
    "Read a log per rank, with run ids that end in rank<N>.",
    "regexp_matches(run_id, 'rank[-_=]?[0-9]+$')",
)
CHECKPOINT_USE: Final = Need(
    "training",
    "coalesce(discarded, checkpoint_used)",
    "whether a run's checkpoints were ever used",
    "Tag runs in the tracker as discarded, or tell checkpoint_used in records.",
    "job_id IS NOT NULL",
)
CARDS_ON_BILL: Final = Need("atom", "gpu_model", "machines with cards")
MODELS_ON_BILL: Final = Need("atom", "ai_model", "models behind an API")
COMMITMENTS: Final = Need("atom", "commitment_id", "commitments")
IDLE_COMMITMENTS: Final = Need(
    "atom", "commitment_id", "unused hours of commitments", where="commitment_status = 'Unused'"
)
ON_DEMAND: Final = Need(
    "atom", "instance_type", "machines on demand", where="pricing = 'Standard' AND commitment_id IS NULL"
)
PROVISIONED: Final = Need("atom", "tier", "provisioned throughput", where="tier = 'provisioned'")


def job_fact(key: str, what: str) -> Need:
    """Something only its people know of a job: a label of it, or an entry in the configuration."""
    return Need("job_fact", "value", what, _fact_hint(key, "a job, its name or its model"), f"key = '{key}'")


def fact(key: str, what: str, of: str) -> Need:
    """Something only you know of a model, project, account or instance type."""
    return Need("fact", "value", what, _fact_hint(key, of, label=False), f"key = '{key}'")


def _fact_hint(key: str, of: str, *, label: bool = True) -> str:
    labelled = f"Label jobs gpuledger.io/{key}, or write" if label else "Write"
    return f'{labelled} {key} = … into [savings.facts."NAME"], where NAME is {of}.'


UNIT_RATE: Final = fact(
    "tokens-per-minute-per-unit", "how many tokens a minute one provisioned unit carries", "a model"
)
UNUSED_CONTEXT: Final = Need(
    "any_fact",
    "value",
    "which share of input no answer rests on",
    _fact_hint("unused-context-share", "a job, model, project or account"),
    "key = 'unused-context-share'",
)
DUPLICATES: Final = Need(
    "any_fact",
    "value",
    "how many calls repeat a recent one (request hashes)",
    _fact_hint("duplicate-call-share", "a job, model, project or account"),
    "key = 'duplicate-call-share'",
)
PTU_TOKENS: Final = Need(
    "provisioned_use",
    "output",
    "tokens of the deployments with provisioned throughput",
    "Collect the gateway's usage or the provider's metrics, and name the deployment of a resource: "
    '[savings.facts."RESOURCE"] deployment = "NAME".',
)
API_TOKENS: Final = Need(
    "serving_hour",
    "coalesce(input_tokens, output_tokens)",
    "tokens of API models by hour",
    "Collect the gateway's usage or the provider's metrics (docs/token-telemetry.md).",
    "job_id IS NULL",
)
PRICED_BY_PLACE: Final = Need("atom", "coalesce(instance_type, ai_model)", "machines or models behind an API")
SPOT_PRICES: Final = Need(
    "spot_ratio",
    "ratio",
    "what spot machines of your kinds cost",
    _fact_hint("spot-ratio", "an instance type", label=False),
)
COMMITMENT_RATE: Final = Need(
    "commitment_rate",
    "ratio",
    "what committed hours cost of hours on demand, as no commitment of yours shows it",
    _fact_hint("commitment-ratio", "a provider", label=False),
)
