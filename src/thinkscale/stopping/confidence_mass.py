"""Stop when one answer holds most of the confidence (`asc_conf` in Huang et al. 2025, Self-Calibration)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from thinkscale.needs import Needs
from thinkscale.registry import at_least, spec
from thinkscale.stopping.confidences import confidence
from thinkscale.stopping.counts import check_share
from thinkscale.types import Trace


@spec
class ConfidenceMass:
    """Enough once an answer has a given share of the confidence of at least so many answers.

    Confidence is a score of 0 or more that the attempts already carry when they arrive: the rule is for attempts drawn
    through a method that scores, and for recorded pools. A negative score weighs nothing.
    """

    threshold: float = 0.8
    """Share of the leader, above 0 and at most 1."""
    after: int = 2
    """Scored answers before the rule may fire, at least 1."""
    kind: str = ""
    """Name of the scorer that is believed; the latest one when empty."""

    def __post_init__(self) -> None:
        check_share(threshold=self.threshold)
        at_least(1, after=self.after)

    @property
    def needs(self) -> Needs:
        """The confidence."""
        return Needs(scores=frozenset({self.kind}))

    def __call__(self, traces: Sequence[Trace]) -> bool:
        """Whether the leader's share is large enough."""
        mass: dict[str, float] = defaultdict(float)
        judged = 0
        for trace in traces:
            found = confidence(trace, self.kind)
            if trace.answer is not None and found is not None:
                mass[trace.answer.key] += max(0.0, found)
                judged += 1
        total = sum(mass.values())
        return judged >= self.after and total > 0 and max(mass.values()) >= self.threshold * total
