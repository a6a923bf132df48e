"""Best-of-n (Stiennon et al. 2020): sample n attempts, score each, return the best."""

from __future__ import annotations

from thinkscale.budget import Cost
from thinkscale.contracts import rank
from thinkscale.needs import Needs, Sign, own_needs
from thinkscale.registry import at_least, spec
from thinkscale.scorers import Scorer, judged, scoring_ceiling
from thinkscale.scorers.group_confidence import GroupConfidence
from thinkscale.scorers.mean_logprob import MeanLogprob
from thinkscale.scorers.self_certainty import SelfCertainty
from thinkscale.selection import Selector
from thinkscale.selection.best import Best
from thinkscale.session import Method, Session, attempt_ceiling
from thinkscale.types import Outcome, Problem

JUDGES: tuple[Scorer, ...] = (SelfCertainty(), GroupConfidence(reduce="mean"), MeanLogprob())
"""Who judges where nobody is named, best first: by whole distributions, likeliest tokens, or sampled ones alone."""


@spec
class BestOfN:
    """Sample n attempts and return the one that the scorer likes best."""

    n: int = 16
    """Attempts, at least 1."""
    scorer: Scorer | None = None
    """Who judges; the first of `JUDGES` that the model can serve when `none`."""
    temperature: float = 0.8
    select: Selector = Best()
    by: Method | None = None
    """Draw each attempt through this method instead of by one call."""

    @property
    def needs(self) -> Needs:
        """What one of `JUDGES` asks, where no scorer is named."""
        if self.scorer:
            return Needs(effort={"n": 1})
        asked = tuple(own_needs(judge) for judge in JUDGES)
        gives = {kind: Sign.unknown for each in asked for kind in each.gives}
        return Needs(either=(asked,), gives=gives, effort={"n": 1})

    def __post_init__(self) -> None:
        at_least(1, n=self.n)

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """Sample, score, select."""
        traces = await llm.sample(problem, self.n, by=self.by, temperature=self.temperature)
        scored = await judged(self.scorer or _strongest(llm), problem, traces, llm)
        return Outcome.of(rank(self.select, scored), scored)

    def ceiling(self, cap: int) -> Cost:
        """All n attempts, and what judging them takes."""
        judging = scoring_ceiling(self.scorer, cap) if self.scorer else Cost()
        return (attempt_ceiling(self.by, cap) + judging) * self.n


def _strongest(llm: Session) -> Scorer:
    """The first judge that the model can serve, told where it is not the first of all; the last where none can."""
    found = next((j for j in JUDGES if own_needs(j).can <= llm.capabilities.can), JUDGES[-1])
    if found is not JUDGES[0]:
        llm.warn(f"the model does not offer what `{JUDGES[0]!r}` reads: `best-of-n` judged by `{found!r}`")
    return found
