"""The example company: synthetic bills in the providers' own formats, with a file that tells the truth about them.

    >>> from gpuledger import demo
    >>> demo.write("example")          # doctest: +SKIP
    >>> demo.focus_rows("bench.parquet", 1_000_000)   # doctest: +SKIP

Everything it writes is labelled synthetic. See docs/demo.md.
"""

from gpuledger.demo.company import LABEL
from gpuledger.demo.focus import focus_rows
from gpuledger.demo.telemetry_rows import FOLDER as TELEMETRY
from gpuledger.demo.write import Manifest, Source, write

__all__ = ["LABEL", "TELEMETRY", "Manifest", "Source", "focus_rows", "write"]
