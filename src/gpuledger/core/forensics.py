"""Who most likely owns what nobody owns: evidence from rules with stated weights, combined to a confidence.

Each rule ties a resource to owners through something that it shares with resources whose owner is known: its creator,
its launch group, its name, its place, its moment. One piece of evidence points to one owner with the strength

    weight of the rule × share of the owner among those who share it × n / (n + 1)

where n is the number of owned resources behind it (the last factor is 1 where the bill names the owner itself). The
support of an owner is a noisy-or (1 − Π(1 − strength)) within each family of rules, up to the family's cap, then over
the families, up to `CAP`. The confidence is that support, lowered by what speaks for the strongest other owner:

    confidence = support × (1 − `DOUBT` × support of the strongest rival)

So more agreeing evidence never lowers a confidence, contradicting evidence never raises it, order means nothing, and
nothing inferred is ever certain. An owner below `FLOOR`, or level with a rival, is not named: that would be a guess.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from gpuledger.core.identities import address, person_keys, words
from gpuledger.core.tags import normalized

CAP: Final = 0.95
DOUBT: Final = 0.5
FLOOR: Final = 0.15
HIGH: Final = 0.75
MEDIUM: Final = 0.45
FAMILIES: Final[Mapping[str, float]] = MappingProxyType(
    {"identity": 0.85, "kin": 0.90, "name": 0.60, "place": 0.60, "time": 0.25}
)


class Rule(NamedTuple):
    """A kind of evidence. Rules of one family say much the same thing, so that together they count up to its cap."""

    name: str
    family: str
    weight: float
    meaning: str


RULES: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        rule.name: rule
        for rule in (
            Rule("same_resource", "kin", 0.90, "other charges of the same resource have an owner"),
            Rule("creator_is_owner", "identity", 0.80, "its creator is named as owner of other resources"),
            Rule("creator", "identity", 0.80, "its creator also created resources that have an owner"),
            Rule("creator_named", "identity", 0.55, "its creator is a person whom nothing else names"),
            Rule("service_account", "identity", 0.55, "it runs as a service account that owned resources run as"),
            Rule("key_pair", "identity", 0.50, "it was started with the key pair of owned resources"),
            Rule("launch_group", "kin", 0.75, "it is of a scaling group, template, stack or pool of owned resources"),
            Rule("same_name", "kin", 0.60, "owned resources have its name, numbers aside"),
            Rule("image", "kin", 0.35, "it runs an image that owned resources run"),
            Rule("naming", "name", 0.45, "a rare word of its name is in the names of owned resources"),
            Rule("named_after", "name", 0.50, "its name has a word of the owner's name"),
            Rule("namespace", "place", 0.55, "it is in a namespace of owned resources"),
            Rule("resource_group", "place", 0.50, "it is in a resource group of owned resources"),
            Rule("account", "place", 0.40, "the owned spend of its account is the owner's"),
            Rule("account_named_after", "place", 0.30, "its account's name has a word of the owner's name"),
            Rule("neighbours", "time", 0.25, "owned machines of its type and region began within half an hour of it"),
        )
    }
)  # fmt: skip


class Owner(NamedTuple):
    """Key of a candidate: `kind` is 'team', 'owner', 'cost_center', 'project' or 'person'; `folded` its plain spelling."""

    kind: str
    folded: str


class Tagged(NamedTuple):
    """What owned resources say of their owner, and how many say exactly this."""

    team: str | None
    cost_center: str | None
    owner: str | None
    project: str | None
    resources: int = 1


@dataclass(frozen=True, slots=True)
class Evidence:
    """One sign that points to an owner. `share` is in [0, 1]; `support` None where the sign names the owner itself."""

    rule: str
    owner: Owner
    value: str
    share: float = 1.0
    support: int | None = None
    detail: str = ""

    @property
    def strength(self) -> float:
        """In [0, 1): weight × share × n / (n + 1)."""
        certainty = 1.0 if self.support is None else self.support / (self.support + 1)
        return RULES[self.rule].weight * min(max(self.share, 0.0), 1.0) * certainty


@dataclass(frozen=True, slots=True)
class Candidate:
    """An owner with what speaks for it, the strongest first. `support` is before rivals are taken into account."""

    owner: Owner
    confidence: float
    support: float
    evidence: tuple[Evidence, ...]


def word(confidence: float | None) -> str:
    """Return the word for a confidence: high, medium, low, none."""
    if confidence is None:
        return "none"
    return "high" if confidence >= HIGH else "medium" if confidence >= MEDIUM else "low"


def support(evidence: Iterable[Evidence]) -> float:
    """Combine evidence for one owner, in [0, `CAP`]; 0 without any."""
    families: dict[str, list[float]] = defaultdict(list)
    for sign in evidence:
        families[RULES[sign.rule].family].append(sign.strength)
    parts = [min(FAMILIES[family], _either(strengths)) for family, strengths in families.items()]
    return min(CAP, _either(parts))


def _either(chances: Iterable[float]) -> float:
    """Noisy-or; sorted, so that rounding doesn't depend on the order."""
    return 1.0 - math.prod(1.0 - chance for chance in sorted(chances))


def rank(evidence: Iterable[Evidence]) -> list[Candidate]:
    """Return the candidates that evidence points to, the likeliest first. The same sign twice counts once."""
    by_owner: dict[Owner, dict[tuple[str, str], Evidence]] = defaultdict(dict)
    for sign in evidence:
        kept = by_owner[sign.owner].get((sign.rule, sign.value))
        if sign.strength > 0 and (kept is None or sign.strength > kept.strength):
            by_owner[sign.owner][sign.rule, sign.value] = sign
    signs = {owner: tuple(found.values()) for owner, found in by_owner.items() if found}
    supports = {owner: support(found) for owner, found in signs.items()}
    ranked = []
    for owner, found in signs.items():
        rival = max((other for key, other in supports.items() if key != owner), default=0.0)
        strongest = sorted(found, key=lambda sign: (-sign.strength, sign.rule, sign.value))
        confidence = round(supports[owner] * (1 - DOUBT * rival), 4)
        ranked.append(Candidate(owner, confidence, round(supports[owner], 4), tuple(strongest)))
    return sorted(ranked, key=lambda found: (-found.confidence, found.owner))


def best(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the candidate to name: the first, unless it is below `FLOOR` or level with the second."""
    if not candidates or candidates[0].confidence < FLOOR:
        return None
    if len(candidates) > 1 and candidates[1].confidence >= candidates[0].confidence:
        return None
    return candidates[0]


@dataclass(slots=True)
class _Entry:
    labels: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    people: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    cost_centers: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class Directory:
    """The owners that a ledger knows: teams with their people and cost centres, and others where no team is named.

    Spellings that differ in case and separators are one owner. What names no team counts for the team that its person,
    cost centre or project belongs to everywhere else, if that is one.
    """

    def __init__(self, tagged: Iterable[Tagged]) -> None:
        self._entries: dict[Owner, _Entry] = defaultdict(_Entry)
        self._teams: dict[tuple[str, str], set[Owner]] = defaultdict(set)
        self._people: dict[str, set[Owner]] = defaultdict(set)
        known = list(tagged)
        for one in known:
            if one.team:
                self._join(Owner("team", normalized(one.team)), one)
        for one in known:
            self._learn(one)

    def _join(self, team: Owner, one: Tagged) -> None:
        for kind, text in (("cost_center", one.cost_center), ("project", one.project)):
            if text:
                self._teams[kind, normalized(text)].add(team)
        if one.owner:
            self._teams["owner", person_keys(one.owner)[0]].add(team)

    def _learn(self, one: Tagged) -> None:
        owner = self.owner(one)
        if owner is None:
            return
        entry = self._entries[owner]
        label = {
            "team": one.team,
            "owner": one.owner,
            "cost_center": one.cost_center,
            "project": one.project,
        }[owner.kind]
        if label:
            entry.labels[label] += one.resources
        if one.owner:
            entry.people[address(one.owner) or one.owner] += one.resources
            for key in set(person_keys(one.owner)):
                self._people[key].add(owner)
        if one.cost_center:
            entry.cost_centers[one.cost_center] += one.resources

    def owner(self, one: Tagged) -> Owner | None:
        """Return whose something is that carries these values; None when it says no more than a job's name."""
        if one.team:
            return Owner("team", normalized(one.team))
        for kind, text in (("owner", one.owner), ("cost_center", one.cost_center), ("project", one.project)):
            if text:
                folded = person_keys(text)[0] if kind == "owner" else normalized(text)
                teams = self._teams.get((kind, folded), set())
                return next(iter(teams)) if len(teams) == 1 else Owner(kind, folded)
        return None

    def people(self, text: str) -> set[Owner]:
        """Return the owners that a person answers for, by address or by the part before the @."""
        whole, local = person_keys(text)
        return set(self._people.get(whole) or self._people.get(local) or ())

    def named(self, found: Iterable[str]) -> dict[str, list[Owner]]:
        """Return for each word the owners whose own names have it."""
        named: dict[str, list[Owner]] = {word: [] for word in found}
        for owner in self._entries:
            if owner.kind in {"team", "project"}:
                for one in words(self.label(owner)) & named.keys():
                    named[one].append(owner)
        return named

    def label(self, owner: Owner) -> str:
        """Return the owner's name in its most frequent spelling."""
        labels = self._entries[owner].labels if owner in self._entries else {}
        return _most(labels) or owner.folded

    def contact(self, owner: Owner) -> str | None:
        """Return who answers for the owner most often, if anybody is named."""
        return _most(self._entries[owner].people) if owner in self._entries else None

    def cost_center(self, owner: Owner) -> str | None:
        """Return the cost centre that the owner's resources name most often, if any."""
        return _most(self._entries[owner].cost_centers) if owner in self._entries else None


def _most(counted: Mapping[str, int]) -> str | None:
    return min(counted, key=lambda text: (-counted[text], text), default=None)
