"""What is learnt about a server from how it answers: how much work it takes at once, and whether to ask it at all.

It knows nothing of draws or requests, nor of who waits for places; `pool` decides with it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from thinkscale.errors import EngineError

FAILURES = 2
"""Requests that fail one after the other before a server is left alone."""
MISFITS = frozenset({401, 403, 404})
"""Statuses of a server that cannot serve whatever it is asked: a wrong key, a wrong path, a model that is not there."""
REST, LONGEST_REST = 1.0, 60.0
"""Seconds for which it is left alone the first time, and at most; they double from time to time."""


class Limit:
    """How many draws a server takes at once: additive increase, multiplicative decrease (Chiu and Jain 1989).

    It comes back from far below by slow start (RFC 5681, section 3.1), which ends at half of where the limit was when
    it was refused after a success. Refusals without a success in between leave that threshold: they are one overload.

    Args:
        ceiling: places that it is configured for; the limit starts there and never exceeds it.
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.taken = 0
        """Places in use; they may exceed the limit for a while after a cut."""
        self.cuts = 0
        """How often the limit was halved."""
        self.resumes = 0.0
        """When the server wants to be asked again, in seconds on the caller's clock; nothing is sent before."""
        self._width = self._threshold = float(ceiling)
        self._proven = True
        """Whether work that was sent after the last cut succeeded."""
        self._watchers: deque[Callable[[], object]] = deque()

    @property
    def places(self) -> int:
        """The limit as it stands, at least 1."""
        return int(self._width)

    @property
    def free(self) -> int:
        """Places that may be taken now."""
        return max(0, self.places - self.taken)

    @property
    def load(self) -> float:
        """Places in use, relative to the limit."""
        return self.taken / self.places

    def watch(self, wake: Callable[[], object]) -> None:
        """Call `wake` whenever places are returned. Those who share a limit are called first by turns."""
        self._watchers.append(wake)

    def leave(self, places: int) -> None:
        """Return places that were in use."""
        self.taken -= places
        self._watchers.rotate()
        for wake in tuple(self._watchers):
            wake()

    def pause(self, until: float) -> None:
        """The server asked for nothing more before a time, in seconds on the caller's clock."""
        self.resumes = max(self.resumes, until)

    def widen(self, ceiling: int) -> None:
        """Start again from another ceiling; the same one changes nothing."""
        if ceiling != self.ceiling:
            self.ceiling, self._width, self._threshold = ceiling, float(ceiling), float(ceiling)

    def grow(self, since: int) -> None:
        """A draw succeeded: it adds one place below the threshold, and a share of one above.

        What was sent before the last cut shows what the server took then, and adds that share anywhere.

        Args:
            since: `cuts` when the draw was sent.
        """
        fresh = since == self.cuts
        self._proven |= fresh
        more = 1.0 if fresh and self._width < self._threshold else 1 / self._width
        self._width = min(float(self.ceiling), self._width + more)

    def cut(self, since: int) -> bool:
        """Work was refused as too much: halve, unless that was done after the refused work was sent.

        Args:
            since: `cuts` when the work was sent.

        Returns:
            False when one place was too much, so that nothing is left to halve.
        """
        if since == self.cuts:
            if self.places == 1:
                return False
            self.cuts += 1
            self._width = max(1.0, self._width / 2)
            if self._proven:
                self._threshold, self._proven = self._width, False
        return True


@dataclass(slots=True)
class Health:
    """Whether a server is asked: left alone after failures in a row, then given one trial at a time."""

    up: bool = True
    """Whether it is asked like any other."""
    due: float = 0.0
    """When it may be tried again once it is left alone, in seconds on the caller's clock."""
    fell: int = 0
    """The caller's number of the event by which it was left alone most recently."""
    trying: bool = False
    """Whether a trial is under way."""
    last: EngineError | None = None
    """The most recent failure."""
    _failures: int = 0
    _rest: float = REST

    @property
    def unfit(self) -> bool:
        """Whether it is left alone because it cannot serve at all, rather than because it fails."""
        return not self.up and self.last is not None and self.last.status in MISFITS

    def succeed(self) -> None:
        """A request was answered to its end, or refused for a reason of its own."""
        self.up, self._failures, self._rest = True, 0, REST

    def fail(self, failure: EngineError, now: float, event: int, *, final: bool = False) -> bool:
        """A request failed as a whole; `final` needs no second one. Returns whether the server is left alone now."""
        self.last = failure
        self._failures = max(self._failures + 1, FAILURES if final else 0)
        if self._failures < FAILURES:
            return False
        self.fell = event
        if self.up or now >= self.due:  # a trial before its time proves nothing about a longer rest
            self.up, self.due = False, now + max(self._rest, failure.retry_after or 0.0)
            self._rest = min(2 * self._rest, LONGEST_REST)
        return True
