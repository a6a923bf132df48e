"""What the gateway runs when no method is asked for: the model as it is, as many choices as the client wants."""

from __future__ import annotations

from thinkscale.budget import Cost
from thinkscale.registry import at_least, spec
from thinkscale.session import Method, Session, attempt_ceiling
from thinkscale.types import Finish, Outcome, Problem, Ranking


@spec
class Passthrough:
    """Draw n choices and judge none: each is shown, and how tokens are drawn is the client's word alone."""

    n: int = 1
    """Choices, at least 1."""
    by: Method | None = None
    """Draw each choice through this method, such as a `single` with words of its own."""

    def __post_init__(self) -> None:
        at_least(1, n=self.n)

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """All choices at once; the first one that did not fail stands for the outcome."""
        traces = await llm.sample(problem, self.n, by=self.by)
        whole = (trace for trace in traces if trace.finish is not Finish.error)
        return Outcome.of(Ranking(best=next(whole, None)), traces)

    def ceiling(self, cap: int) -> Cost:
        """One call, or one attempt of another method, for each choice."""
        return attempt_ceiling(self.by, cap) * self.n
