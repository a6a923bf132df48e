"""Whether an answer is right: by its kind, against one or several references, within the tolerance of the task."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from thinkscale.answers import canonical, extract, is_number, units
from thinkscale.answers.algebra import Verdict
from thinkscale.answers.compare import compare
from thinkscale.answers.equivalence import same, whole
from thinkscale.bench.references import Reference
from thinkscale.selection.readings import fraction_of
from thinkscale.types import Answer, AnswerKind, Problem

_BRACKETS = "()[]{} "
_QUANTITY = re.compile(r"(-?[0-9][0-9/.]*) (\S.*)")
"""The key of a number with its unit."""
_WHOLE = re.compile(r"-?[0-9]+")
"""Two such keys are the same number or different ones; decimals may be roundings."""
_ALONE = 200
"""Characters of an answer that is one; a longer one is a text, in which an answer may be scattered."""


class Grader:
    """What is right at one problem.

    Args:
        problem: its kind of answer decides how answers are compared, its options what a letter stands for.
        reference: what is right; without any, nothing is.
    """

    def __init__(self, problem: Problem, reference: Reference) -> None:
        self._problem, self._reference = problem, reference
        wanted = [(gold,) for gold in reference.gold] if reference.any else [reference.gold] if reference.gold else []
        self._wanted = [(parts, self._gold(", ".join(parts))) for parts in wanted]

    async def right(self, text: str | None) -> bool:
        """Whether an answer, alone or in a text, means what a reference does."""
        key = self._key(text) if text is not None and self._wanted else ""
        return text is not None and bool(key) and await self.right_answer(Answer(text, key))

    async def right_answer(self, answer: Answer) -> bool:
        """The same of an answer that was found before."""
        return any([await self._equal(parts, gold, answer) for parts, gold in self._wanted])

    async def _equal(self, parts: tuple[str, ...], gold: str, answer: Answer) -> bool:
        kind = self._problem.answer_kind
        near = _near(self._reference, parts, answer)
        if near is not None:
            return near
        if gold == answer.key or kind is AnswerKind.choice or (_WHOLE.fullmatch(gold) and _WHOLE.fullmatch(answer.key)):
            return gold == answer.key
        if (await compare(gold, answer.key, kind)).verdict is Verdict.same:
            return True
        return len(answer.text) > _ALONE and await same(", ".join(parts), answer.text, kind)

    def _gold(self, text: str) -> str:
        key, unit = self._key(text), self._reference.unit
        measured = canonical(f"{text} {unit}") if unit and is_number(key) else ""
        return measured if _QUANTITY.fullmatch(measured) else key

    def _key(self, text: str) -> str:
        kind = self._problem.answer_kind
        if kind is AnswerKind.choice:
            found = extract(text, kind, self._problem.question)
            return found.key if found else canonical(text, kind)
        return whole(text, kind) or ""


def _near(reference: Reference, parts: Sequence[str], answer: Answer) -> bool | None:
    """Whether numbers are within the tolerance, in any order; `None` where there is none or something is no number."""
    if reference.tolerance is None:
        return None
    said = [answer.key] if len(parts) == 1 else answer.key.strip(_BRACKETS).split(",")
    keys = [whole(part, AnswerKind.math) or "" for part in parts]
    golds, given = (_numbers(texts, reference.unit) for texts in (keys, said))
    if golds is None or given is None:
        return None
    pairs = zip(golds, given, strict=False)
    return len(golds) == len(given) and all(reference.tolerance.allows(*pair) for pair in pairs)


def _numbers(keys: Sequence[str], unit: str) -> list[Fraction] | None:
    """What keys say in a unit, in order of size; `None` where one says no number, or one of something else."""
    found = [_number(key.strip(), unit) for key in keys]
    known = [number for number in found if number is not None]
    return sorted(known) if len(known) == len(found) else None


def _number(key: str, unit: str) -> Fraction | None:
    measured = _QUANTITY.fullmatch(key)
    if measured is None:
        return fraction_of(key)
    number, said, asked = fraction_of(measured[1]), units.unit(measured[2]), units.unit(unit)
    if number is None or not unit:
        return number
    if said is None or asked is None:
        return number if measured[2].casefold() == unit.casefold() else None
    return number * said.factor / asked.factor if said.dimension == asked.dimension else None
