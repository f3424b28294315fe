"""Which accelerators and AI models ledger rows pay for, from the names that bills use.

`load` puts the small lookup tables into a DuckDB connection, `recognition_sql` is a query over any relation of ledger
columns that fills the recognition columns where they are null, `unknown_skus` lists what looks like an accelerator and
isn't known. The facts are data in `gpuledger.prices`; docs/gpu-recognition.md explains the rules.
"""

from gpuledger.models.recognition.recognize import load, recognition_sql
from gpuledger.models.recognition.unknown import UnknownSku, unknown_skus

__all__ = ["UnknownSku", "load", "recognition_sql", "unknown_skus"]
