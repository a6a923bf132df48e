"""Runs in flight: admission, waiting, sharing of a run by several requests, and its end when no client wants it.

It knows orders and outcomes, and of HTTP only the statuses of refusals. It is long because joining, leaving and ending
a run change the same state.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial

from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.errors import CapabilityError, ContextError, EngineError, ThinkscaleError
from thinkscale.serve.fair_queue import FairQueue, busy
from thinkscale.serve.fitting import Passthrough
from thinkscale.serve.metrics import Metrics
from thinkscale.serve.records import Order
from thinkscale.serve.shown import shutting_down
from thinkscale.serve.untraced import Tracing
from thinkscale.session import Event, Run
from thinkscale.store import Store
from thinkscale.types import Outcome, Stopped, Usage

KEPT = 600.0
"""Seconds for which a finished run answers a retry of the request that began it."""
MOST_KEPT = 1024
CONCLUDING = 5.0
"""Seconds that a run has to come to its end with what it has; then it is cancelled, and has nothing."""
MOST_BYTES = 2**27
"""Most that all of them may measure, requests included."""
TOKEN, TOLD_TOKEN = 16, 2048
"""Bytes that a token of an outcome takes, and one of an outcome with log-probabilities."""
BEHIND = 1024
"""Events that a listener may be behind before the oldest are dropped: progress is news, not record."""


@dataclass(slots=True, eq=False)
class Running:
    """One run, and everybody who waits for it."""

    order: Order
    name: str
    """Under which a retry finds it; empty when none can."""
    size: int = 0
    """Bytes that it takes as long as it can be found, its request's and its outcome's."""
    ended_by: Callable[[Running], object] = lambda _: None
    """Called once, when it is over, however it ended."""
    run: Run = field(default_factory=Run)
    began: float = field(default_factory=time.monotonic)
    listeners: list[asyncio.Queue[Event | None]] = field(default_factory=list)
    waiting: int = 0
    """Clients that want its outcome, those that will ask for it later included."""
    ended: float | None = None
    task: asyncio.Future[Outcome] = field(init=False)
    """The run; once that is over, what it came to."""

    def hear(self, event: Event) -> None:
        """Pass an event on to everybody who listens."""
        for listener in self.listeners:
            if listener.qsize() >= BEHIND:
                listener.get_nowait()
            listener.put_nowait(event)

    def over(self) -> None:
        """No more events will come, and what was needed to run is let go: without it nothing leads back here."""
        self.run.observe = None
        self.task = _settled(self.task)
        _unframed(self.run.failure)
        self.ended = time.monotonic()
        self.ended_by(self)
        for listener in self.listeners:
            listener.put_nowait(None)

    @property
    def begun(self) -> bool:
        """Whether it has a place, and an account of what it spends."""
        return self.run.account is not None

    @property
    def spent(self) -> Usage:
        """What it has cost so far, or in the end, whether it came to one or was cancelled."""
        return self.run.account.spent if self.run.account else Usage()

    async def outcome(self) -> Outcome:
        """What the run comes to; waiting for it, or giving that up, leaves the run as it is.

        Raises:
            ServeError: it was cancelled, which happens to a run that is wanted when the gateway shuts down (503).
            EngineError: every draw failed, the last one of this.
        """
        if not self.task.done():
            await asyncio.wait({self.task})
        if self.task.cancelled():
            raise shutting_down()
        # Copies, because what is raised holds on to whoever waits here.
        if failure := self.task.exception():
            raise copy(failure).with_traceback(failure.__traceback__)
        outcome = self.task.result()
        if outcome.stopped is Stopped.error and self.run.failure is not None:
            raise copy(self.run.failure)
        return outcome

    async def events(self, silence: float | None = None) -> AsyncGenerator[Event | None, None]:
        """What happens from now on, until the run is over; `None` after so many seconds without news."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self.listeners.append(queue)
        self.run.pieces = True
        if self.ended is not None:
            queue.put_nowait(None)
        try:
            while True:
                try:
                    async with asyncio.timeout(silence if queue.empty() else None):
                        event = await queue.get()
                except TimeoutError:
                    yield None
                    continue
                if event is None:
                    return
                yield event
        finally:
            self.listeners.remove(queue)


class Runs:
    """All runs of the gateway.

    Args:
        places: runs at once.
        waiting: most requests that may wait for a place.
        store: where runs are recorded; `None` keeps nothing.
        metrics: what is told of them.
        tracing: where each leaves a span.
    """

    def __init__(
        self,
        *,
        places: int = 64,
        waiting: int = 512,
        store: Store | None = None,
        metrics: Metrics | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.queue = FairQueue(places, waiting)
        self.metrics = metrics or Metrics()
        self.tracing = tracing or Tracing()
        self.draining = False
        self._store = store
        if store:
            self.metrics.watch(store)
        self._known: OrderedDict[str, Running] = OrderedDict()
        self._size = 0
        """Bytes of those that are known."""
        self._alive: set[Running] = set()
        self._seconds = 1.0
        """How long a run takes, smoothed."""
        self._places = places

    @property
    def alive(self) -> int:
        """Runs that wait or run."""
        return len(self._alive)

    @property
    def recording(self) -> bool:
        """Whether runs that are to be recorded are."""
        return self._store is None or not self._store.trouble

    @property
    def retry_after(self) -> float:
        """Seconds after which a place may be free."""
        return max(1.0, self._seconds * (1 + self.queue.waiting) / self._places)

    def known(self, name: str) -> bool:
        """Whether a request of this name would join a run."""
        running = self._known.get(name)
        return running is not None and not self._stale(running)

    @asynccontextmanager
    async def wanted(
        self,
        order: Order,
        *,
        who: str = "",
        name: str = "",
        joins: bool = True,
        size: int = 0,
        ended: Callable[[Running], object] = lambda _: None,
    ) -> AsyncIterator[Running]:
        """A run for as long as the client stays; the last one to leave an unfinished run cancels it.

        Args:
            order: what is to be run.
            who: whose turn it takes while it waits; keys take turns.
            name: a request of the same name joins the run in flight, or gets the outcome of one that ended lately.
            joins: whether this request does; if not, later ones join it.
            size: bytes of the request.
            ended: called once, when a run that this request began is over, however it ended.

        Raises:
            ServeError: the gateway is shutting down (503).
        """
        running = self._known.get(name) if name and joins else None
        if running is None or self._stale(running):
            if self.draining:
                raise shutting_down()
            running = self._begin(Running(order, name, size, ended), who)
        running.waiting += 1
        try:
            yield running
        finally:
            await self.leave(running)

    async def leave(self, running: Running) -> None:
        """Have one client fewer who wants a run; the last one to leave an unfinished run cancels it."""
        running.waiting -= 1
        if not running.waiting and running.ended is None:
            await self._cancel(running)

    async def conclude(self, running: Running) -> None:
        """Have a run come to its end at once with the best it has, whoever waits for it; one without a place ends."""
        if running.task.done():
            return
        self._forget(running)
        if running.begun:
            running.run.cancel()
            await asyncio.wait({running.task}, timeout=CONCLUDING)
        await self._cancel(running)

    async def drain(self, seconds: float) -> None:
        """Let in nobody, wait for what runs, and have what is not done in time end with the best it has."""
        self.draining = True
        tasks = {r.task for r in self._alive}
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        async with asyncio.TaskGroup() as concluding:
            for running in [*self._alive]:
                concluding.create_task(self.conclude(running))

    def _begin(self, running: Running, who: str) -> Running:
        running.task = asyncio.create_task(self._run(running, who))
        running.task.add_done_callback(partial(self._over, running))
        self._alive.add(running)
        if name := running.name:
            if name in self._known:
                self._forget(self._known[name])
            self._known[name] = running
            self._weigh(running.size)
        return running

    async def _run(self, running: Running, who: str) -> Outcome:
        order = running.order

        def observe(event: Event) -> None:
            self.metrics.heard(event)
            running.hear(event)

        budget = await self._admitted(order.budget, who)
        began = time.monotonic()
        try:
            with self.metrics.begun(), self.tracing.run(order) as span:
                listened = bool(running.listeners)
                # Without a method a client gets what its own cap cut off, as it would from the model.
                closes = not isinstance(order.method, Passthrough)
                running.run = Run(seed=order.seed, roles=order.roles, observe=observe, pieces=listened, closes=closes)
                outcome = await solve(
                    order.asked.problem,
                    order.method,
                    order.engine,
                    budget=budget,
                    run=running.run,
                    sampling=order.sampling,
                    store=self._store if order.asked.store else None,
                )
                span.ended(outcome)
        finally:
            self.queue.give()
        self._seconds += 0.2 * (time.monotonic() - began - self._seconds)
        return outcome

    async def _admitted(self, budget: Budget, who: str) -> Budget:
        """Wait for a place; returns what waiting has left of the budget.

        Raises:
            ServeError: too many wait already, or the time was up before there was a place (429).
        """
        seconds = budget.seconds
        try:
            with self.metrics.queued():
                async with asyncio.timeout(seconds):
                    waited = await self.queue.take(who, self.retry_after)
        except TimeoutError:
            raise busy(f"there was no place within the {seconds:g} s that the request has", self.retry_after) from None
        # A run that did not wait keeps its budget to the letter, because its name in the store depends on it.
        return replace(budget, seconds=max(0.0, seconds - waited)) if waited and seconds is not None else budget

    def _over(self, running: Running, task: asyncio.Task[Outcome]) -> None:
        """A run has ended in whatever way, perhaps before it began."""
        self._alive.discard(running)
        error = None if task.cancelled() else task.exception()
        outcome = None if task.cancelled() or error is not None else task.result()
        if outcome is None or outcome.stopped is Stopped.error:
            self._forget(running)  # what failed is not what a retry wants to hear again
        if outcome is not None and outcome.stopped is Stopped.error:
            error = running.run.failure
        if isinstance(error, EngineError) and not isinstance(error, CapabilityError | ContextError):
            self.metrics.upstream_failed(error)
        more = _size_of(outcome) if outcome else 0
        running.size += more
        if self._known.get(running.name) is running:
            self._weigh(more)
        running.over()
        self.metrics.ran(running.order, running.spent, outcome)

    async def _cancel(self, running: Running) -> None:
        self._forget(running)
        if not running.task.done():
            running.task.cancel()
            await asyncio.wait({running.task})

    def _forget(self, running: Running) -> None:
        if self._known.get(running.name) is running:
            del self._known[running.name]
            self._size -= running.size

    def _weigh(self, more: int) -> None:
        """Count what is kept, and forget the oldest when that is too much."""
        self._size += more
        while len(self._known) > MOST_KEPT or self._size > MOST_BYTES:
            self._forget(next(iter(self._known.values())))

    def _stale(self, running: Running) -> bool:
        return running.ended is not None and time.monotonic() - running.ended > KEPT


def _settled(run: asyncio.Future[Outcome]) -> asyncio.Future[Outcome]:
    """What a run that is over came to, without the frames of all that was called until one failed or was cancelled."""
    settled: asyncio.Future[Outcome] = run.get_loop().create_future()
    if run.cancelled():
        settled.cancel()
    elif failure := run.exception():
        _unframed(failure)
        settled.set_exception(failure)
        settled.exception()  # marked as seen
    else:
        settled.set_result(run.result())
    return settled


def _unframed(failure: BaseException | None) -> None:
    """Have a failure of ours forget where it was raised; any other is a bug, of which that is logged."""
    while isinstance(failure, ThinkscaleError):
        failure.__traceback__ = None
        cause = failure.__cause__ or failure.__context__
        if not isinstance(cause, ThinkscaleError):
            failure.__cause__ = failure.__context__ = None
            return
        failure = cause


def _size_of(outcome: Outcome) -> int:
    told = any(s.logprobs is not None for trace in outcome.traces for s in trace.segments)
    return round(outcome.usage.output_tokens) * (TOLD_TOKEN if told else TOKEN)
