"""Billing connectors: one module and one SQL file of the same stem each. CONTRIBUTING.md says how to add one."""
