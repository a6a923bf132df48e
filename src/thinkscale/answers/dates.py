"""Dates and times of day as people write them, in the languages of `lexicons/months-1.txt`.

`05/01/2021` has two readings, and `3:30` may be in the morning or in the afternoon. Such a date or time lists what it
may be, and the vote decides which one it is.
"""

from __future__ import annotations

import re
from datetime import date
from functools import cache, lru_cache
from typing import NamedTuple

from thinkscale.lexicons import phrases

LIST = "months-1"
_MAX_LENGTH = 60
_ISO = re.compile(r"([0-9]{4})\s*[-/.年년]\s*([0-9]{1,2})\s*[-/.月월]\s*([0-9]{1,2})\s*[日일]?\.?")
_NUMERIC = re.compile(r"([0-9]{1,2})\s*([-/.])\s*([0-9]{1,2})\s*\2\s*([0-9]{4})")
_EAST = re.compile(r"(?:([0-9]{4})\s*[年년]\s*)?([0-9]{1,2})\s*[月월]\s*([0-9]{1,2})\s*[日일]")
_PIECE = re.compile(r"([0-9]+)(?:st|nd|rd|th|er|º|ª|°)?(?![^\W\d_])\.?|([^\W\d_]+)\.?|[,\s]+|.")
_FILL = frozenset({"of", "de", "del", "the", "le", "den", "o", "on", "der", "г", "года", "году"})
_WEEKDAYS = re.compile(
    r"^\s*(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|(?:mon|diens|donners|frei|sams|sonn)tag|mittwoch|lundi|mardi"
    r"|mercredi|jeudi|vendredi|samedi|dimanche|lunes|martes|miércoles|jueves|viernes|sábado|domingo)\b[,.\s]*",
    re.IGNORECASE,
)
_CLOCK = re.compile(
    r"(?:at\s+|um\s+|à\s+|a\s+las\s+|в\s+)?(?P<h>[0-9]{1,2})(?:\s*(?:[:：]|h(?=[0-9]{2}))\s*(?P<m>[0-9]{2})(?:[:：](?P<s>[0-9]{2}))?"
    r"|[.](?P<dot>[0-9]{2})(?=\s*(?:uhr|[ap]\.?\s?m)))?\s*(?P<half>a\.?\s?m\.?|p\.?\s?m\.?)?\s*(?P<end>uhr|o'?clock|hours|h|часов)?",
    re.IGNORECASE,
)
_EAST_CLOCK = re.compile(
    r"(?P<half>上午|下午|晚上|凌晨|早上|午前|午後|오전|오후)?\s*(?P<h>[0-9]{1,2})\s*[点點時时시]\s*(?:(?P<m>[0-9]{1,2})\s*[分분]|(?P<thirty>半|반))?"
)
_ENGLISH = tuple(
    re.findall("[a-z]+", "january february march april may june july august september october november december")
)
_AFTERNOON = frozenset({"下午", "晚上", "午後", "오후"})
_NAMED = {"noon": (12, 0), "midday": (12, 0), "midnight": (0, 0), "mittag": (12, 0), "mitternacht": (0, 0)}


class When(NamedTuple):
    """A date or time: how it is written as a key, and what it may be."""

    key: str
    could_be: tuple[str, ...]
    """Readings in full, one where it is exact; a date without its year has none in full."""


@lru_cache(maxsize=4096)
def day(text: str) -> When | None:
    """The date that a whole text is, or `None`."""
    if len(text) > _MAX_LENGTH or not any(c.isdigit() for c in text):
        return None
    text = _WEEKDAYS.sub("", text.strip().strip(".").strip())
    if m := _ISO.fullmatch(text):
        return _exact(int(m[1]), int(m[2]), int(m[3]))
    if m := _NUMERIC.fullmatch(text):
        return _numeric(int(m[1]), m[2], int(m[3]), int(m[4]))
    if m := _EAST.fullmatch(text):
        return _exact(int(m[1]), int(m[2]), int(m[3])) if m[1] else _yearless(int(m[2]), int(m[3]))
    return _worded(text)


@lru_cache(maxsize=4096)
def clock(text: str) -> When | None:
    """The time of day that a whole text is, or `None`; a bare number is none."""
    text = text.strip().strip(".").strip()
    if len(text) > _MAX_LENGTH:
        return None
    if (named := _NAMED.get(text.casefold())) is not None:
        return _time(*named)
    if m := _EAST_CLOCK.fullmatch(text):
        hour, minute = int(m["h"]), 30 if m["thirty"] else int(m["m"] or 0)
        if m["half"] is None and not (m["m"] or m["thirty"]):
            return None
        return _of_day(hour, minute, None if m["half"] is None else m["half"] in _AFTERNOON)
    m = _CLOCK.fullmatch(text)
    if m is None or not (
        m["m"] or m["dot"] or m["half"] or (m["end"] or "").casefold() in ("uhr", "o'clock", "oclock")
    ):
        return None
    half = (m["half"] or "")[:1].casefold()
    if m["s"] and int(m["s"]):
        return None
    exact = m["half"] is None and (m["h"][0] == "0" or (m["end"] or "").casefold() == "uhr")
    return _of_day(int(m["h"]), int(m["m"] or m["dot"] or 0), half == "p" if half else None, padded=exact)


def parts(full: str) -> frozenset[str]:
    """The partial dates, without year or day, that a full date stands for; empty for a time."""
    pieces = full.split("-")
    if len(pieces) != 3:
        return frozenset()
    year, month, number = map(int, pieces)
    return frozenset({f"part:{_ENGLISH[month - 1]} {number}", f"part:{_ENGLISH[month - 1]} {year:04}"})


def _of_day(hour: int, minute: int, afternoon: bool | None, *, padded: bool = False) -> When | None:
    if minute > 59 or hour > 24 or (hour == 24 and minute):
        return None
    if afternoon is not None and 1 <= hour <= 12:
        return _time(hour % 12 + 12 * afternoon, minute)
    if hour > 12 or hour == 0 or padded:
        return _time(hour % 24, minute)
    return When(f"{hour}:{minute:02}", (f"{hour % 12:02}:{minute:02}", f"{hour % 12 + 12:02}:{minute:02}"))


def _time(hour: int, minute: int) -> When:
    half = "am" if hour < 12 else "pm"
    return When(f"{(hour - 1) % 12 + 1}:{minute:02} {half}", (f"{hour:02}:{minute:02}",))


def _exact(year: int, month: int, number: int) -> When | None:
    try:
        full = date(year, month, number).isoformat()
    except ValueError:
        return None
    return When(full, (full,))


def _yearless(month: int, number: int) -> When | None:
    if not (1 <= month <= 12 and 1 <= number <= 31):
        return None
    return When(f"{_ENGLISH[month - 1]} {number}", ())


def _numeric(first: int, sign: str, second: int, year: int) -> When | None:
    # With dots the day comes first everywhere; otherwise it depends on the country.
    by_day, by_month = _exact(year, second, first), _exact(year, first, second)
    if sign == "." or by_month is None or by_day == by_month:
        return by_day
    if by_day is None:
        return by_month
    return When(f"{first:02}/{second:02}/{year}", tuple(sorted((by_day.key, by_month.key))))


def _worded(text: str) -> When | None:
    numbers: list[int] = []
    month = None
    for m in _PIECE.finditer(text.casefold()):
        if m[1]:
            numbers.append(int(m[1][:6]))
        elif m[2]:
            if m[2] in _FILL:
                continue
            if month is not None or m[2] not in _months():
                return None
            month = _months()[m[2]]
        elif not m[0].isspace() and m[0].strip(" ,"):
            return None
    if month is None or not 1 <= len(numbers) <= 2:
        return None
    if len(numbers) == 1:
        return _yearless(month, numbers[0]) if numbers[0] <= 31 else When(f"{_ENGLISH[month - 1]} {numbers[0]:04}", ())
    number, year = sorted(numbers)
    return _exact(year, month, number) if year > 31 else None


@cache
def _months() -> dict[str, int]:
    return {name: int(number) for number, *names in map(str.split, phrases(LIST)) for name in names}
