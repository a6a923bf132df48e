"""Stop when the vote is decided: no draw that is still to come can change the winner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from thinkscale.needs import NOTHING
from thinkscale.registry import at_least, spec
from thinkscale.types import Trace


@spec
class DecidedMajority:
    """Enough once the winner of a plurality vote over n draws is certain, so that it never changes the answer.

    Ties go to the answer seen first, as in the selection rule `majority`. Without n the rule never fires; a session
    gives it its own.
    """

    n: int | None = None
    """Draws in all, at least 1; what is asked for when `none`."""

    needs: ClassVar = NOTHING

    def __post_init__(self) -> None:
        at_least(1, n=self.n)

    def __call__(self, traces: Sequence[Trace]) -> bool:
        """Whether the draws that are left cannot change the winner."""
        if self.n is None:
            return False
        counts = Counter(t.answer.key for t in traces if t.answer is not None)
        left = self.n - len(traces)
        if left <= 0 or not counts:
            return left <= 0
        (leader, most), *others = counts.most_common()  # equal counts stand in the order in which they were first seen
        seen = list(counts)
        before = set(seen[: seen.index(leader)])
        return most >= left and all(count + left < most + (key not in before) for key, count in others)

    def within(self, n: int) -> DecidedMajority:
        """The rule for at most n draws, unless it was given a number of its own."""
        return DecidedMajority(n=self.n or n)

    def soonest(self, traces: Sequence[Trace], left: int) -> int:
        """Draws of the leading answer that would make it certain to win."""
        if self.n is None:
            return left
        counts = Counter(t.answer.key for t in traces if t.answer is not None)
        (leader, most), *others = counts.most_common() or [("", 0)]
        seen, rest = [*counts, leader], self.n - len(traces)
        before = set(seen[: seen.index(leader)])
        # With m more votes for the leader there are rest − m to come, for another answer or for one that is new.
        ahead = max((count + (key in before) for key, count in others), default=0)
        return min(rest, (ahead + rest - most + 1) // 2)
