"""Budget forcing (Muennighoff et al. 2025, s1): make a model think longer by appending "Wait", or stop it and ask."""

from __future__ import annotations

from typing import ClassVar

from thinkscale.budget import Cost
from thinkscale.engines.protocol import ThinkFormat
from thinkscale.needs import IN_A_TURN, Capability, Needs
from thinkscale.policy import Cut, Policy, drive, go
from thinkscale.registry import at_least, spec
from thinkscale.selection.majority import Majority
from thinkscale.session import Session
from thinkscale.types import Finish, Outcome, Problem, Trace

SLACK = 8
"""Tokens beyond an eighth by which a native budget may seem to be missed: the marker that ends the thinking is some."""


@spec
class BudgetForcing:
    """Ignore the end of thinking `waits` times, cut thinking at `max_thinking` tokens, then ask for the answer.

    The thinking budget shrinks with every segment, as in the paper's loop, and the turn is closed as its evaluation
    harness does: with the answer prefix only when thinking was cut short. A native budget of the engine is used where
    nothing has to be ignored, and cut off here when the engine does not keep to it. Thinking that a budget cuts short
    answers nothing: what is kept back pays for the question that closes it.
    """

    waits: int = 1
    """How often the end of thinking is ignored."""
    nudge: str = "Wait"
    """What is appended each time, on a line of its own unless it begins with a space; empty appends nothing."""
    max_thinking: int | None = None
    """Most thinking tokens over all segments; the session's cap when `none`."""
    min_thinking: int = 0
    """Thinking that ends before this many tokens is nudged on, whatever `waits` says."""
    max_answer: int | None = None
    """Most answer tokens; the session's cap when `none`."""
    temperature: float | None = None

    needs: ClassVar = Needs(
        can=frozenset({Capability.prefill}), loses=IN_A_TURN, effort={"waits": 0, "max_thinking": 1}
    )

    def __post_init__(self) -> None:
        at_least(0, waits=self.waits, min_thinking=self.min_thinking)
        at_least(1, max_thinking=self.max_thinking, max_answer=self.max_answer)

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """One trace: think, be nudged, close, answer."""
        policy = self._native(llm) if self._is_native(llm) else self._forced(llm.think, llm.cap)
        trace = await drive(llm, llm.open(problem), policy, temperature=self.temperature)
        return Outcome.of(Majority()([trace]), [trace])

    def ceiling(self, cap: int) -> Cost:
        """The thinking budget and one answer; every nudge is a call."""
        tokens = (self.max_thinking or cap) + (self.max_answer or cap)
        return Cost(tokens=tokens, calls=2 + self.waits + self.min_thinking)

    async def _forced(self, think: ThinkFormat, cap: int) -> Policy:
        left, thought, waits, inject = self.max_thinking or cap, 0, self.waits, think.open
        while True:
            least = max(int(thought > 0), self.min_thinking - thought)
            trace = yield go(inject, max_tokens=left, min_tokens=min(least, left), stop=think.ends, thinking=True)
            took = max(1, trace.segments[-1].tokens)  # an engine that says nothing at all must not be nudged for ever
            left, thought = left - took, thought + took
            cut = trace.finish is Finish.length or left <= 0
            if cut or (waits == 0 and thought >= self.min_thinking):
                break
            waits = max(0, waits - (thought >= self.min_thinking))
            inject = think.apart(trace.text, self.nudge)
        yield go(think.cut_short(trace.text) if cut else think.close, max_tokens=self.max_answer or cap)

    def _is_native(self, llm: Session) -> bool:
        return Capability.thinking_budget in llm.capabilities.can and not self.waits and not self.min_thinking

    async def _native(self, llm: Session) -> Policy:
        think, most, answer = llm.think, self.max_thinking or llm.cap, self.max_answer or llm.cap

        def over(trace: Trace) -> bool:
            return trace.tokens > most and think.close.strip() not in trace.text

        trace = yield go(think.open, thinking_budget=most, max_tokens=most + answer, until=over)
        # What came in one piece was shown to nobody on the way, and where a token ends in it may be an estimate.
        if over(trace) or over(trace.split(most + most // 8 + SLACK)[0]):
            llm.warn(f"the engine let the model think past its native budget of {most} tokens: it was cut off here")
            trace = yield Cut(most)
        if think.close.strip() not in trace.text:
            yield go(think.cut_short(trace.text), max_tokens=answer)
