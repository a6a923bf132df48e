"""The account of a cache with a stream of cells for each sequence.

Every strand has a stream of its own, so what is counted is streams, and nothing but a text too long for one can run out
of cells. A strand that begins like another starts as a copy of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from thinkscale.engines.llamacpp.cells import Account, Strand
from thinkscale.engines.llamacpp.runtime import Context


class Streams(Account):
    """The account of one context's streams; used from the worker thread only."""

    def __init__(self, context: Context, streams: int, length: int) -> None:
        super().__init__()
        self._context, self._streams, self._length = context, streams, length
        self._free = set(range(streams))
        self._aside = 0

    def fits(self, tokens: int) -> bool:
        """See `Account.fits`."""
        return tokens <= self._length

    def set_aside(self, cells: int, draws: int = 1) -> None:
        """See `Account.set_aside`."""
        self._aside += draws

    def give_back(self, cells: int, draws: int = 1) -> None:
        """See `Account.give_back`."""
        self._aside -= draws

    def make_room(self, cells: int, keep: Strand | None = None) -> bool:
        """See `Account.make_room`."""
        return self._clear(1, keep)

    def _clear(self, streams: int, keep: Strand | None) -> bool:
        missing = streams + self._aside - len(self._free)
        idle = self.idle(keep)
        if missing > len(idle):
            return False
        for strand in idle[: max(0, missing)]:
            self.drop(strand)
        return True

    def begin(self, source: Strand | None, length: int, more: int, draw: int | None) -> Strand | None:
        """See `Account.begin`. Prompts go to the far end, out of the way of the draws that lie side by side."""
        if not self._clear(1 if draw is None else 2, source):
            return None
        return self._open(source, length, max(self._free))

    def open(self, source: Strand, length: int, reserve: int) -> Strand:
        """See `Account.open`."""
        return self._open(source, length, min(self._free))

    def _open(self, source: Strand | None, length: int, stream: int) -> Strand:
        strand = Strand(stream)
        self._free.remove(stream)
        if source is not None and length:
            self._context.share(source.id, stream, length)
            strand.tokens = source.tokens[:length]
            self.touch(source)
        self.strands.append(strand)
        self.touch(strand)
        return strand

    def grow(self, strand: Strand, tokens: Sequence[int]) -> None:
        """See `Account.grow`."""
        strand.tokens.extend(tokens)

    def drop(self, strand: Strand) -> None:
        """See `Account.drop`."""
        if not strand.alive:
            return
        self._context.forget(strand.id)
        strand.idle, strand.alive = False, False
        self.strands.remove(strand)
        self._free.add(strand.id)

    def settle(self, running: Sequence[Strand]) -> None:
        """See `Account.settle`.

        The runtime decodes streams together when their numbers follow one another, and each gap costs a pass over the
        weights in every step, some five times the one copy that closes it.
        """
        n = len(running)
        ids = {strand.id for strand in running}
        if n < 2 or max(ids) - min(ids) == n - 1:
            return
        first = max(range(self._streams - n + 1), key=lambda at: len(ids.intersection(range(at, at + n))))
        window = range(first, first + n)
        outside = [strand for strand in running if strand.id not in window]
        for strand, stream in zip(outside, sorted(set(window) - ids), strict=True):
            if self._vacate(stream):
                self._move(strand, stream)

    def _vacate(self, stream: int) -> bool:
        """Free a stream by moving what it holds elsewhere, or letting the oldest of the cache go for that."""
        if stream in self._free:
            return True
        held = next(strand for strand in self.strands if strand.id == stream)
        if not self._free:
            idle = self.idle()
            if not idle:
                return False
            self.drop(idle[0])
        if held.alive:
            self._move(held, max(self._free))
        return True

    def _move(self, strand: Strand, stream: int) -> None:
        self._context.share(strand.id, stream, len(strand.tokens))
        self._context.forget(strand.id)
        self._free.remove(stream)
        self._free.add(strand.id)
        strand.id = stream
