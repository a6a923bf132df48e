"""Patterns of the words that point at answers, made from the lexicons. It knows no text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from thinkscale.lexicons import phrases

LIST = "answers-1"
"""The lexicon; each line is a language, a role and a phrase."""
NUMBERS = "number-words-1"
DECIMAL_COMMA = frozenset(
    {"de", "fr", "es", "pt", "ru", "it", "nl", "pl", "cs", "sv", "da", "fi", "uk", "el", "ro", "hu", "tr", "id", "vi"}
)
"""Languages that write 3,5 for three and a half."""
CLOSE_SCRIPTS = frozenset({"zh", "ja", "ko", "hi", "th", "bn", "te", "ta"})
"""Languages whose words are followed by other letters without a blank, or end in marks that are no letters."""


class Word(NamedTuple):
    """A phrase of a language."""

    language: str
    text: str


@cache
def words(role: str) -> tuple[Word, ...]:
    """The phrases of a role, in the order of the list; none has two roles in one language."""
    lines = (line.split(" ", 2) for line in phrases(LIST))
    return tuple(Word(language, text) for language, said, text in lines if said == role)


@cache
def pattern(*roles: str) -> str:
    """A pattern of every phrase in these roles, the longest first, as whole words where the script has such."""
    found = [word for role in roles for word in words(role)]
    spaced = _either(text for language, text in found if language not in CLOSE_SCRIPTS)
    close = _either(text for language, text in found if language in CLOSE_SCRIPTS)
    initials = re.escape("".join(sorted({c for _, text in found for c in (text[0], text[0].upper())})))
    # The first letter is tested before the many branches, which makes a search several times as fast.
    return f"(?=[{initials}])(?:(?<![^\\W_])(?:{spaced})(?![^\\W_])" + (f"|{close})" if close else ")")


def compiled(before: str, role: str, after: str = "") -> re.Pattern[str]:
    """`pattern` of a role between two others, whatever the case."""
    return re.compile(before + pattern(role) + after, re.IGNORECASE)


@cache
def numbers() -> dict[str, int]:
    """The value of each number word, in all languages."""
    return {word: int(value) for _, word, value in (line.split() for line in phrases(NUMBERS))}


def _either(texts: Iterable[str]) -> str:
    longest = sorted(set(texts), key=lambda text: (-len(text), text))
    return "|".join(re.escape(text).replace(r"\ ", r"\s") for text in longest)
