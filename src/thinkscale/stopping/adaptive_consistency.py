"""Stop when the leader is probably the most likely answer (Aggarwal et al. 2023, Adaptive-Consistency)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from thinkscale.errors import SpecError
from thinkscale.needs import NOTHING
from thinkscale.registry import nearest, spec
from thinkscale.stopping.counts import Counts, check_share, counted
from thinkscale.stopping.posterior import ahead_chance, mode_chance
from thinkscale.types import Trace

PRIORS = ("beta", "dirichlet")
_CLASSES = 5
"""Answers that the Dirichlet form compares, the most frequent ones, as the authors' code does."""


@spec
class AdaptiveConsistency:
    """Enough once the posterior chance that the leader stays ahead reaches a threshold, under a uniform prior.

    The Beta form compares the two leading counts. The Dirichlet form asks whether the first of the five leading counts
    has the largest share; the authors' code draws random numbers for it and can exceed 1, here it is integrated. An
    answer that is alone is compared with one that nobody gave, so that both forms stop after four equal answers.
    """

    threshold: float = 0.95
    """Chance that is enough, above 0 and at most 1."""
    prior: str = "beta"
    """`beta` or `dirichlet`."""

    needs: ClassVar = NOTHING

    def __post_init__(self) -> None:
        check_share(threshold=self.threshold)
        if self.prior not in PRIORS:
            raise SpecError(f"`prior={self.prior}` is no prior of adaptive consistency{nearest(self.prior, PRIORS)}")

    def __call__(self, traces: Sequence[Trace]) -> bool:
        """Whether the leader is sure enough."""
        return self.decided(counted(traces))

    def decided(self, counts: Counts) -> bool:
        """Whether these counts are enough."""
        return bool(counts) and self.chance(counts) >= self.threshold

    def chance(self, counts: Counts) -> float:
        """Posterior chance that the first of one or more counts belongs to the most likely answer."""
        first, second = (*counts, 0)[:2]
        if self.prior == "beta":
            return ahead_chance(first, second)
        return mode_chance(tuple(c + 1.0 for c in (first, second, *counts[2:_CLASSES])))
