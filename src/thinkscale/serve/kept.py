"""Responses that can be asked for again by their id: whose they are, what is told of them, and how long they are kept.

It knows runs and shapes of replies, and of HTTP only the status of a refusal.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thinkscale.errors import ServeError, ThinkscaleError
from thinkscale.serve.replies import failed, response, response_frame
from thinkscale.serve.runs import KEPT, MOST_BYTES, MOST_KEPT, Running
from thinkscale.serve.wire import refusal_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One response, whatever has become of its run by now."""

    id: str
    key: str
    """Id of the API key that it was made with; no other gets to see it."""
    created: int
    """Seconds since 1970."""
    running: Running

    @property
    def background(self) -> bool:
        """Whether its run goes on when nobody waits for it."""
        return self.running.order.asked.background

    def told(self, names: Sequence[str]) -> dict[str, object]:
        """The response as it stands.

        Args:
            names: fields of chat messages that carry the thinking; none leaves it out here too.
        """
        running = self.running
        begun = response_frame(running.order, self.id, self.created)
        if not running.task.done():
            return begun if running.begun else {**begun, "status": "queued"}
        if running.task.cancelled():
            return {**begun, "status": "cancelled"}
        try:
            return response(running.order, running.task.result(), id=self.id, created=self.created, names=names)
        except ThinkscaleError as failure:
            return {**begun, **failed(refusal_of(failure))}


class Shelf:
    """Where responses are kept: in the memory of this process.

    For processes that share their responses another class has these three methods.

    Args:
        most: background responses that are kept, and as many others beside them. Beyond that the oldest whose run is
            over goes first, of the key that takes up most; runs that are not over are bounded by whoever admits them,
            and none is lost.
        seconds: how long one is kept once its run is over.
        size: bytes that either of the two lines may take.
    """

    def __init__(self, most: int = MOST_KEPT, seconds: float = KEPT, size: int = MOST_BYTES) -> None:
        self._most, self._seconds, self._size = most, seconds, size
        # Nobody has seen the end of a background response yet, so that others must not crowd it out.
        self._lines: dict[bool, OrderedDict[str, Kept]] = {True: OrderedDict(), False: OrderedDict()}

    def __len__(self) -> int:
        return sum(map(len, self._lines.values()))

    def put(self, kept: Kept) -> None:
        """Keep a response."""
        line = self._lines[kept.background]
        line[kept.id] = kept
        while line and self._stale(next(iter(line.values()))):
            line.popitem(last=False)
        held = sum(k.running.size for k in line.values())
        while (len(line) > self._most or held > self._size) and (old := self._next(line)):
            del line[old.id]
            held -= old.running.size

    def _next(self, line: Mapping[str, Kept]) -> Kept | None:
        """What goes first: the oldest that is over, of the key that has the largest share of the line."""
        shares: dict[str, float] = {}
        oldest: dict[str, Kept] = {}
        for kept in line.values():
            share = max(1 / max(1, self._most), kept.running.size / self._size)
            shares[kept.key] = shares.get(kept.key, 0.0) + share
            if _over(kept):
                oldest.setdefault(kept.key, kept)
        return oldest[max(oldest, key=shares.__getitem__)] if oldest else None

    def get(self, id: str, key: str) -> Kept:
        """The response with an id, for the API key that it was made with.

        Raises:
            ServeError: there is none, or no more, or it is another key's (404).
        """
        kept = next((line[id] for line in self._lines.values() if id in line), None)
        if kept is None or kept.key != key or self._stale(kept):
            said = f"Response with id '{id[:100]}' not found: it was never made with this key, or is not kept any more."
            raise ServeError(said, status=404, param="response_id", code="response_not_found")
        return kept

    def remove(self, kept: Kept) -> None:
        """Forget a response."""
        self._lines[kept.background].pop(kept.id, None)

    def _stale(self, kept: Kept) -> bool:
        ended = kept.running.ended
        return ended is not None and time.monotonic() - ended > self._seconds


def _over(kept: Kept) -> bool:
    return kept.running.ended is not None
