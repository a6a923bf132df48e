r"""Numbers as people write them, read exactly.

A number is read into a fraction, so `0.5`, `1/2` and `\frac12` are one value and no rounding ever merges two answers.
Nothing here evaluates: a power is read only as the exponent of ten in scientific notation, and only when it is small.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

MAX_DIGITS = 200
"""A longer run of digits is not read as a number."""
_MAX_EXPONENT = 100

_REAL = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_NUMBER = re.compile(
    rf"""(?P<sign>[-+]?)\s*(?:
      (?:(?P<whole>[0-9]+)\s+)?\(?(?P<over>{_REAL})\)?\s*/\s*\(?(?P<under>[-+]?[0-9]+)\)?(?![0-9.,/])
    | (?:(?P<units>[0-9]+)\s*)?\\frac
      \{{\s*(?P<above>[-+]?\s*(?:{_REAL}))\s*\}}\{{\s*(?P<below>[-+]?\s*(?:{_REAL}))\s*\}}
    | (?P<real>{_REAL})
      (?:\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*\{{?\s*(?P<power>[-+]?[0-9]+)\s*\}}?|[eE](?P<e>[-+]?[0-9]+))?
    )""",
    re.VERBOSE,
)
_SCALE = {
    "hundred": 10**2,
    "k": 10**3,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "millionen": 10**6,
    "milliarden": 10**9,
    "millions": 10**6,
    "millones": 10**6,
    "milhões": 10**6,
    "миллион": 10**6,
    "миллиона": 10**6,
    "миллионов": 10**6,
    "万": 10**4,
    "亿": 10**8,
}
_SCALED = re.compile(r"\s*(k(?![A-Za-z])|[^\W\d_]+)", re.IGNORECASE)
_WORD = r"(?:(?:a|an|of|the|per|in)(?![A-Za-z])|[^\W\d_]{3,})"
_LABEL = re.compile(rf"\s+{_WORD}(?:[\s./-]+{_WORD}){{0,5}}\.?|\s*[^\W\d_a-zA-Z]{{1,4}}")
_NOT_LABELS = re.compile(
    r"\b(?:and|or|to|plus|minus|times|over|mod|modulo|choose|sqrt|sin|cos|tan|log|exp|percent|per cent|inf|infty|halves"
    r"|half|thirds?|quarters?|fourths?|fifths?|tenths?|hundredths?|thousandths?|if|when|where|for|is|are)\b"
)
_ABOUT = re.compile(r"(?:\\(?:approx|sim|simeq)|approximately|about|exactly|roughly|≈)\s*", re.IGNORECASE)
_ROUNDED = re.compile(r"-?([0-9]+)\.([0-9]+)")
MIN_ROUNDED = 4
"""A decimal of so many significant digits may be the rounding of another number."""


class Numeral(NamedTuple):
    """A number at the beginning of a text, how it is written as a key, and what stands behind it."""

    value: Fraction
    key: str
    rest: str


def leading(text: str) -> Numeral | None:
    """The number with which a tidy text begins, words like `million` taken in; `None` where there is none."""
    if m := _ABOUT.match(text):
        text = text[m.end() :]
    m = _NUMBER.match(text)
    value = None if m is None else _value(m)
    if m is None or value is None:
        return None
    rest = text[m.end() :]
    scaled = _SCALED.match(rest)
    scale = _SCALE.get(scaled[1].casefold()) if scaled else None
    if scaled and scale and not (scaled[1] in "kK" and (rest[0].isspace() or "." not in m[0])):
        return Numeral(value * scale, str(value * scale), rest[scaled.end() :])
    return Numeral(value, _key(m[0], value), rest)


def number(text: str) -> Fraction | None:
    r"""The exact value of a plain number, or `None`; `text` is already tidy.

    `1,234` is one number because its groups have three digits; `1, 234` is a list of two.
    """
    found = leading(text)
    return found.value if found is not None and not found.rest else None


def is_label(text: str) -> bool:
    """Whether what stands behind a number only says what was counted: ` eggs left`, but not ` and a half`."""
    return _LABEL.fullmatch(text) is not None and _NOT_LABELS.search(text) is None


def rounded_digits(key: str) -> int | None:
    """The decimal places of a key that may be a rounding, or `None`; few digits are never taken for one."""
    m = _ROUNDED.fullmatch(key)
    significant = (m[1] + m[2]).lstrip("0") if m else ""
    return len(m[2]) if m and len(significant) >= MIN_ROUNDED else None


def _key(written: str, value: Fraction) -> str:
    # A decimal that may be a rounding stays one; every other number is a fraction in lowest terms.
    if rounded_digits(plain := written.strip().replace(",", "").lstrip("+").replace(" ", "")) is not None:
        whole, _, part = plain.partition(".")
        sign = "-" if whole.startswith("-") else ""
        return f"{sign}{whole.lstrip('-').lstrip('0') or '0'}.{part}" if part.strip("0") else str(value)
    return str(value)


def _value(m: re.Match[str]) -> Fraction | None:
    sign = -1 if m["sign"] == "-" else 1
    if m["real"] is not None:
        exponent = int((m["power"] or m["e"] or "0")[:6])
        if abs(exponent) > _MAX_EXPONENT:
            return None
        return sign * _real(m["real"]) * Fraction(10) ** exponent
    above, below = _real(m["over"] or m["above"]), _real(m["under"] or m["below"])
    if below == 0:
        return None
    return sign * (int(m["whole"] or m["units"] or 0) + above / below)


def _real(text: str) -> Fraction:
    return Fraction(text.replace(",", "").replace(" ", "").rstrip("."))
