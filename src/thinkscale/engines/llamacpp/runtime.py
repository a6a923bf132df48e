"""The runtime in three small classes: `Weights` (model and vocabulary), `Context` (cells and logits) and `Grammar`.

The C functions behind them are declared in `binding.py`. It knows nothing of requests.
"""

from __future__ import annotations

import ctypes as c
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from thinkscale.engines.llamacpp.binding import LLGUIDANCE, LOCK, RUNTIME, Batch, Candidates, library
from thinkscale.errors import EngineError, ModelError

Floats = NDArray[np.float32]
Ids = NDArray[np.int32]

BATCH = 512
"""Most tokens of one step."""

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Weights:
    """A loaded model and its vocabulary. Tokenising is safe from any thread."""

    def __init__(self, path: Path) -> None:
        self._lib = library()
        params = self._lib.llama_model_default_params()
        with LOCK:
            self.handle: int | None = self._lib.llama_model_load_from_file(str(path).encode(), params)
        if not self.handle:
            raise ModelError(
                f"llama.cpp cannot load `{path}`: its architecture is newer than `{RUNTIME}` or the file is damaged;"
                " see the log of `thinkscale.llamacpp` and try another GGUF"
            )
        self.vocab = self._lib.llama_model_get_vocab(self.handle)
        self.vocab_size: int = self._lib.llama_vocab_n_tokens(self.vocab)
        self.context_trained: int = self._lib.llama_model_n_ctx_train(self.handle)
        self.forkable: bool = not (
            self._lib.llama_model_has_encoder(self.handle)
            or self._lib.llama_model_is_recurrent(self.handle)
            or self._lib.llama_model_is_hybrid(self.handle)
        )
        self.bos: int = self._lib.llama_vocab_bos(self.vocab)
        self.eos: int = self._lib.llama_vocab_eos(self.vocab)
        self.adds_bos: bool = self._lib.llama_vocab_get_add_bos(self.vocab)
        every = range(self.vocab_size)
        self.ends: Ids = np.array([i for i in every if self._lib.llama_vocab_is_eog(self.vocab, i)], np.int32)
        self.control: dict[str, int] = {
            self.piece(i).decode("utf-8", "replace"): i
            for i in every
            if self._lib.llama_vocab_is_control(self.vocab, i)
        }

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Token ids of a text, without begin or end marks; `special` reads spelled control tokens as such."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 16
        out = np.empty(room, np.int32)
        n = self._lib.llama_tokenize(self.vocab, data, len(data), out.ctypes.data, room, False, special)
        if n < 0:
            raise EngineError(f"the tokenizer refused a text of {len(data)} bytes (code {n}): shorten it", status=400)
        ids: list[int] = out[:n].tolist()
        return ids

    def piece(self, token: int) -> bytes:
        """The bytes that a token spells; control tokens spell their own name."""
        room = 64
        while True:
            buffer = c.create_string_buffer(room)
            n = self._lib.llama_token_to_piece(self.vocab, token, buffer, room, 0, True)
            if n >= 0:
                return buffer.raw[:n]
            room = -n

    def close(self) -> None:
        """Free the weights; every context on them must be closed before."""
        if self.handle:
            self._lib.llama_model_free(self.handle)
        self.handle = None


class Context:
    """The cells of one model and a batch to fill; used from one thread only.

    `cells` tokens are shared by all sequences, or divided among them evenly when not `unified`. Divided, a row looks
    over the cells of its own sequence only, but rows are decoded together only where their sequence numbers follow one
    another, in the order of the batch. A batch holds at most `batch` tokens, of which at most `outputs` ask for
    logits.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        cells: int,
        sequences: int,
        threads: int,
        batch: int = 512,
        ubatch: int = 512,
        outputs: int = 64,
        unified: bool = True,
        flash: bool = True,
    ) -> None:
        self._lib = library()
        params = self._lib.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = cells, batch, min(batch, ubatch)
        params.n_seq_max, params.n_outputs_max = sequences, max(outputs, sequences)
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified, params.flash_attn_type = unified, int(flash)
        with LOCK:
            self._handle: int | None = self._lib.llama_init_from_model(weights.handle, params)
        if not self._handle:
            raise ModelError(
                f"llama.cpp cannot set aside {cells} cells for this model: pass a smaller `context`"
                " (the log of `thinkscale.llamacpp` says why)"
            )
        self.cells: int = self._lib.llama_n_ctx(self._handle)
        self.batch, self.outputs = batch, max(outputs, sequences)
        self._unified = unified
        self._memory = self._lib.llama_get_memory(self._handle)
        self._vocab_size = weights.vocab_size
        self._allocate(batch)

    def _allocate(self, batch: int) -> None:
        self._token, self._pos, self._seq = (np.zeros(batch, np.int32) for _ in range(3))
        self._want = np.zeros(batch, np.int8)
        self._count = np.ones(batch, np.int32)
        self._seq_pointers = self._seq.ctypes.data + 4 * np.arange(batch, dtype=np.uint64)
        columns = (self._pos, self._count, self._seq_pointers, self._want)
        self._batch = Batch(0, self._token.ctypes.data, None, *(column.ctypes.data for column in columns))

    def decode(
        self, tokens: Sequence[int], positions: Sequence[int], sequences: Sequence[int], want: Sequence[int]
    ) -> int:
        """Run one batch, four columns of equal length; 0 is success, other codes are those of `llama_decode`."""
        n = len(tokens)
        self._token[:n], self._pos[:n], self._seq[:n], self._want[:n] = tokens, positions, sequences, want
        self._batch.n_tokens = n
        code: int = self._lib.llama_decode(self._handle, self._batch)
        return code

    def logits(self, rows: int) -> Floats:
        """A view, shape (rows, vocabulary), of the logits asked for by the last batch in its order; no copy.

        It is valid until the next `decode`.
        """
        pointer = self._lib.llama_get_logits(self._handle)
        flat = np.ctypeslib.as_array(c.cast(pointer, c.POINTER(c.c_float)), (rows * self._vocab_size,))
        return flat.reshape(rows, self._vocab_size)

    def share(self, source: int, target: int, length: int) -> None:
        """Let sequence `target` see the first `length` cells of `source` as its own.

        Divided cells can only be copied, all that a sequence has room for, which the runtime does before the next
        batch; what `target` held is lost.
        """
        if self._unified:
            self._lib.llama_memory_seq_cp(self._memory, source, target, 0, length)
            return
        self._lib.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        self._lib.llama_memory_seq_rm(self._memory, target, length, -1)

    def forget(self, sequence: int) -> None:
        """Drop all cells of a sequence; cells that others see as well stay theirs."""
        self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def close(self) -> None:
        """Free the cells; harmless when repeated."""
        if self._handle:
            self._lib.llama_free(self._handle)
        self._handle = None


class Grammar:
    """The state of one text in a grammar: GBNF, or llguidance's form that JSON schemas are turned into.

    Raises:
        EngineError: it does not compile; unless it is known to, as `checked` says.
    """

    def __init__(self, weights: Weights, grammar: str, *, checked: bool = False) -> None:
        self._lib = library()
        with LOCK:
            if grammar.startswith("%llguidance"):
                handle = getattr(self._lib, LLGUIDANCE)(weights.vocab, b"lark", grammar.encode())
            else:
                handle = self._lib.llama_sampler_init_grammar(weights.vocab, grammar.encode(), b"root")
        self._handle: int | None = handle
        if not self._handle:
            raise EngineError(
                "the grammar does not parse as GBNF with a rule named `root`: check `sampling.grammar`", status=400
            )
        self._one = np.zeros(1, _CANDIDATE)
        self._every = np.zeros(weights.vocab_size, _CANDIDATE)
        self._every["id"] = np.arange(weights.vocab_size)
        # llguidance prints what is wrong with a schema, and then allows everything.
        if not checked and grammar.startswith("%llguidance") and self.mask().all():
            self.close()
            raise EngineError(
                "the JSON schema cannot be followed: the runtime does not compile it, so check its types and names",
                status=400,
            )

    def _apply(self, candidates: NDArray[np.void]) -> None:
        array = Candidates(candidates.ctypes.data, len(candidates), -1, False)
        self._lib.llama_sampler_apply(self._handle, c.byref(array))

    def allows(self, token: int) -> bool:
        """Whether the text may go on with this token."""
        self._one[0] = (token, 0.0, 0.0)
        self._apply(self._one)
        return not math.isinf(self._one["logit"][0])

    def mask(self) -> NDArray[np.bool_]:
        """Which tokens of the vocabulary the text may go on with, shape (vocabulary,)."""
        self._every["logit"] = 0.0
        self._apply(self._every)
        allowed: NDArray[np.bool_] = np.isfinite(self._every["logit"])
        return allowed

    def accept(self, token: int) -> None:
        """Move on past a token; it must be one that `allows`, else the runtime ends the process."""
        self._lib.llama_sampler_accept(self._handle, token)

    def close(self) -> None:
        """Free the state; harmless when repeated."""
        if self._handle:
            self._lib.llama_sampler_free(self._handle)
        self._handle = None
