"""Stop at attempts that are confident by themselves (`early_exit` in Huang et al. 2025; the buffer of RASC)."""

from __future__ import annotations

from collections.abc import Sequence

from thinkscale.needs import Needs
from thinkscale.registry import at_least, spec
from thinkscale.stopping.confidences import confidence
from thinkscale.types import Trace


@spec
class EarlyExit:
    """Enough once `count` attempts are confident, whatever they answer.

    One is the early exit of Self-Calibration; three or five are the buffer of reasoning-aware self-consistency (RASC,
    Wan et al. 2025), whose vote is then taken among the confident ones. Confidence is a score that the attempts already
    carry when they arrive, so the rule is for attempts drawn through a method that scores, and for recorded pools.
    """

    threshold: float = 0.8
    """Score from which an attempt is confident, in units of the scorer."""
    count: int = 1
    """Confident attempts that are enough, at least 1."""
    kind: str = ""
    """Name of the scorer that is believed; the latest one when empty."""

    def __post_init__(self) -> None:
        at_least(1, count=self.count)

    @property
    def needs(self) -> Needs:
        """The confidence."""
        return Needs(scores=frozenset({self.kind}))

    def __call__(self, traces: Sequence[Trace]) -> bool:
        """Whether enough attempts are confident."""
        found = (confidence(t, self.kind) for t in traces)
        return sum(c is not None and c >= self.threshold for c in found) >= self.count
