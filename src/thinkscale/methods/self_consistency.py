"""Self-consistency (Wang et al. 2022): sample several chains of thought and take the plurality answer."""

from __future__ import annotations

from typing import ClassVar

from thinkscale.budget import Cost
from thinkscale.contracts import rank
from thinkscale.needs import Needs
from thinkscale.pace import Pace
from thinkscale.registry import at_least, coerce, spec
from thinkscale.selection import Selector
from thinkscale.selection.majority import Majority
from thinkscale.session import Method, Session, attempt_ceiling
from thinkscale.stopping import StopRule
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.types import Outcome, Problem


@spec
class SelfConsistency:
    """Sample up to n attempts, stop once the vote is clear, and return the plurality answer."""

    n: int = 16
    """Most attempts, at least 1."""
    temperature: float = 0.8
    stop: StopRule = AheadByK(k=4)
    """When the attempts so far are enough."""
    pace: Pace = Pace.steady
    """How many attempts are begun before the vote is looked at again: `thrift` for the fewest tokens, `swift` for the
    fewest seconds."""
    select: Selector = Majority()
    by: Method | None = None
    """Draw each attempt through this method instead of by one call."""

    needs: ClassVar = Needs(effort={"n": 1})

    def __post_init__(self) -> None:
        at_least(1, n=self.n)
        coerce(self, pace=Pace)

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """Sample until the stop rule is satisfied, then vote; greedy attempts are all the same, so one is drawn."""
        n = 1 if self.temperature == 0 and self.by is None else self.n
        if n < self.n:
            llm.warn("at temperature 0 all attempts are the same: one was drawn, and there is no vote")
        traces = await llm.sample(
            problem, n, by=self.by, enough=self.stop, pace=self.pace, temperature=self.temperature
        )
        ranking = rank(self.select, traces)
        return Outcome.of(ranking, traces, enough=traces.enough, needed=traces.needed, waves=traces.waves)

    def ceiling(self, cap: int) -> Cost:
        """All n attempts."""
        return attempt_ceiling(self.by, cap) * self.n
