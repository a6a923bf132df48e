"""P(True) (Kadavath et al. 2022): how likely the model finds it that a proposed answer is true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from thinkscale.budget import Cost
from thinkscale.needs import IN_A_QUESTION, Capability, Needs, Sign
from thinkscale.prompts import render
from thinkscale.registry import at_least, spec
from thinkscale.scorers import UNJUDGED, shares
from thinkscale.session import Session
from thinkscale.types import Problem, Score, Trace

TRUE, FALSE = ("A", " A", "(A"), ("B", " B", "(B")
"""Spellings of the two options, as they begin a reply."""


@spec
class PTrue:
    """P(A) / (P(A) + P(B)) of the reply to "is the possible answer (A) true or (B) false?", given brainstormed answers.

    The reference code reports log P(A) unnormalised, of one spelling. Equal answers are asked about once.
    """

    ideas: int = 10
    """Answers of the pool, in draw order, that the model is shown as brainstormed ones; 0 shows none."""
    examples: str = ""
    """Solved examples that stand before the question, worded as `prompts/p_true.txt` is."""

    needs: ClassVar = Needs(
        can=frozenset({Capability.likelihood}),
        gives={"p-true": Sign.not_negative},
        loses=IN_A_QUESTION,
    )

    def __post_init__(self) -> None:
        at_least(0, ideas=self.ideas)

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, in [0, 1]; minus infinity without an answer or where the budget does not reach."""
        llm.require(self.needs.can)
        in_order = sorted(traces, key=lambda t: t.path)
        said = [t.answer.text for t in in_order if t.answer is not None]
        asked = {answer: self._question(problem, answer, said[: self.ideas]) for answer in said}
        found = dict(zip(asked, await shares(list(asked.values()), TRUE, FALSE, llm), strict=True))
        return [Score(value=found[t.answer.text] if t.answer else UNJUDGED, kind="p-true") for t in traces]

    def ceiling(self, cap: int) -> Cost:
        """Of one trace: a call for each spelling, none of which generates anything."""
        return Cost(calls=len(TRUE) + len(FALSE))

    def _question(self, problem: Problem, answer: str, ideas: Sequence[str]) -> Problem:
        listed = "".join(f"\nBrainstormed answer: {idea}" for idea in ideas)
        examples = f"{self.examples.rstrip()}\n\n" if self.examples.strip() else ""
        return Problem.of(
            render("p_true", question=problem.question, ideas=listed, answer=answer, examples=examples).rstrip()
        )
