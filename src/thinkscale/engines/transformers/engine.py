"""Any causal language model of the `transformers` library in this process: the reference for faster engines."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from thinkscale.engines.checkpoints import EXTRA, Checkpoint, find_checkpoint
from thinkscale.engines.protocol import GENERATES, Abort, Capabilities, Capability, Chunk, Request
from thinkscale.engines.template import beginning
from thinkscale.engines.think_formats import think_format_for
from thinkscale.engines.transformers.hooks import Hook, Hooks
from thinkscale.engines.transformers.worker import CLOSED, Generating, Item, Job, Worker
from thinkscale.errors import EngineError, ModelError, SettingsError
from thinkscale.identity import digest

if TYPE_CHECKING:
    from thinkscale.engines.transformers.runtime import Runtime


@dataclass(slots=True, eq=False)
class _Model:
    """What is loaded at first use and freed at the end; safe from any thread."""

    source: str | Path | None
    template: str | None
    dtype: str
    device: str | None
    hooks: Hooks = field(default_factory=Hooks)
    found: Checkpoint | None = None
    runtime: Runtime | None = None
    closed: bool = False
    lock: threading.RLock = field(default_factory=threading.RLock)

    def checkpoint(self) -> Checkpoint:
        """What is on disk; finding it may fetch it."""
        with self.lock:
            if self.found is None:
                self.found = find_checkpoint(self.source)
            return self.found

    def loaded(self) -> Runtime:
        """The model, ready to run."""
        with self.lock:
            if self.closed:
                raise EngineError(CLOSED)
            if self.runtime is None:
                self.runtime = self._load()
            return self.runtime

    def _load(self) -> Runtime:
        try:
            from thinkscale.engines.transformers.runtime import Runtime  # noqa: PLC0415 — needs an extra
        except ImportError as error:
            raise ModelError(f"the transformers engine needs more than is installed ({error}): {EXTRA}") from error
        return Runtime(
            self.checkpoint(), template=self.template, dtype=self.dtype, device=self.device, hooks=self.hooks
        )


class Transformers:
    """A model of the `transformers` library, run in plain torch.

    It is the reference against which fast engines are checked: full sorts in double precision where tokens are drawn,
    one batch per request, nothing kept between requests. The prompt is read once and its cache copied for every draw.
    Requests of several callers take turns, pass by pass, and are never in one batch. One worker thread runs it all, and
    the event loop never waits for it. Logits move in their last bits with the shape of the batch, so `exact` is false.

    Log-probabilities and their spaces, `min_tokens`, bans and stop strings mean what they mean in the embedded engine,
    and a seed gives the same stream of random numbers there and here.

    Args:
        model: a folder that transformers can read, a .gguf file, `owner/name` or `owner/name:file.gguf` of a model
            hub, or `None` for the default weights.
        context: most tokens of prompt and answer; `None` is what the model was trained on.
        slots: most draws in one batch; more take their turn.
        dtype: a floating-point type of torch, such as `bfloat16`, or `auto` for the checkpoint's own.
        device: `cpu`, `cuda`, `cuda:1` and so on; `None` is the first GPU, or the processor where there is none.
        template: a Jinja chat template, for a model that has none or another one.

    Raises:
        SettingsError: a size that makes no sense.
    """

    def __init__(
        self,
        *,
        model: str | Path | None = None,
        context: int | None = None,
        slots: int = 64,
        dtype: str = "float32",
        device: str | None = None,
        template: str | None = None,
    ) -> None:
        if slots < 1 or (context is not None and context < 2):
            raise SettingsError("`slots` must be at least 1 and `context` at least 2")
        self._context, self._slots = context, slots
        self._model = _Model(model, template, dtype, device)
        # The worker's thread outlives a forgotten engine unless nothing in it refers back.
        self._worker = Worker(partial(_begin, self._model, context, slots), slots)
        self._finalizer = weakref.finalize(self, _close, self._worker, self._model)

    def __repr__(self) -> str:
        return f"Transformers(model={self._model.source!r}, dtype={self._model.dtype!r}, slots={self._slots})"

    @property
    def capabilities(self) -> Capabilities:
        """Read from the checkpoint's headers; nothing is loaded for it."""
        return self._capabilities

    @cached_property
    def _capabilities(self) -> Capabilities:
        found, ours = self._model.checkpoint(), self._model.template
        template = ours or found.template
        return Capabilities(
            model=f"{found.identity}-{self._model.dtype}" + (f"-{digest(ours)[:8]}" if ours else ""),
            name=found.name,
            can=GENERATES - {Capability.grammar, Capability.json_schema},
            context=_most(found, self._context),
            concurrency=self._slots,
            exact=False,
            think=think_format_for(template, beginning(template)),
        )

    async def open(self) -> None:
        """Load the model, away from the event loop.

        Raises:
            ModelError: the extra is not installed, or the model cannot be found or loaded.
        """
        await asyncio.to_thread(self._model.loaded)

    async def stream(self, request: Request, abort: Abort | None = None) -> AsyncGenerator[Chunk, None]:
        """See `Engine.stream`. The prompt is read once, whatever the number of draws."""
        mailbox: asyncio.Queue[list[Item]] = asyncio.Queue()
        job = Job(request, abort or Abort(), asyncio.get_running_loop(), mailbox)
        self._worker.submit(job)
        try:
            while True:
                for item in await mailbox.get():
                    if item is None:
                        return
                    if isinstance(item, EngineError):
                        raise item
                    yield item
        finally:
            job.closed = True

    def count(self, request: Request) -> int:
        """Exact prompt tokens of the request, a text to be scored included; loads the model at first use."""
        runtime, given = self._model.loaded(), request.continuation
        extra = len(runtime.speller.continue_with(given, special=False)) if given else 0
        return len(runtime.prompts.encode(request)) + extra

    def hooked(self, layer: int | str, hook: Hook) -> AbstractContextManager[None]:
        """Have `hook` called with a layer's hidden states at every pass that begins while the context lasts.

        It is called in the worker thread, with the states, shape (rows, tokens, width), and a `Pass` that says which
        draws they belong to. What it returns takes their place, unless that is `None`. When it raises, the request
        whose pass it was fails. Passes of all requests are seen: look at `Pass.request` to tell them apart.

        Args:
            layer: number of a transformer block, from 0, or the dotted name of any module.
            hook: reads or changes the states.
        """
        return self._model.hooks.hooked(layer, hook)

    async def aclose(self) -> None:
        """Stop after the pass in progress and free the model; streams still open raise `EngineError`."""
        await asyncio.to_thread(self._finalizer)


def _most(found: Checkpoint, context: int | None) -> int | None:
    """Most tokens of prompt and answer: the smaller of what was asked for and what the model was trained on."""
    return min((n for n in (found.context, context) if n is not None), default=None)


def _begin(model: _Model, context: int | None, slots: int, job: Job) -> Generating:
    runtime = model.loaded()
    from thinkscale.engines.transformers.generation import Generation  # noqa: PLC0415 — needs an extra

    return Generation(job, runtime, context=_most(model.checkpoint(), context), slots=slots)


def _close(worker: Worker, model: _Model) -> None:
    worker.close()
    with model.lock:
        model.closed, model.runtime = True, None
