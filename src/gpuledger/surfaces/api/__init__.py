"""`gpuledger serve`: the ledger over HTTP, in the form of OpenCost's API, and as Prometheus metrics."""
