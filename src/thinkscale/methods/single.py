"""One draw: the floor that every method is compared with."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from thinkscale.budget import Cost
from thinkscale.errors import SpecError
from thinkscale.needs import Needs
from thinkscale.registry import at_least, spec
from thinkscale.selection.majority import Majority
from thinkscale.session import Session
from thinkscale.types import Message, Outcome, Problem

_QUESTION = "{question}"
_REPEATS = 8
"""Most times that a prompt may say the question: a long one would fill the memory."""


@spec
class Single:
    """Ask once and take what comes."""

    temperature: float = 0.0
    """0 is greedy."""
    top_p: float | None = None
    """Part of the probability that is sampled from, in (0, 1]; the engine's own when `none`."""
    max_tokens: int | None = None
    """Tokens the answer may take, at least 1; the session's cap when `none`."""
    system: str = ""
    """System message in place of the problem's own; empty leaves that as it is."""
    prompt: str = _QUESTION
    """What is asked in place of the question, which stands where it says `{question}`; not for parts with images."""

    needs: ClassVar = Needs()

    def __post_init__(self) -> None:
        at_least(1, max_tokens=self.max_tokens)
        if _QUESTION not in self.prompt:
            raise SpecError(f"`prompt={self.prompt}` must say where the question stands: `{_QUESTION}`")
        if self.prompt.count(_QUESTION) > _REPEATS:
            raise SpecError(
                f"`prompt` says `{_QUESTION}` more than {_REPEATS} times: a long question would fill memory"
            )

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """One call."""
        traces = await llm.sample(
            self._put(problem), 1, temperature=self.temperature, top_p=self.top_p, max_tokens=self.max_tokens
        )
        return Outcome.of(Majority()(traces), traces)

    def ceiling(self, cap: int) -> Cost:
        """One call."""
        return Cost(tokens=self.max_tokens or cap, calls=1)

    def _put(self, problem: Problem) -> Problem:
        """The problem in the words of this configuration."""
        if not self.system and self.prompt == _QUESTION:
            return problem
        messages = list(problem.messages)
        asked = [i for i, m in enumerate(messages) if m.role == "user" and isinstance(m.content, str)]
        for i in asked[-1:]:
            content = self.prompt.replace(_QUESTION, str(messages[i].content))
            messages[i] = replace(messages[i], content=content)
        if self.system:
            briefed = bool(messages) and messages[0].role == "system"
            messages[:briefed] = [Message("system", self.system)]
        return replace(problem, messages=tuple(messages))
