"""Telemetry sources: what ran where, for how long, and what it used. One file is one source."""
