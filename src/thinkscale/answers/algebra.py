"""Verdicts of a computer algebra system on pairs of answers that could not be computed, and their memory.

Each pair is asked about once. A verdict that was not reached in time is remembered too, so that a vote that is counted
again from the store has the same result.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from importlib.util import find_spec
from typing import Protocol

from thinkscale.answers.canonical import is_expression, is_number, latex

Judge = Callable[[Sequence[tuple[str, str]]], Awaitable[Sequence[bool | None]]]
"""Asked about (gold, answer) pairs of LaTeX, says for each whether the two are equal; `None` where it cannot say."""

_EXPLOSIVE = re.compile(
    r"(?:\^|\*\*)\s*\{?\s*-?[0-9]{5,}|[0-9]\s*\}?\s*(?:\^|\*\*)[^+*/=,]{0,20}\^|[0-9]{4,}\s*\}?\)?!|!\s*!"
    r"|\)\s*\^\s*\{?\s*-?[0-9]{3,}"
)
"""Powers and factorials that a computer algebra system might expand; such keys are never sent to it."""
_MAX_CHARACTERS = 300


class Verdict(StrEnum):
    """Whether two answers are one."""

    same = "same"
    different = "different"
    unknown = "unknown"


class Memory(Protocol):
    """Memory of verdicts between votes and between runs."""

    def recall(self, first: str, second: str) -> Verdict | None:
        """The verdict on two keys, `first` before `second` in the alphabet; `None` if unknown to this memory."""

    def keep(self, first: str, second: str, verdict: Verdict) -> None:
        """Remember a verdict, `unknown` included."""


class Remembered:
    """A `Memory` that lasts as long as the process."""

    def __init__(self) -> None:
        self._verdicts: dict[tuple[str, str], Verdict] = {}

    def recall(self, first: str, second: str) -> Verdict | None:
        """The verdict on two keys, or `None` where nobody asked."""
        return self._verdicts.get((first, second))

    def keep(self, first: str, second: str, verdict: Verdict) -> None:
        """Remember a verdict."""
        self._verdicts[first, second] = verdict


def is_askable(key: str) -> bool:
    """Whether a key may be sent to algebra: a formula or number of modest size that would not be expanded."""
    formal = is_number(key) or is_expression(key)
    return formal and len(key) <= _MAX_CHARACTERS and _EXPLOSIVE.search(key) is None


async def verdicts(judge: Judge, memory: Memory, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
    """The verdict on each pair of keys, from memory or from the judge, who is asked in both directions."""
    ordered = [(min(pair), max(pair)) for pair in pairs]
    wanted = [pair for pair in dict.fromkeys(ordered) if memory.recall(*pair) is None]
    shown = [(f"${latex(a)}$", f"${latex(b)}$") for a, b in wanted]
    forth = await judge(shown) if shown else []
    rest = [at for at, verdict in enumerate(forth) if verdict is False]
    back = dict(zip(rest, await judge([shown[at][::-1] for at in rest]), strict=True)) if rest else {}
    for at, pair in enumerate(wanted):
        memory.keep(*pair, _both(forth[at], back.get(at)))
    return [memory.recall(*pair) or Verdict.unknown for pair in ordered]


def default_judge() -> Judge:
    """The running event loop's math-verify processes, or a judge that cannot say where it is not installed."""
    if find_spec("math_verify") is None:
        return _silent
    from thinkscale.answers.worker import shared  # noqa: PLC0415 - asyncio is slow to import and extraction needs none

    return shared()


async def _silent(pairs: Sequence[tuple[str, str]]) -> list[bool | None]:
    return [None] * len(pairs)


def _both(forth: bool | None, back: bool | None) -> Verdict:
    # math-verify is not symmetric: one direction that finds them equal is enough.
    # Where it ran out of time in one it is not asked in the other.
    if forth or back:
        return Verdict.same
    return Verdict.unknown if forth is None or back is None else Verdict.different
