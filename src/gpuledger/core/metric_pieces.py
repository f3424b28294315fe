"""What a container held and used, step by step, and how steps that say the same become one interval."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from operator import itemgetter
from typing import Any

from gpuledger.core.card_facts import Holder
from gpuledger.core.metric_devices import Device, Hold, Seat, holds, rounded
from gpuledger.core.metric_nodes import resource_name
from gpuledger.core.usage import HoldState, Resource, Sharing
from gpuledger.core.workload.devices import UNKNOWN_CARDS, DeviceRequest, container_devices
from gpuledger.core.workload.fields import gib
from gpuledger.core.workload.nodes import NodeShape

# Node, job, pod, container, namespace and uid of the pod.
Owner = tuple[str, str, str | None, str | None, str | None, str | None]
# Resource, device, requested, used, sharing, share, attempt, state.
What = tuple[
    Resource, str | None, Decimal | None, Decimal | None, Sharing | None, Fraction | None, int, HoldState
]
Piece = tuple[datetime, datetime, What]


class Cards:
    """The cards that one container held, step by step."""

    def __init__(
        self,
        shapes: Mapping[datetime, NodeShape],
        seen: Iterable[tuple[Device, Holder]],
        container: str,
        uid: str | None,
    ) -> None:
        self.shapes, self.container = shapes, container
        self.seats = [
            Seat(device, at)
            for device, at in seen
            if at.container in {None, container} and (at.pod_uid is None or uid is None or at.pod_uid == uid)
        ]
        places = {(seat.device.uuid, seat.device.slice_id) for seat in self.seats}
        self.distinct = len(places) == len(self.seats)
        self.known: tuple[object, object] | None = None
        self.requests: list[DeviceRequest] = []

    def at(self, when: datetime, asked: Mapping[str, Decimal | None]) -> Iterable[Hold]:
        """Return what it held in a step."""
        held = [seat for seat in self.seats if when in seat.steps]
        if not self.distinct:
            held = list({(seat.device.uuid, seat.device.slice_id): seat for seat in held}.values())
        shape = self.shapes.get(when)
        if self.known is None or self.known[0] is not shape or self.known[1] != asked:
            self.known = (shape, asked)
            sizes = {
                resource_name(name): format(size, "f") for name, size in asked.items() if size is not None
            }
            self.requests, _ = container_devices(
                {"requests": sizes}, self.container, shape.cards if shape else UNKNOWN_CARDS
            )
        return holds(held, self.requests, when) if held or self.requests else ()


@lru_cache(4096)
def in_gib(size: Decimal) -> Decimal:
    """Return bytes in GiB, as requests have them."""
    return rounded(gib(size))


def joined(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Join pieces that follow each other in time and say the same, in order of resource, device and start.

    Pieces of the same device come in order of time. Two alike at the same time stay two.
    """
    last: dict[tuple[str, str], list[list[Any]]] = {}
    found: dict[tuple[str, str], list[list[Any]]] = defaultdict(list)
    for start, end, what in pieces:
        key = (what[0], what[1] or "")
        before = last.get(key, ())
        for one in before:
            if one[1] == start and one[2] == what:
                one[1] = end
                break
        else:
            new = [start, end, what]
            found[key].append(new)
            last[key] = [*(one for one in before if one[1] >= start), new]
    for _, pieces_of in sorted(found.items(), key=itemgetter(0)):
        for one in sorted(pieces_of, key=itemgetter(0)):
            yield one[0], one[1], one[2]
