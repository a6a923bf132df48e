"""Options of a question that stand in a field of their own: put below the question, and named by letters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import ascii_uppercase

from thinkscale.answers.choices import options
from thinkscale.bench.fields import first, items, text
from thinkscale.bench.references import Reference
from thinkscale.bench.shapes import OPTIONS
from thinkscale.types import AnswerKind

_LABEL = re.compile(r"\s*\(?([A-Z])\s*[).:]\s*")


def options_of(row: Mapping[str, object]) -> tuple[str, ...]:
    """The options of a row without their letters, in order; none where the question has none or lists them itself.

    Raises:
        Misread: they are no list and no object by letter.
    """
    name, found = first(row, OPTIONS)
    if found is None:
        return ()
    listed = tuple(map(str, items([*found.values()] if isinstance(found, dict) else found, name, _option)))
    labels = [_LABEL.match(option) for option in listed]
    own = all(label and label[1] == letter for label, letter in zip(labels, ascii_uppercase, strict=False))
    return tuple(_LABEL.sub("", option, count=1) for option in listed) if own else listed


def with_options(question: str, listed: Sequence[str]) -> str:
    """A question with its options below it, unless it lists them itself."""
    if len(listed) < 2 or len(listed) > len(ascii_uppercase) or len(options(question)) == len(listed):
        return question
    lines = (f"({letter}) {' '.join(option.split())}" for letter, option in zip(ascii_uppercase, listed, strict=False))
    return "\n".join((question, *lines))


def lettered(reference: Reference, listed: Sequence[str], kind: AnswerKind) -> Reference:
    """A reference whose answers are letters, where they were given as words or numbers of options."""
    if kind is not AnswerKind.choice or not listed:
        return reference
    return replace(reference, gold=tuple(letter(gold, listed) for gold in reference.gold))


def letter(said: str, listed: Sequence[str]) -> str:
    """The letter of an option that is named by its words or by its number from 0; what is neither stays as it is."""
    words = [" ".join(option.split()).casefold() for option in listed]
    plain = " ".join(said.split()).casefold()
    if words.count(plain) == 1:
        return ascii_uppercase[words.index(plain)]
    if plain.isdecimal() and int(plain[:9]) < len(listed) and plain not in words:
        return ascii_uppercase[int(plain)]
    return said


def _option(value: object, place: str) -> str:
    """The words of an option, which may stand in an object beside their letter."""
    if isinstance(value, dict):
        place, value = first(value, ("text", "value", "content"))
    return text(value, place)
