"""One draw: the floor that every method is compared with."""

from __future__ import annotations

from thinkscale.budget import Cost
from thinkscale.registry import spec
from thinkscale.selection.majority import Majority
from thinkscale.session import Session
from thinkscale.types import Outcome, Problem


@spec
class Single:
    """Ask once and take what comes."""

    temperature: float = 0.0
    """0 is greedy."""
    max_tokens: int | None = None
    """Tokens the answer may take; the session's cap when `none`."""

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """One call."""
        traces = await llm.sample(problem, 1, temperature=self.temperature, max_tokens=self.max_tokens)
        return Outcome.of(Majority()(traces), traces)

    def ceiling(self, cap: int) -> Cost:
        """One call."""
        return Cost(tokens=self.max_tokens or cap, calls=1)
