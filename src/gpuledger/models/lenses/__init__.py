"""What there was, what was held and what was used, of cards and of volumes.

Relations that are read: `held_usage` and `seen_node` (usage and node intervals) and `window_charge` (allocated charges of
the window). Results have one row per machine or volume and namespace, to be summed; `window` is in microseconds.

A card is *fragmented* at a moment when it is free, as a whole or in part, on a machine where something else is held:
whoever wants whole machines can't have it. *Free* cards of machines that nobody holds anything of are idle only.
"""

from functools import cache
from importlib.resources import files

from gpuledger.models import metering


@cache
def query(name: str) -> str:
    """Return an SQL file of this package."""
    text = files("gpuledger.models.lenses").joinpath(f"{name}.sql").read_text("utf-8").rstrip()
    for column in ("ResourceId", "device"):
        text = text.replace("{keys " + column + "}", metering.keys(column))
    return text
