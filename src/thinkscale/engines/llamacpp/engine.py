"""The embedded engine: a GGUF model in this process, all draws in flight decoded as one batch."""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterator
from functools import cached_property
from pathlib import Path

from thinkscale.engines.llamacpp.draws import Item, Job
from thinkscale.engines.llamacpp.layout import Size
from thinkscale.engines.llamacpp.model import Model
from thinkscale.engines.llamacpp.worker import Worker
from thinkscale.engines.protocol import GENERATES, Abort, Capabilities, Chunk, Request
from thinkscale.engines.template import beginning
from thinkscale.engines.think_formats import think_format_for
from thinkscale.errors import EngineError, SettingsError

CONTEXT = 18 * 1024
"""Default cells: sixteen draws of a thousand tokens, and room for their prompts."""


class LlamaCpp:
    """A GGUF model run by llama.cpp inside this process.

    Draws of one prompt share its cache, and whatever is in flight is decoded as one batch by one worker thread; the
    event loop never waits for it. Logits move in their last bits with the shape of the batch, so `exact` is false:
    the same seed gives the same draw in the same company, and almost always in any other.

    Log-probabilities in raw space are of the model's own output. In processed space they are of what was drawn from:
    after bias, bans, temperature and truncation, with `logsumexp` and `mean_logit` over the surviving tokens, and
    `vocab` 0 where some did not survive. A temperature of `None` is 1, and 0 takes the likeliest token.

    Args:
        model: a path to a .gguf file, `org/repo` or `org/repo:file.gguf` of a model hub, or `None` for the default
            weights.
        context: tokens of cache, shared by all draws in flight.
        threads: processor threads; `None` is one for each core.
        slots: most draws that run at once; more wait their turn. As long as all work is short, the cache is split
            into some eighteen streams and that is the bound, see `layout.py`.
    """

    def __init__(
        self,
        *,
        model: str | Path | None = None,
        context: int = CONTEXT,
        threads: int | None = None,
        slots: int = 32,
    ) -> None:
        if context < 64 or not 1 <= slots <= 100 or (threads is not None and threads < 1):
            raise SettingsError("`context` must be at least 64, `slots` from 1 to 100 and `threads` at least 1")
        self._slots, self._cells = slots, -(-context // 256) * 256
        self._model = Model(model)
        self._worker = Worker(self._model, Size(cells=self._cells, threads=threads or _cores(), slots=slots))
        self._finalizer = weakref.finalize(self, self._worker.close)

    def __repr__(self) -> str:
        return f"LlamaCpp(model={self._model.source!r}, context={self._cells}, slots={self._slots})"

    @property
    def capabilities(self) -> Capabilities:
        """Read from the header of the model file; nothing is loaded for it."""
        return self._capabilities

    @cached_property
    def _capabilities(self) -> Capabilities:
        header = self._model.header
        return Capabilities(
            model=header.identity,
            name=header.name,
            can=GENERATES,
            context=min(header.context or self._cells, self._cells),
            concurrency=self._slots,
            exact=False,
            think=think_format_for(header.template, beginning(header.template)),
        )

    async def open(self) -> None:
        """Nothing to ask: the header is read when it is needed."""

    async def stream(self, request: Request, abort: Abort | None = None) -> AsyncIterator[Chunk]:
        """See `Engine.stream`. The prompt is read once, whatever the number of draws."""
        mailbox: asyncio.Queue[list[Item]] = asyncio.Queue()
        job = Job(request, abort, asyncio.get_running_loop(), mailbox)
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
        """Exact prompt tokens of the request, a text to be scored included; loads the tokenizer at first use."""
        given = request.continuation
        extra = len(self._model.speller.continue_with(given, special=False)) if given else 0
        return len(self._model.prompts.encode(request)) + extra

    async def aclose(self) -> None:
        """Stop after the step in progress and free the model; streams still open raise `EngineError`."""
        await asyncio.to_thread(self._finalizer)


def _cores() -> int:
    """Physical cores this process may run on: two threads on one core only take turns at the same arithmetic."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_siblings(cpu) for cpu in usable}
    return max(1, len(cores))


def _siblings(cpu: int) -> str:
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)
