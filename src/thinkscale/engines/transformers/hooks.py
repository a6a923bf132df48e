"""Looking into the layers of a model while it runs, for work on steering and probing. It knows no sampling."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from thinkscale.engines.protocol import Request
from thinkscale.errors import EngineError

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """What one forward pass of the model is about."""

    request: Request
    draws: tuple[int, ...]
    """Numbers of the draws: row i of the hidden states belongs to `draws[i]`, or the one row to all while `reading`."""
    start: int
    """Position of the first token of the pass, counted from the start of the prompt."""
    reading: bool
    """Whether the prompt, or a text to be scored, is read; otherwise every draw goes on by one token."""


Hook = Callable[["Tensor", Pass], "Tensor | None"]
"""Takes the hidden states, shape (rows, tokens, width), and may return others of that shape to go on with."""


class Hooks:
    """The hooks that are set at the moment; may be changed from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._set: tuple[tuple[int | str, Hook], ...] = ()

    @contextmanager
    def hooked(self, layer: int | str, hook: Hook) -> Iterator[None]:
        """Have `hook` called at every pass that begins while the context lasts."""
        entry = (layer, hook)
        with self._lock:
            self._set = (*self._set, entry)
        try:
            yield
        finally:
            with self._lock:
                self._set = tuple(e for e in self._set if e is not entry)

    @contextmanager
    def during(self, model: nn.Module, about: Pass) -> Iterator[None]:
        """Put the hooks into the model for one pass.

        Raises:
            EngineError: the model has no such layer.
        """
        with ExitStack() as stack:
            for layer, hook in self._set:
                handle = layer_of(model, layer).register_forward_hook(_adapter(layer, hook, about))
                stack.callback(handle.remove)
            yield


def layer_of(model: nn.Module, layer: int | str) -> nn.Module:
    """A transformer block by its number, from 0, or any module by its dotted name.

    Raises:
        EngineError: the model has no such layer.
    """
    from torch import nn  # noqa: PLC0415 — an extra

    modules = dict(model.named_modules())
    if isinstance(layer, str):
        if layer in modules:
            return modules[layer]
        raise EngineError(f"the model has no module `{layer}`: its blocks are called like `{_block_name(modules)}`")
    blocks = max((m for m in modules.values() if isinstance(m, nn.ModuleList)), key=len, default=nn.ModuleList())
    if not 0 <= layer < len(blocks):
        raise EngineError(f"the model has no layer {layer}: it has {len(blocks)}, counted from 0")
    return cast("nn.Module", blocks[layer])


def _block_name(modules: dict[str, nn.Module]) -> str:
    return next((name for name in modules if name.endswith(".0")), "model")


def _adapter(layer: int | str, hook: Hook, about: Pass) -> Callable[[object, object, object], object]:
    def call(module: object, given: object, found: object) -> object:
        hidden = cast("Tensor", found[0] if isinstance(found, tuple) else found)
        try:
            changed = hook(hidden, about)
        except Exception as error:
            raise EngineError(f"the hook on layer `{layer}` failed: {error!r}") from error
        if changed is None:
            return None
        return (changed, *found[1:]) if isinstance(found, tuple) else changed

    return call
