"""What comes of a run: votes, rankings, and the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from thinkscale.types.traces import Trace
from thinkscale.types.usage import Usage


class Stopped(StrEnum):
    """Why a run ended."""

    done = "done"
    """The method did everything it set out to do."""
    enough = "enough"
    """A stop rule was satisfied before all draws were spent."""
    budget = "budget"
    """The budget ran out first; the answer is the best one it bought."""
    error = "error"
    """No attempt could be made: the engine failed every time."""
    cancelled = "cancelled"
    """It was told to; the answer is the best one there was by then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """One answer class in a ranking."""

    answer: str
    """The words of the first trace of the class."""
    key: str
    count: int
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """What a selection rule returns: the winner and how the votes fell, heaviest first."""

    best: Trace | None
    votes: tuple[Vote, ...] = ()
    confidence: float | None = None
    """In [0, 1]: the winner's share of the votes unless the rule says otherwise; `None` without an opinion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a method returns. The whole pool is kept, so another rule can be applied later without a new call."""

    best: Trace | None
    answer: str | None
    confidence: float | None = None
    votes: tuple[Vote, ...] = ()
    traces: tuple[Trace, ...] = ()
    stopped: Stopped = Stopped.done
    usage: Usage = Usage()
    warnings: tuple[str, ...] = ()
    run: str = ""
    """Name under which the store keeps the run; empty when it was not recorded."""
    needed: int | None = None
    """Tokens that the stop rule needed, as against those that were paid for; `None` where no rule was asked."""
    waves: tuple[int, ...] = ()
    """Sizes of the waves of attempts that are complete: so many of the first traces are draws that nothing selected."""

    @property
    def spoke(self) -> bool:
        """Whether there is anything to show: an answer, words or calls of tools by the model."""
        best = self.best
        wrote = best is not None and (best.own_text.strip() or any(s.tool_calls for s in best.segments))
        return self.answer is not None or bool(wrote)

    @classmethod
    def of(
        cls,
        ranking: Ranking,
        traces: Sequence[Trace],
        *,
        enough: bool = False,
        needed: int | None = None,
        waves: tuple[int, ...] = (),
    ) -> Outcome:
        """The outcome of applying a selection rule to a pool.

        Args:
            ranking: what the rule returned.
            traces: the pool.
            enough: whether a stop rule ended the drawing.
            needed: tokens that this took, as a session counts them.
            waves: sizes of the complete waves, as a session tells them.
        """
        best = ranking.best
        answer = best.answer.text if best is not None and best.answer is not None else None
        return cls(
            best=best,
            answer=answer,
            confidence=ranking.confidence if len(traces) > 1 else None,  # one attempt agrees with nobody
            votes=ranking.votes,
            traces=tuple(traces),
            stopped=Stopped.enough if enough else Stopped.done,
            needed=needed,
            waves=waves,
        )
