"""Trace cascade: cheap methods first, and the next one only where they do not agree with themselves."""

from __future__ import annotations

from dataclasses import field, replace
from enum import StrEnum
from typing import ClassVar, cast

from thinkscale.budget import Cost
from thinkscale.contracts import solve_by
from thinkscale.errors import SpecError
from thinkscale.needs import IN_A_TURN, Needs, Sign
from thinkscale.prompts import render
from thinkscale.registry import coerce, parse, spec
from thinkscale.selection import Selector
from thinkscale.selection.best import Best
from thinkscale.session import Method, Session
from thinkscale.steps import split_steps
from thinkscale.types import Outcome, Problem, Score, Stopped, Trace


class Measure(StrEnum):
    """By what an answer is accepted."""

    agreement = "agreement"
    """The confidence of the level's outcome: of a vote, the winner's share."""
    margin = "margin"
    """The winner's share of the votes minus that of the runner-up."""


class Carry(StrEnum):
    """What a level is told of the one before it."""

    discard = "discard"
    """Nothing."""
    hint = "hint"
    """Its answer, in the question."""
    prefill = "prefill"
    """Its best attempt without the end, as the beginning of every attempt."""


def _levels() -> tuple[Method, ...]:
    return tuple(cast(Method, parse(f"self-consistency(n={n})", "method")) for n in (4, 16))


@spec
class Cascade:
    """Try one method after the other until an answer is accepted; the last one's is taken as it is.

    A level runs on the engine of a role where it is `on(role=…, method=…)`. What earlier levels cost is charged, and
    their answer stands where the budget ends before a later one has any.
    """

    levels: tuple[Method, ...] = field(default_factory=_levels)
    """The methods, cheapest first, at least one; a vote of 4 and then one of 16 unless said otherwise."""
    accept: float | tuple[float, ...] = 0.75
    """Least measure of an answer that is accepted, for all levels or for each but the last; 0 accepts any."""
    measure: Measure = Measure.agreement
    """`agreement` or `margin`."""
    carry: Carry = Carry.discard
    """`discard`, `hint` or `prefill`."""

    select: ClassVar[Selector] = Best()
    """The pool holds every level's traces; the one that stands for the answer has the score 1, all others 0."""

    def __post_init__(self) -> None:
        coerce(self, measure=Measure, carry=Carry)
        if not self.levels:
            raise SpecError("`levels` is empty: name at least one, as in `levels=[self-consistency(n=4), best-of-n]`")
        if isinstance(self.accept, tuple) and len(self.accept) < len(self.levels) - 1:
            raise SpecError(f"`accept` has {len(self.accept)} thresholds for the {len(self.levels) - 1} levels to pass")

    @property
    def needs(self) -> Needs:
        """Nothing of its own; going on from another's attempt writes into its turn."""
        return Needs(
            gives={"cascade": Sign.not_negative}, loses=IN_A_TURN if self.carry is Carry.prefill else frozenset()
        )

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """Level by level, until one is accepted; where the budget has ended, the next one comes back with nothing."""
        found, pool, number = Outcome(best=None, answer=None), list[Trace](), 0
        for number, level in enumerate(self.levels):
            session = llm.branch(number)
            outcome = await solve_by(level, *self._passed_on(problem, session, found))
            pool += outcome.traces
            found = outcome if outcome.answer is not None or found.answer is None else found
            if number == len(self.levels) - 1 or self._accepts(number, outcome):
                break
        scored = [t.scored(Score(value=float(t is found.best), kind="cascade")) for t in pool]
        best = next((t for t, was in zip(scored, pool, strict=True) if was is found.best), found.best)
        early = number < len(self.levels) - 1
        return replace(found, best=best, traces=tuple(scored), stopped=Stopped.enough if early else found.stopped)

    def ceiling(self, cap: int) -> Cost:
        """All levels."""
        return sum((level.ceiling(cap) for level in self.levels), Cost())

    def _accepts(self, number: int, outcome: Outcome) -> bool:
        least = self.accept[number] if isinstance(self.accept, tuple) else self.accept
        measured = outcome.confidence
        if self.measure is Measure.margin:
            first, second, *_ = [*(v.weight for v in outcome.votes), 0.0, 0.0]
            measured = (first - second) / (sum(v.weight for v in outcome.votes) or 1.0)
        return outcome.answer is not None and (least <= 0 or (measured is not None and measured >= least))

    def _passed_on(self, problem: Problem, llm: Session, found: Outcome) -> tuple[Problem, Session]:
        if self.carry is Carry.hint and found.answer is not None:
            return problem.saying(render("cascade_hint", answer=found.answer)), llm
        going_on = found.best if self.carry is Carry.prefill else None
        return problem, llm.continuing(_unfinished(going_on, llm)) if going_on else llm


def _unfinished(trace: Trace, llm: Session) -> str:
    """A trace that can be gone on with: of one that ended, its thinking, or all steps but the last."""
    thought, closed, _ = trace.text.rpartition(llm.think.close.strip())
    if closed:
        return thought
    return "".join(split_steps(trace.text)[:-1]) if trace.finish.ended else trace.text
