"""Tokens to text, and back to ids that spell a text exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

_ANCHORS = ("\n", "a", " ")


class Vocabulary(Protocol):
    """What a tokenizer has to be able to do, and to say of itself."""

    vocab_size: int
    bos: int
    """-1 when there is none."""
    adds_bos: bool
    """Whether a prompt begins with `bos` even where its template does not write it."""
    control: dict[str, int]
    """Control tokens by their spelling."""

    def piece(self, token: int) -> bytes:
        """The bytes that a token spells; control tokens spell their own name."""
        ...

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Token ids of a text, without begin or end marks; `special` reads spelled control tokens as such."""
        ...


class Speller:
    """The vocabulary's bytes per token, looked up once each."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._pieces: dict[int, bytes] = {}

    def piece(self, token: int) -> bytes:
        """The bytes that a token spells."""
        found = self._pieces.get(token)
        if found is None:
            found = self._pieces[token] = self._vocabulary.piece(token)
        return found

    def spell(self, tokens: Sequence[int]) -> str:
        """The text of tokens; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(map(self.piece, tokens)).decode("utf-8", "replace")

    def continue_with(self, text: str, *, special: bool) -> list[int]:
        """Ids of a text that stands in the middle of another.

        Some vocabularies put a space before whatever they are given; then the text is tokenised behind an anchor,
        whose ids are taken off again.
        """
        ids = self._vocabulary.tokenize(text, special=special)
        if self.spell(ids) == text:
            return ids
        for anchor in _ANCHORS:
            head = self._vocabulary.tokenize(anchor, special=False)
            whole = self._vocabulary.tokenize(anchor + text, special=special)
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
