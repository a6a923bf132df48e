"""The end of a text that grows: characters split over pieces, and stop strings that a piece may finish."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class Tail:
    """The text of one draw while it grows: what may be shown, and whether a stop string ended it."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(s for s in stops if s)
        self._decoder: codecs.IncrementalDecoder | None = None
        self._shown: list[str] = []
        self._held = ""
        self.stopped: str | None = None

    @property
    def text(self) -> str:
        """All text so far, without the stop string."""
        return "".join(self._shown) + self._held

    def add(self, piece: bytes | str, *, last: bool = False) -> str:
        """Take in what came and return the text that is certain by now; after a stop string there is none."""
        if self.stopped is not None:
            return ""
        self._held += piece if isinstance(piece, str) else self._decoded(piece, last)
        if not self.stops or not self._held:
            return self._show(len(self._held))
        found = [(at, s) for s in self.stops if (at := self._held.find(s)) >= 0]
        if found:
            at, self.stopped = min(found, key=lambda hit: hit[0])
            self._held = self._held[:at]
            return self._show(at)
        return self._show(len(self._held) - (0 if last else self._overlap()))

    def skip(self, piece: str) -> str:
        """Take in a text in which no stop string counts."""
        if self.stopped is not None:
            return ""
        self._held += piece
        return self._show(len(self._held))

    def _decoded(self, piece: bytes, last: bool) -> str:
        if self._decoder is None:
            self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return self._decoder.decode(piece, last)

    def finish(self) -> str:
        """Give out what was held back; nothing is added after this."""
        return "" if self.stopped is not None else self.add(b"" if self._decoder else "", last=True)

    def _show(self, length: int) -> str:
        shown, self._held = self._held[:length], self._held[length:]
        if shown:
            self._shown.append(shown)
        return shown

    def _overlap(self) -> int:
        """Length of the longest end of the held text with which some stop string begins."""
        longest = max(map(len, self.stops)) - 1
        for n in range(min(longest, len(self._held)), 0, -1):
            if any(s.startswith(self._held[-n:]) for s in self.stops):
                return n
        return 0
