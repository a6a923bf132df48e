"""Self-consistency (Wang et al. 2022): sample several chains of thought and take the plurality answer."""

from __future__ import annotations

from thinkscale.budget import Cost
from thinkscale.engines.protocol import Capability
from thinkscale.errors import SpecError
from thinkscale.registry import at_least, spec
from thinkscale.selection import Selector
from thinkscale.selection.majority import Majority
from thinkscale.session import Method, Session, attempt_ceiling
from thinkscale.stopping import StopRule
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.types import Outcome, Problem


@spec
class SelfConsistency:
    """Sample up to n attempts, stop once the vote is clear, and return the plurality answer.

    With a quorum or with `conclude`, which attempts vote is up to the clock and to what runs at once: another run may
    count other votes.
    """

    n: int = 16
    """Most attempts, at least 1."""
    temperature: float = 0.8
    stop: StopRule = AheadByK(k=4)
    """When the attempts so far are enough."""
    select: Selector = Majority()
    by: Method | None = None
    """Draw each attempt through this method instead of by one call."""
    quorum: float | None = None
    """Share of the n attempts after which stragglers are not waited for any longer than `grace` says, in (0, 1]."""
    grace: float = 0.5
    """Time that stragglers have, as a multiple of what the quorum took."""
    conclude: int = 0
    """Tokens in which attempts that turn out unnecessary or late give their answer, so that they vote too: their
    thinking is closed where it stands. 0 cancels them; not for attempts drawn through a method."""

    def __post_init__(self) -> None:
        at_least(1, n=self.n)
        at_least(0, grace=self.grace, conclude=self.conclude)
        if self.quorum is not None and not 0 < self.quorum <= 1:
            raise SpecError(f"`quorum={self.quorum}` must be above 0 and at most 1")
        if self.conclude and self.by is not None:
            raise SpecError("`conclude` is for attempts of one call each: leave out `by` or `conclude`")

    @property
    def needs(self) -> frozenset[Capability]:
        """Cutting a thinking short takes an engine that continues it."""
        return frozenset({Capability.prefill}) if self.conclude else frozenset()

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """Sample until the stop rule is satisfied, then vote."""
        traces = await llm.sample(
            problem,
            self.n,
            by=self.by,
            enough=self.stop,
            quorum=self.quorum,
            grace=self.grace,
            conclude=self.conclude,
            temperature=self.temperature,
        )
        return Outcome.of(self.select(traces), traces)

    def ceiling(self, cap: int) -> Cost:
        """All n attempts, and a conclusion of all but one."""
        conclusions = Cost(tokens=self.conclude, calls=1) * (self.n - 1) if self.conclude else Cost()
        return attempt_ceiling(self.by, cap) * self.n + conclusions
