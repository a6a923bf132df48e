"""Best-of-n over calls of tools (Yang et al. 2025, GTA1): sample n proposals for the next action, keep one."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from thinkscale.answers import called
from thinkscale.budget import Cost
from thinkscale.contracts import rank
from thinkscale.needs import Feature, Needs
from thinkscale.registry import at_least, spec
from thinkscale.scorers import Scorer, judged, scoring_ceiling
from thinkscale.selection import Selector
from thinkscale.selection.best import Best
from thinkscale.selection.majority import Majority
from thinkscale.session import Session
from thinkscale.types import Origin, Outcome, Problem, Segment, Trace


@spec
class ToolCallBestOfN:
    """Sample n turns with the problem's tools and keep the calls that the judge likes best, or the most frequent ones.

    Calls are equal when their JSON means the same. A turn without calls votes for what it says, one whose calls cannot
    be read does not vote. The paper's judge compares all proposals at once; a scorer is given all of them as well.
    """

    n: int = 8
    """Proposals, at least 1."""
    temperature: float = 0.8
    judge: Scorer | None = None
    """Who picks, being shown the calls as text; a majority when `none`."""
    exclude: tuple[str, ...] = ()
    """Names of arguments that make no difference, such as free-text reasons."""

    needs: ClassVar = Needs(effort={"n": 1}, keeps=frozenset({Feature.tools}))
    """Whoever judges is shown calls of tools as text."""

    def __post_init__(self) -> None:
        at_least(1, n=self.n)

    @property
    def select(self) -> Selector:
        """The rule behind the choice."""
        return Best() if self.judge else Majority()

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """Sample proposals, judge them, choose."""
        drawn = await llm.sample(problem, self.n, temperature=self.temperature)
        traces = [self._keyed(trace) for trace in drawn]
        if self.judge:
            shown = await judged(self.judge, problem, [_spelled(t) for t in traces], llm)
            traces = [trace.scored(seen.scores[-1]) for trace, seen in zip(traces, shown, strict=True)]
        return Outcome.of(rank(self.select, traces), traces)

    def ceiling(self, cap: int) -> Cost:
        """All n proposals, and what judging them takes."""
        judging = scoring_ceiling(self.judge, cap) if self.judge else Cost()
        return (Cost(tokens=cap, calls=1) + judging) * self.n

    def _keyed(self, trace: Trace) -> Trace:
        calls = trace.segments[-1].tool_calls if trace.segments else ()
        return replace(trace, answer=called(calls, self.exclude)) if calls and trace.answer else trace


def _spelled(trace: Trace) -> Trace:
    """The trace as whoever judges sees it: what was said, then the calls as text."""
    if not trace.answer or not trace.segments or not trace.segments[-1].tool_calls:
        return trace
    calls = Segment(text=f"\n{trace.answer.text}", origin=Origin.sampled)
    return replace(trace, segments=(*trace.segments, calls))
