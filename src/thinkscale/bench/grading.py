"""Whether an answer is right: by its kind, against one or several references, within the tolerance of the task."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from thinkscale.answers import canonical, extract, is_number, same
from thinkscale.bench.references import Reference
from thinkscale.selection.readings import fraction_of
from thinkscale.types import Answer, AnswerKind, Problem

_BRACKETS = "()[]{} "
_WITH_UNIT = re.compile(r"([-+]?[0-9][0-9.,/]*(?:[eE][-+]?[0-9]+)?)\s*(\D.*)")


class Grader:
    """What is right at one problem.

    Args:
        problem: its kind of answer decides how answers are compared, its options what a letter stands for.
        reference: what is right; without any, nothing is.
    """

    def __init__(self, problem: Problem, reference: Reference) -> None:
        self._problem, self._reference = problem, reference
        wanted = [(gold,) for gold in reference.gold] if reference.any else [reference.gold] if reference.gold else []
        self._wanted = [(parts, self._key(", ".join(parts))) for parts in wanted]

    async def right(self, text: str | None) -> bool:
        """Whether an answer, alone or in a text, means what a reference does."""
        return text is not None and any([await self._equal(*wanted, text, self._key(text)) for wanted in self._wanted])

    async def right_answer(self, answer: Answer) -> bool:
        """The same of an answer that was found before."""
        return any([await self._equal(*wanted, answer.text, answer.key) for wanted in self._wanted])

    async def _equal(self, parts: tuple[str, ...], gold: str, text: str, key: str) -> bool:
        unit, kind = self._reference.unit, self._problem.answer_kind
        near = _near(self._reference, parts, text)
        if near is not None:
            return near
        if gold == key or kind is AnswerKind.choice or (is_number(gold) and is_number(key)):
            return gold == key
        said = ", ".join(parts)
        return await same(said, text, kind) or (bool(unit) and await same(f"{said} {unit}", text, kind))

    def _key(self, text: str) -> str:
        kind = self._problem.answer_kind
        found = extract(text, kind, self._problem.question)
        return found.key if found else canonical(text, kind)


def _near(reference: Reference, parts: tuple[str, ...], answer: str) -> bool | None:
    """Whether numbers are within the tolerance, in any order; `None` where there is none or something is no number."""
    if reference.tolerance is None:
        return None
    said = [answer] if len(parts) == 1 else answer.strip(_BRACKETS).split(",")
    golds, given = (_numbers(texts, reference.unit) for texts in (parts, said))
    if golds is None or given is None:
        return None
    pairs = zip(golds, given, strict=False)
    return len(golds) == len(given) and all(reference.tolerance.allows(*pair) for pair in pairs)


def _numbers(texts: Sequence[str], unit: str) -> list[Fraction] | None:
    """The numbers in texts, in order of size; `None` where one has none."""
    found = [_number(text, unit) for text in texts]
    known = [number for number in found if number is not None]
    return sorted(known) if len(known) == len(found) else None


def _number(text: str, unit: str) -> Fraction | None:
    """The number in a text, which may be followed by the unit."""
    found = extract(text, AnswerKind.math)
    key = found.key if found else canonical(text)
    if (number := fraction_of(key)) is not None:
        return number
    measured = _WITH_UNIT.fullmatch(key)
    return fraction_of(measured[1]) if measured and _plain(measured[2]) == _plain(unit) else None


def _plain(unit: str) -> str:
    return re.sub(r"\\(?:text|mathrm)|[\s{}$\\.]", "", unit).casefold()
