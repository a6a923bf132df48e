"""The one thread that owns a context, and how requests reach it and news leaves it.

Each event loop gets one call per step, whatever the number of draws. A stream belongs to the loop it was started in, so
one engine serves several loops, one after another or at once.
"""

from __future__ import annotations

import asyncio
import logging
import threading

from thinkscale.engines.llamacpp.draws import Item, Job
from thinkscale.engines.llamacpp.layout import Cache, Size
from thinkscale.engines.llamacpp.model import Model
from thinkscale.engines.llamacpp.schedule import Scheduler
from thinkscale.errors import EngineError

_log = logging.getLogger("thinkscale.llamacpp")

_CLOSED = "this engine was closed: make a new one"


class Worker:
    """Runs jobs until it is closed; `submit` and `close` may be called from any thread."""

    def __init__(self, model: Model, size: Size) -> None:
        self._model, self._size = model, size
        self._wake = threading.Condition()
        self._inbox: list[Job] = []
        self._closing = False
        self._thread: threading.Thread | None = None
        self._scheduler: Scheduler | None = None
        self._outbox: dict[asyncio.AbstractEventLoop, dict[Job, list[Item]]] = {}

    def submit(self, job: Job) -> None:
        """Hand over a request; its news goes to its mailbox."""
        with self._wake:
            if self._closing:
                raise EngineError(_CLOSED)
            self._inbox.append(job)
            if self._thread is None:
                # A daemon, so that a forgotten engine cannot hang the interpreter; the engine's finalizer joins it.
                self._thread = threading.Thread(target=self._run, name="thinkscale-llamacpp", daemon=True)
                self._thread.start()
            self._wake.notify()

    @property
    def busy(self) -> bool:
        """Whether any request is in flight or waiting."""
        with self._wake:
            return bool(self._inbox) or bool(self._scheduler and self._scheduler.jobs)

    def close(self) -> None:
        """Stop after the step in progress and free context and weights; harmless when repeated."""
        with self._wake:
            self._closing = True
            self._wake.notify()
            thread = self._thread
        if thread is threading.current_thread():
            return
        if thread is not None:
            thread.join()
        self._model.close()

    def _run(self) -> None:
        try:
            cache = self._open()
        except EngineError as error:
            self._give_up(error)
            return
        scheduler = Scheduler(self._model, cache, self._post)
        self._scheduler = scheduler
        try:
            while self._collect(scheduler):
                try:
                    scheduler.step()
                except EngineError as error:
                    scheduler.start_over(error)
                except Exception as error:
                    _log.exception("a step of the embedded engine failed")
                    scheduler.start_over(EngineError(f"the embedded engine failed inside a step: {error!r}"))
                self._send()
            scheduler.start_over(EngineError(_CLOSED))
            self._send()
        finally:
            cache.close()

    def _open(self) -> Cache:
        weights = self._model.weights
        if not weights.forkable:
            raise EngineError(
                "this model keeps a recurrent or encoder state that draws cannot share: use another model"
            )
        return Cache(weights, self._size)

    def _give_up(self, error: EngineError) -> None:
        """The model cannot be opened: say so to everyone who waits. The next request tries again."""
        with self._wake:
            waiting, self._inbox, self._thread = self._inbox, [], None
        for job in waiting:
            self._post(job, error)
        self._send()

    def _collect(self, scheduler: Scheduler) -> bool:
        """Take in new requests, waiting for one when there is nothing to do; `False` when it is time to end."""
        with self._wake:
            while not (self._closing or self._inbox or scheduler.jobs):
                self._wake.wait()
            arrived, self._inbox = self._inbox, []
            if self._closing:
                for job in arrived:
                    self._post(job, EngineError(_CLOSED))
                return False
        for job in arrived:
            try:
                scheduler.admit(job)
            except EngineError as error:
                self._post(job, error)
            except Exception as error:
                _log.exception("a request could not be read")
                self._post(job, EngineError(f"the embedded engine could not read the request: {error!r}"))
        return True

    def _post(self, job: Job, item: Item) -> None:
        self._outbox.setdefault(job.loop, {}).setdefault(job, []).append(item)

    def _send(self) -> None:
        outbox, self._outbox = self._outbox, {}
        for loop, news in outbox.items():
            try:
                loop.call_soon_threadsafe(_deliver, news)
            except RuntimeError:
                # The loop was closed with streams still open: nobody can read them any more.
                for job in news:
                    job.closed = True


def _deliver(news: dict[Job, list[Item]]) -> None:
    for job, items in news.items():
        job.mailbox.put_nowait(items)
