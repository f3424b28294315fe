"""Commitments on the bills: what each had, used and left idle, as charged and hour by hour.

Relations that are read: `window_charge` (rows of the Cost and Usage table in a window). Made, in this order:

1. `commitment_charge`: one row per commitment, charge period, status and place. A commitment is a reservation, savings
   plan or committed use discount (kind `discount`), reserved capacity (`capacity`), or provisioned throughput
   (`throughput`); the same charge may bear on two of them.
2. `commitment_hour`: the same by hour. A charge that is longer than an hour is spread evenly, except that where the use
   is known by the hour and what stayed unused only by the month, each hour leaves unused what it did not use of an even
   commitment.
3. `on_demand`: what commitments could have covered, by hour, account, region, zone and instance type.

`idle_hours` sums the second up to what stayed idle in an hour, for whoever asks what idle commitments would absorb.
"""

from functools import cache
from importlib.resources import files
from typing import Final

MODELS: Final = ("commitment_charge", "commitment_hour", "idle_hours")


@cache
def query(name: str) -> str:
    """Return an SQL file of this package."""
    return files(__package__).joinpath(f"{name}.sql").read_text("utf-8").rstrip()
