"""A workload as a policy sees it, whichever plane it is submitted on: what it asks for, and what it says of itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from gpuledger.core.policy.model import Default, Plane
from gpuledger.core.tags import aliases
from gpuledger.core.usage import Evidence
from gpuledger.core.workload.attribution import DIMENSIONS, PREFIX


@dataclass(frozen=True, slots=True)
class Cards:
    """Cards of one model that a workload asks for.

    `gpus` is in whole cards, None where the number can't be told; `model` is None where it isn't said.
    `instance_type` and `region` are told where a machine is named; its price is then that machine's.
    """

    gpus: Fraction | None
    model: str | None = None
    instance_type: str | None = None
    region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One workload.

    `cards` has an entry per kind of card; nothing means that it asks for none. `most_gpus` is what it
    may scale to by itself, None without a limit of its own. `hours` is its own deadline, None
    without one. `serves`: it runs until somebody deletes it. `said` holds the dimensions that it names itself, with
    the evidence; `offered` what its surroundings say (a namespace's labels, a queue, an account, the submitter), for
    defaults. `before` are its dimensions before an update. `fields` says where a dimension is written on this plane.
    `problems` couldn't be read.
    """

    plane: Plane
    kind: str
    name: str
    namespace: str | None = None
    cluster: str | None = None
    partition: str | None = None
    submitter: str | None = None
    cards: tuple[Cards, ...] = ()
    most_gpus: Fraction | None = None
    hours: Decimal | None = None
    serves: bool = False
    said: Mapping[str, Evidence] = field(default_factory=dict)
    offered: Mapping[Default, Mapping[str, str]] = field(default_factory=dict)
    before: Mapping[str, str] | None = None
    fields: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def accelerated(self) -> bool:
        """Whether it asks for any card, or for a number that can't be told."""
        return any(card.gpus is None or card.gpus > 0 for card in self.cards)

    @property
    def gpus(self) -> Fraction | None:
        """Whole cards at once; None when that can't be told."""
        total = Fraction(0)
        for card in self.cards:
            if card.gpus is None:
                return None
            total += card.gpus
        return total

    @property
    def gpu_model(self) -> str | None:
        """Models of the cards, None when none is said."""
        known = sorted({card.model for card in self.cards if card.model})
        return ", ".join(known) or None


def said_of_tags(tags: Mapping[str, str], what: str) -> dict[str, Evidence]:
    """Return the dimensions that tags say by any known spelling."""
    found: dict[str, Evidence] = {}
    spelled = aliases().resolve(tags)
    for name in DIMENSIONS:
        own = name.replace("_", "-")
        for key in (f"{PREFIX}{own}", *spelled.get(name, ()), name, own):
            if value := tags.get(key):
                found.setdefault(name, Evidence(value, f"{what}: {key}", 1))
    return found
