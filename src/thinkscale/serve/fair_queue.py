"""Who gets the next place when there are fewer places than requests. It knows nothing of what is done there."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque

from thinkscale.errors import ServeError


class FairQueue:
    """Places for runs, given out in turn to those who wait: one each, whoever has how many waiting.

    Args:
        places: runs at once.
        waiting: most that may wait; more are refused.
    """

    def __init__(self, places: int, waiting: int) -> None:
        self.free = places
        self.waiting = 0
        self._most = waiting
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    async def take(self, who: str, retry_after: float) -> float:
        """Get a place, which has to be given back.

        Returns:
            Seconds that it took; 0 where there was a place at once.

        Raises:
            ServeError: too many wait already (429).
        """
        if self.free and not self.waiting:
            self.free -= 1
            return 0.0
        if self.waiting >= self._most:
            raise busy(f"{self.waiting} requests wait already", retry_after)
        began = time.monotonic()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(who, deque()).append(turn)
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()
            else:
                self._forget(who, turn)
            raise
        return time.monotonic() - began

    def give(self) -> None:
        """Give a place back: it goes to the first of the next line, and put that line behind the others."""
        self.free += 1
        while self._lines and self.free:
            who, line = next(iter(self._lines.items()))
            turn = line.popleft()
            self.waiting -= 1
            if line:
                self._lines.move_to_end(who)
            else:
                del self._lines[who]
            if not turn.done():  # otherwise whoever waited has been cancelled and has not run since
                self.free -= 1
                turn.set_result(None)

    def _forget(self, who: str, turn: asyncio.Future[None]) -> None:
        line = self._lines.get(who, ())
        if turn in line:
            self._lines[who].remove(turn)
            self.waiting -= 1
            if not self._lines[who]:
                del self._lines[who]


def busy(why: str, retry_after: float) -> ServeError:
    """The refusal of a request for which there is no place (429)."""
    return ServeError(
        f"the gateway is busy: {why}; try again in {retry_after:.0f} s",
        status=429,
        type="rate_limit_error",
        code="overloaded",
        retry_after=retry_after,
    )
