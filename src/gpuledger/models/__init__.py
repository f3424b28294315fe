"""Derived tables, one SQL file each, over the ledger's tables; `audits` must return no row."""
