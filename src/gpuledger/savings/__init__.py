"""One file is one savings rule: see `gpuledger.core.savings.Rule` for what a module must have."""
