"""The C functions of llama.cpp that the engine uses, bound by struct layout to one exact runtime version.

The prebuilt `xllamacpp` wheel exports the whole C interface from its shared object; this module finds that object
without importing the package, declares the functions, and checks that the structs lie where this file says. What they
do for the engine is in `runtime.py`.
"""

from __future__ import annotations

import ctypes as c
import importlib.util
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import ClassVar

from thinkscale.errors import EngineError

RUNTIME = "xllamacpp==2026.10.11549"

_log = logging.getLogger("thinkscale.llamacpp")
_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.DEBUG, 4: logging.WARNING}
_LOG_CALLBACK = c.CFUNCTYPE(None, c.c_int, c.c_char_p, c.c_void_p)
LOCK = threading.Lock()
"""Held while the runtime allocates."""
_SPIN, _SPINS = "GOMP_SPINCOUNT", "5000"


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


class Batch(c.Structure):
    """`llama_batch`."""

    _fields_: ClassVar = [
        ("n_tokens", c.c_int32),
        ("token", c.c_void_p),
        ("embd", c.c_void_p),
        ("pos", c.c_void_p),
        ("n_seq_id", c.c_void_p),
        ("seq_id", c.c_void_p),
        ("logits", c.c_void_p),
    ]


class Candidates(c.Structure):
    """`llama_token_data_array`."""

    _fields_: ClassVar = [
        ("data", c.c_void_p),
        ("size", c.c_size_t),
        ("selected", c.c_int64),
        ("sorted", c.c_bool),
    ]


LLGUIDANCE = "_Z22llama_sampler_init_llgPK11llama_vocabPKcS3_"

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
    "llama_decode": (_I, [_P, Batch]),
    "llama_get_logits": (_P, [_P]),
    "llama_sampler_init_grammar": (_P, [_P, _S, _S]),
    # The wheel turns JSON schemas into grammars of llguidance, whose one entry point is C++, hence the name.
    LLGUIDANCE: (_P, [_P, _S, _S]),
    "llama_sampler_apply": (None, [_P, c.POINTER(Candidates)]),
    "llama_sampler_accept": (None, [_P, _I]),
    "llama_sampler_free": (None, [_P]),
}


def _log_line(level: int, text: bytes, _data: int) -> None:
    if level in _LEVELS and text.strip():
        _log.log(_LEVELS[level], "%s", text.decode("utf-8", "replace").rstrip())


_forward_log = _LOG_CALLBACK(_log_line)


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
        with _patient_threads():
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


@contextmanager
def _patient_threads() -> Iterator[None]:
    """Have the runtime's threads spin only shortly at each barrier before they sleep.

    By default they spin for milliseconds, hundreds of times per token. As long as every thread has a core to itself
    that is harmless; with one other busy process on the machine it made decoding seven times slower than this does
    (`benchmarks/decode.py`). The setting is read once, when the library is loaded, and a setting of the user's stays.
    """
    if _SPIN in os.environ or "OMP_WAIT_POLICY" in os.environ:
        yield
        return
    os.environ[_SPIN] = _SPINS
    try:
        yield
    finally:
        del os.environ[_SPIN]


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
