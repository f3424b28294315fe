"""An exact ledger for GPU and AI spend.

Bills and telemetry become FOCUS rows, rows become answers. The public Python API is
``gpuledger.pipeline.ledger``; the command line is ``gpuledger``.
"""

__version__ = "0.1.0"
