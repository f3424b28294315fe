"""Measurements: our figure beside a bare engine or a peer in the same run, as a ratio, with peak memory."""
