"""Two answers compared: as a vote of two, with the reason for the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from thinkscale.answers.algebra import Judge, Memory, Verdict
from thinkscale.answers.partition import partition
from thinkscale.answers.reading import Reading, Standing, read
from thinkscale.types import AnswerKind

_HOW = {
    "rounded": "one is a decimal to which the other rounds",
    "says less": "one says less than the other and fits it: a unit, a name, a year or half of the day is missing",
    "algebra": "algebra finds them equal",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdict on two keys, and how it came about."""

    verdict: Verdict
    reason: str
    first: Reading
    second: Reading


async def compare(
    first: str,
    second: str,
    kind: AnswerKind = AnswerKind.auto,
    judge: Judge | None = None,
    memory: Memory | None = None,
) -> Comparison:
    """Whether two written keys are one answer; symmetric, and what a vote of the two would say."""
    a, b = read(first, kind), read(second, kind)
    found = await partition([first, second], kind, judge, memory)
    if found.labels[0] == found.labels[1]:
        return Comparison(Verdict.same, _why_same(first, second, [m.how for m in found.classes[0].members]), a, b)
    if found.undecided:
        return Comparison(Verdict.unknown, _why_unknown(a, b), a, b)
    return Comparison(Verdict.different, _why_different(a, b), a, b)


def _why_same(first: str, second: str, how: list[str]) -> str:
    if first == second:
        return "they have the same key"
    return next((_HOW[each] for each in how if each in _HOW), "they have the same value")


def _why_unknown(a: Reading, b: Reading) -> str:
    which = "neither was" if a.standing is b.standing is Standing.opaque else "one was not"
    if find_spec("math_verify") is None:
        return f"{which} computed, and algebra is not installed: `pip install 'thinkscale[math]'`"
    return f"{which} computed, and algebra could not say"


def _why_different(a: Reading, b: Reading) -> str:
    if a.kind is not b.kind:
        first, second = sorted((a.kind, b.kind))
        return f"one is of the kind {first}, the other of the kind {second}"
    if Standing.opaque in (a.standing, b.standing):
        return "algebra finds them different"
    return f"two answers of the kind {a.kind} with different values"
