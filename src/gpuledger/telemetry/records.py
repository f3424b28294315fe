"""Telemetry records in files, made by anything that knows what ran where: what a folder of them has.

`job…`, `node_interval…`, `usage_interval…`, `token_interval…` and `training_interval…` files or folders, Parquet, CSV
(also .gz) or JSON lines, with the columns of `core/usage_tables.py` by name. Optional columns may be missing; labels and
buckets are JSON objects in text files, times are RFC 3339. Known to be missing: nothing but what the maker leaves out.
"""

from collections.abc import Mapping
from typing import Final

from gpuledger.core.token_usage import LOSS_CAUSES

TYPE: Final = "records"
TITLE: Final = "Telemetry records: files of jobs, nodes, usage, tokens and training"

# Columns that a record can't be without.
REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "job": ("job_id", "cluster", "kind", "name"),
    "node_interval": ("cluster", "node", "start", "end"),
    "usage_interval": ("cluster", "node", "job_id", "resource", "start", "end"),
    "token_interval": ("provider", "start", "end"),
    "training_interval": ("run_id", "start", "end"),
}
# Columns that take some words only; of a map its keys.
WORDS: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "usage_interval": {
        "resource": ("gpu", "cpu", "memory", "storage", "network"),
        "sharing": ("whole", "mig", "time-slicing", "mps", "hami", "dra"),
        "state": ("running", "held"),
    },
    "token_interval": {"role": ("prefill", "decode", "both")},
    "training_interval": {"lost_seconds": LOSS_CAUSES},
}
# Columns of quantities that may be below zero.
SIGNED: Final = frozenset({"loss"})
# What a column is where a record doesn't say, as SQL.
DEFAULTS: Final[Mapping[str, Mapping[str, str]]] = {
    "usage_interval": {"attempt": "1", "state": "'running'"},
}
