"""The C functions of llama.cpp that the engine uses, bound by struct layout to one exact runtime version.

The prebuilt `xllamacpp` wheel exports the whole C interface from its shared object; this module finds that object
without importing the package, checks that its structs lie where this file says, and wraps what is used in three small
classes: `Weights` (model and vocabulary), `Context` (cells and logits) and `Grammar`. It knows nothing of requests.
"""

from __future__ import annotations

import ctypes as c
import importlib.util
import logging
import math
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from thinkscale.errors import EngineError, ModelError

RUNTIME = "xllamacpp==2026.10.11549"
Floats = NDArray[np.float32]
Ids = NDArray[np.int32]

_log = logging.getLogger("thinkscale.llamacpp")
_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.DEBUG, 4: logging.WARNING}
_LOG_CALLBACK = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)
_lock = threading.Lock()


class _ModelParams(c.Structure):
    _fields_: ClassVar = [
        ("devices", c.c_void_p),
        ("tensor_buft_overrides", c.c_void_p),
        ("n_gpu_layers", c.c_int32),
        ("split_mode", c.c_int32),
        ("load_mode", c.c_int32),
        ("lazy_mode", c.c_int32),
        ("main_gpu", c.c_int32),
        ("tensor_split", c.c_void_p),
        ("progress_callback", c.c_void_p),
        ("progress_callback_user_data", c.c_void_p),
        ("kv_overrides", c.c_void_p),
        ("vocab_only", c.c_bool),
        ("check_tensors", c.c_bool),
        ("use_extra_bufts", c.c_bool),
        ("no_host", c.c_bool),
        ("no_alloc", c.c_bool),
        ("load_mtp", c.c_bool),
    ]


class _ContextParams(c.Structure):
    _fields_: ClassVar = [
        ("n_ctx", c.c_uint32),
        ("n_batch", c.c_uint32),
        ("n_ubatch", c.c_uint32),
        ("n_seq_max", c.c_uint32),
        ("n_rs_seq", c.c_uint32),
        ("n_outputs_max", c.c_uint32),
        ("n_outputs_max_per_seq", c.c_uint32),
        ("n_threads", c.c_int32),
        ("n_threads_batch", c.c_int32),
        ("ctx_type", c.c_int32),
        ("rope_scaling_type", c.c_int32),
        ("pooling_type", c.c_int32),
        ("attention_type", c.c_int32),
        ("flash_attn_type", c.c_int32),
        ("rope_freq_base", c.c_float),
        ("rope_freq_scale", c.c_float),
        ("yarn_ext_factor", c.c_float),
        ("yarn_attn_factor", c.c_float),
        ("yarn_beta_fast", c.c_float),
        ("yarn_beta_slow", c.c_float),
        ("yarn_orig_ctx", c.c_uint32),
        ("defrag_thold", c.c_float),
        ("cb_eval", c.c_void_p),
        ("cb_eval_user_data", c.c_void_p),
        ("type_k", c.c_int32),
        ("type_v", c.c_int32),
        ("abort_callback", c.c_void_p),
        ("abort_callback_data", c.c_void_p),
        # Not in the header of the same generation: this build writes one more null pointer before its booleans.
        ("reserved", c.c_void_p),
        ("embeddings", c.c_bool),
        ("offload_kqv", c.c_bool),
        ("no_perf", c.c_bool),
        ("op_offload", c.c_bool),
        ("swa_full", c.c_bool),
        ("kv_unified", c.c_bool),
        ("samplers", c.c_void_p),
        ("n_samplers", c.c_size_t),
        ("ctx_other", c.c_void_p),
    ]


class _Batch(c.Structure):
    _fields_: ClassVar = [
        ("n_tokens", c.c_int32),
        ("token", c.c_void_p),
        ("embd", c.c_void_p),
        ("pos", c.c_void_p),
        ("n_seq_id", c.c_void_p),
        ("seq_id", c.c_void_p),
        ("logits", c.c_void_p),
    ]


class _Candidates(c.Structure):
    _fields_: ClassVar = [
        ("data", c.c_void_p),
        ("size", c.c_size_t),
        ("selected", c.c_int64),
        ("sorted", c.c_bool),
    ]


CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

_P, _I, _B, _S, _Z = c.c_void_p, c.c_int32, c.c_bool, c.c_char_p, c.c_size_t
_SIGNATURES: dict[str, tuple[object, list[object]]] = {
    "llama_backend_init": (None, []),
    "llama_log_set": (None, [_LOG_CALLBACK, _P]),
    "llama_model_default_params": (_ModelParams, []),
    "llama_context_default_params": (_ContextParams, []),
    "llama_model_load_from_file": (_P, [_S, _ModelParams]),
    "llama_model_free": (None, [_P]),
    "llama_model_get_vocab": (_P, [_P]),
    "llama_model_n_ctx_train": (_I, [_P]),
    "llama_model_has_encoder": (_B, [_P]),
    "llama_model_is_recurrent": (_B, [_P]),
    "llama_model_is_hybrid": (_B, [_P]),
    "llama_vocab_n_tokens": (_I, [_P]),
    "llama_vocab_is_eog": (_B, [_P, _I]),
    "llama_vocab_is_control": (_B, [_P, _I]),
    "llama_vocab_bos": (_I, [_P]),
    "llama_vocab_eos": (_I, [_P]),
    "llama_vocab_get_add_bos": (_B, [_P]),
    "llama_tokenize": (_I, [_P, _S, _I, _P, _I, _B, _B]),
    "llama_token_to_piece": (_I, [_P, _I, _P, _I, _I, _B]),
    "llama_init_from_model": (_P, [_P, _ContextParams]),
    "llama_free": (None, [_P]),
    "llama_n_ctx": (c.c_uint32, [_P]),
    "llama_get_memory": (_P, [_P]),
    "llama_memory_seq_rm": (_B, [_P, _I, _I, _I]),
    "llama_memory_seq_cp": (None, [_P, _I, _I, _I, _I]),
    "llama_decode": (_I, [_P, _Batch]),
    "llama_get_logits": (_P, [_P]),
    "llama_sampler_init_grammar": (_P, [_P, _S, _S]),
    "llama_sampler_apply": (None, [_P, c.POINTER(_Candidates)]),
    "llama_sampler_accept": (None, [_P, _I]),
    "llama_sampler_free": (None, [_P]),
}


@_LOG_CALLBACK
def _forward_log(level: int, text: bytes, _data: int) -> None:
    if level in _LEVELS and text.strip():
        _log.log(_LEVELS[level], "%s", text.decode("utf-8", "replace").rstrip())


def _shared_object() -> Path:
    spec = importlib.util.find_spec("xllamacpp")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    found = [p for folder in folders for p in sorted(Path(folder).glob("xllamacpp*")) if p.suffix in (".so", ".pyd")]
    if not found:
        raise EngineError(
            f"the embedded engine needs `{RUNTIME}`, which is not installed here: run `pip install {RUNTIME}`"
        )
    return found[0]


@cache
def library() -> c.CDLL:
    """The shared object with its functions declared, after its struct layout was checked.

    Raises:
        EngineError: when the runtime is missing or is another version than this file was written for.
    """
    path = _shared_object()
    try:
        lib = c.CDLL(str(path))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise EngineError(
            f"cannot use the runtime `{path.name}` ({error}): this engine needs exactly `{RUNTIME}`"
        ) from error
    _check_layout(lib)
    quiet(lib)
    lib.llama_backend_init()
    return lib


def quiet(lib: c.CDLL) -> None:
    """Send the runtime's messages to Python's logging; importing `xllamacpp` undoes it, so it is repeated then."""
    lib.llama_log_set(_forward_log, None)


def _check_layout(lib: c.CDLL) -> None:
    """Compare the default parameters with those documented for the pinned version: a shifted field reads as garbage."""
    model, context = lib.llama_model_default_params(), lib.llama_context_default_params()
    seen = [
        *(model.devices, model.n_gpu_layers, model.split_mode, model.load_mode, model.main_gpu, model.tensor_split),
        *(model.kv_overrides, model.vocab_only, model.check_tensors, model.use_extra_bufts, model.no_alloc),
        *(context.n_ctx, context.n_batch, context.n_ubatch, context.n_seq_max, context.n_threads),
        *(context.rope_scaling_type, context.pooling_type, context.attention_type, context.flash_attn_type),
        *(context.rope_freq_base, context.yarn_ext_factor, context.yarn_attn_factor, context.yarn_beta_slow),
        *(context.cb_eval, context.type_k, context.type_v, context.reserved, context.embeddings),
        *(context.offload_kqv, context.no_perf, context.swa_full, context.kv_unified, context.samplers),
        *(context.n_samplers, context.ctx_other),
    ]
    documented = [
        *(None, -1, 1, -1, 0, None, None, False, False, True, False),
        *(512, 2048, 512, 1, 4, -1, -1, -1, -1, 0.0, -1.0, -1.0, -1.0),
        *(None, 1, 1, None, False, True, True, True, False, None, 0, None),
    ]
    if seen != documented:
        raise EngineError(
            f"the installed `xllamacpp` is not the version this engine is bound to (its parameters read {seen}):"
            f" run `pip install {RUNTIME}`"
        )


class Weights:
    """A loaded model and its vocabulary. Tokenising is safe from any thread."""

    def __init__(self, path: Path) -> None:
        self._lib = library()
        params = self._lib.llama_model_default_params()
        with _lock:
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
        """Token ids of a text, without begin or end marks; `special` turns the spellings of control tokens into them."""
        data = text.encode("utf-8", "replace")
        room = len(data) + 16
        out = np.empty(room, np.int32)
        n = self._lib.llama_tokenize(self.vocab, data, len(data), out.ctypes.data, room, False, special)
        if n < 0:
            raise EngineError(f"the tokenizer refused a text of {len(data)} bytes (code {n}): shorten it")
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

    `cells` tokens are shared by all sequences. A batch holds at most `batch` tokens, of which at most `outputs` ask for
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
        with _lock:
            self._handle: int | None = self._lib.llama_init_from_model(weights.handle, params)
        if not self._handle:
            raise ModelError(
                f"llama.cpp cannot set aside {cells} cells for this model: pass a smaller `context`"
                " (the log of `thinkscale.llamacpp` says why)"
            )
        self.cells: int = self._lib.llama_n_ctx(self._handle)
        self.batch, self.outputs = batch, max(outputs, sequences)
        self._memory = self._lib.llama_get_memory(self._handle)
        self._vocab_size = weights.vocab_size
        self._allocate(batch)

    def _allocate(self, batch: int) -> None:
        self._token, self._pos, self._seq = (np.zeros(batch, np.int32) for _ in range(3))
        self._want = np.zeros(batch, np.int8)
        self._count = np.ones(batch, np.int32)
        self._seq_pointers = self._seq.ctypes.data + 4 * np.arange(batch, dtype=np.uint64)
        columns = (self._pos, self._count, self._seq_pointers, self._want)
        self._batch = _Batch(0, self._token.ctypes.data, None, *(column.ctypes.data for column in columns))

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
        """Let sequence `target` see the first `length` cells of `source` as its own."""
        self._lib.llama_memory_seq_cp(self._memory, source, target, 0, length)

    def forget(self, sequence: int) -> None:
        """Drop all cells of a sequence; cells that others see as well stay theirs."""
        self._lib.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def close(self) -> None:
        """Free the cells; harmless when repeated."""
        if self._handle:
            self._lib.llama_free(self._handle)
        self._handle = None


class Grammar:
    """The state of one text in a GBNF grammar."""

    def __init__(self, weights: Weights, gbnf: str) -> None:
        self._lib = library()
        self._handle: int | None = self._lib.llama_sampler_init_grammar(weights.vocab, gbnf.encode(), b"root")
        if not self._handle:
            raise EngineError("the grammar does not parse as GBNF with a rule named `root`: check `sampling.grammar`")
        self._one = np.zeros(1, CANDIDATE)
        self._every = np.zeros(weights.vocab_size, CANDIDATE)
        self._every["id"] = np.arange(weights.vocab_size)

    def _apply(self, candidates: NDArray[np.void]) -> None:
        array = _Candidates(candidates.ctypes.data, len(candidates), -1, False)
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
        return np.isfinite(self._every["logit"])

    def accept(self, token: int) -> None:
        """Move on past a token; it must be one that `allows`, else the runtime ends the process."""
        self._lib.llama_sampler_accept(self._handle, token)

    def close(self) -> None:
        """Free the state; harmless when repeated."""
        if self._handle:
            self._lib.llama_sampler_free(self._handle)
        self._handle = None
