"""Which sequence holds which cells of the unified cache: sharing, reservations, and the cache of earlier texts.

The runtime does not say how many cells are in use, so they are counted here with stand-ins: one number per token
decoded, with a count of the sequences that see it. A reservation is made before a sequence starts to grow, so a
sequence that was let in cannot run out. Sequences that nobody works on any more stay as a cache of prefixes, and the
least recently used of them give way when room is needed.
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


class Cells:
    """The account of one context's cells and sequence numbers; used from the worker thread only."""

    def __init__(self, context: Context, sequences: int) -> None:
        self._context = context
        self.capacity = context.cells
        self._holders = np.zeros(self.capacity, np.int32)
        self._free = list(range(self.capacity - 1, -1, -1))
        self._ids = list(range(sequences - 1, -1, -1))
        self._reserved = 0
        self._clock = 0
        self._touches = 0
        self.strands: list[Strand] = []

    @property
    def available(self) -> int:
        """Cells that are neither in use nor reserved."""
        return len(self._free) - self._reserved

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

    def set_aside(self, cells: int) -> None:
        """Reserve cells for a strand that is opened later."""
        self._reserved += cells

    def give_back(self, cells: int) -> None:
        """Undo `set_aside`."""
        self._reserved -= cells

    def reserve(self, strand: Strand, cells: int) -> None:
        """Reserve more cells for a strand to grow into."""
        strand.reserved += cells
        self._reserved += cells

    def make_room(self, cells: int, keep: Strand | None = None) -> bool:
        """Let cached strands go, oldest first and `keep` never, until `cells` are available.

        When that cannot be, the answer is `False` and nothing was let go.
        """
        if self.available >= cells:
            return True
        idle = sorted((s for s in self.strands if s.idle and s is not keep), key=lambda s: s.order)
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

    def open(self, source: Strand | None, length: int, reserve: int) -> Strand:
        """A new strand that shares the first `length` tokens of another, with `reserve` cells set aside to grow."""
        if not self._ids:
            self.drop(min((s for s in self.strands if s.idle and s is not source), key=lambda s: s.order))
        strand = Strand(self._ids.pop())
        if source is not None and length:
            self._context.share(source.id, strand.id, length)
            strand.tokens, strand.cells = source.tokens[:length], source.cells[:length]
            self._holders[np.asarray(strand.cells)] += 1
            self.touch(source)
        self.reserve(strand, reserve)
        self.strands.append(strand)
        self.touch(strand)
        return strand

    def grow(self, strand: Strand, tokens: Sequence[int]) -> None:
        """Note that tokens were decoded into a strand; they come out of its reservation."""
        for token in tokens:
            cell = self._free.pop()
            self._holders[cell] = 1
            strand.cells.append(cell)
            strand.tokens.append(token)
        strand.reserved -= len(tokens)
        self._reserved -= len(tokens)

    def rest(self, strand: Strand) -> None:
        """Keep a strand as a cache only: its reservation is given back."""
        self._reserved -= strand.reserved
        strand.reserved, strand.idle, strand.target = 0, True, None
        self.touch(strand)

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

    def touch(self, strand: Strand) -> None:
        """Count a strand as just used."""
        self._touches += 1
        strand.touched, strand.order = self._clock, self._touches
