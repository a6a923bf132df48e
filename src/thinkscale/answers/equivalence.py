"""Which answers are the same answer: an equivalence relation over keys, so that votes can be counted.

Equal keys are equal. Beyond that math-verify decides, where it is installed (extra `math`); without it only keys do.
math-verify is neither symmetric nor transitive, so two keys belong together when it says so in either direction, and
classes are the transitive closure. Every pair of keys is considered whatever order they arrived in, and what is asked
is a function of the two keys alone, so the partition and its labels depend on the set of keys and on nothing else.

Conventions of math-verify that this inherits: the order of a bare list does not matter (`1, -2` is `-2, 1`), that of a
tuple does; a percent sign does not matter; numbers equal to six decimals are equal when one of them is a formula.
This module does not know texts or votes.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from importlib.util import find_spec

from thinkscale.answers.canonical import canonical, is_expression, is_number, latex
from thinkscale.answers.extract import extract, marked
from thinkscale.types import Answer, AnswerKind

Judge = Callable[[Sequence[tuple[str, str]]], Awaitable[list[bool]]]
"""Asked about (gold, answer) pairs of LaTeX, says for each whether the two are equal."""

_Pair = tuple[str, str]
_MATH = (AnswerKind.math, AnswerKind.auto)
_SHORT = 200
"""Without a box or a marker, a text up to this length is itself the answer when two texts are compared."""
_EXPLOSIVE = re.compile(
    r"(?:\^|\*\*)\s*\{?\s*-?[0-9]{5,}|[0-9]\s*\}?\s*(?:\^|\*\*)[^+*/=,]{0,20}\^|[0-9]{4,}\s*\}?\)?!|!\s*!"
)
"""Powers and factorials that a computer algebra system might try to write out: nobody is asked about them."""
_FULL_TEXT = 4000


class Classes:
    """The equivalence classes of the answers seen so far.

    Safe to use from several tasks of one event loop: a pair may then be asked twice, with the same result.
    """

    def __init__(self, judge: Judge | None = None) -> None:
        """`judge` decides between two formulas; by default the event loop's shared math-verify process does."""
        self._judge = judge
        self._roots: dict[str, str] = {}
        self._numbers: set[str] = set()
        self._formulas: set[str] = set()
        self._undecided: set[_Pair] = set()

    async def add(self, answers: Iterable[Answer], kind: AnswerKind) -> None:
        """Take in answers and compare them with all others; only mathematical ones are ever asked about."""
        if kind not in _MATH:
            return
        self._take_in(answer.key for answer in answers)
        pairs = [pair for pair in sorted(self._undecided) if self.label(pair[0]) != self.label(pair[1])]
        equal = await _either_way(self._judge or default_judge(), pairs) if pairs else []
        for pair, verdict in zip(pairs, equal, strict=True):
            if verdict:
                self._join(*pair)
        self._undecided.difference_update(pairs)
        self._undecided = {(a, b) for a, b in self._undecided if self.label(a) != self.label(b)}

    def label(self, key: str) -> str:
        """The key that stands for its class: numbers come first, then the shortest, then the alphabet."""
        while (root := self._roots.get(key, key)) != key:
            key = root
        return key

    def settled(self, answers: Iterable[Answer], kind: AnswerKind) -> bool:
        """Whether every comparison among these answers and the earlier ones is decided, so that `add` can be skipped.

        The answers are taken in, because a later formula must be compared with them too.
        """
        if kind in _MATH:
            self._take_in(answer.key for answer in answers)
        return not self._undecided

    def _take_in(self, keys: Iterable[str]) -> None:
        for key in keys:
            if key in self._roots:
                continue
            self._roots[key] = key
            if is_number(key):
                self._undecided.update((key, formula) for formula in self._formulas)
                self._numbers.add(key)
            elif _comparable(key):
                self._undecided.update((number, key) for number in self._numbers)
                self._undecided.update((min(key, other), max(key, other)) for other in self._formulas)
                self._formulas.add(key)

    def _join(self, a: str, b: str) -> None:
        first, second = sorted((self.label(a), self.label(b)), key=_rank)
        self._roots[second] = first


async def same(gold: str, pred: str, kind: AnswerKind = AnswerKind.math, judge: Judge | None = None) -> bool:
    r"""Whether two texts give the same answer: by their keys, else by the judge.

    Symmetric. A text without a box or marker is its own answer when it is short. An abstention equals nothing. Whole
    texts are put to the judge only where an answer is scattered over several boxes, because a parser that may pick
    any number out of a text finds too much equal.

    >>> import asyncio
    >>> asyncio.run(same("\\boxed{0.5}", "The answer is 1/2."))
    True
    """
    if kind not in _MATH:
        a, b = extract(gold, kind), extract(pred, kind)
        return a is not None and b is not None and a.key == b.key
    first, second = _whole(gold), _whole(pred)
    if first is None or second is None:
        return False
    if first == second:
        return True
    judge = judge or default_judge()
    if _askable(first, second) and any(await _either_way(judge, [(first, second)])):
        return True
    if (is_number(first) and is_number(second)) or not _scattered(gold, pred):
        return False
    return any(await judge([(gold, pred), (pred, gold)]))


def default_judge() -> Judge:
    """The running event loop's math-verify process, or a judge that finds nothing equal when it is not installed."""
    if find_spec("math_verify") is None:
        return _nothing_equal
    from thinkscale.answers.worker import shared  # noqa: PLC0415 - asyncio is slow to import and extraction needs none

    return shared()


async def _nothing_equal(pairs: Sequence[tuple[str, str]]) -> list[bool]:
    return [False] * len(pairs)


async def _either_way(judge: Judge, pairs: Sequence[tuple[str, str]]) -> list[bool]:
    forth = await judge([(_shown(a), _shown(b)) for a, b in pairs])
    rest = [(b, a) for (a, b), equal in zip(pairs, forth, strict=True) if not equal]
    back = iter(await judge([(_shown(a), _shown(b)) for a, b in rest])) if rest else iter(())
    return [equal or next(back) for equal in forth]


def _shown(key: str) -> str:
    return f"${latex(key)}$"


def _comparable(key: str) -> bool:
    return is_number(key) or (is_expression(key) and _EXPLOSIVE.search(key) is None)


def _askable(a: str, b: str) -> bool:
    return _comparable(a) and _comparable(b) and not (is_number(a) and is_number(b))


def _rank(key: str) -> tuple[bool, int, str]:
    return (not is_number(key), len(key), key)


def _scattered(gold: str, pred: str) -> bool:
    # Several boxes with prose between them may be parts of one answer; only math-verify's own reading joins those.
    several = max(gold.count("boxed"), pred.count("boxed")) > 1
    return several and not any(len(text) > _FULL_TEXT or _EXPLOSIVE.search(text) for text in (gold, pred))


def _whole(text: str) -> str | None:
    found = marked(text) or extract(text, AnswerKind.auto)
    if found is None or found.key == "" or len(text) > _SHORT or marked(text):
        return None if found is None else found.key
    # A short text without a marker: a formula or words as they stand, but a sentence around a number is that number.
    key = canonical(text)
    sentence = not (is_number(key) or is_expression(key)) and any(c.isdigit() for c in key)
    return found.key if sentence or not key else key
