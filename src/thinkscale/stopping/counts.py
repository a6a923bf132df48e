"""What most stop rules look at: how many votes each answer has so far. Knows nothing of what the answers say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from thinkscale.errors import SpecError
from thinkscale.types import Trace

Counts = tuple[int, ...]
"""Votes per answer, most first; empty before the first answer."""


@runtime_checkable
class CountRule(Protocol):
    """A stop rule that depends on the counts alone: neither on order nor on draws without an answer."""

    def decided(self, counts: Counts) -> bool:
        """Whether these counts are enough."""
        ...


def counted(traces: Sequence[Trace]) -> Counts:
    """The counts of a pool; a trace without an answer is not counted."""
    return tuple(sorted(Counter(t.answer.key for t in traces if t.answer is not None).values(), reverse=True))


def check_share(**fields: float) -> None:
    """Check hyper-parameters that are shares or probabilities.

    Raises:
        SpecError: one is not above 0 and at most 1.
    """
    for name, value in fields.items():
        if not 0 < value <= 1:
            raise SpecError(f"`{name}={value}` must be above 0 and at most 1")
