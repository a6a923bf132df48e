"""Votes whose keys come with their kind, and comparison of two texts, on top of `partition` and `compare`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from thinkscale.answers.algebra import Judge, Memory, Verdict, default_judge
from thinkscale.answers.canonical import canonical
from thinkscale.answers.compare import compare
from thinkscale.answers.extract import extract, marked
from thinkscale.answers.partition import Partition, Vote
from thinkscale.answers.reading import read
from thinkscale.types import Answer, AnswerKind

__all__ = ["Classes", "Judge", "same", "whole"]

_MATH = (AnswerKind.math, AnswerKind.auto)
_FLAT = (AnswerKind.choice, AnswerKind.text, AnswerKind.json, AnswerKind.code, AnswerKind.tool_calls)
_SHORT = 200
"""Without a box or a marker, a text up to this length is itself the answer when two texts are compared."""
_EXPLOSIVE = re.compile(r"\^\s*\{?\s*-?[0-9]{4,}|\^[^+*/=,]{0,20}\^|[0-9]{4,}\s*!")
_FULL_TEXT = 4000


class Classes:
    """The classes of the answers of one vote that come in one by one; one vote for each kind it is given."""

    def __init__(self, judge: Judge | None = None, memory: Memory | None = None) -> None:
        """`judge` decides what could not be computed, by default math-verify; `memory` keeps its verdicts."""
        self._judge, self._memory = judge, memory
        self._votes: dict[AnswerKind, Vote] = {}

    async def add(self, answers: Iterable[Answer], kind: AnswerKind) -> None:
        """Add answers and compute the classes."""
        await self._vote(kind).add([answer.key for answer in answers])

    def settled(self, answers: Iterable[Answer], kind: AnswerKind) -> bool:
        """Add answers without asking algebra; returns whether their labels are known, so that `add` can be skipped."""
        return self._vote(kind).settled([answer.key for answer in answers])

    def label(self, key: str) -> str:
        """The key that stands for the class of a key; a key that was not added stands for itself."""
        return next((label for vote in self._votes.values() if (label := vote.label(key)) != key), key)

    def partition(self, answers: Iterable[Answer], kind: AnswerKind) -> Partition:
        """The present classes, with the reason of each member."""
        return self._vote(kind).partition([answer.key for answer in answers])

    def _vote(self, kind: AnswerKind) -> Vote:
        if kind not in self._votes:
            self._votes[kind] = Vote(kind, self._judge, self._memory)
        return self._votes[kind]


async def same(gold: str, pred: str, kind: AnswerKind = AnswerKind.math, judge: Judge | None = None) -> bool:
    r"""Whether two texts give the same answer, as a vote of the two would say.

    Symmetric. A text without a box or marker is its own answer when it is short. An abstention equals nothing. Whole
    texts are put to algebra only where an answer is scattered over several boxes, because a parser that may pick any
    number out of a text finds too much equal.

    >>> import asyncio
    >>> asyncio.run(same("\\boxed{0.5}", "The answer is 1/2."))
    True
    """
    first, second = whole(gold, kind), whole(pred, kind)
    if first is None or second is None:
        return False
    found = await compare(first, second, kind, judge)
    if found.verdict is Verdict.same:
        return True
    if kind not in _MATH or found.first.kind is found.second.kind is AnswerKind.number or not _scattered(gold, pred):
        return False
    return any(await (judge or default_judge())([(gold, pred), (pred, gold)]))


def whole(text: str, kind: AnswerKind) -> str | None:
    """The key of the answer in a text, or of the whole text if it is short; `None` if it has no answer."""
    if kind in _FLAT:
        found = extract(text, kind)
        return found.key if found else canonical(text, kind) or None if len(text) <= _SHORT else None
    pointed = marked(text)
    found = pointed or extract(text, AnswerKind.auto if kind is AnswerKind.math else kind)
    if found is None or found.key == "" or len(text) > _SHORT or pointed:
        return None if found is None else found.key
    # A short text without a marker: what it is as it stands, but a sentence around an answer is that answer.
    key = canonical(text, kind)
    return found.key if not key or read(key, kind).kind is AnswerKind.text else key


def _scattered(gold: str, pred: str) -> bool:
    # Several boxes with prose between them may be parts of one answer; only math-verify's own reading joins those.
    several = max(gold.count("boxed"), pred.count("boxed")) > 1
    return several and not any(len(text) > _FULL_TEXT or _EXPLOSIVE.search(text) for text in (gold, pred))
