"""Query engines. Each module offers the same names; nothing outside imports an engine's own package."""
