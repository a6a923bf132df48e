"""Universal self-consistency (Chen et al. 2023): the model sees all its responses and names the most consistent one."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import ClassVar

from thinkscale.budget import Cost
from thinkscale.contracts import rank
from thinkscale.needs import IN_A_QUESTION, Needs, Sign
from thinkscale.prompts import ask
from thinkscale.registry import at_least, spec
from thinkscale.scorers import shown
from thinkscale.selection import Selector
from thinkscale.selection.best import Best
from thinkscale.session import Method, Session, attempt_ceiling
from thinkscale.types import Finish, Outcome, Problem, Score, Trace

_KIND = "universal-self-consistency"
_CHOICE = re.compile(r"response\W{1,4}(\d{1,9})", re.IGNORECASE)


@spec
class UniversalSelfConsistency:
    """Sample n attempts, show them all to the same model, and return the one that it finds the most consistent.

    For open answers: where answers can be compared, the plain vote is better. The order in which attempts are shown is
    drawn anew for every problem. Where the chosen attempt has no answer, the first that has one is returned; where the
    choice cannot be read, or the budget ends before it, the vote decides.
    """

    n: int = 8
    """Attempts, at least 1; one prompt has to hold all of them."""
    temperature: float = 0.8
    """Of the attempts; the choice is greedy."""
    max_tokens: int | None = None
    """Tokens that the choice may take; the session's cap when `none`."""
    by: Method | None = None
    """Draw each attempt through this method instead of by one call."""

    needs: ClassVar = Needs(gives={_KIND: Sign.not_negative}, loses=IN_A_QUESTION, effort={"n": 1})

    def __post_init__(self) -> None:
        at_least(1, n=self.n, max_tokens=self.max_tokens)

    @property
    def select(self) -> Selector:
        """The chosen attempt, or the first with an answer where that has none; the vote where nothing was chosen."""
        return Best(kind=_KIND)

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """Sample, shuffle, ask for a choice, undo the shuffle."""
        traces = await llm.sample(problem, self.n, by=self.by, temperature=self.temperature)
        texts = {i: "".join(s.text for s in shown(t, llm.capabilities.think).segments) for i, t in enumerate(traces)}
        order = [i for i, text in texts.items() if text]
        random.Random(llm.seed(problem, "order")).shuffle(order)
        pool: list[Trace] = list(traces)
        if len(order) > 1:
            responses = listed([texts[i] for i in order])
            asked = ask("universal_self_consistency", question=problem.question, responses=responses, n=len(order))
            [replies] = await llm.each([asked], final=False, temperature=0.0, max_tokens=self.max_tokens)
            made = replies and not replies[0].finish.lost and replies[0].finish is not Finish.budget
            best = chosen(replies[0].text, order) if made else None
            if best is None:
                why = "the choice cannot be read" if made else "the choice was not made or not finished"
                llm.warn(f"no response was chosen, because {why}: the vote decided")
            else:
                pool = [t.scored(Score(value=float(i == best), kind=_KIND)) for i, t in enumerate(traces)]
        return Outcome.of(rank(self.select, pool), pool)

    def ceiling(self, cap: int) -> Cost:
        """All n attempts and one choice."""
        return attempt_ceiling(self.by, cap) * self.n + Cost(tokens=self.max_tokens or cap, calls=1)


def listed(texts: Sequence[str]) -> str:
    """The responses under their numbers, from 1."""
    return "\n\n".join(f"Response {i}:\n{text}" for i, text in enumerate(texts, start=1))


def chosen(reply: str, order: Sequence[int]) -> int | None:
    """Which attempt a reply chooses, when attempt `order[i]` was shown as response i + 1; `None` without a choice.

    >>> chosen("Not Response 2; the most consistent is Response 3.", order=[0, 1, 2, 3])
    2
    """
    numbers = _CHOICE.findall(reply)
    place = int(numbers[-1]) if numbers else 0
    return order[place - 1] if 1 <= place <= len(order) else None
