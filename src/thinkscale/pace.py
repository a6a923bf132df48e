"""How many attempts run at once, and in which order their evidence counts: by output tokens, on a clock of tokens.

Draws are made in waves. Inside a wave an attempt of L tokens counts before every attempt of more tokens, whenever it
comes in, so who votes is a function of the draws alone: neither of their speed nor of how many run at once. It knows
indices and numbers of tokens; what a draw says, and how it is made, it does not know.
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
"""Where an attempt stands inside its wave: (tokens, index), the smaller the earlier."""
_NEVER = (math.inf, math.inf)
"""Later than every attempt; one that failed for good stands at (infinity, index)."""


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

    A rule on counts is asked what it says once the leader has 1, 2, 4, … more votes, and between two of these numbers
    by halves, since more votes for the leader never make it less sure. A rule that says so itself is asked. Any other
    could fire after every draw; where there is none, or where it cannot fire any more, nothing is gained by waiting.

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
    """How many of the next draws are one wave, at least 1: when nothing fits, it is one short draw.

    How many the run itself allows at once never enters: that makes a wave slower, not smaller.

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
    those not begun included. `due` gives each attempt once, in order. What is told of draws that are not in the wave,
    or over, is not heard. An event takes O(log n), amortised.
    """

    def __init__(self, indices: Iterable[int]) -> None:
        """All draws of the wave, none of them begun."""
        self._written = dict.fromkeys(indices, 0)
        self._bounds: list[Place] = [(0, i) for i in self._written]
        """A heap of lower bounds of what unfinished draws have written, one of each."""
        heapify(self._bounds)
        self._waiting: list[Place] = []
        """A heap of what is over and not due."""
        self._lengths: dict[int, int] = {}
        """Of what is over, due or not."""
        self._due: list[int] = []

    @property
    def unfinished(self) -> list[int]:
        """Draws that are not over, in draw order."""
        return sorted(self._written)

    @property
    def ready(self) -> bool:
        """Whether `due` has something to give."""
        return bool(self._waiting) and self._waiting[0] < self._watermark()

    def written(self, index: int, tokens: int) -> None:
        """A draw has written so many tokens. One that is made anew has still written the most that it ever had."""
        if tokens > self._written.get(index, tokens):
            self._written[index] = tokens

    def ended(self, index: int, tokens: int) -> None:
        """A draw is over, complete, cut or capped, and its trace has so many sampled tokens.

        It stands at these, or at the most that it was told to have written, where it broke off and came back shorter:
        others may have counted since, relying on it.
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
        """A draw is not made: it is in no wave."""
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
        """Tokens that the law needs of this wave, however many were paid.

        If the rule fired, no draw is needed for longer than the attempt at which it did; of one that is not due, that
        is all that can be known, and it is charged as much. Otherwise it is all that was written.
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
