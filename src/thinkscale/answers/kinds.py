"""Which kind of answer a question asks for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache

from thinkscale.answers.canonical import canonical
from thinkscale.answers.choices import has_options
from thinkscale.answers.reading import read
from thinkscale.lexicons import phrases
from thinkscale.types import AnswerKind

LIST = "questions-1"
_TAIL = 600
_SENTENCE = re.compile(r"(?:^|(?<=[.!?。！？;:\n]))[\s\"'“(*-]*([^.!?。！？\n]*[?？])")
_OR = re.compile(r"(?<!\w)(?:or|oder|ou|o|или)(?!\w)|还是", re.IGNORECASE)
_OPEN = re.compile(r"(?<!\w)(?:what|how|which|who|where|when|why|was|wie|welche|combien|quel|cuánto|qué)(?!\w)")
_LISTED = re.compile(
    r"(?:^|\n)\s*[-*•]\s*(?:yes|true|valid)\s*\n\s*[-*•]\s*(?:no|false|invalid)\s*(?:\n|$)", re.IGNORECASE
)
_MOST = 0.8
"""Share of the answers that must be of one kind for it to be the question's."""
_TELLING = (AnswerKind.yes_no, AnswerKind.date, AnswerKind.time, AnswerKind.json, AnswerKind.code)


def kind_of(question: str, answers: Sequence[str] = ()) -> AnswerKind:
    """The kind that `auto` stands for: by the question, else by what most answers are, else `math`.

    `math` stands for all mathematics, and lets each answer be read by its look.
    """
    if has_options(question):
        return AnswerKind.choice
    return _asked_for(question[-_TAIL:]) or _answered(answers) or AnswerKind.math


@lru_cache(maxsize=1024)
def _asked_for(question: str) -> AnswerKind | None:
    paragraph = question.strip().casefold()
    if _LISTED.search(question):
        return AnswerKind.yes_no
    for kind, phrase in _phrases("within"):
        if phrase in paragraph:
            return kind
    asked = _SENTENCE.findall(paragraph)
    # What a question goes on to say after it, `Answer with a number.`, is a wish of another kind.
    if not asked or _OR.search(asked[-1]) or not paragraph.endswith(("?", "？", '?"')):
        return None
    last = asked[-1].rstrip("?？ ")
    if _OPEN.search(last, 4):
        return None
    for kind, phrase in _phrases("start"):
        if last.startswith(phrase) and not last[len(phrase) : len(phrase) + 1].isalnum():
            return kind
    return next((kind for kind, phrase in _phrases("end") if last.endswith(phrase)), None)


def _answered(answers: Sequence[str]) -> AnswerKind | None:
    if not answers:
        return None
    found, count = Counter(read(canonical(answer)).kind for answer in answers).most_common(1)[0]
    return found if found in _TELLING and count >= _MOST * len(answers) else None


@cache
def _phrases(place: str) -> tuple[tuple[AnswerKind, str], ...]:
    lines = (line.split(" ", 2) for line in phrases(LIST))
    return tuple((AnswerKind(kind), phrase) for kind, where, phrase in lines if where == place)
