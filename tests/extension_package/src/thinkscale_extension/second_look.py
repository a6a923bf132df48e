"""Show the model its own answer and some criteria, and let it answer anew."""

from thinkscale.budget import Cost
from thinkscale.prompts import ask, render
from thinkscale.registry import at_least, spec
from thinkscale.selection.majority import Majority
from thinkscale.session import Session
from thinkscale.types import Outcome, Problem

PROMPTS = "thinkscale_extension.prompts"


@spec
class SecondLook:
    """Draw n attempts, ask about each that has an answer whether it keeps some criteria, and vote over all."""

    n: int = 3

    def __post_init__(self) -> None:
        at_least(1, n=self.n)

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """Two rounds."""
        first = await llm.sample(problem, self.n, temperature=1.0)
        criteria = render(f"{PROMPTS}:criteria")
        said = [t.text for t in first if t.answer is not None]
        asked = [ask(f"{PROMPTS}:look", question=problem.question, reply=r, criteria=criteria) for r in said]
        pool = [*first, *(trace for group in await llm.each(asked) for trace in group)]
        return Outcome.of(Majority()(pool), pool)

    def ceiling(self, cap: int) -> Cost:
        """Two calls an attempt."""
        return Cost(tokens=cap, calls=1) * (2 * self.n)
