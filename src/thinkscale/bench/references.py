"""What counts as right: reference answers, how they go together, and how far a number may be off.

This is read from a row of a task or of a recording. Grading by it is in `grading`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from thinkscale.bench.fields import Misread, first, real, shown, text
from thinkscale.bench.shapes import GOLDS, KINDS
from thinkscale.types import AnswerKind

_KINDS = frozenset(map(str, AnswerKind))


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a number may be off."""

    size: Fraction
    """At least 0; in the reference's unit, or a part of its size. As it is written: 2.6 is within 0.1 of 2.5."""
    relative: bool = False

    def allows(self, gold: Fraction, answer: Fraction) -> bool:
        """Whether a number is near enough."""
        return abs(gold - answer) <= (self.size * abs(gold) if self.relative else self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What an answer is compared with."""

    gold: tuple[str, ...] = ()
    """None where the source has none."""
    any: bool = False
    """Whether each of several references is right alone; otherwise they are the parts of one answer."""
    tolerance: Tolerance | None = None
    unit: str = ""
    """That numbers without one are in."""


def reference_of(row: Mapping[str, object], golds: object = None) -> Reference:
    """The reference of a row; `golds` stands for one that goes by another name.

    A list in `gold` is one answer of several parts, unless `is_multiple_answer` is false; of a list in `golds` each is
    an answer.

    Raises:
        Misread: a field is not what it has to be.
    """
    name, found = first(row, GOLDS)
    alternatives = row.get("golds")
    several = row.get("is_multiple_answer")
    if alternatives is not None:
        name, found = "golds", alternatives
    elif found is None:
        name, found = "answer", golds
    values = found if isinstance(found, list) else [] if found is None else [found]
    told = first(row, ("tolerance", "error"))
    return Reference(
        gold=tuple(text(value, name) for value in values),
        any=len(values) > 1 and (alternatives is not None or several is False),
        tolerance=_tolerance(told[1], told[0]),
        unit=text(row.get("unit"), "unit"),
    )


def kind_told(row: Mapping[str, object]) -> AnswerKind | None:
    """The kind of answer that a row names; its `kind` may be of something else.

    Raises:
        Misread: `answer_kind` is no kind.
    """
    for name in KINDS:
        value = row.get(name)
        if isinstance(value, str) and (kind := value.replace("_", "-")) in _KINDS:
            return AnswerKind(kind)
        if value is not None and name == "answer_kind":
            known = ", ".join(f"`{kind}`" for kind in AnswerKind)
            raise Misread(name, f"is {shown(value)}, which is no kind of answer: choose one of {known}")
    return None


def _tolerance(value: object, field: str) -> Tolerance | None:
    written = value.strip() if isinstance(value, str) else value
    relative = isinstance(written, str) and written.endswith("%")
    size = real(written[:-1] if isinstance(written, str) and relative else written or None, field)
    if size is None:
        return None
    if not 0 <= size < math.inf:
        raise Misread(field, f"is {shown(value)}, and how far a number may be off is a number from 0")
    exact = Fraction(repr(size))
    return Tolerance(exact / 100 if relative else exact, relative)
