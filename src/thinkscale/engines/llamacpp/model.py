"""One model file as the engine sees it: its header at once, its weights and tokenizer when they are first needed."""

from __future__ import annotations

import threading
from functools import cached_property
from pathlib import Path

from thinkscale.engines.gguf import Gguf, read_gguf
from thinkscale.engines.llamacpp.runtime import Weights
from thinkscale.engines.spelling import Speller
from thinkscale.engines.template import Prompts, jinja
from thinkscale.engines.weights import resolve
from thinkscale.errors import EngineError


class Model:
    """A model that is found, checked and loaded lazily; safe from any thread."""

    def __init__(self, source: str | Path | None) -> None:
        self.source = source
        self._lock = threading.RLock()
        self._weights: Weights | None = None
        self._closed = False

    @cached_property
    def header(self) -> Gguf:
        """The checked header of the model file; finding the file may pull the default weights."""
        with self._lock:
            return read_gguf(self.source if isinstance(self.source, Path) else resolve(self.source or ""))

    @property
    def weights(self) -> Weights:
        """The loaded weights."""
        with self._lock:
            if self._closed:
                raise EngineError("this engine was closed: make a new one")
            if self._weights is None:
                self._weights = Weights(self.header.path)
            return self._weights

    @property
    def speller(self) -> Speller:
        """The vocabulary's spellings; refused, as `weights` are, once the model is closed."""
        return self._open()[0]

    @property
    def prompts(self) -> Prompts:
        """The chat template and tokenizer; refused once the model is closed."""
        return self._open()[1]

    def _open(self) -> tuple[Speller, Prompts]:
        # Freed weights must not be read: the runtime would end the process.
        _ = self.weights
        return self._reading

    @cached_property
    def _reading(self) -> tuple[Speller, Prompts]:
        weights = self.weights
        speller = Speller(weights)
        bos, eos = (speller.spell([token]) if token >= 0 else "" for token in (weights.bos, weights.eos))
        return speller, Prompts(weights, speller, jinja(self.header.template, bos=bos, eos=eos))

    def close(self) -> None:
        """Free the weights; contexts on them must be closed before."""
        with self._lock:
            self._closed = True
            if self._weights is not None:
                self._weights.close()
