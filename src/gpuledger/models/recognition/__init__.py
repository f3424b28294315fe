"""Which accelerators and AI models ledger rows pay for, from the names that bills use.

`load` puts the small lookup tables into a DuckDB connection, `recognition_sql` is a query over any relation of ledger
columns that fills the recognition columns where they are null, `seen` says what it needn't look for, and `unknown_skus`
lists what looks like an accelerator and isn't known. The facts are data in `gpuledger.prices`; docs/gpu-recognition.md explains the rules.
"""

from gpuledger.models.recognition.recognize import TEXTS, Seen, load, recognition_sql, seen
from gpuledger.models.recognition.unknown import UnknownSku, unknown_skus

__all__ = ["TEXTS", "Seen", "UnknownSku", "load", "recognition_sql", "seen", "unknown_skus"]
