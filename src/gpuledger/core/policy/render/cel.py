"""Pieces of CEL, as Kubernetes runs it: texts, paths that may be missing, patterns, numbers.

Common Expression Language specification; "Common Expression Language in Kubernetes" for the functions beyond it that
are used (`trim`, `lowerAscii`, `replace` of strings; `sum`, `min`, `max` of lists), all there since Kubernetes 1.30.
Patterns are RE2 and are searched: a whole match has to be asked for with `^(?:…)$`.
"""

import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final, NamedTuple

# What Python's regular expressions have and RE2 doesn't: looking around, references back, possessive repeats, \Z.
_NOT_RE2: Final = re.compile(r"\(\?(?:[=!>(]|<[=!]|P=)|(?<!\\)(?:\\\\)*\\[1-9Z]|[*+?}]\+")
_LONGEST_REPEAT: Final = 1000


class Variable(NamedTuple):
    """A named expression that others use as `variables.NAME`."""

    name: str
    expression: str

    def as_dict(self) -> dict[str, str]:
        """Return it as it stands in a policy."""
        return {"name": self.name, "expression": self.expression}


def quoted(text: str) -> str:
    """Return a text as a CEL literal."""
    return json.dumps(text, ensure_ascii=False)


def listed(texts: Iterable[str]) -> str:
    """Return texts as a CEL list, sorted."""
    return f"[{', '.join(quoted(text) for text in sorted(texts))}]"


def has(value: str, *path: str) -> str:
    """Return the test that a path below a value is there."""
    return " && ".join(f"has({value}.{'.'.join(path[: depth + 1])})" for depth in range(len(path)))


def get(value: str, *path: str, default: str) -> str:
    """Return what stands at a path below a value, else the default."""
    return f"({has(value, *path)} ? {value}.{'.'.join(path)} : {default})"


def number(value: str, *path: str, default: str) -> str:
    """Return the count at a path, else the default, also for what is no count."""
    found = f"string({value}.{'.'.join(path)})"
    return f'({has(value, *path)} && {found}.matches("^[0-9]{{1,15}}$") ? int({found}) : {default})'


def entry(mapped: str, key: str) -> str:
    """Return the text of a key in labels or annotations without surrounding blanks, empty where there is none."""
    return f'({quoted(key)} in {mapped} ? {mapped}[{quoted(key)}].trim() : "")'


def first(options: Iterable[str]) -> str:
    """Return the first of several texts that isn't empty, else an empty one."""
    *before, last = [*options] or ['""']
    for option in before[::-1]:
        last = f'({option} != "" ? {option} : {last})'
    return last


def whole(pattern: str) -> str:
    """Return a regular expression that matches whole texts only, as a CEL literal."""
    return quoted(f"^(?:{pattern})$")


def glob(pattern: str) -> str:
    """Return a shell-style pattern (`*`, `?`, `[abc]`, `[!abc]`) as a regular expression."""
    found, at = "", 0
    while at < len(pattern):
        sign = pattern[at]
        end = pattern.find("]", at + 2 + (pattern[at + 1 : at + 2] == "!")) if sign == "[" else -1
        if sign == "[" and end > 0:
            inner = pattern[at + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            found += f"[^{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
            at = end
        else:
            found += {"*": ".*", "?": "."}.get(sign, re.escape(sign))
        at += 1
    return found


def like(value: str, patterns: Iterable[str]) -> str:
    """Return the test that a text matches one of shell-style patterns."""
    return f"{value}.matches({whole('(?s:' + '|'.join(glob(pattern) for pattern in patterns) + ')')})"


def is_re2(pattern: str) -> bool:
    """Say whether RE2 has all that a regular expression uses."""
    repeats = re.findall(r"\{(\d+)(?:,(\d*))?\}", pattern)
    too_many = any(int(part) > _LONGEST_REPEAT for pair in repeats for part in pair if part)
    return _NOT_RE2.search(pattern) is None and not too_many


def double(value: Decimal) -> str:
    """Return a number as a CEL double."""
    text = format(value, "f")
    return text if "." in text else f"{text}.0"


def both(*conditions: str) -> str:
    """Return that all of several conditions hold; `true` and `false` are left out or decide."""
    kept = [condition for condition in conditions if condition != "true"]
    if "false" in kept:
        return "false"
    return " && ".join(kept) or "true"


def either(*conditions: str) -> str:
    """Return that one of several conditions holds, in brackets where that is needed."""
    kept = [condition for condition in conditions if condition != "false"]
    if "true" in kept:
        return "true"
    return f"({' || '.join(kept)})" if len(kept) > 1 else (kept or ["false"])[0]


def chosen(cases: Mapping[str, str], otherwise: str) -> str:
    """Return the value of the first condition that holds."""
    found = otherwise
    for condition, value in [*cases.items()][::-1]:
        found = (
            value
            if condition == "true"
            else found
            if condition == "false"
            else f"{condition} ? {value} : ({found})"
        )
    return found
