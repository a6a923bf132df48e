"""Stop when the leading answer is k votes ahead (gambler's ruin; "first to ahead by k" in MAKER, 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from thinkscale.needs import NOTHING
from thinkscale.registry import at_least, spec
from thinkscale.stopping.counts import Counts, counted
from thinkscale.types import Trace


@spec
class AheadByK:
    """Enough once the most frequent answer leads the second by k votes.

    For two answers and probability p > ½ of the right one, the rule errs with probability 1 / (1 + (p/(1−p))^k).
    """

    k: int = 4
    """Votes of lead, at least 1."""

    needs: ClassVar = NOTHING

    def __post_init__(self) -> None:
        at_least(1, k=self.k)

    def __call__(self, traces: Sequence[Trace]) -> bool:
        """Whether the lead is large enough."""
        return self.decided(counted(traces))

    def decided(self, counts: Counts) -> bool:
        """Whether these counts are enough."""
        first, second = (*counts, 0, 0)[:2]
        return first - second >= self.k
