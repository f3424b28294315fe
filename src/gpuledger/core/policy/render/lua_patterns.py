r"""Regular expressions and shell patterns as Lua patterns, as far as those mean exactly the same.

Lua's patterns (Lua 5.1 reference manual, 5.4.1) repeat single characters only and know no alternatives: alternatives
become several patterns, `{2,4}` is written out, and a group that repeats can't be said. Values hold UTF-8 and Lua sees
bytes: `.`, `\d`, `\w` and `[^…]` are for ASCII here, so a value beyond it is refused rather than let through.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Final

_MOST: Final = 128  # patterns that alternatives may become
_LONGEST: Final = 200  # single characters of a repeat that is written out
_CLASSES: Final = {"d": "0-9", "w": "A-Za-z0-9_", "s": " \t\n\r\f\v\x1c-\x1f"}
_ANY: Final = "[\x01-\x09\x0b-\x7f]"
_MAGIC: Final = frozenset("^$()%.[]*+-?")
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}


class CannotSayError(ValueError):
    """A pattern that Lua's can't express; the text says what of it."""


@dataclass(slots=True)
class _Reader:
    text: str
    place: int = 0

    def peek(self) -> str:
        return self.text[self.place : self.place + 1]

    def take(self) -> str:
        self.place += 1
        return self.text[self.place - 1 : self.place]


def of_regex(pattern: str) -> tuple[str, ...]:
    """Return anchored Lua patterns, one of which fits exactly when the regular expression fits the whole value.

    Raises CannotSayError.
    """
    re.compile(pattern)
    reader = _Reader(pattern)
    found = _alternatives(reader)
    if reader.peek():
        raise CannotSayError("an unopened group")
    return tuple(dict.fromkeys(f"^{one}$" for one in found))


def of_shell(pattern: str) -> str:
    """Return the anchored Lua pattern of a shell-style one (`*`, `?`, `[…]`). Raises CannotSayError."""
    made, place = "", 0
    while place < len(pattern):
        letter = pattern[place]
        place += 1
        if letter == "*":
            made += "" if made.endswith(".*") else ".*"
        elif letter == "?":
            made += "[^\x80-\xbf][\x80-\xbf]*"
        elif letter == "[":
            raise CannotSayError("[…] in a shell pattern")
        else:
            made += _literal(letter)
    return f"^{made}$"


def _literal(letter: str) -> str:
    if letter == "\0":
        raise CannotSayError("a zero byte")
    return f"%{letter}" if letter in _MAGIC else letter


def _alternatives(reader: _Reader) -> list[str]:
    found = _sequence(reader)
    while reader.peek() == "|":
        reader.take()
        found += _sequence(reader)
    return _few(found)


def _few(found: list[str]) -> list[str]:
    if len(found) > _MOST:
        raise CannotSayError(f"more than {_MOST} alternatives")
    return found


def _sequence(reader: _Reader) -> list[str]:
    """Read what follows one another. `^` at the beginning and `$` at the end say nothing of a whole value."""
    found = [""]
    begun = False
    while (letter := reader.peek()) not in ("", "|", ")"):
        if letter == "^" and not begun:
            reader.take()
            continue
        if letter == "$":
            reader.take()
            if reader.peek() not in ("", "|"):
                raise CannotSayError("$ within")
            continue
        begun = True
        found = _few([head + tail for head, tail in product(found, _item(reader))])
    return found


def _item(reader: _Reader) -> list[str]:
    if reader.peek() == "(":
        return _group(reader)
    single = _single(reader)
    least, most = _repeat(reader)
    if (least, most) == (1, 1):
        return [single]
    if len(single.encode()) > 1 and single[0] not in "[%":
        raise CannotSayError(f"a repeat of {single!r}")
    if least > _LONGEST or (most or 0) > _LONGEST:
        raise CannotSayError(f"a repeat of more than {_LONGEST}")
    if most is None:
        return [single * (least - 1) + f"{single}+" if least else f"{single}*"]
    if (least, most) == (0, 1):
        return [f"{single}?"]
    # A pattern per length: many `?` in a row would take Lua exponential time to say no.
    return _few([single * number for number in range(least, most + 1)])


def _group(reader: _Reader) -> list[str]:
    reader.take()
    if reader.peek() == "?":
        if reader.text[reader.place : reader.place + 2] == "?:":
            reader.place += 2
        elif name := re.compile(r"\?P<\w+>").match(reader.text, reader.place):
            reader.place = name.end()
        else:
            raise CannotSayError(f"(?{reader.text[reader.place + 1 : reader.place + 2]}")
    start = reader.place
    inner = _alternatives(reader)
    # Within a group the ends of the value aren't its ends.
    if re.search(r"(?<!\\)\$|(?<![\\\[])\^", reader.text[start : reader.place]):
        raise CannotSayError("^ or $ in a group")
    reader.take()
    repeat = _repeat(reader)
    if repeat == (0, 1):
        return ["", *inner]
    if repeat != (1, 1):
        raise CannotSayError("a group that repeats")
    return inner


def _repeat(reader: _Reader) -> tuple[int, int | None]:
    letter = reader.peek()
    found: tuple[int, int | None] = (1, 1)
    if letter and letter in "*+?":
        reader.take()
        found = {"*": (0, None), "+": (1, None), "?": (0, 1)}[letter]
    elif match := re.compile(r"\{(\d*)(,?)(\d*)\}").match(reader.text, reader.place):
        if match[1] or match[3]:
            reader.place = match.end()
            least = int(match[1] or 0)
            found = (least, int(match[3]) if match[3] else None if match[2] else least)
    else:
        return found
    if found != (1, 1) or letter in ("*", "+", "?", "{"):
        following = reader.peek()
        if following == "+":
            raise CannotSayError("a possessive repeat")
        if following == "?":
            reader.take()  # how greedy it is says nothing of a whole match
    return found


def _single(reader: _Reader) -> str:
    letter = reader.take()
    if letter == ".":
        return _ANY
    if letter == "[":
        return _set(reader)
    if letter == "\\":
        escaped = reader.take()
        if escaped in _CLASSES:
            return f"[{_CLASSES[escaped]}]"
        if escaped.isalnum() and escaped not in _ESCAPES:
            raise CannotSayError(f"\\{escaped}")
        return _literal(_ESCAPES.get(escaped, escaped))
    if letter in ("^", "*", "+", "?"):
        raise CannotSayError(f"{letter} within")
    return _literal(letter)


def _set(reader: _Reader) -> str:
    """Read a set of ASCII; one that excludes becomes the ASCII that is left."""
    excludes = reader.peek() == "^"
    if excludes:
        reader.take()
    held: set[int] = set()
    for first, last in _ranges(reader):
        held |= set(range(first, last + 1))
    if max(held) > 0x7F:  # noqa: PLR2004 - the last of ASCII
        raise CannotSayError("a set beyond ASCII")
    if excludes:
        held = set(range(1, 0x80)) - held
    if not held - {0}:
        raise CannotSayError("an empty set")
    return f"[{''.join(f'%{chr(code)}' if not chr(code).isalnum() and code > 0x1F and code != 0x7F else chr(code) for code in sorted(held - {0}))}]"  # noqa: PLR2004


def _ranges(reader: _Reader) -> Iterator[tuple[int, int]]:
    begun = False
    while (letter := reader.take()) != "]" or not begun:
        begun = True
        if letter == "\\":
            letter = reader.take()
            if letter in _CLASSES:
                for match in re.finditer(r"(.)-(.)|(.)", _CLASSES[letter], re.DOTALL):
                    yield ord(match[1] or match[3]), ord(match[2] or match[3])
                continue
            if letter.isalnum() and letter not in _ESCAPES:
                raise CannotSayError(f"\\{letter} in a set")
            letter = _ESCAPES.get(letter, letter)
        if reader.peek() == "-" and reader.text[reader.place + 1 : reader.place + 2] != "]":
            reader.take()
            last = reader.take()
            if last == "\\":
                raise CannotSayError("a range up to an escape")
            yield ord(letter), ord(last)
        else:
            yield ord(letter), ord(letter)
