"""Which sequence holds which cells of the unified cache: sharing, reservations, and the cache of earlier texts.

The runtime does not say how many cells are in use, so they are counted here with stand-ins: one number per token
decoded, with a count of the sequences that see it. A reservation is made before a sequence starts to grow, so a
sequence that was let in cannot run out. Sequences that nobody works on any more stay as a cache of prefixes, and the
least recently used of them give way when room is needed. `streams.py` is the account of the other layout.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from thinkscale.engines.llamacpp.runtime import Context, Floats

RENT = 4096
"""Rows decoded after which an unused cached strand goes. Reading a token anew costs some 3 ms with the default model on
two cores, looking over an idle cell less than 1 µs per row."""


@dataclass(slots=True, eq=False)
class Strand:
    """One sequence of the cache: the tokens decoded into it, the cells they take, and what is set aside for more."""

    id: int
    tokens: array[int] = field(default_factory=lambda: array("i"))
    cells: array[int] = field(default_factory=lambda: array("i"))
    reserved: int = 0
    logits: Floats | None = None
    """A copy of the logits behind the last token, where a prompt ends here."""
    target: array[int] | None = None
    """All tokens it will hold, while a prompt is still being read into it."""
    idle: bool = False
    """Whether it is only kept as a cache."""
    touched: int = 0
    """When it was last used, in rows decoded."""
    order: int = 0
    """The same, as a number that no other strand has."""
    alive: bool = True


def common_prefix(a: Sequence[int] | array[int], b: Sequence[int] | array[int]) -> int:
    """How many tokens two arrays have in common from their start."""
    n = min(len(a), len(b))
    if n == 0 or a[0] != b[0]:
        return 0
    differ = np.flatnonzero(np.asarray(a)[:n] != np.asarray(b)[:n])
    return int(differ[0]) if len(differ) else n


class Account:
    """What both layouts have in common; itself the account of a cache that was not opened, where nothing fits."""

    def __init__(self) -> None:
        self.strands: list[Strand] = []
        self._clock = 0
        self._touches = 0

    def best_match(self, tokens: array[int]) -> tuple[Strand | None, int]:
        """The strand that shares the longest beginning with `tokens`, and how long it is.

        All of the tokens match only where the logits behind the last one are at hand.
        """
        best: Strand | None = None
        length = 0
        for strand in self.strands:
            n = common_prefix(strand.tokens, tokens)
            if n == len(tokens) and (strand.logits is None or len(strand.tokens) != n):
                n -= 1
            if n > length:
                best, length = strand, n
        return best, length

    def coming(self, tokens: array[int]) -> int:
        """Longest beginning of `tokens` that is about to be read into the cache for somebody else."""
        return max((common_prefix(s.target, tokens) for s in self.strands if s.target is not None), default=0)

    def touch(self, strand: Strand) -> None:
        """Count a strand as just used."""
        self._touches += 1
        strand.touched, strand.order = self._clock, self._touches

    def idle(self, keep: Strand | None = None) -> list[Strand]:
        """The cached strands other than `keep`, least recently used first."""
        return sorted((s for s in self.strands if s.idle and s is not keep), key=lambda s: s.order)

    @property
    def used(self) -> int:
        """Tokens in the cache."""
        return sum(len(s.tokens) for s in self.strands)

    def fits(self, tokens: int) -> bool:
        """Whether one text of so many tokens can be held at all."""
        return False

    def set_aside(self, cells: int, draws: int = 1) -> None:
        """Reserve room for draws that are opened later and grow by `cells` tokens each."""

    def give_back(self, cells: int, draws: int = 1) -> None:
        """Undo `set_aside`."""

    def make_room(self, cells: int, keep: Strand | None = None) -> bool:
        """Let cached strands go, oldest first and `keep` never, until a draw of `cells` tokens has room.

        When that cannot be, the answer is `False` and nothing was let go.
        """
        raise NotImplementedError

    def begin(self, source: Strand | None, length: int, more: int, draw: int | None) -> Strand | None:
        """A strand to read a prompt into, when there is room for it and for a draw of `draw` tokens.

        It shares the first `length` tokens of `source` and has `more` to go.
        """
        raise NotImplementedError

    def open(self, source: Strand, length: int, reserve: int) -> Strand:
        """A new strand that shares the first `length` tokens of another, with room for `reserve` more."""
        raise NotImplementedError

    def grow(self, strand: Strand, tokens: Sequence[int]) -> None:
        """Note that tokens were decoded into a strand; they come out of its reservation."""
        raise NotImplementedError

    def rest(self, strand: Strand) -> None:
        """Keep a strand as a cache only: its reservation is given back."""
        strand.idle, strand.target = True, None
        self.touch(strand)

    def drop(self, strand: Strand) -> None:
        """Forget a strand."""
        raise NotImplementedError

    def charge(self, rows: int) -> None:
        """Count a step of `rows` rows."""

    def settle(self, running: Sequence[Strand]) -> None:
        """Have the strands that are decoded together lie where the runtime can decode them together."""


class Cells(Account):
    """The account of one context's cells and sequence numbers; used from the worker thread only."""

    def __init__(self, context: Context, sequences: int) -> None:
        super().__init__()
        self._context = context
        self.capacity = context.cells
        self._holders = np.zeros(self.capacity, np.int32)
        self._free = list(range(self.capacity - 1, -1, -1))
        self._ids = list(range(sequences - 1, -1, -1))
        self._reserved = 0

    @property
    def available(self) -> int:
        """Cells that are neither in use nor reserved."""
        return len(self._free) - self._reserved

    @property
    def used(self) -> int:
        """Tokens in the cache; what several strands see counts once."""
        return self.capacity - len(self._free)

    def fits(self, tokens: int) -> bool:
        """See `Account.fits`."""
        return tokens <= self.capacity

    def set_aside(self, cells: int, draws: int = 1) -> None:
        """See `Account.set_aside`."""
        self._reserved += cells * draws

    def give_back(self, cells: int, draws: int = 1) -> None:
        """See `Account.give_back`."""
        self._reserved -= cells * draws

    def _reserve(self, strand: Strand, cells: int) -> None:
        strand.reserved += cells
        self._reserved += cells

    def make_room(self, cells: int, keep: Strand | None = None) -> bool:
        """See `Account.make_room`."""
        if self.available >= cells:
            return True
        idle = self.idle(keep)
        if not idle or self.available + self._held_only_by(idle) < cells:
            return False
        for strand in idle:
            if self.available >= cells:
                break
            self.drop(strand)
        return True

    def _held_only_by(self, strands: Sequence[Strand]) -> int:
        counts: NDArray[np.intp] = np.zeros(self.capacity, np.intp)
        for strand in strands:
            counts[np.asarray(strand.cells)] += 1
        return int(((counts > 0) & (counts == self._holders)).sum())

    def begin(self, source: Strand | None, length: int, more: int, draw: int | None) -> Strand | None:
        """See `Account.begin`. The source itself may give way once its cells are shared."""
        strand = self._open(source, length, 0)
        if not self.make_room(more + (draw or 0)):
            self.drop(strand)
            return None
        self._reserve(strand, more)
        return strand

    def open(self, source: Strand, length: int, reserve: int) -> Strand:
        """See `Account.open`."""
        return self._open(source, length, reserve)

    def _open(self, source: Strand | None, length: int, reserve: int) -> Strand:
        if not self._ids:
            self.drop(self.idle(source)[0])
        strand = Strand(self._ids.pop())
        if source is not None and length:
            self._context.share(source.id, strand.id, length)
            strand.tokens, strand.cells = source.tokens[:length], source.cells[:length]
            self._holders[np.asarray(strand.cells)] += 1
            self.touch(source)
        self._reserve(strand, reserve)
        self.strands.append(strand)
        self.touch(strand)
        return strand

    def grow(self, strand: Strand, tokens: Sequence[int]) -> None:
        """See `Account.grow`."""
        for token in tokens:
            cell = self._free.pop()
            self._holders[cell] = 1
            strand.cells.append(cell)
            strand.tokens.append(token)
        strand.reserved -= len(tokens)
        self._reserved -= len(tokens)

    def rest(self, strand: Strand) -> None:
        """See `Account.rest`."""
        self._reserved -= strand.reserved
        strand.reserved = 0
        super().rest(strand)

    def drop(self, strand: Strand) -> None:
        """Forget a strand; cells that nobody else sees are free again."""
        if not strand.alive:
            return
        self._context.forget(strand.id)
        self._reserved -= strand.reserved
        if strand.cells:
            cells = np.array(strand.cells)
            self._holders[cells] -= 1
            self._free.extend(cells[self._holders[cells] == 0].tolist())
        strand.idle, strand.reserved, strand.alive = False, 0, False
        self.strands.remove(strand)
        self._ids.append(strand.id)

    def charge(self, rows: int) -> None:
        """Count a step of `rows` rows, and let cached strands go that have cost more than reading them again would.

        Every row looks over all cells in use, its own or not, so an idle cell is paid for at every step: the longest
        that pays off is where the rent has reached the price, whatever comes after.
        """
        self._clock += rows
        for strand in [s for s in self.strands if s.idle and self._clock - s.touched > RENT]:
            self.drop(strand)
