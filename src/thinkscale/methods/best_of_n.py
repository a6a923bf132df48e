"""Best-of-n (Stiennon et al. 2020): sample n attempts, score each, return the best."""

from __future__ import annotations

from thinkscale.budget import Cost
from thinkscale.contracts import rank
from thinkscale.registry import at_least, spec
from thinkscale.scorers import Scorer, judged, scoring_ceiling
from thinkscale.scorers.self_certainty import SelfCertainty
from thinkscale.selection import Selector
from thinkscale.selection.best import Best
from thinkscale.session import Method, Session, attempt_ceiling
from thinkscale.types import Outcome, Problem


@spec
class BestOfN:
    """Sample n attempts and return the one that the scorer likes best."""

    n: int = 16
    """Attempts, at least 1."""
    scorer: Scorer = SelfCertainty()
    temperature: float = 0.8
    select: Selector = Best()
    by: Method | None = None
    """Draw each attempt through this method instead of by one call."""

    def __post_init__(self) -> None:
        at_least(1, n=self.n)

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """Sample, score, select."""
        traces = await llm.sample(problem, self.n, by=self.by, temperature=self.temperature)
        scored = await judged(self.scorer, problem, traces, llm)
        return Outcome.of(rank(self.select, scored), scored)

    def ceiling(self, cap: int) -> Cost:
        """All n attempts, and what judging them takes."""
        return (attempt_ceiling(self.by, cap) + scoring_ceiling(self.scorer, cap)) * self.n
