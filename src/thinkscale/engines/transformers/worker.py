"""The one thread that runs the model, and how requests reach it and news leaves it.

Requests take turns, one forward pass each, so a short one does not wait for the end of a long one. Draws of different
requests are never in one batch. It needs neither torch nor transformers.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from thinkscale.engines.protocol import Abort, Chunk, Request
from thinkscale.errors import EngineError

_log = logging.getLogger("thinkscale.transformers")

CLOSED = "this engine was closed: make a new one"

Item = Chunk | EngineError | None
"""What a stream receives: news, the failure of the whole request, or the end."""


@dataclass(slots=True, eq=False)
class Job:
    """One request on its way through the worker."""

    request: Request
    abort: Abort
    loop: asyncio.AbstractEventLoop
    mailbox: asyncio.Queue[list[Item]]
    closed: bool = False
    """Set from the event loop when nobody reads any more."""
    news: list[Item] = field(default_factory=list)
    """What the step in progress has to say."""

    def send(self) -> None:
        """Deliver the news of a step, from the worker."""
        news, self.news = self.news, []
        if not news:
            return
        try:
            self.loop.call_soon_threadsafe(self.mailbox.put_nowait, news)
        except RuntimeError:
            # The loop was closed with the stream still open: nobody can read it any more.
            self.closed = True


class Generating(Protocol):
    """A request being worked on."""

    @property
    def rows(self) -> int:
        """Most draws that it decodes at once."""
        ...

    def step(self) -> bool:
        """Do one forward pass; `False` when all is done."""
        ...

    def fail(self, error: EngineError) -> None:
        """End what is left of it with an error."""
        ...


class Worker:
    """Runs jobs until it is closed; `submit` and `close` may be called from any thread.

    Args:
        start: loads what is not loaded yet and begins to work on a job.
        slots: most draws decoded at once, over all requests; at least one request is always worked on.
    """

    def __init__(self, start: Callable[[Job], Generating], slots: int) -> None:
        self._start, self._slots = start, slots
        self._wake = threading.Condition()
        self._inbox: deque[Job] = deque()
        self._active: deque[tuple[Job, Generating]] = deque()
        self._closing = False
        self._thread: threading.Thread | None = None

    def submit(self, job: Job) -> None:
        """Hand over a request; its news goes to its mailbox."""
        with self._wake:
            if self._closing:
                raise EngineError(CLOSED)
            self._inbox.append(job)
            if self._thread is None:
                # A daemon, so that a forgotten engine cannot hang the interpreter; the engine's finalizer joins it.
                self._thread = threading.Thread(target=self._run, name="thinkscale-transformers", daemon=True)
                self._thread.start()
            self._wake.notify()

    @property
    def busy(self) -> bool:
        """Whether any request is in flight or waiting."""
        with self._wake:
            return bool(self._inbox or self._active)

    def close(self) -> None:
        """Stop after the step in progress; harmless when repeated."""
        with self._wake:
            self._closing = True
            self._wake.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while self._collect():
            job, generating = self._active[0]
            going = not job.closed and self._step(generating)
            self._active.rotate(-1)
            if not going:
                self._active.pop()
            # Last, so that whoever hears of the end finds the worker free.
            job.send()
        for job in [*(job for job, _ in self._active), *self._inbox]:
            job.news.append(EngineError(CLOSED))
            job.send()

    def _step(self, generating: Generating) -> bool:
        try:
            return generating.step()
        except Exception as error:
            if not isinstance(error, EngineError):
                _log.exception("a step of the transformers engine failed")
            generating.fail(_told(error))
            return False

    def _collect(self) -> bool:
        """Let in what fits, waiting for it when there is nothing to do; `False` when it is time to end."""
        while True:
            with self._wake:
                while not (self._closing or self._inbox or self._active):
                    self._wake.wait()
                if self._closing:
                    return False
                job = self._inbox.popleft() if self._inbox and self._has_room() else None
            if job is not None and not job.closed:
                self._let_in(job)
            elif job is None:
                return True

    def _has_room(self) -> bool:
        rows = sum(generating.rows for _, generating in self._active)
        return not self._active or rows + min(self._inbox[0].request.n, self._slots) <= self._slots

    def _let_in(self, job: Job) -> None:
        try:
            generating = self._start(job)
        except Exception as error:
            if not isinstance(error, EngineError):
                _log.exception("a request could not be read")
            job.news.append(_told(error))
            job.send()
            return
        with self._wake:
            self._active.append((job, generating))


def _told(error: Exception) -> EngineError:
    if isinstance(error, EngineError):
        return error
    return EngineError(f"the model could not be run: {type(error).__name__}: {str(error)[:300]}")
