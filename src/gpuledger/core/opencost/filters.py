r"""The filter language: `namespace:"a","b"+label[app]!:"x"` (v2), and `filterNamespaces=a,b` (v1), as one tree.

Grammar (Kubecost's documentation, "Filter parameters (v2)"):

    filter     = element { "+" element } | element { "|" element }      one operator per bracket level
    element    = comparison | "(" filter ")"
    comparison = key operator value { "," value }
    key        = field | map-field [ "[" name "]" ]
    operator   = ":" "!:" "~:" "!~:" "<~:" "!<~:" "~>:" "!~>:"           equals, contains, starts with, ends with
    value      = '"' text '"'

Several values of a positive operator are alternatives; of a negative one all must hold. On a map field without a name
(`label:"app"`) the comparison is with its keys. Beyond the grammar, because OpenCost's own page sends it:
`label:app:"x"` means `label[app]:"x"`, and `\"` is a quote inside a value. Names of fields match in any case.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from gpuledger.core.opencost import BadParameterError

Operator = Literal["equals", "contains", "prefix", "suffix"]
FieldKind = Literal["text", "map", "list"]

_OPERATORS: Final[Mapping[str, Operator]] = {
    ":": "equals", "~:": "contains", "<~:": "prefix", "~>:": "suffix",
}  # fmt: skip
_TOKEN: Final = re.compile(
    r'\s*(?:(?P<operator>!?(?:<~|~>|~)?:)|(?P<text>"(?:[^"\\]|\\.)*")|\[(?P<key>[^\]]*)\]'
    r"|(?P<mark>[+|(),])|(?P<word>[A-Za-z0-9_-]+))"
)
_DEPTH: Final = 50
_LENGTH: Final = 20_000


@dataclass(frozen=True, slots=True)
class Comparison:
    """One field against one value. `key` names the entry of a map field; None on other fields."""

    field: str
    operator: Operator
    value: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite."""

    operand: "Filter"


@dataclass(frozen=True, slots=True)
class And:
    """All hold; an empty one lets everything through."""

    operands: Sequence["Filter"]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one holds; an empty one lets nothing through."""

    operands: Sequence["Filter"]


Filter = Comparison | Not | And | Or
Everything: Final = And(())


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The fields that a filter may name: spelling to kind, and other spellings to these."""

    fields: Mapping[str, FieldKind]
    aliases: Mapping[str, str]

    def find(self, name: str) -> str | None:
        """Return the field that a spelling stands for."""
        folded = name.casefold()
        names = {field.casefold(): field for field in self.fields}
        aliases = {alias.casefold(): field for alias, field in self.aliases.items()}
        return names.get(folded) or aliases.get(folded)


def parse(text: str | None, vocabulary: Vocabulary, parameter: str = "filter") -> Filter:
    """Read a filter of the v2 language. Raises BadParameterError that says what was expected where."""
    if not (text or "").strip():
        return Everything
    if len(text or "") > _LENGTH:
        raise BadParameterError(parameter, f"a filter longer than {_LENGTH:,} characters")
    return _Parser(text or "", vocabulary, parameter).whole()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


class _Parser:
    """Recursive descent over the tokens of one filter."""

    def __init__(self, text: str, vocabulary: Vocabulary, parameter: str) -> None:
        self.vocabulary = vocabulary
        self.parameter = parameter
        self.tokens = self._tokens(text)
        self.place = 0

    def _tokens(self, text: str) -> list[_Token]:
        found = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                where = at + len(text[at:]) - len(text[at:].lstrip())
                raise self._error("an unexpected character, or a quote or bracket that doesn't end", where)
            found.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            at = match.end()
        return [*found, _Token("end", "", len(text))]

    def _error(self, message: str, at: int) -> BadParameterError:
        return BadParameterError(
            self.parameter,
            f"can't read the filter: {message}, at character {at + 1}",
            hint='Write field:"value", joined by + (and) or | (or); brackets where both are used.',
        )

    @property
    def next(self) -> _Token:
        return self.tokens[self.place]

    def take(self, kind: str, text: str | None = None) -> _Token | None:
        token = self.next
        if token.kind != kind or (text is not None and token.text != text):
            return None
        self.place += 1
        return token

    def whole(self) -> Filter:
        found = self.group(0)
        if self.next.kind != "end":
            raise self._error(f"{self.next.text!r} without what it belongs to", self.next.at)
        return found

    def group(self, depth: int) -> Filter:
        if depth > _DEPTH:
            raise self._error(f"more than {_DEPTH} brackets inside each other", self.next.at)
        operands = [self.element(depth)]
        joint = self.next.text if self.next.kind == "mark" and self.next.text in "+|" else None
        while joint is not None and self.take("mark", joint):
            operands.append(self.element(depth))
        if self.next.kind == "mark" and self.next.text in "+|":
            raise self._error("+ and | side by side need brackets", self.next.at)
        if joint is None:
            return operands[0]
        return And(operands) if joint == "+" else Or(operands)

    def element(self, depth: int) -> Filter:
        if self.take("mark", "("):
            found = self.group(depth + 1)
            if not self.take("mark", ")"):
                raise self._error("a bracket ( without its )", self.next.at)
            return found
        return self.comparison()

    def comparison(self) -> Filter:
        word = self.take("word")
        field = self.vocabulary.find(word.text) if word is not None else None
        if word is None or field is None:
            known = ", ".join(sorted({*self.vocabulary.fields, *self.vocabulary.aliases}))
            told = f"no field {word.text!r}" if word else "a field was expected"
            raise self._error(f"{told}; there are {known}", self.next.at if word is None else word.at)
        kind = self.vocabulary.fields[field]
        key = self.key() if kind == "map" else None
        operator = self.take("operator")
        if operator is None:
            raise self._error("an operator such as : or !: was expected", self.next.at)
        negative = operator.text.startswith("!")
        name = _OPERATORS[operator.text.removeprefix("!")]
        if name == "equals" and (kind == "list" or (kind == "map" and key is None)):
            name = "contains"
        positive = [Comparison(field, name, value, key) for value in self.values()]
        if negative:
            negated = [Not(one) for one in positive]
            return negated[0] if len(negated) == 1 else And(negated)
        return positive[0] if len(positive) == 1 else Or(positive)

    def key(self) -> str | None:
        bracket = self.take("key")
        if bracket is not None:
            return bracket.text.strip().strip('"')
        ahead = [token.kind for token in self.tokens[self.place : self.place + 3]]
        if ahead == ["operator", "word", "operator"] and self.next.text == ":":
            self.place += 2
            return self.tokens[self.place - 1].text
        return None

    def values(self) -> list[str]:
        found = []
        while True:
            token = self.take("text")
            if token is None:
                raise self._error('a value in quotes, such as "x", was expected', self.next.at)
            found.append(re.sub(r"\\(.)", r"\1", token.text[1:-1]))
            if not self.take("mark", ","):
                return found


def parse_v1(given: Mapping[str, str], parameters: Mapping[str, str]) -> Filter:
    """Read v1 filters: `given` maps parameters to comma lists, `parameters` parameter names to fields.

    A value that ends in `*` matches what starts so. Labels and annotations are `name:value`. Values of one parameter
    are alternatives; several parameters must all hold.
    """
    operands: list[Filter] = []
    for parameter, text in given.items():
        field = parameters[parameter]
        alternatives: list[Filter] = []
        for part in (part.strip() for part in text.split(",")):
            if not part:
                continue
            key = None
            value = part
            if field in {"label", "annotation"}:
                key, colon, value = part.partition(":")
                if not colon:
                    raise BadParameterError(parameter, f"{part!r} is no name:value pair")
            prefix = value.endswith("*")
            alternatives.append(
                Comparison(field, "prefix" if prefix else "equals", value.removesuffix("*"), key)
            )
        if alternatives:
            operands.append(Or(alternatives) if len(alternatives) > 1 else alternatives[0])
    return _all(operands)


def both(first: Filter, second: Filter) -> Filter:
    """Return a filter that lets through what both do."""
    return _all([one for one in (first, second) if one != Everything])


def _all(operands: Sequence[Filter]) -> Filter:
    if not operands:
        return Everything
    return operands[0] if len(operands) == 1 else And(operands)
