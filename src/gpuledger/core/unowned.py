"""The path that a resource took to stay without an owner: the gates it passed, as far as the data shows them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final, Literal

from gpuledger.core.identities import Identity
from gpuledger.core.tags import is_system_key

# 'passed': it went by there without an owner. 'unknown': nothing in the ledger tells.
State = Literal["passed", "unknown"]
_SATURDAY: Final = 5
_MORNING, _EVENING = 8, 20
_SOME: Final = 6
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Gate:
    """A place where an owner could have been named, and what the data shows of it."""

    gate: str
    state: State
    detail: str


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of an incident. Counts are of resources; `keys` are its tag keys, with how many carry each.

    `account_owned` is the share of the account's other spend that has an owner, None without any; `provider_created` says
    how many resources of the provider have a creator on the bill; `clusters` are those whose telemetry knows machines
    of the incident, `telemetry` whether there is any telemetry of machines at all. `job` says that these are jobs. `grain` is the time that one charge covers.
    """

    resources: int
    keys: Mapping[str, int] = field(default_factory=dict)
    creators: Sequence[Identity] = ()
    created: int = 0
    provider_created: int = 0
    account: str = ""
    account_owned: Decimal | None = None
    inherits: bool = False
    telemetry: bool = False
    job: bool = False
    clusters: Mapping[str, int] = field(default_factory=dict)
    first_seen: datetime | None = None
    at_the_beginning: bool = False
    grain: timedelta | None = None


def path(facts: Circumstances) -> list[Gate]:
    """Return the gates in the order in which a resource meets them."""
    return [*_created(facts), *_tags(facts), *_account(facts), *_telemetry(facts)]


def _created(facts: Circumstances) -> Iterator[Gate]:
    moment, hourly = facts.first_seen, facts.grain is not None and facts.grain <= _HOUR
    if moment is not None and facts.at_the_beginning:
        yield Gate("launch", "unknown", f"it was there when the data begins ({moment:%Y-%m-%d %H:%M} UTC)")
    elif moment is not None:
        rested = moment.weekday() >= _SATURDAY or not _MORNING <= moment.hour < _EVENING
        when = f"{moment:%A %Y-%m-%d}" + (f" {moment:%H:%M} UTC" if hourly else "")
        off = ", outside Monday to Friday 08:00-20:00 UTC" if rested and hourly else ""
        yield Gate("launch", "passed", f"it began on {when}{off}")
    if facts.job and not facts.creators:
        yield Gate("creator", "passed", "no label says who submitted it")
    elif facts.creators:
        who = ", ".join(f"{found.word} {found.name}" for found in facts.creators[:_SOME])
        yield Gate(
            "creator", "passed", f"it is on record who created {_of(facts.created, facts.resources)}: {who}"
        )
    elif facts.provider_created:
        yield Gate(
            "creator",
            "passed",
            f"no creator is recorded, though {facts.provider_created} other resources of this provider have one",
        )
    else:
        yield Gate("creator", "unknown", "this provider's bill records no creators")


def _tags(facts: Circumstances) -> Iterator[Gate]:
    own = {key: count for key, count in facts.keys.items() if not is_system_key(key)}
    thing, tag = ("jobs", "label") if facts.job else ("resources", "tag")
    if own:
        listed = ", ".join(list(own)[:_SOME])
        yield Gate("tags", "passed", f"it carries {tag}s ({listed}), none of which names an owner")
        return
    system = ", only the provider's own" if facts.keys else ""
    it = f"none of the {facts.resources} {thing} carries" if facts.resources > 1 else "it doesn't carry"
    yield Gate("tags", "passed", f"{it} any {tag} of the company's{system}")


def _account(facts: Circumstances) -> Iterator[Gate]:
    if facts.account_owned:
        share = (facts.account_owned * 100).quantize(Decimal(1))
        yield Gate(
            "tag_policy",
            "passed",
            f"{share} % of the other spend of {facts.account} has an owner: tags are in use there, and nothing required them here",
        )
    elif facts.account_owned is not None:
        yield Gate(
            "tag_policy", "passed", f"nothing else in {facts.account} has an owner: tags are not in use there"
        )
    if facts.inherits:
        yield Gate(
            "account_default", "passed", "account tags or cost categories exist, and none gives it an owner"
        )
    else:
        yield Gate(
            "account_default", "passed", "no account tag or cost category on the bill stands in for it"
        )


def _telemetry(facts: Circumstances) -> Iterator[Gate]:
    if facts.job:
        it = "the jobs ran" if facts.resources > 1 else "the job ran"
        yield Gate("admission", "passed", f"{it} without a word on whose it is: nothing asked for an owner")
    elif not facts.telemetry:
        yield Gate("cluster", "unknown", "the ledger has no telemetry of machines for this time")
    elif facts.clusters:
        where = ", ".join(f"{count} in {cluster}" for cluster, count in facts.clusters.items())
        yield Gate("cluster", "passed", f"telemetry knows {where}, and no job held this part")
    else:
        yield Gate("cluster", "passed", "it is in no cluster that telemetry knows, so no job claims it")


def _of(part: int, whole: int) -> str:
    return (
        f"all {whole} of them"
        if part == whole and whole > 1
        else "it"
        if whole == 1
        else f"{part} of {whole}"
    )
