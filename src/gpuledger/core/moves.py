"""Who works on demand, whether that may wait or must stay where it is, and how to say what to do about it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from gpuledger.core.commitments import Commitment, Place

_WAITS: Final = ("deferrablehours", "deferrable")
_STAYS: Final = ("regionbound", "dataresidency", "pinnedregion")
_NO: Final = ("", "0", "false", "no", "off")
_DEFAULT: Final = 24
_MOST: Final = 14 * 24
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Worker:
    """A job, or a machine where no job is known. `slack`: hours it may wait; `stays`: it may not leave its region."""

    name: str | None = None
    kind: str | None = None
    namespace: str | None = None
    team: str | None = None
    owner: str | None = None
    workload_type: str | None = None
    slack: int = 0
    stays: bool = False


def _folded(key: str) -> str:
    return re.sub(r"[^a-z]", "", key.rpartition("/")[2].casefold())


def slack_of(marks: Mapping[str, str]) -> int:
    """Return for how many hours labels or tags let work wait: `deferrable-hours: 48`, or `deferrable: true` for a day."""
    for key, value in marks.items():
        if _folded(key) in _WAITS and value.strip().casefold() not in _NO:
            number = re.fullmatch(r"(\d{1,4})h?", value.strip())
            return min(int(number[1]), _MOST) if number else _DEFAULT
    return 0


def stays(marks: Mapping[str, str]) -> bool:
    """Say whether labels or tags bind work to its region: `region-bound: true`."""
    return any(_folded(key) in _STAYS and value.strip().casefold() not in _NO for key, value in marks.items())


def action(
    worker: Worker,
    place: Place,
    one: Commitment,
    steps: Sequence[str],
    delays: Sequence[tuple[datetime, datetime]],
) -> str:
    """Say what to do so that the work runs on the commitment: the text of a ticket, with a command where there is one."""
    who = worker.name or place.instance_type or "this"
    owner = f" (ask {worker.owner or worker.team})" if worker.owner or worker.team else ""
    said = []
    if "region" in steps:
        how = (
            ""
            if worker.kind in {None, "SlurmJob"}
            else f", nodeSelector topology.kubernetes.io/region={one.place.region}"
        )
        said.append(
            f"Start {who}{owner} in {one.place.region} instead of {place.region}{how}; its data must be there."
        )
    if "zone" in steps or not one.terms.automatic:
        where = f" in {one.place.zone}" if one.place.zone else ""
        target = f": --capacity-reservation-specification 'CapacityReservationTarget={{CapacityReservationId={one.id}}}'"
        which = target if one.terms.key.startswith("aws-") else f" {one.id}"
        said.append(f"Start {who}{owner}{where} in the reserved capacity{which}.")
    if "account" in steps and one.terms.share is not None:
        owners = ", ".join(sorted(account for account in one.accounts if account))
        said.append(f"Let account {place.account} use what {owners} committed. {one.terms.share.text}")
    if delays:
        shown = "; ".join(f"{old:%a %d %b %H:%M} to {new:%a %d %b %H:%M}" for old, new in delays[:_SHOWN])
        more = f" and {len(delays) - _SHOWN} more" if len(delays) > _SHOWN else ""
        said.append(f"Put off {who}{owner}: {shown}{more} (UTC).")
    return " ".join(said)
