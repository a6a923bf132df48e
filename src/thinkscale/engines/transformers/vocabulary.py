"""A tokenizer of the `tokenizers` library as bytes per token and ids per text, safe from any thread.

The library decodes whole sequences; a stream needs the bytes of one token, because a character may be split over
several. How a token is spelled follows from the decoder that the tokenizer declares.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from thinkscale.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Tokens:
    """The vocabulary of one model.

    Args:
        tokenizer: as transformers loaded it.
        vocab_size: width of the model's logits, which may exceed the tokenizer's vocabulary.

    Raises:
        ModelError: the tokenizer is not one of the `tokenizers` library.
    """

    adds_bos = False
    """Here the chat template writes all there is, as transformers has it."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if backend is None:
            raise ModelError("the model has no fast tokenizer (`tokenizer.json`): convert its tokenizer first")
        self.vocab_size = vocab_size
        self.bos = -1 if tokenizer.bos_token_id is None else int(tokenizer.bos_token_id)
        # Many tokenizers were saved with the lengths of their training.
        backend.no_truncation()
        backend.no_padding()
        self._backend, self._lock = backend, threading.Lock()
        added = backend.get_added_tokens_decoder()
        self._added: dict[int, str] = {i: token.content for i, token in added.items()}
        self.control: dict[str, int] = {token.content: i for i, token in added.items() if token.special}
        self._kinds = set(_kinds(json.loads(backend.to_str()).get("decoder")))

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """See `Vocabulary.tokenize`."""
        with self._lock:
            self._backend.encode_special_tokens = not special
            ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def piece(self, token: int) -> bytes:
        """See `Vocabulary.piece`; ids past the tokenizer's vocabulary spell nothing."""
        if token in self._added:
            return self._added[token].encode()
        spelled: str | None = self._backend.id_to_token(token)
        if spelled is None:
            return b""
        if "ByteLevel" in self._kinds:
            return bytes(_BYTES[c] for c in spelled)
        if self._kinds & {"ByteFallback", "Metaspace", "Replace"}:
            byte = _BYTE.fullmatch(spelled)
            return bytes([int(byte[1], 16)]) if byte else spelled.replace("▁", " ").encode()
        return self._between(token).encode()

    def _between(self, token: int) -> str:
        """What a token adds behind another one, by decoding both; the slow way for unusual decoders."""
        both: str = self._backend.decode([0, token], skip_special_tokens=False)
        return both[len(self._backend.decode([0], skip_special_tokens=False)) :]


def _kinds(decoder: object) -> Iterator[str]:
    if isinstance(decoder, dict):
        yield str(decoder.get("type"))
        for inner in decoder.get("decoders", ()):
            yield from _kinds(inner)


def ends_of(*sources: object) -> frozenset[int]:
    """Ids that end a turn, from whatever names them: a configuration or a tokenizer."""
    found: set[int] = set()
    for source in sources:
        ids = getattr(source, "eos_token_id", None)
        found |= {int(i) for i in ids} if isinstance(ids, Iterable) else set() if ids is None else {int(ids)}
    return frozenset(found)


def _byte_alphabet() -> dict[str, int]:
    """The printable stand-ins that byte-level vocabularies write for bytes: themselves, or 256 and on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in printable]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(hidden)}


_BYTES = _byte_alphabet()
