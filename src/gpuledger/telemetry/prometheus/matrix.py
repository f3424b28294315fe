"""A range query's answer, from its JSON text into arrays.

Prometheus and its likes write a matrix in one compact form, whose millions of samples `[1759745100,"77.2"]` are read
here eight digits at a time, without an object for any of them. What is written otherwise is read as any JSON is.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from sys import intern
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from gpuledger.core.card_facts import own
from gpuledger.core.exposition import number
from gpuledger.core.metric_grid import DIGITS, Grid, Ints, Labels, Values

_HEAD: Final = b'"resultType":"matrix","result":['
_SERIES: Final = b'{"metric":'
_VALUES: Final = b'},"values":['
_STOP: Final = b"]]}"
_TIME: Final = 10  # digits of the seconds since 1970, from 2001 to 2286
_REGULAR: Final = b'0123456789.,[]"'
_QUOTE, _COMMA, _POINT, _OPEN, _CLOSE, _ZERO = b'",.[]0'
_WORD: Final = 8
_LONGEST: Final = 24  # decimals: 17 digits, and some zeros before
_TENS: Final = np.array([10**power for power in range(DIGITS + 1)], dtype=np.int64)
_REMEMBERED: Final = 100_000

Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Steps:
    """Times that a window has values for: `count` of them, `step` seconds apart from `first` on."""

    first: int
    step: int
    count: int


class LabelSets(dict[bytes, tuple[Labels, Labels]]):
    """Label sets by their JSON text, as they are and as they were at the exporter. The same come again and again."""

    def __missing__(self, text: bytes) -> tuple[Labels, Labels]:
        if len(self) > _REMEMBERED:
            self.clear()
        labels = labels_of(json.loads(text))
        there = own(labels)
        self[text] = found = labels, labels if there == labels else there
        return found


def labels_of(metric: Mapping[str, Any]) -> Labels:
    """Return the labels of a series. Raises AttributeError for what isn't one."""
    return {intern(str(key)): intern(str(value)) for key, value in metric.items()}


@dataclass(frozen=True, slots=True)
class Compact:
    """An answer in the compact form, cut at its series: `envelope` is the JSON around them.

    `metrics` has each series' labels as JSON, `samples` their samples one after the other, and `ends` where each
    series' end in there, with the comma after them.
    """

    body: bytes
    envelope: bytes
    metrics: Sequence[bytes]
    samples: bytes
    ends: Ints


def cut(body: bytes) -> Compact | None:
    """Cut an answer at its series; None when it isn't in the compact form."""
    head = body.find(_HEAD)
    if head < 0:
        return None
    begin = at = head + len(_HEAD)
    metrics: list[bytes] = []
    parts: list[memoryview] = []
    view = memoryview(body)
    while body[at : at + len(_SERIES)] == _SERIES:
        middle = body.find(_VALUES, at)
        stop = body.find(_STOP, middle) + 1
        if middle < 0 or not stop:
            return None
        metrics.append(body[at + len(_SERIES) : middle + 1])
        parts.append(view[middle + len(_VALUES) : stop])
        at = stop + 3  # with the bracket, the brace and the comma
    if metrics:
        at -= 1
        if body[at : at + 1] != b"]":
            return None
    ends = np.cumsum([len(part) + 1 for part in parts], dtype=np.int64)
    return Compact(body, body[:begin] + body[at:], metrics, b",".join(parts), ends)


def read(answer: Compact, steps: Steps, known: LabelSets) -> Grid | None:
    """Return the grid of a compact answer; None when its samples aren't in that form after all.

    Raises ValueError for values that are no numbers, and for times that weren't asked for.
    """
    values = Values.unknown(len(answer.metrics), steps.count)
    if answer.metrics:
        samples = _Samples.of(answer.samples)
        if samples is None:
            return None
        counts = np.diff(np.searchsorted(samples.opens, answer.ends), prepend=0)
        rows = np.repeat(np.arange(len(answer.metrics)), counts)
        columns = _columns(samples.times(), steps)
        digits, places, odd = samples.numbers()
        values.digits[rows, columns], values.places[rows, columns] = digits, places
        for place in odd:
            values.put(int(rows[place]), int(columns[place]), number(samples.text(place)))
    labels = [known[text] for text in answer.metrics]
    return Grid([said for said, _ in labels], [there for _, there in labels], values)


def walk(result: Sequence[Any], steps: Steps) -> Grid:
    """Return the grid of an answer that was read as JSON. Raises what a wrong form or a wrong time leads to."""

    def column(when: float) -> int:
        place, rest = divmod(when - steps.first, steps.step)
        if rest or not 0 <= place < steps.count:
            raise ValueError(f"nobody asked for {when}")
        return int(place)

    return Grid.of(
        (
            (labels_of(one["metric"]), {column(when): number(text) for when, text in one["values"]})
            for one in result
        ),
        steps.count,
    )


def _columns(times: Ints, steps: Steps) -> Ints:
    columns, rest = np.divmod(times - steps.first, steps.step)
    if rest.any() or columns.min() < 0 or columns.max() >= steps.count:
        raise ValueError("there are times that nobody asked for")
    return columns


@dataclass(frozen=True, slots=True)
class _Samples:
    """Samples as they stand in a text: where each begins, and the quotes around its value."""

    body: bytes
    opens: Ints
    firsts: Ints
    lasts: Ints
    signs: NDArray[np.uint8]
    words: Words  # the eight bytes from each place on

    @classmethod
    def of(cls, body: bytes) -> "_Samples | None":
        """Find the samples; None unless each is `[<ten digits>,"…"]`, and a comma between any two."""
        signs = np.frombuffer(body, np.uint8)
        quotes = np.flatnonzero(signs == _QUOTE)
        firsts, lasts = quotes[0::2], quotes[1::2]
        count = firsts.size
        if not count or count != lasts.size or len(body) != lasts[-1] + 2:
            return None
        opens = np.concatenate((np.zeros(1, np.int64), lasts[:-1] + 3))
        counted = (body.count(b"["), body.count(b"]"), body.count(b","))
        right = (
            counted == (count, count, 2 * count - 1)
            and bool((firsts - opens == _TIME + 2).all())
            and bool((signs[opens] == _OPEN).all() and (signs[firsts - 1] == _COMMA).all())
            and bool((signs[lasts + 1] == _CLOSE).all() and (signs[lasts[:-1] + 2] == _COMMA).all())
        )
        words = np.ndarray((len(body) - _WORD + 1,), "<u8", body, strides=(1,))
        return cls(body, opens, firsts, lasts, signs, words) if right else None

    def text(self, place: int) -> str:
        """Return a value as it is written."""
        return self.body[self.firsts[place] + 1 : self.lasts[place]].decode("ascii")

    def times(self) -> Ints:
        """Return the samples' times in seconds."""
        high = _eight(self.words[self.opens + 1])
        tens, ones = self.signs[self.opens + 9], self.signs[self.opens + 10]
        return high * 100 + (tens.astype(np.int64) - _ZERO) * 10 + (ones.astype(np.int64) - _ZERO)

    def numbers(self) -> tuple[Ints, Ints, Ints]:
        """Return digits and places of the values, and which of them have to be read one by one."""
        begins, ends = self.firsts + 1, self.lasts
        points = np.flatnonzero(self.signs == _POINT)
        pointed = self._holding(points)
        wholes = ends - begins
        places = np.zeros(begins.size, np.int64)
        wholes[pointed] = points - begins[pointed]
        places[pointed] = ends[pointed] - points - 1
        small = (wholes == 1) & (self.signs[begins] == _ZERO)
        wide = (wholes + places > DIGITS) & ~(small & (places <= _LONGEST))
        wrong = (wholes == 0) | ((places == 0) & (ends - begins != wholes))
        odd = wide | wrong
        odd[self._odd()] = True
        if pointed.size:
            odd[pointed[1:][pointed[1:] == pointed[:-1]]] = True  # two points
        places[odd], wholes[odd] = 0, 0
        digits = self._whole(begins + wholes, wholes) * _TENS[np.minimum(places, DIGITS)]
        decimals, much = self._decimals(ends, places)
        odd[much] = True
        return digits + decimals, places, np.flatnonzero(odd)

    def _decimals(self, ends: Ints, places: Ints) -> tuple[Ints, Ints]:
        """Return the decimals as whole numbers, and which of them have too many digits for one."""
        much = np.flatnonzero(places > DIGITS)
        high = self._whole(ends[much] - 2 * _WORD, places[much] - 2 * _WORD)
        much = much[high >= 100]  # noqa: PLR2004 - eighteen digits
        places = places.copy()
        places[much] = 0
        return self._whole(ends, places), much

    def _whole(self, ends: Ints, lengths: Ints) -> Ints:
        """Return the whole numbers that end before `ends` and have so many digits; one without any is 0."""
        found = np.zeros(ends.size, np.int64)
        for place in range(0, int(lengths.max(initial=0)), _WORD):
            some = np.flatnonzero(lengths > place)
            others = (_WORD * np.maximum(_WORD + place - lengths[some], 0)).astype(np.uint64)
            words = self.words[np.maximum(ends[some] - place - _WORD, 0)]
            found[some] += _eight(words >> others << others) * _TENS[place]
        return found

    def _odd(self) -> Ints:
        """Return the values that have other signs than digits and a point: NaN, infinities, exponents, minus."""
        if not self.body.translate(None, _REGULAR):
            return np.zeros(0, np.int64)
        regular = np.zeros(256, np.bool_)
        regular[list(_REGULAR)] = True
        return self._holding(np.flatnonzero(~regular[self.signs]))

    def _holding(self, places: Ints) -> Ints:
        """Return the values in which these places of the text are. Raises ValueError for places outside of them."""
        found = np.searchsorted(self.firsts, places, side="right") - 1
        if places.size and (found.min() < 0 or (places >= self.lasts[found]).any()):
            raise ValueError("a time that is none")
        return found


def _eight(words: Words) -> Ints:
    """Return the numbers that eight digits each are, the first in the lowest byte; a byte of zero counts as one."""
    pairs = (words & np.uint64(0x0F0F0F0F0F0F0F0F)) * np.uint64(2561) >> np.uint64(8)
    fours = (pairs & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(6553601) >> np.uint64(16)
    eights = (fours & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(42949672960001) >> np.uint64(32)
    return eights.astype(np.int64)
