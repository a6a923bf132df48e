"""Tokens to text as they come, and back: characters split over tokens, stop strings, ids that spell a text exactly."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from thinkscale.engines.llamacpp.runtime import Weights

_ANCHORS = ("\n", "a", " ")


class Speller:
    """The vocabulary's bytes per token, looked up once each."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._pieces: dict[int, bytes] = {}

    def piece(self, token: int) -> bytes:
        """The bytes that a token spells."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self._weights.piece(token)
        return found

    def spell(self, tokens: Sequence[int]) -> str:
        """The text of tokens; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(map(self.piece, tokens)).decode("utf-8", "replace")

    def continue_with(self, text: str, *, special: bool) -> list[int]:
        """Ids of a text that stands in the middle of another.

        Some vocabularies put a space before whatever they are given; then the text is tokenised behind an anchor,
        whose ids are taken off again.
        """
        ids = self._weights.tokenize(text, special=special)
        if self.spell(ids) == text:
            return ids
        for anchor in _ANCHORS:
            head = self._weights.tokenize(anchor, special=False)
            whole = self._weights.tokenize(anchor + text, special=special)
            if whole[: len(head)] == head and self.spell(whole[len(head) :]) == text:
                return whole[len(head) :]
        return ids

    def cut(self, tokens: Sequence[int], text: str) -> list[int]:
        """Ids that spell exactly `text`, a beginning of what `tokens` spell.

        The ids that lie wholly inside are kept and only the rest of a token that the cut went through is tokenised.
        """
        for kept in range(len(tokens), -1, -1):
            head = self.spell(tokens[:kept])
            if len(head) <= len(text) and text.startswith(head):
                rest = text[len(head) :]
                return [*tokens[:kept], *(self.continue_with(rest, special=False) if rest else ())]
        return []


class Tail:
    """The text of one draw while it grows: what may be shown, and whether a stop string ended it."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(s for s in stops if s)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._shown: list[str] = []
        self._held = ""
        self.stopped: str | None = None

    @property
    def text(self) -> str:
        """All text so far, without the stop string."""
        return "".join(self._shown) + self._held

    def add(self, piece: bytes, *, last: bool = False) -> str:
        """Take in the bytes of one token and return the text that is certain by now."""
        self._held += self._decoder.decode(piece, last)
        if not self._stops or not self._held:
            return self._show(len(self._held))
        found = [(at, s) for s in self._stops if (at := self._held.find(s)) >= 0]
        if found:
            at, self.stopped = min(found, key=lambda hit: hit[0])
            self._held = self._held[:at]
            return self._show(at)
        return self._show(len(self._held) - (0 if last else self._overlap()))

    def finish(self) -> str:
        """Give out what was held back; nothing is added after this."""
        return "" if self.stopped is not None else self.add(b"", last=True)

    def _show(self, length: int) -> str:
        shown, self._held = self._held[:length], self._held[length:]
        if shown:
            self._shown.append(shown)
        return shown

    def _overlap(self) -> int:
        """Length of the longest end of the held text with which some stop string begins."""
        longest = max(map(len, self._stops)) - 1
        for n in range(min(longest, len(self._held)), 0, -1):
            if any(s.startswith(self._held[-n:]) for s in self._stops):
                return n
        return 0
