"""Units and currencies: from what stands behind (or before) a number to a dimension and an exact factor.

The table is data (`lexicons/units-1.txt`). Powers, quotients and products of units are read; temperatures of different
scales are different dimensions. A word that is no unit of the table is no unit here.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache, lru_cache
from typing import NamedTuple

from thinkscale.lexicons import phrases

LIST = "units-1"
_MAX_LENGTH = 60
_PLURAL_POWERS = {"square": 2, "squared": 2, "sq": 2, "cubic": 3, "cubed": 3, "cu": 3}
_BASES = {"area": (("length", 2),), "volume": (("length", 3),), "speed": (("length", 1), ("time", -1))}
_PART = re.compile(r"([^\s/*·^0-9]+)\s*(?:\^?\s*\{?(-?[1-9])\}?)?\s*")
_JOIN = re.compile(r"(/|per\b|pro\b|\*|·|\\cdot\b|-)?\s*")
_CURRENCIES = "$€£¥₽₹₩¢"


class Unit(NamedTuple):
    """What a unit measures, and how much of the base units one of it is."""

    dimension: str
    factor: Fraction


class _Named(NamedTuple):
    symbol: str
    dimension: str
    factor: Fraction


@cache
def _table() -> dict[str, _Named]:
    table: dict[str, _Named] = {}
    for line in phrases(LIST):
        symbol, dimension, factor, *spellings = line.split()
        named = _Named(symbol, dimension, Fraction(factor))
        for spelling in (symbol, *spellings):
            spaced = spelling.replace("_", " ")
            table.setdefault(spaced, named)
            if len(spaced) > 3:
                table.setdefault(spaced.casefold(), named)
    return table


def is_currency(sign: str) -> bool:
    """Whether a character is the sign of a currency, which stands before its number too."""
    return sign in _CURRENCIES


@lru_cache(maxsize=4096)
def unit(text: str) -> Unit | None:
    """The unit that a text spells out, or `None`: `km/h`, `square meters`, `m^2`, `miles per hour`, `$`."""
    text = text.strip().rstrip(".").strip()
    if not text or len(text) > _MAX_LENGTH:
        return None
    if (named := _named(text)) is not None:
        return _unit({named.dimension: 1}, named.factor)
    return _compound(text)


@lru_cache(maxsize=4096)
def symbol(text: str) -> str:
    """The usual spelling of a unit; compound units are only tidied."""
    text = text.strip().rstrip(".").strip()
    named = _named(text)
    return named.symbol if named else " ".join(text.split())


def _named(text: str) -> _Named | None:
    return _table().get(text) or (_table().get(text.casefold()) if len(text) > 3 else None)


def _compound(text: str) -> Unit | None:
    powers: dict[str, int] = {}
    factor, position, sign, waiting = Fraction(1), 0, 1, 1
    while position < len(text):
        m = _PART.match(text, position)
        if m is None:
            return None
        word, exponent = m[1], int(m[2] or 1)
        position = m.end()
        if word.casefold() in _PLURAL_POWERS and word not in _table():
            if word.casefold() in ("squared", "cubed") or m[2]:
                return None
            waiting = _PLURAL_POWERS[word.casefold()]
            continue
        named = _named(word)
        if named is None:
            return None
        after = re.match(r"(squared|cubed)\b\s*", text[position:])
        if after:
            exponent *= _PLURAL_POWERS[after[1]]
            position += after.end()
        exponent *= sign * waiting
        waiting = 1
        powers[named.dimension] = powers.get(named.dimension, 0) + exponent
        factor *= named.factor**exponent
        joined = _JOIN.match(text, position)
        if joined is not None and joined[1]:
            sign = -1 if joined[1] in ("/", "per", "pro") else sign
            position = joined.end()
            if position >= len(text):
                return None
    return _unit(powers, factor) if powers and waiting == 1 else None


def _unit(powers: dict[str, int], factor: Fraction) -> Unit:
    flat: dict[str, int] = {}
    for dimension, exponent in powers.items():
        for base, power in _BASES.get(dimension, ((dimension, 1),)):
            flat[base] = flat.get(base, 0) + power * exponent
    dimension = " ".join(f"{base}{power if power != 1 else ''}" for base, power in sorted(flat.items()) if power)
    return Unit(dimension, factor)
