r"""Numbers as people write them, read exactly.

A number is read into a fraction, so `0.5`, `1/2` and `\frac12` are one value and no rounding ever merges two answers.
Nothing here evaluates: a power is read only as the exponent of ten in scientific notation, and only when it is small.
"""

from __future__ import annotations

import re
from fractions import Fraction

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
_SCALE = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_UNITS = (
    "mm|cm|dm|m|km|in|ft|yd|mi|mg|g|kg|lb|lbs|oz|ml|mL|L|s|ms|h|hr|hrs|min|sec|mph|kmh|kph|sq|cu|per|a|an|of|the"
    "|Hz|kHz|N|J|kJ|W|kW|V|A|K|C|F|Pa|kPa|mol|eV|rad|deg|am|pm"
)
_WORD = rf"(?:(?:{_UNITS})(?![A-Za-z])|[A-Za-z]{{3,}})"
_TAIL = re.compile(rf"\s*(?P<first>{_WORD})(?:[\s./-]+{_WORD}|\s*\^\s*\{{?-?[123]\}}?)*\.?")
_NOT_UNITS = re.compile(
    r"\b(?:and|or|to|plus|minus|times|over|mod|modulo|choose|sqrt|sin|cos|tan|log|exp|per cent of|inf|infty|halves"
    r"|half|thirds?|quarters?|fourths?|fifths?|tenths?|hundredths?|thousandths?)\b"
)
_BARE_LETTERS = frozenset("mgshLNJWVAKCFa")
"""Units of one letter: after a number they may also be a variable, so they count only behind a space."""
_ABOUT = re.compile(r"(?:\\(?:approx|sim|simeq)|approximately|about|exactly|roughly|USD|US|Rs\.?|≈)\s*", re.IGNORECASE)


def number(text: str) -> Fraction | None:
    r"""The exact value of a number with an optional unit or currency, or `None`; `text` is already tidy.

    A percent sign counts as a unit: `10\%` is 10, as in the MATH benchmark's own grader. `1,234` is one number
    because its groups have three digits; `1, 234` is a list of two.
    """
    if m := _ABOUT.match(text):
        text = text[m.end() :]
    m = _NUMBER.match(text)
    if m is None:
        return None
    value = _value(m)
    if value is None or m.end() == len(text):
        return value
    scale = _scale(text[m.end() :])
    return None if scale is None else value * scale


def _scale(tail: str) -> int | None:
    # What may follow a number without changing it is a unit; `3x`, `2 and 3` and `2\pi` are something else.
    m = _TAIL.fullmatch(tail)
    if m is None or _NOT_UNITS.search(tail):
        return None
    first = m["first"]
    if first in _BARE_LETTERS and not tail[0].isspace():
        return None
    return _SCALE.get(first.lower(), 1)


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
