"""Puts pods of a trace on its nodes, first fit: the trace says when a pod was scheduled, not where.

Cards are filled by thousandths: a fractional pod goes to the first card of the first node with that much left, a pod
with several cards needs so many empty ones. Cores and memory must fit too. Pods without cards prefer nodes without.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

CARD = 1000


class Pod(NamedTuple):
    """What a pod asks for, and when it held it (seconds). `spec` lists the card models it may run on; None: any."""

    name: str
    cpu: int
    memory: int
    cards: int
    milli: int
    spec: str | None
    start: int
    end: int


class Place(NamedTuple):
    """Where a pod went; `card` is the number of its card when it has exactly one."""

    name: str
    node: str
    card: int | None


@dataclass(slots=True)
class Node:
    """A node and what is left of it."""

    name: str
    cpu: int
    memory: int
    model: str | None
    cards: list[int] = field(default_factory=list)

    def fit(self, pod: Pod) -> list[int] | None:
        """Cards that would take the pod; None when it doesn't fit."""
        if pod.cpu > self.cpu or pod.memory > self.memory:
            return None
        free = [number for number, left in enumerate(self.cards) if left >= pod.milli]
        return free[: pod.cards] if len(free) >= pod.cards else None

    def take(self, pod: Pod, cards: Iterable[int], sign: int) -> None:
        """Take (1) or give back (-1) what a pod holds."""
        self.cpu -= sign * pod.cpu
        self.memory -= sign * pod.memory
        for card in cards:
            self.cards[card] -= sign * pod.milli


def place(pods: Iterable[Pod], nodes: Sequence[Node]) -> tuple[list[Place], list[str]]:
    """Return where each pod went, and the names of those that fitted nowhere.

    Pods come in any order; they are placed in the order of their start. What a pod held is free from its end on.
    """
    with_cards = [node for node in nodes if node.cards]
    without = [node for node in nodes if not node.cards] + with_cards
    by_spec: dict[str | None, list[Node]] = {None: with_cards}
    running: list[tuple[int, int, Node, Pod, list[int]]] = []
    placed: list[Place] = []
    lost: list[str] = []
    for number, pod in enumerate(sorted(pods, key=lambda pod: (pod.start, pod.name))):
        while running and running[0][0] <= pod.start:
            _, _, where, ended, held = heappop(running)
            where.take(ended, held, -1)
        if pod.spec not in by_spec:
            models = set((pod.spec or "").split("|"))
            by_spec[pod.spec] = [node for node in with_cards if node.model in models]
        found = next(
            (
                (node, cards)
                for node in (by_spec[pod.spec] if pod.cards else without)
                if (cards := node.fit(pod)) is not None
            ),
            None,
        )
        if found is None:
            lost.append(pod.name)
            continue
        node, cards = found
        node.take(pod, cards, 1)
        heappush(running, (pod.end, number, node, pod, cards))
        placed.append(Place(pod.name, node.name, cards[0] if len(cards) == 1 else None))
    return placed, lost
