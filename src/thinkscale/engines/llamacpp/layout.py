"""How the cells are laid out: one stream per sequence where the work fits, all in common where it does not.

In the unified layout every row of a batch looks over the cells of all sequences, so sixteen draws of 256 tokens cost
each row some 4,300 cells, of which 400 are its own. With a stream per sequence it looks over its own only; in exchange
no sequence may be longer than a stream, and sharing a prompt means copying a stream. The layout is chosen when no draw
runs and no prompt is read, since a context has to be opened anew for it and what it had cached is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thinkscale.engines.llamacpp.cells import Account, Cells
from thinkscale.engines.llamacpp.runtime import BATCH, Context, Weights
from thinkscale.engines.llamacpp.streams import Streams

_CACHED = 16
_STREAM = 1024
"""Cells of a stream, where that leaves enough streams: a copy takes time in proportion."""
_FEWEST = 512
"""Cells of the shortest stream: the least that leaves a usual prompt room for an answer."""
_COUNTS = (18, 10)
"""Streams: sixteen draws or eight, a prompt that is read and one that is cached. Eight rows at once are nearly as fast
per row as sixteen, and more than sixteen no faster, so it is not worth having fewer or more."""
_FEW = 4
"""Slots below which the unified layout stays: so few draws do not get in each other's way."""
_REREAD = 3000
"""What reading one token costs, in units of what one row pays for looking over one cell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What the engine may use."""

    cells: int
    """Tokens of cache, over all sequences."""
    threads: int
    slots: int
    """Draws that run at once."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Sequences and the most cells that one of them may have."""

    unified: bool
    sequences: int
    length: int


@dataclass(frozen=True, slots=True)
class Work:
    """A request that waits: tokens of its longest sequence, rows it decodes at most, and rows of each draw."""

    tokens: int
    rows: int
    limit: int


def layouts(size: Size) -> list[Layout]:
    """The layouts that a size allows, the preferred first; the last one, unified, has room for everything."""
    # Every slot may hold a draw and the prompt of another, and some sequences are left for the cache.
    found = [Layout(True, 2 * size.slots + _CACHED, size.cells)]
    if size.slots < _FEW:
        return found
    lengths = {size.cells // count // 256 * 256: count for count in _COUNTS}
    if size.cells >= _STREAM * _COUNTS[0]:
        lengths[_STREAM] = min(size.cells // _STREAM, size.slots + _CACHED)
    streamed = [Layout(False, lengths[n], n) for n in sorted(lengths) if n >= _FEWEST]
    return streamed + found


class Cache:
    """The context in use and the account of its cells; used from one thread only."""

    def __init__(self, weights: Weights, size: Size) -> None:
        self.size = size
        self.account = Account()
        self.layout: Layout | None = None
        self._weights = weights
        self._context: Context | None = None
        self._layouts = layouts(size)

    @property
    def context(self) -> Context:
        """The open context."""
        assert self._context is not None
        return self._context

    @property
    def outputs(self) -> int:
        """Most rows of one batch that may ask for logits."""
        return self._context.outputs if self._context else 0

    def arrange(self, waiting: Sequence[Work]) -> None:
        """Choose the layout for the requests that wait; only while nobody uses the cache.

        It stays while the first of them fits, so that requests of all sizes do not have it change all the time. From
        the unified layout it changes back when that saves more than reading all that is cached again would cost.

        Raises:
            EngineError: when the context cannot be opened.
        """
        most = max(work.tokens for work in waiting)
        wanted = next((one for one in self._layouts if one.length >= most), self._layouts[-1])
        if wanted == self.layout:
            return
        if self.layout is not None and self.layout.length >= waiting[0].tokens:
            rows = sum(work.rows for work in waiting)
            others = (rows - max(work.limit for work in waiting)) // 2
            if not self.layout.unified or rows * others <= _REREAD * self.account.used:
                return
        self._open(wanted)

    def _open(self, layout: Layout) -> None:
        self.close()
        length, count = layout.length, layout.sequences
        self._context = Context(
            self._weights,
            cells=length if layout.unified else length * count,
            sequences=count,
            threads=self.size.threads,
            batch=BATCH,
            unified=layout.unified,
        )
        self.account = Cells(self._context, count) if layout.unified else Streams(self._context, count, length)
        self.layout = layout

    def close(self) -> None:
        """Free the cells; harmless when repeated."""
        for strand in list(self.account.strands):
            self.account.drop(strand)
        if self._context is not None:
            self._context.close()
        self._context, self.layout, self.account = None, None, Account()
