"""How many attempts run at once, and in which order they count: by their number of output tokens.

Draws are made in waves. Inside a wave a shorter attempt counts before a longer one, whenever it arrives, so which
attempts vote depends on the draws alone, not on their speed or on how many run at once. It knows indices and token
counts; it does not know what a draw says or how it is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from heapq import heapify, heappop, heappush, heapreplace
from typing import Protocol, runtime_checkable

from thinkscale.stopping import StopRule
from thinkscale.stopping.counts import CountRule, Counts, counted
from thinkscale.types import Trace

Place = tuple[float, float]
"""The place of an attempt in its wave: (tokens, index); smaller counts earlier."""
_NEVER = (math.inf, math.inf)
"""Later than every attempt; an attempt that failed for good is at (infinity, index)."""


class Pace(StrEnum):
    """How large waves are: tokens against seconds."""

    thrift = "thrift"
    """As few draws as could make the rule fire: the fewest tokens."""
    steady = "steady"
    """Half of the draws at least: most of the savings, and little longer than all at once."""
    swift = "swift"
    """All draws at once: the fewest seconds."""


@runtime_checkable
class Foreseen(Protocol):
    """A stop rule that knows by itself how soon it can fire."""

    def soonest(self, traces: Sequence[Trace], left: int) -> int:
        """The fewest of `left` further draws after which it could fire."""
        ...


def least(rule: StopRule | None, traces: Sequence[Trace], left: int) -> int:
    """The fewest further draws after which a stop rule could fire, from 1 to `left`.

    A rule on counts is tried with 1, 2, 4, … more votes for the leader, then by bisection, since more votes for the
    leader never make it less sure. A rule with `soonest` answers by itself. Any other rule could fire after every draw.
    Without a rule, or if it cannot fire any more, the result is `left`.

    Args:
        rule: the one that ends the drawing; `None` for none.
        traces: those it has seen.
        left: draws that it has not seen, at least 1.
    """
    if rule is None:
        return left
    if isinstance(rule, Foreseen):
        return max(1, min(rule.soonest(traces, left), left))
    if not isinstance(rule, CountRule):
        return 1
    return least_votes(rule, counted(traces), left)


def least_votes(rule: CountRule, counts: Counts, left: int) -> int:
    """The same for a rule on counts, from the counts."""
    leader, *others = counts or (0,)
    return _first(lambda more: rule.decided((leader + more, *others)), left)


def _first(fires: Callable[[int], bool], most: int) -> int:
    """The first number from 1 to `most` at which a rising condition holds; `most` where none is."""
    below, at = 0, 1
    while at < most and not fires(at):
        below, at = at, 2 * at
    at = min(at, most)
    while at - below > 1:
        middle = (below + at) // 2
        below, at = (below, middle) if fires(middle) else (middle, at)
    return at


def wave_size(pace: Pace, fewest: int, *, n: int, left: int, places: int | None = None, fit: int | None = None) -> int:
    """The size of the next wave, at least 1: if no full draw fits the budget, one short draw.

    The concurrency of the run is not a parameter: it makes a wave slower, not smaller.

    Args:
        pace: thrift, steady or swift.
        fewest: draws after which the rule could fire; see `least`.
        n: draws in all.
        left: draws of these that are in no wave yet, at least 1.
        places: draws that the engine makes at once; `None` where that is unknown.
        fit: draws of full length that the budget still pays for; `None` for a budget without limit.
    """
    wanted = {Pace.thrift: fewest, Pace.steady: max(fewest, (n + 1) // 2), Pace.swift: n}[pace]
    return max(1, min(size for size in (wanted, left, places, fit) if size is not None))


class Wave:
    """The draws of one wave, and which of them are due: those that no unfinished draw can still come before.

    An attempt is due once (its tokens, its index) is smaller than (tokens written, index) of every unfinished draw,
    those not begun included. `due` yields each attempt once, in order. Events of draws that are over or not in the wave
    are ignored. An event takes O(log n), amortised.
    """

    def __init__(self, indices: Iterable[int]) -> None:
        """All draws of the wave, none of them begun."""
        self._written = dict.fromkeys(indices, 0)
        self._bounds: list[Place] = [(0, i) for i in self._written]
        """A heap of lower bounds of what unfinished draws have written, one of each."""
        heapify(self._bounds)
        self._waiting: list[Place] = []
        """A heap of draws that are over and not due."""
        self._lengths: dict[int, int] = {}
        """Tokens of every draw that is over, due or not."""
        self._due: list[int] = []

    @property
    def unfinished(self) -> list[int]:
        """Draws that are not over, in draw order."""
        return sorted(self._written)

    @property
    def ready(self) -> bool:
        """Whether `due` would yield an attempt."""
        return bool(self._waiting) and self._waiting[0] < self._watermark()

    def written(self, index: int, tokens: int) -> None:
        """A draw has written so many tokens; a draw that is repeated keeps its maximum."""
        if tokens > self._written.get(index, tokens):
            self._written[index] = tokens

    def ended(self, index: int, tokens: int) -> None:
        """A draw is over, complete, cut or capped, and its trace has so many sampled tokens.

        Its place is at these tokens, or at the most that it was reported to have written if it broke off and came back
        shorter: other attempts may have counted since because of that report.
        """
        written = self._written.pop(index, None)
        if written is not None:
            self._lengths[index] = max(tokens, written)
            heappush(self._waiting, (self._lengths[index], index))

    def failed(self, index: int, tokens: int = 0) -> None:
        """A draw failed for good, after so many tokens: it counts last."""
        if self._written.pop(index, None) is not None:
            self._lengths[index] = tokens
            heappush(self._waiting, (math.inf, index))

    def refused(self, index: int) -> None:
        """A draw is not made: it leaves the wave."""
        self._written.pop(index, None)

    def due(self) -> Iterator[int]:
        """The attempts that have become due, in order; leave the loop at the one at which the rule fires."""
        while self.ready:
            index = int(heappop(self._waiting)[1])
            self._due.append(index)
            yield index

    def depth(self, *, fired: bool) -> int:
        """Tokens of the longest draw, up to the attempt that was due last if the rule fired there."""
        if fired:
            return max((self._lengths[i] for i in self._due), default=0)
        return max((*self._lengths.values(), *self._written.values()), default=0)

    def needed(self, *, fired: bool) -> int:
        """Tokens that the order of tokens requires of this wave, however many were paid.

        If the rule fired, no draw is required beyond the length of the attempt at which it fired, and every draw that
        is not due is charged that length. Otherwise it is all that was written.
        """
        if not fired:
            return sum(self._lengths.values()) + sum(self._written.values())
        end, due = self.depth(fired=True), set(self._due)
        others = len(self._lengths.keys() - due) + len(self._written)
        return sum(self._lengths[i] for i in due) + end * others

    def _watermark(self) -> Place:
        """(tokens written, index) of the unfinished draw that is furthest behind."""
        while self._bounds:
            tokens, index = self._bounds[0]
            now = self._written.get(int(index))
            if now == tokens:
                return tokens, index
            if now is None:
                heappop(self._bounds)
            else:
                heapreplace(self._bounds, (now, index))
        return _NEVER
