"""Stop when a window of draws is of one mind (Li et al. 2024, early-stopping self-consistency)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from thinkscale.needs import NOTHING
from thinkscale.registry import at_least, spec
from thinkscale.types import Trace


@spec
class Esc:
    """Enough once all w draws of a window have the same answer; windows follow one another without overlap.

    A draw without an answer agrees with nobody, so a window that holds one never stops; the authors' script lets a
    window in which no draw has an answer stop. They return the answer of the last window; a majority over all draws, as
    their paper says, is the selection rule's business.
    """

    w: int = 5
    """Draws in a window, at least 1."""

    needs: ClassVar = NOTHING

    def __post_init__(self) -> None:
        at_least(1, w=self.w)

    def __call__(self, traces: Sequence[Trace]) -> bool:
        """Whether a window just ended, and ended unanimous."""
        if not traces or len(traces) % self.w:
            return False
        answers = {t.answer.key if t.answer is not None else None for t in traces[-self.w :]}
        return len(answers) == 1 and None not in answers

    def soonest(self, traces: Sequence[Trace], left: int) -> int:
        """What is missing to the end of a window that can still be unanimous."""
        missing = self.w - len(traces) % self.w
        begun = {t.answer.key if t.answer is not None else None for t in traces[len(traces) - self.w + missing :]}
        return missing if len(begun) < 2 and None not in begun else missing + self.w
