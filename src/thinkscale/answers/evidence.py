"""Records of answers found in a text: the evidence for each, and its place."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from thinkscale.types import Answer, AnswerKind


class Evidence(StrEnum):
    """The evidence for an answer, strongest first. Of equally strong evidence the last in the text counts."""

    box = "box"
    r"""`\\boxed{…}`."""
    tag = "tag"
    """`<answer>…</answer>`."""
    hashes = "hashes"
    """What follows `####`."""
    field = "field"
    """The field `answer` of a JSON object."""
    marker = "marker"
    """What follows "the answer is", "Answer:" or the same in another language."""
    result = "result"
    """What follows "the result is" or a similar phrase."""
    letter = "letter"
    """A letter that a sentence chooses, or one that stands alone."""
    words = "words"
    """The words of one option."""
    emphasis = "emphasis"
    """Bold text near the end."""
    whole = "whole"
    """The whole text is the answer."""
    fence = "fence"
    """A block of code."""
    sentence = "sentence"
    """What the last sentence states."""
    thought = "thought"
    """What the closed thinking pointed out, if the text broke off after it."""
    formula = "formula"
    """The last formula."""
    value = "value"
    """The last number, date or time."""


class Pointer(NamedTuple):
    """A place in a text that points at an answer."""

    start: int
    """Where the answer begins."""
    end: int
    """Where it ends, or -1 if that follows from the text after it."""
    evidence: Evidence
    language: str = "en"
    text: str = ""
    """The answer, if it is not the text between `start` and `end`."""


class Claim(NamedTuple):
    """A candidate answer at one place."""

    text: str
    start: int
    end: int
    evidence: Evidence
    kind: AnswerKind | None = None
    """Its kind, if the evidence implies one."""
    prose: bool = False
    """Words that neither a box nor quotes set apart: weaker than any value."""


@dataclass(frozen=True, slots=True)
class Found:
    """An answer, its evidence and its place."""

    answer: Answer
    kind: AnswerKind
    """What the answer looks like; never `auto` or `math`."""
    evidence: Evidence
    start: int
    """First character of it in the text."""
    end: int
    """One past its last character."""
