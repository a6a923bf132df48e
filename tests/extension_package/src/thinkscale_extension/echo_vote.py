"""Ask, ask again with the first answer in view, and vote over both rounds."""

from thinkscale.budget import Cost
from thinkscale.registry import at_least, spec
from thinkscale.selection.majority import Majority
from thinkscale.session import Session
from thinkscale.types import Outcome, Problem


@spec
class EchoVote:
    """Draw n attempts, continue each once after "So", and vote over what they end with."""

    n: int = 3

    def __post_init__(self) -> None:
        at_least(1, n=self.n)

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """Two rounds."""
        first = await llm.sample(problem, self.n, temperature=1.0)
        second = await llm.extend(first, inject=" So")
        return Outcome.of(Majority()(second), second)

    def ceiling(self, cap: int) -> Cost:
        """Two calls an attempt."""
        return Cost(tokens=cap, calls=1) * (2 * self.n)
