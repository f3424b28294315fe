"""Uncertain whole numbers and their draws, the same to the last digit in NumPy and in a browser.

Every quantity is an integer of its unit's smallest part: seconds, cards, millionths of a dollar. A draw takes a
32-bit number through the distribution's inverse, with nothing but + - × ÷ √ on IEEE doubles in a fixed order (all of
which NumPy and JavaScript round alike), then rounds half up. `exp` and `ln` are therefore spelled out here.

The generator counts: draw i of a stream is `mix(key + i × 0x9E3779B9)` on 32 bits, `mix` being Chris Wellons's
lowbias32 and `key` the mixed FNV-1a hash of the stream's name. So a draw depends on seed, name and number only, and
changing one input leaves the numbers behind all others as they were.
"""

import re
from dataclasses import dataclass
from math import factorial
from typing import TYPE_CHECKING, Final, Literal

from gpuledger.errors import UsageError

if TYPE_CHECKING:  # a tenth of a second to import, for nothing where only texts are read
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

Unit = Literal["duration", "hours", "count", "tokens", "usd"]
Shape = Literal["fixed", "uniform", "triangular", "lognormal"]

MICRO: Final = 1_000_000
HOUR: Final = 3600
CEILINGS: Final[dict[str, int]] = {
    "duration": 366 * 24 * HOUR,
    "hours": 366 * 24 * HOUR,
    "count": 1_000_000,
    "tokens": 1_000_000_000_000,
    "usd": 100_000_000 * MICRO,
}
_CEILING_WORDS: Final = {
    "duration": "a year",
    "hours": "8784 hours, a year",
    "count": "1000000",
    "tokens": "a million millions",
    "usd": "100000000 dollars",
}
_MASK: Final = 0xFFFFFFFF
_SECONDS: Final = {"d": 86400, "h": HOUR, "min": 60, "m": 60, "s": 1}
_PARTS: Final = {"uniform": 2, "triangular": 3, "lognormal": 2}
_P90: Final = 1.2815515655446004  # of the standard normal distribution
_P999: Final = 3.090232306167813
_LN2: Final = 0.6931471805599453
_EXP: Final = tuple(1 / factorial(n) for n in range(14, -1, -1))
_TAIL: Final = 0.02425
# Peter Acklam's rational approximation of the normal quantile, relative error below 1.15e-9.
_A: Final = (
    -3.969683028665376e01, 2.209460984245205e02, -2.759285104469687e02,
    1.383577518672690e02, -3.066479806614716e01, 2.506628277459239e00,
)  # fmt: skip
_B: Final = (
    -5.447609879822406e01, 1.615858368580409e02, -1.556989798598866e02, 6.680131188771972e01,
    -1.328068155288572e01, 1.0,
)  # fmt: skip
_C: Final = (
    -7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e00,
    -2.549732539343734e00, 4.374664141464968e00, 2.938163982698783e00,
)  # fmt: skip
_D: Final = (
    7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e00, 3.754408661907416e00, 1.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Dist:
    """An uncertain whole number. `points`: the value; low, high; low, mode, high; or median and 90th percentile.

    A lognormal is cut at its 99.9th percentile, so that a worst case exists.
    """

    shape: Shape
    points: tuple[int, ...]

    @property
    def is_fixed(self) -> bool:
        """Whether there is only one value."""
        return min(self.points) == max(self.points)

    @property
    def highest(self) -> int:
        """The largest value that can be drawn."""
        return _top(self.points) if self.shape == "lognormal" else self.points[-1]

    def draw(self, shares: "Floats") -> "Ints":
        """Return, for each share (above 0, below 1), the value below which that share of all values lies."""
        import numpy as np

        if self.is_fixed:
            return np.full(len(shares), self.points[0], np.int64)
        if self.shape == "uniform":
            low, high = self.points
            return _rounded(low + shares * (high - low))
        if self.shape == "triangular":
            low, mode, high = self.points
            width = high - low
            left = low + np.sqrt(shares * width * (mode - low))
            right = high - np.sqrt((1 - shares) * width * (high - mode))
            return _rounded(np.where(shares < (mode - low) / width, left, right))
        found: Ints = np.minimum(_at(self.points, normal_quantile(shares)), _top(self.points))
        return found


def fixed(value: int) -> Dist:
    """Return a number that is certain."""
    return Dist("fixed", (value,))


def _rounded(values: "Floats") -> "Ints":
    import numpy as np

    return np.floor(values + 0.5).astype(np.int64)


def _at(points: tuple[int, ...], z: "Floats") -> "Ints":
    median, p90 = points
    return _rounded(median * exp(z * (ln(p90 / median) / _P90)))


def _top(points: tuple[int, ...]) -> int:
    import numpy as np

    return int(_at(points, np.array([_P999]))[0])


def ln(x: "Floats | float") -> "Floats":
    """Natural logarithm of positive numbers, by halving and the series of artanh."""
    import numpy as np

    part, halvings = np.frexp(x)  # part in [0.5, 1); the series is short for numbers in (0.75, 1.5]
    doubled = part <= 0.75  # noqa: PLR2004
    x = np.where(doubled, 2 * part, part)
    y = (x - 1) / (x + 1)
    square, series = y * y, np.zeros_like(y)
    for odd in range(23, 0, -2):
        series = series * square + 1 / odd
    found: Floats = 2 * y * series + (halvings - doubled) * _LN2
    return found


def exp(x: "Floats | float") -> "Floats":
    """Exponential function, by halving and Taylor's series."""
    import numpy as np

    doublings = np.floor(x / _LN2 + 0.5)
    found: Floats = np.ldexp(_polynomial(_EXP, x - doublings * _LN2), doublings.astype(np.int64))
    return found


def normal_quantile(shares: "Floats") -> "Floats":
    """Return quantiles of the standard normal distribution for shares above 0 and below 1."""
    import numpy as np

    q = shares - 0.5
    square = q * q
    found = _polynomial(_A, square) * q / _polynomial(_B, square)
    low, high = shares < _TAIL, shares > 1 - _TAIL
    q = np.sqrt(-2 * ln(shares[low]))
    found[low] = _polynomial(_C, q) / _polynomial(_D, q)
    q = np.sqrt(-2 * ln(1 - shares[high]))
    found[high] = -(_polynomial(_C, q) / _polynomial(_D, q))
    return found


def _polynomial(coefficients: tuple[float, ...], x: "Floats") -> "Floats":
    import numpy as np

    found = np.zeros_like(x)
    for coefficient in coefficients:
        found = found * x + coefficient
    return found


def _mix(x: "NDArray[np.uint32]") -> "NDArray[np.uint32]":
    import numpy as np

    sixteen, fifteen = np.uint32(16), np.uint32(15)
    x = (x ^ x >> sixteen) * np.uint32(0x7FEB352D)
    x = (x ^ x >> fifteen) * np.uint32(0x846CA68B)
    return x ^ x >> sixteen


def stream_key(name: str) -> int:
    """Return the key of a stream of draws: the mixed FNV-1a hash of its name."""
    import numpy as np

    key = 0x811C9DC5
    for byte in name.encode():
        key = ((key ^ byte) * 0x01000193) & _MASK
    return int(_mix(np.array([key], np.uint32))[0])


def shares(name: str, count: int) -> "Floats":
    """Return the first `count` numbers of a stream, evenly spread, above 0 and below 1."""
    import numpy as np

    numbers = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9)
    return (_mix(numbers + np.uint32(stream_key(name))) + 0.5) / 4294967296


def draws(dist: Dist, name: str, count: int) -> "Ints":
    """Return `count` draws of an uncertain number from the stream of that name."""
    return dist.draw(shares(name, count))


def parse(text: str, unit: Unit, where: str) -> Dist:
    """Read `15m`, `5m..15m..1h` or `triangular(5m,15m,1h)`, `5m..1h` or `uniform(5m,1h)`, `lognormal(20m,3h)`.

    A lognormal has its median and its 90th percentile. `where` names the input in errors (UsageError).
    """
    said = re.sub(r"\s+", "", text.lower())
    if call := re.fullmatch(r"([a-z]+)\((.*)\)", said):
        shape, parts = call[1], [part.partition("=")[2] or part for part in call[2].split(",")]
    else:
        parts = said.split("..")
        shape = {1: "fixed", 2: "uniform", 3: "triangular"}.get(len(parts), "")
    if len(parts) != {**_PARTS, "fixed": 1}.get(shape):
        raise UsageError(f"can't read {text!r}", where=where, hint=_shapes_hint(unit))
    points = tuple(value(part, unit, where) for part in parts)
    if list(points) != sorted(points):
        raise UsageError(
            f"{text!r} does not go from low to high", where=where, hint="Write the smallest value first."
        )
    if shape == "lognormal" and points[0] == 0:
        raise UsageError(f"{text!r} has a median of 0", where=where, hint="Write 0 if that is what you mean.")
    found = Dist(_shape(shape), points)
    if found.highest > CEILINGS[unit]:
        raise UsageError(
            f"{text!r} reaches beyond {_CEILING_WORDS[unit]}", where=where, hint="Check the number."
        )
    return found


def _shape(word: str) -> Shape:
    shapes: dict[str, Shape] = {
        "fixed": "fixed", "uniform": "uniform", "triangular": "triangular", "lognormal": "lognormal",
    }  # fmt: skip
    return shapes[word]


def _shapes_hint(unit: Unit) -> str:
    low, mode, high = ("5m", "15m", "1h") if unit in {"duration", "hours"} else ("100", "200", "400")
    return (
        f"Use a value ({mode}), a range ({low}..{high}), triangular({low},{mode},{high}) "
        f"or lognormal({mode},{high}), which are its median and its 90th percentile."
    )


def value(text: str, unit: Unit, where: str) -> int:
    """Read one plain value of a unit as an integer of its smallest part. Raises UsageError."""
    if unit == "duration" or (unit == "hours" and re.search(r"[a-z]", text)):
        found = _duration(text)
    else:
        micro = _micro(text)
        if micro is None:
            found = None
        elif unit == "usd":
            found = micro
        elif unit == "hours":
            found = (micro * HOUR + MICRO // 2) // MICRO
        else:
            found = micro // MICRO if micro % MICRO == 0 else None
    if found is None:
        raise UsageError(f"{text!r} is not {_WANTED[unit]}", where=where, hint=_HINTS[unit])
    if found > CEILINGS[unit]:
        raise UsageError(
            f"{text!r} is more than {_CEILING_WORDS[unit]}", where=where, hint="Check the number."
        )
    return found


_WANTED: Final = {
    "duration": "a time of 0 or more",
    "hours": "a number of hours of 0 or more",
    "count": "a whole number of 0 or more",
    "tokens": "a whole number of 0 or more",
    "usd": "an amount of dollars of 0 or more with at most 6 decimals",
}
_HINTS: Final = {
    "duration": "Write 90s, 15m, 2h, 1h30m or 2d.",
    "hours": "Write 11 or 1.5 (hours), or 90m, 11h, 2d.",
    "count": "Write digits only, such as 1600.",
    "tokens": "Write digits only, such as 2000000.",
    "usd": "Write plain digits, such as 4.05: no sign, no exponent, no thousands separator.",
}


def _micro(text: str) -> int | None:
    found = re.fullmatch(r"([0-9]{1,12})(?:\.([0-9]{1,6}))?", text)
    return None if found is None else int(found[1]) * MICRO + int((found[2] or "").ljust(6, "0"))


def _duration(text: str) -> int | None:
    if text == "0":
        return 0
    if not re.fullmatch(r"(?:[0-9.]+(?:d|h|min|m|s))+", text):
        return None
    micro = 0
    for number, unit in re.findall(r"([0-9.]+)(d|h|min|m|s)", text):
        part = _micro(number)
        if part is None:
            return None
        micro += part * _SECONDS[unit]
    return (micro + MICRO // 2) // MICRO


def write(dist: Dist, unit: Unit) -> str:
    """Write an uncertain number in the form that `parse` reads."""
    parts = [_plain(point, unit) for point in dist.points]
    return f"lognormal({','.join(parts)})" if dist.shape == "lognormal" else "..".join(parts)


def _plain(number: int, unit: Unit) -> str:
    if unit in {"duration", "hours"}:
        return duration_text(number).replace(" min", "m").replace(" ", "")
    if unit == "usd":
        whole, rest = divmod(number, MICRO)
        return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")
    return str(number)


def duration_text(seconds: int) -> str:
    """Write seconds for a person: `1 h 15 min`."""
    hours, rest = divmod(seconds, HOUR)
    minutes, rest = divmod(rest, 60)
    parts = [f"{number} {unit}" for number, unit in ((hours, "h"), (minutes, "min"), (rest, "s")) if number]
    return " ".join(parts) or "0 s"
