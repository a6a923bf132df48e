"""Numbers as the world writes them: groups of digits of many countries, and numbers in words."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import cache, lru_cache

from thinkscale.lexicons import phrases

LIST = "number-words-1"
_MAX_WORDS = 12
_GROUPS = re.compile(r"(?<![\w.,'’^{])([0-9]{1,3})((?:[ '’][0-9]{3})+)(?![0-9]|[.,][0-9]{3}(?![0-9]))")
_INDIAN = re.compile(r"(?<![\w.,])[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}(?![0-9,])")
_CONTINENTAL = re.compile(
    r"(?<![\w.,])[0-9]{1,3}(?:(?:\.[0-9]{3}){2,}(?:,[0-9]+)?|(?:[. ][0-9]{3})+,[0-9]{1,2})(?![0-9,.])"
)
_REPEATING = re.compile(r"(?<![0-9.])([0-9]{0,20})\.([0-9]{0,20})\\(?:overline|bar|dot)\s*\{?([0-9]{1,20})\}?(?![0-9])")
_SPACED_COMMA = re.compile(r"(?<![\w.,])([0-9]{1,3}(?: [0-9]{3})+),([0-9]{1,2})(?![0-9,.])")
_ENGLISH = frozenset(
    {"once", "null", "elf", "cent", "dos", "mil", "mille", "do", "sept", "pet", "sei", "un", "una", "uno"}
)
"""Words of other languages that are English words, or names of months, too."""
_PARTS = {
    "half": 2,
    "halve": 2,
    "third": 3,
    "quarter": 4,
    "fourth": 4,
    "fifth": 5,
    "sixth": 6,
    "seventh": 7,
    "eighth": 8,
    "ninth": 9,
    "tenth": 10,
    "twelfth": 12,
    "hundredth": 100,
}
_HAN = {c: n for n, c in enumerate("〇一二三四五六七八九")} | {"零": 0, "两": 2, "兩": 2}
_HAN_TENS = {"十": 10, "百": 100, "千": 1000}
_HAN_GROUPS = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_HAN_NUMBER = re.compile(f"[{''.join(_HAN)}十百千万萬亿億]{{1,24}}")


def regroup(text: str) -> str:
    r"""The text with its numbers in plain digits: `1 234 567`, `1'234`, `12,34,567`, `1.234,56`, `0.1\overline{6}`."""
    if "\\" in text and "." in text:
        text = _REPEATING.sub(_expand_repeats, text)
    if "." in text or "," in text:
        text = _SPACED_COMMA.sub(lambda m: m[1].replace(" ", "") + "." + m[2], text)
        text = _CONTINENTAL.sub(lambda m: m[0].replace(".", "").replace(" ", "").replace(",", "."), text)
        text = _INDIAN.sub(lambda m: m[0].replace(",", ""), text)
    return _GROUPS.sub(lambda m: m[1] + re.sub("[^0-9]", "", m[2]), text)


@lru_cache(maxsize=4096)
def part_in_words(text: str) -> Fraction | None:
    """The fraction that a text of number words is, or `None`: `two thirds`, `a half`, `three and a half`."""
    words = re.split(r"[\s-]+", text.casefold().strip())
    if not words or len(words) > _MAX_WORDS or (below := _PARTS.get(words[-1].removesuffix("s"))) is None:
        return None
    head = words[:-1]
    if "and" in head:
        at = head.index("and")
        whole = in_words(" ".join(head[:at])) if at else None
        return None if whole is None or head[at + 1 :] not in (["a"], ["one"]) else whole + Fraction(1, below)
    above = 1 if head in ([], ["a"], ["an"]) else in_words(" ".join(head))
    return None if above is None or (not head and words[-1] != "half") else Fraction(above, below)


def _expand_repeats(m: re.Match[str]) -> str:
    whole, first, period = m[1] or "0", m[2], m[3]
    below = (10 ** len(period) - 1) * 10 ** len(first)
    above = int(whole + first + period) - int(whole + first)
    return rf"\frac{{{above}}}{{{below}}}"


@lru_cache(maxsize=4096)
def in_words(text: str) -> int | None:
    """The whole number that a text of nothing but number words is, or `None`."""
    if _HAN_NUMBER.fullmatch(text):
        return _han(text)
    words = re.split(r"[\s-]+", text.casefold().strip())
    if not words or len(words) > _MAX_WORDS:
        return None
    negative = len(words) > 1 and words[0] in ("minus", "negative")
    values = [_values().get(word) for word in words[negative:] if word not in ("and", "und", "et", "y", "e")]
    value = _sum([v for v in values if v is not None]) if values and None not in values else None
    return value if value is None or not negative else -value


def _sum(values: list[int]) -> int | None:
    # `two hundred five thousand`: what is below a scale is multiplied by it; words that do not fit are no number.
    total, group, last = 0, 0, 10**12
    for value in values:
        if value >= 1000:
            total, group, last = total + (group or 1) * value, 0, 10**12
        elif value == 100:
            group, last = (group or 1) * 100, 100
        elif (value >= 20 and last < 100) or (value < 20 and last < 20) or value >= last:
            return None
        else:
            group, last = group + value, value if value >= 20 else 1
    return total + group


def _han(text: str) -> int | None:
    total, group, digit = 0, 0, -1
    for c in text:
        if c in _HAN:
            if digit > 0:
                return int("".join(str(_HAN[d]) for d in text)) if all(d in _HAN for d in text) else None
            digit = _HAN[c]
        elif c in _HAN_TENS:
            group, digit = group + (1 if digit < 0 else digit) * _HAN_TENS[c], -1
        else:
            total, group, digit = total + ((group + max(digit, 0)) or 1) * _HAN_GROUPS[c], 0, -1
    return total + group + max(digit, 0)


@cache
def _values() -> dict[str, int]:
    values: dict[str, int] = {}
    for language, word, value in map(str.split, phrases(LIST)):
        if language == "en" or word not in _ENGLISH:
            values.setdefault(word, int(value))
    return {**values, "billion": 10**9, "trillion": 10**12}
