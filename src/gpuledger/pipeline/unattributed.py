"""What nobody owns: incidents by cost, who most likely owns each and why, and how it stayed without an owner.

Unowned is what no cost centre, team, owner, project or job claims, by any configured dimension. Evidence comes from the
window and the `LOOK_BACK` before it. `gpuledger.core.forensics` has the rules.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from gpuledger.core import unowned
from gpuledger.core.forensics import RULES, Candidate, Directory, Evidence, Owner, Tagged, best, rank, word
from gpuledger.core.identities import Identity, identity, words
from gpuledger.core.money import total as exact_total
from gpuledger.core.windows import Window
from gpuledger.engines import duckdb
from gpuledger.errors import UsageError
from gpuledger.models import unattributed as model
from gpuledger.pipeline.costs import METRICS, Question, one_currency, predicate

LOOK_BACK: Final = timedelta(days=92)
NEIGHBOURS: Final = 30  # minutes
TOGETHER: Final = 15  # minutes
_RELATION: Final = "allocated"
_HOUR: Final = timedelta(hours=1)
_SAMPLE: Final = 5
_SHOWN: Final = 5
# IAM users are programs as often as people.
_USER_SHARE: Final = 0.6
_OWNERS: Final = ("team", "cost_center", "owner", "project")

Row = Mapping[str, Any]


@dataclass(slots=True)
class Answer:
    """Incidents, the dearest first. `cost` and `resources` are of all of them, also of those beyond the limit.

    `by_nature` is spend without an owner that nobody is to blame for (tax, credits, unused commitments …): kind, cost
    and charges. All money is in `currency`.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    cost: Decimal = Decimal(0)
    incidents: int = 0
    resources: int = 0
    by_nature: list[dict[str, Any]] = field(default_factory=list)
    currency: str | None = None


def investigate(
    con: duckdb.Connection, question: Question, *, limit: int = 20, by: str = "incident"
) -> Answer:
    """Look into what nobody owns among the charges of a question (its window, metric and conditions).

    `by` is 'incident', or 'resource' for one row per resource. `con` is a ledger's connection; it gets temporary tables.
    Raises UsageError when the charges are in several currencies.
    """
    metric = METRICS.get(question.metric.casefold())
    if metric is None:
        raise UsageError(f"no metric {question.metric!r}", hint=f"There are: {', '.join(METRICS)}.")
    currencies = one_currency(con, _RELATION, question)
    inside = predicate(question)
    split = (
        con.execute("SELECT 1 FROM allocated_cost WHERE x_JobId IS NOT NULL LIMIT 1").fetchone() is not None
    )
    around = _around(question.window)
    model.survey(con, model.Scope(f'"{metric}"', inside, around, split, by == "resource", TOGETHER))
    answer = Answer(currency=currencies[0] if len(currencies) == 1 else None)
    answer.by_nature = model.rows(con, model.statement("nature"))
    (whole,) = model.rows(
        con,
        "SELECT count(*) AS incidents, sum(resources)::BIGINT AS resources, sum(cost) AS cost FROM un_incident",
    )
    answer.incidents, answer.resources = whole["incidents"], whole["resources"] or 0
    answer.cost = whole["cost"] or Decimal(0)
    answer.rows = list(_rows(con, model.largest(con, limit), question.window))
    return answer


def _around(window: Window | None) -> str:
    """SQL for the charges that evidence may come from."""
    if window is None:
        return "true"
    since = window.start - LOOK_BACK
    return (
        f"ChargePeriodStart >= TIMESTAMPTZ '{since.isoformat()}' "
        f"AND ChargePeriodStart < TIMESTAMPTZ '{window.end.isoformat()}'"
    )


def _rows(con: duckdb.Connection, top: Sequence[Row], window: Window | None) -> Iterator[dict[str, Any]]:
    if not top:
        return
    directory = Directory(
        Tagged(**row)
        for row in model.rows(
            con,
            f"SELECT {', '.join(_OWNERS)}, count(DISTINCT thing)::BIGINT AS resources FROM un_own WHERE shows GROUP BY ALL",
        )
    )
    facts = {row["incident"]: row for row in model.rows(con, model.statement("circumstance", sample=_SAMPLE))}
    signs = _signs(con, top, facts, directory)
    nodes = _nodes(con, window)
    for incident in top:
        fact = facts[incident["incident"]]
        candidates = rank(signs[incident["incident"]])
        gates = unowned.path(_circumstances(incident, fact, nodes))
        yield _row(incident, fact, candidates, gates, directory)


def _nodes(con: duckdb.Connection, window: Window | None) -> dict[str, dict[str, int]] | None:
    """Return the machines of incidents that telemetry knows, by cluster; None without telemetry in the window."""
    within = "true" if window is None else (
        f"\"end\" > TIMESTAMPTZ '{window.start.isoformat()}' AND start < TIMESTAMPTZ '{window.end.isoformat()}'"
    )  # fmt: skip
    if con.execute(f"SELECT 1 FROM node_interval WHERE {within} LIMIT 1").fetchone() is None:
        return None
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for row in model.rows(con, model.statement("node")):
        found[row["incident"]][row["cluster"]] = row["resources"]
    return found


def _circumstances(
    incident: Row, fact: Row, nodes: Mapping[str, Mapping[str, int]] | None
) -> unowned.Circumstances:
    owned = fact["owned_cost"] or Decimal(0)
    rest = (fact["account_cost"] or Decimal(0)) - (incident["cost"] or Decimal(0))
    return unowned.Circumstances(
        resources=fact["things"],
        keys={key["key"]: key["resources"] for key in fact["keys"] or ()},
        creators=_creators(fact),
        created=fact["with_creator"],
        provider_created=fact["provider_with_creator"] - fact["with_creator"],
        account=_account(incident),
        account_owned=owned / rest if rest > 0 and owned >= 0 else None,
        inherits=fact["inherits"],
        telemetry=nodes is not None,
        job=incident["is_job"],
        clusters=(nodes or {}).get(incident["incident"], {}),
        first_seen=incident["first_seen"],
        at_the_beginning=incident["at_the_beginning"],
        grain=incident["grain"],
    )


def _creators(fact: Row) -> list[Identity]:
    read = {who.key: who for text in fact["creators"] or () if (who := identity(text)) is not None}
    return [read[key] for key in sorted(read)]


def _account(incident: Row) -> str:
    return str(incident["account_name"] or incident["account"] or "its account")


def _signs(
    con: duckdb.Connection, top: Sequence[Row], facts: Mapping[str, Row], directory: Directory
) -> dict[str, list[Evidence]]:
    """Return the evidence for each incident."""
    signs: dict[str, list[Evidence]] = defaultdict(list)
    incidents = {row["incident"]: row for row in top}
    for (incident, rule, value), found in _grouped(model.clues(con), ("incident", "rule", "value")).items():
        if rule == "same_name" and not words(value, incidents[incident]["kind"]):
            continue
        shown = found[0]["shown"] or value
        if rule == "creator" and (who := identity(shown)) is not None:
            shown = who.name
        signs[incident] += _shared(rule, shown, found, directory)
    close = model.neighbours(con, NEIGHBOURS)
    for (incident,), found in _grouped(close, ("incident",)).items():
        signs[incident] += _shared("neighbours", incidents[incident]["kind"], found, directory)
    for incident in incidents:
        signs[incident] += _by_creator(_creators(facts[incident]), signs[incident], directory)
    _by_words(con, incidents, facts, directory, signs)
    return signs


def _grouped(rows: Iterable[Row], keys: Sequence[str]) -> dict[tuple[Any, ...], list[Row]]:
    found: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple(row[key] for key in keys)].append(row)
    return found


def _owned(rows: Iterable[Row], directory: Directory) -> dict[Owner, tuple[int, Decimal]]:
    """Add up resources and (positive) cost of rows by owner."""
    sums: dict[Owner, tuple[int, Decimal]] = {}
    for row in rows:
        owner = directory.owner(Tagged(*(row[name] for name in _OWNERS)))
        if owner is not None:
            count, cost = sums.get(owner, (0, Decimal(0)))
            sums[owner] = (
                count + row["resources"],
                exact_total((cost, max(row.get("cost") or Decimal(0), Decimal(0)))),
            )
    return sums


def _shared(rule: str, shown: str, rows: Iterable[Row], directory: Directory) -> Iterator[Evidence]:
    """Yield evidence from a value that owned resources share, one per owner."""
    sums = _owned(rows, directory)
    spent = exact_total(cost for _, cost in sums.values())
    by_cost = rule in {"account", "same_resource"} and spent > 0
    count = sum(n for n, _ in sums.values())
    for owner, (resources, cost) in sums.items():
        share = float(cost / spent) if by_cost else resources / count
        what = (
            f"{share:.0%} of the owned spend there" if by_cost else f"{resources} of {count} owned resources"
        )
        yield Evidence(
            rule, owner, shown, share, None if rule == "same_resource" else resources,
            f"{RULES[rule].meaning} ({shown}): {what} {_belong(by_cost, resources)} to {directory.label(owner)}",
        )  # fmt: skip


def _belong(by_cost: bool, resources: int) -> str:  # noqa: FBT001  # a word of a sentence
    return "belongs" if by_cost or resources == 1 else "belong"


def _by_creator(
    creators: Sequence[Identity], others: Sequence[Evidence], directory: Directory
) -> Iterator[Evidence]:
    """Yield what the creator's own name says."""
    known = {sign.value for sign in others if sign.rule == "creator"}
    for who in creators:
        if who.kind not in {"person", "user"}:
            continue
        owners = directory.people(who.name)
        for owner in sorted(owners):
            yield Evidence(
                "creator_is_owner", owner, who.name, 1 / len(owners), None,
                f"{RULES['creator_is_owner'].meaning}: {who.name}, of {directory.label(owner)}",
            )  # fmt: skip
        if not owners and not known:
            yield Evidence(
                "creator_named", Owner("person", who.name), who.name, 1.0 if who.kind == "person" else _USER_SHARE, None,
                f"{RULES['creator_named'].meaning}: {who.word} {who.name}",
            )  # fmt: skip


def _by_words(
    con: duckdb.Connection,
    incidents: Mapping[str, Row],
    facts: Mapping[str, Row],
    directory: Directory,
    signs: dict[str, list[Evidence]],
) -> None:
    """Add what words in names say: those of owned resources' names, and of the owners' own."""
    own = {
        incident: set().union(
            words(row["name"], row["kind"]),
            words(row["resource_group"]),
            *(words(who.name) for who in _creators(facts[incident]) if who.kind in {"role", "service"}),
        )
        for incident, row in incidents.items()
    }
    (named,) = model.rows(
        con, "SELECT count(DISTINCT thing) FILTER (name IS NOT NULL) AS n FROM un_own WHERE shows"
    )
    for (incident, found), rows in _grouped(model.named(con, own), ("incident", "word")).items():
        signs[incident] += _rare(found, rows, named["n"], directory)
    accounts = {
        incident: words(row["account_name"], row["kind"]) - own[incident]
        for incident, row in incidents.items()
    }
    for rule, all_words in (("named_after", own), ("account_named_after", accounts)):
        for incident, found_words in all_words.items():
            for found, owners in directory.named(found_words).items():
                signs[incident] += (
                    Evidence(
                        rule, owner, found, 1 / len(owners), None,
                        f'{RULES[rule].meaning}: "{found}" in {directory.label(owner)}'
                        + (f", also in {len(owners) - 1} others" if len(owners) > 1 else ""),
                    )
                    for owner in owners
                )  # fmt: skip


def _rare(found: str, rows: Sequence[Row], named: int, directory: Directory) -> Iterator[Evidence]:
    """Yield evidence from a word in names: the rarer it is among all names, the more it says."""
    import math

    sums = _owned(rows, directory)
    count = sum(n for n, _ in sums.values())
    rarity = math.log((named + 1) / count) / math.log(named + 1) if count else 0.0
    for owner, (resources, _) in sums.items():
        yield Evidence(
            "naming", owner, found, resources / count * max(rarity, 0.0), resources,
            f'{RULES["naming"].meaning}: "{found}" in {resources} of {directory.label(owner)}, {count} of {named} in all',
        )  # fmt: skip


def _row(
    incident: Row,
    fact: Row,
    candidates: Sequence[Candidate],
    gates: Sequence[unowned.Gate],
    directory: Directory,
) -> dict[str, Any]:
    chosen = best(candidates)
    span: timedelta | None = (
        incident["last_seen"] - incident["first_seen"]
        if incident["first_seen"] and incident["last_seen"]
        else None
    )
    return {
        "incident": incident["incident"],
        "what": _what(incident),
        "resource_id": incident["resource_id"],
        "resources": incident["resources"],
        "resource_ids": fact["ids"] or [],
        "provider": incident["provider"],
        "account": incident["account"],
        "account_name": incident["account_name"],
        "cluster": incident["cluster"],
        "namespace": incident["namespace"],
        "service": incident["service"],
        "instance_type": incident["instance_type"],
        "gpu_model": incident["gpu_model"],
        "region": incident["region"],
        "first_seen": incident["first_seen"],
        "last_seen": incident["last_seen"],
        "hours": None if span is None else Decimal(int(span / _HOUR * 100)) / 100,
        "gpu_hours": incident["gpu_hours"],
        "cost": incident["cost"],
        **_named(chosen, _creators(fact), directory),
        "evidence": [] if chosen is None else [_told(sign) for sign in chosen.evidence],
        "against": _against(chosen, candidates),
        "candidates": [
            {
                "owner": _label(found.owner, directory),
                "kind": found.owner.kind,
                "confidence": found.confidence,
                "support": found.support,
                "rules": list(dict.fromkeys(sign.rule for sign in found.evidence)),
            }
            for found in candidates[:_SHOWN]
        ],
        "path": [{"gate": gate.gate, "state": gate.state, "detail": gate.detail} for gate in gates],
    }


def _what(incident: Row) -> str:
    count, kind = incident["resources"], incident["kind"] or incident["service"] or "charges"
    if incident["is_job"]:
        return f"{count} × {kind} {incident['stem']}" if count > 1 else f"{kind} {incident['name']}"
    return (
        f"{count} × {kind}"
        if count > 1
        else str(kind)
        if count
        else f"{incident['service'] or 'charges'} (no resource)"
    )


def _label(owner: Owner, directory: Directory) -> str:
    return owner.folded if owner.kind == "person" else directory.label(owner)


def _named(chosen: Candidate | None, creators: Sequence[Identity], directory: Directory) -> dict[str, Any]:
    """Return the candidate's columns; null where nothing points anywhere."""
    people = [who.name for who in creators if who.kind == "person"]
    if chosen is None:
        return dict.fromkeys(
            ("candidate_owner", "candidate_kind", "candidate_cost_center", "contact", "confidence")
        ) | {"confidence_word": word(None)}
    return {
        "candidate_owner": _label(chosen.owner, directory),
        "candidate_kind": chosen.owner.kind,
        "candidate_cost_center": directory.cost_center(chosen.owner),
        "contact": people[0] if len(people) == 1 else directory.contact(chosen.owner),
        "confidence": chosen.confidence,
        "confidence_word": word(chosen.confidence),
    }


def _told(sign: Evidence) -> dict[str, Any]:
    return {
        "rule": sign.rule,
        "value": sign.value,
        "strength": round(sign.strength, 4),
        "weight": RULES[sign.rule].weight,
        "share": round(sign.share, 4),
        "resources": sign.support,
        "detail": sign.detail,
    }


def _against(chosen: Candidate | None, candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Return what speaks for the strongest rival of the one that is named."""
    rivals = [found for found in candidates if chosen is not None and found.owner != chosen.owner]
    rival = max(rivals, key=lambda found: found.support, default=None)
    return [] if rival is None else [_told(sign) for sign in rival.evidence]
