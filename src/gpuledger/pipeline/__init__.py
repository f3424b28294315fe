"""What gpuledger does with sources and models: ingest, store, query. `ledger.Ledger` is the public Python API."""
