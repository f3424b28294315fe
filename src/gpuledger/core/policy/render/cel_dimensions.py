"""What an object says of itself, in CEL: every spelling of a dimension that `core.workload.attribution` reads."""

import re
from collections.abc import Collection
from typing import Final

from gpuledger.core.policy.manifests import QUEUE
from gpuledger.core.policy.model import Require
from gpuledger.core.policy.render.cel import Variable, entry, first, get, listed, quoted
from gpuledger.core.policy.render.cel_objects import sets
from gpuledger.core.tags import PREFIXES, normalized
from gpuledger.core.workload.attribution import TYPE_WORDS, other_meaning, spellings

_SEPARATORS: Final = "[-_./]*"
_PREFIX: Final = "|".join(
    sorted(
        {
            r"[^.]*\." if prefix == "*." else re.escape(prefix.casefold())
            for prefixes in PREFIXES.values()
            for prefix in prefixes
        }
    )
)
SUBMITTER: Final = (
    '(has(request.userInfo) && has(request.userInfo.username) ? request.userInfo.username : "")'
)


def places(*, old: bool) -> list[Variable]:
    """Return the variables that hold labels and annotations: of the object and its pod templates, in their order."""
    root, prefix = ("oldObject", "old_") if old else ("object", "")
    own = f"[{root}]" if not old else '(request.operation == "UPDATE" ? [oldObject] : [])'
    below = f'{own}.filter(o, o.kind != "Pod").map(o, variables.{prefix}sets.map(s, s.t))'
    metas = f"{own} + ({below} + [[]])[0]"
    found = [
        Variable(f"{prefix}objects", metas),
        *(
            Variable(
                f"{prefix}{kind}",
                f"variables.{prefix}objects.map(m, {get('m', 'metadata', kind, default='{}')})",
            )
            for kind in ("labels", "annotations")
        ),
    ]
    if old:
        empty = f'request.operation == "UPDATE" ? ({sets(root)}) : []'
        found.insert(0, Variable("old_sets", empty))
    return found


def namespace_places() -> list[Variable]:
    """Return the same variables of the object's namespace."""
    return [
        Variable(
            f"ns_{kind}",
            'variables.space == "" ? [] : [' + get("namespaceObject", "metadata", kind, default="{}") + "]",
        )
        for kind in ("labels", "annotations")
    ]


def said(dimension: str, prefix: str = "") -> Variable:
    """Return the variable `<prefix>said_<dimension>`: its value by the best evidence, empty where nothing says one."""
    own, words = spellings(dimension)
    labels, notes = f"variables.{prefix}labels", f"variables.{prefix}annotations"
    found = []
    if prefix == "ns_":  # of a namespace there is one: labels, then annotations
        found += [f"{where}.map(m, {first(entry('m', key) for key in own)})" for where in (labels, notes)]
    else:
        objects = f"variables.{prefix}objects"
        marks = [get("m", "metadata", kind, default="{}") for kind in ("labels", "annotations")]
        options = [entry(mark, key) for mark in marks for key in own]
        found.append(f"{objects}.map(m, {first(options)})")
    patterns = [
        f"(?i)^(?:{_PREFIX})?{_SEPARATORS}{_spelled(word)}{_SEPARATORS}$" for word in dict.fromkeys(words)
    ]
    taken = sorted(key for key in other_meaning() if any(re.search(one, key) for one in patterns))
    held = f" && !(k in {listed(taken)})" if taken else ""
    tests = f"[{', '.join(quoted(one) for one in patterns)}]"
    keys = f'm.filter(k, k.matches(r){held} && m[k].trim() != "")'
    for where in (labels, notes):
        found.append(
            f"{where}.filter(m, m.size() > 0).map(m, ({tests}.map(r, {keys}).filter(f, f.size() > 0)"
            '.map(f, m[f.map(k, string(k)).min()].trim()) + [""])[0])'
        )
    value = f'(({" + ".join(found)}).filter(v, v != "") + [""])[0]'
    return Variable(f"{prefix}said_{dimension}", _typed(value) if dimension == "workload_type" else value)


def _spelled(word: str) -> str:
    return _SEPARATORS.join(re.escape(sign) for sign in normalized(word))


def _typed(value: str) -> str:
    """Return a type of workload as the ledger spells it."""
    word = f'[{value}.lowerAscii().replace("_", "-").replace(" ", "-")]'
    words = ", ".join(f"{quoted(other)}: {quoted(known)}" for other, known in TYPE_WORDS.items())
    return f"{word}.map(w, w in {{{words}}} ? {{{words}}}[w] : w)[0]"


def default(rule: Require) -> str:
    """Return what a rule fills in where nothing is said, empty for nothing."""
    name = rule.dimension
    sources = {
        "namespace": f"variables.ns_said_{name}",
        "queue": entry(get("object", "metadata", "labels", default="{}"), QUEUE),
        "submitter": SUBMITTER,
    }
    options = [sources[source] for source in rule.default_from if source in sources]
    return first([*options, quoted(rule.default or "")])


def dimensions_of(rules: Collection[Require]) -> list[str]:
    """Return the dimensions of rules, each once."""
    return list(dict.fromkeys(rule.dimension for rule in rules))
