"""Stop when one answer holds most of the votes (`asc` in Huang et al. 2025; a criterion of Adaptive-Consistency)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from thinkscale.needs import NOTHING
from thinkscale.registry import at_least, spec
from thinkscale.stopping.counts import Counts, check_share, counted
from thinkscale.types import Trace


@spec
class MajorityShare:
    """Enough once the most frequent answer has a given share of at least so many answers."""

    threshold: float = 0.8
    """Share of the leader, above 0 and at most 1."""
    after: int = 2
    """Answers before the rule may fire, at least 1."""

    needs: ClassVar = NOTHING

    def __post_init__(self) -> None:
        check_share(threshold=self.threshold)
        at_least(1, after=self.after)

    def __call__(self, traces: Sequence[Trace]) -> bool:
        """Whether the leader's share is large enough."""
        return self.decided(counted(traces))

    def decided(self, counts: Counts) -> bool:
        """Whether these counts are enough."""
        total = sum(counts)
        return total >= self.after and counts[0] >= self.threshold * total
