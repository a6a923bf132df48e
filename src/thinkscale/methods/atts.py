"""ATTS (Xiong et al. 2025): a draft model writes chunk by chunk, and a conformal gate calls in the target model."""

from __future__ import annotations

import math
from typing import ClassVar

from thinkscale.budget import Cost
from thinkscale.conformal import ConformalGate
from thinkscale.errors import SpecError
from thinkscale.needs import IN_A_TURN, Capability, Needs
from thinkscale.registry import at_least, spec
from thinkscale.selection.majority import Majority
from thinkscale.session import Session
from thinkscale.types import Finish, Outcome, Problem, Trace


@spec
class Atts:
    """The role `draft` writes a chunk, the role `target` reads it, and writes on where it is too surprised.

    A role that no engine plays falls to the main one. A chunk is accepted iff its conformal p-value among calibration
    chunks of the same turn is above alpha; the released code compares a percentile with .6, pools the first turns of
    the test questions, and counts a question as solved if any of 16 attempts is. Vote over several attempts by
    `self-consistency(by=atts(…))`.
    """

    calibration: tuple[tuple[float, ...], ...] = ()
    """For turn 0, 1, …: perplexities of draft chunks to the target, as `perplexity` has them, on other questions.
    Later turns are the target's alone."""
    calibrated_on: tuple[str, ...] = ()
    """Ids of the questions behind `calibration`; they are refused."""
    alpha: float = 0.4
    """Bound on the share of draft-like chunks that are rejected, in (0, 1); .4 stands where the code cuts at .6."""
    chunk: int = 500
    """Most tokens of one chunk."""
    turns: int = 15
    """Most chunks that are accepted or written by the target."""
    resample: bool = False
    """Whether the target's chunk replaces the rejected one. If not, it goes on behind it, as the released code does."""
    temperature: float = 0.8

    needs: ClassVar = Needs(
        roles={
            "draft": frozenset({Capability.prefill}),
            "target": frozenset({Capability.prefill, Capability.likelihood}),
        },
        loses=IN_A_TURN,
    )

    def __post_init__(self) -> None:
        at_least(1, chunk=self.chunk, turns=self.turns)
        if not 0 < self.alpha < 1:
            raise SpecError(f"`alpha={self.alpha}` must be between 0 and 1")
        try:
            self._gates()
        except ValueError as error:
            raise SpecError(str(error)) from None

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """One trace: draft, judge, go on or escalate, until its writer ends it or an answer is complete."""
        if problem.id in self.calibrated_on:
            raise SpecError(f"the question `{problem.id}` calibrated these gates: test on other questions")
        if len(self.calibration) < self.turns:
            llm.warn(f"`atts` is calibrated for {len(self.calibration)} turns: the target writes all later ones alone")
        draft, target = llm.role("draft"), llm.role("target")
        gates, trace = self._gates(), llm.open(problem)
        for turn in range(self.turns):
            gate = gates[turn] if turn < len(gates) else None
            trace = await self._turn(trace, gate, draft, target)
            if trace.finish is not Finish.length or _answered(trace):
                break
        return Outcome.of(Majority()([trace]), [trace])

    def ceiling(self, cap: int) -> Cost:
        """In every turn a chunk by each model, and one to be judged."""
        return Cost(tokens=2 * self.chunk, calls=3) * self.turns

    async def _turn(self, trace: Trace, gate: ConformalGate | None, draft: Session, target: Session) -> Trace:
        if gate is not None:
            drafted = await self._written(draft, trace)
            if drafted.finish is Finish.budget:
                return drafted
            if drafted.finish is not Finish.error:
                if gate.accepts(await perplexity(target, trace, drafted.segments[-1].text)):
                    return drafted
                trace = trace if self.resample else drafted
        return await self._written(target, trace)

    async def _written(self, llm: Session, trace: Trace) -> Trace:
        [longer] = await llm.extend([trace], max_tokens=self.chunk, temperature=self.temperature, final=False)
        return longer

    def _gates(self) -> list[ConformalGate]:
        return [ConformalGate(scores, self.alpha) for scores in self.calibration]


async def perplexity(target: Session, trace: Trace, chunk: str) -> float:
    """How surprising a chunk behind a trace is to a model: exp of minus the mean log-probability, without the first.

    Infinite where there is nothing to judge by: a chunk of one token, a failure, or no budget.
    """
    [said] = await target.likelihoods([(trace, chunk)]) if chunk else [None]
    rest = said.chosen[1:] if said is not None else ()
    return math.exp(min(-math.fsum(rest) / len(rest), 700.0)) if rest else math.inf


def _answered(trace: Trace) -> bool:
    """Whether there is an answer that the end of the chunk did not cut in two."""
    return trace.answer is not None and not trace.text.rstrip().endswith(trace.answer.text)
