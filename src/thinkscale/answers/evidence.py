"""What was found in a text, by what, and where. Records only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from thinkscale.types import Answer, AnswerKind


class Evidence(StrEnum):
    """By what an answer was found, the strongest first. Of several that are as strong, the last in the text counts."""

    box = "box"
    r"""`\\boxed{…}`."""
    tag = "tag"
    """`<answer>…</answer>`."""
    hashes = "hashes"
    """What follows `####`."""
    field = "field"
    """The field `answer` of a JSON object."""
    marker = "marker"
    """What follows "the answer is", "Answer:" or their like in another language."""
    result = "result"
    """What follows "the result is" or its like."""
    letter = "letter"
    """A letter that a sentence chooses, or one that stands alone."""
    words = "words"
    """The words of one option."""
    emphasis = "emphasis"
    """What stands in bold near the end."""
    whole = "whole"
    """The text is nothing else."""
    fence = "fence"
    """A block of code."""
    sentence = "sentence"
    """What the last sentence states."""
    thought = "thought"
    """What the closed thinking pointed out, of a text that broke off after it."""
    formula = "formula"
    """The last formula."""
    value = "value"
    """The last number, date or time."""


class Pointer(NamedTuple):
    """A place in a text that points at an answer."""

    start: int
    """Where what is pointed at begins."""
    end: int
    """Where it ends, or -1 when that is to be seen from what follows."""
    evidence: Evidence
    language: str = "en"
    text: str = ""
    """What is pointed at, where it is not what stands between `start` and `end`."""


class Claim(NamedTuple):
    """What was read at one place."""

    text: str
    start: int
    end: int
    evidence: Evidence
    kind: AnswerKind | None = None
    """Its kind, where the evidence says so."""
    prose: bool = False
    """Words that neither a box nor quotes set apart: weaker than any value."""


@dataclass(frozen=True, slots=True)
class Found:
    """An answer with where it stood and by what it was found."""

    answer: Answer
    kind: AnswerKind
    """What the answer looks like; never `auto` or `math`."""
    evidence: Evidence
    start: int
    """First character of it in the text."""
    end: int
    """One past its last character."""
