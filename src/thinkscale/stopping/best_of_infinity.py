"""Stop on the Bayes factor for the leader being the most likely answer (Komiyama et al. 2025, Best-of-infinity)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from thinkscale.errors import SpecError
from thinkscale.needs import NOTHING
from thinkscale.registry import at_least, nearest, spec
from thinkscale.stopping.counts import Counts, counted
from thinkscale.stopping.posterior import mode_chance
from thinkscale.types import Trace

PRIORS = ("code", "paper")
MOST_ALPHA = 1000.0


@spec
class BestOfInfinity:
    """Enough once the evidence that the leading answer is the true mode reaches a Bayes factor.

    Answers come from a Dirichlet process, so one more share stands for all that was not seen. With counts N_1 ≥ … ≥ N_s
    and P the posterior chance that the first share is the largest, the factor is m · P / (1 − P). The authors' code has
    the posterior Dirichlet(N_1 + 1, …, N_s + 1, α + 1) and m = s + 1, their paper Dirichlet(N_1, …, N_s, α) and m = s:
    at equal factors the paper's form stops earlier on unanimous draws and later on contested ones. P is integrated
    where the code draws random numbers; and a first draw without an answer, which ends the code's run, ends none here.
    """

    factor: float = 10.0
    """Bayes factor that is enough, at least 0; from 2 to 300 it trades cost for accuracy."""
    alpha: float = 0.3
    """Concentration α of the Dirichlet process, from 0.001 to 1,000."""
    prior: str = "code"
    """`code` or `paper`: whose formula."""

    needs: ClassVar = NOTHING

    def __post_init__(self) -> None:
        at_least(0, factor=self.factor)
        at_least(0.001, alpha=self.alpha)
        if self.alpha > MOST_ALPHA:
            raise SpecError(f"`alpha={self.alpha}` must be at most {MOST_ALPHA:g}: larger ones take long to integrate")
        if self.prior not in PRIORS:
            raise SpecError(f"`prior={self.prior}` is no prior of best-of-infinity{nearest(self.prior, PRIORS)}")

    def __call__(self, traces: Sequence[Trace]) -> bool:
        """Whether the evidence is strong enough."""
        return self.decided(counted(traces))

    def decided(self, counts: Counts) -> bool:
        """Whether these counts are enough."""
        return bool(counts) and self.evidence(counts) >= self.factor

    def chance(self, counts: Counts) -> float:
        """Posterior chance P that the first of one or more counts belongs to the most likely answer."""
        more = 1.0 if self.prior == "code" else 0.0
        return mode_chance((*(c + more for c in counts), self.alpha + more))

    def evidence(self, counts: Counts) -> float:
        """The Bayes factor of one or more counts; infinite once 1 − P is lost in rounding."""
        chance, answers = self.chance(counts), len(counts) + (self.prior == "code")
        return answers * chance / (1 - chance) if chance < 1 else math.inf
