"""Runs in flight: who is let in, who waits, who shares a run, and what becomes of it when nobody wants it any more.

It knows orders and outcomes. Of HTTP it knows only the statuses that a refusal has.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from thinkscale.desk import Desk, Event
from thinkscale.door import solve
from thinkscale.errors import ServeError
from thinkscale.serve.records import Order
from thinkscale.store import Store
from thinkscale.types import Outcome, Usage

KEPT = 600.0
"""Seconds for which a finished run answers a retry of the request that began it."""
MOST_KEPT = 1024
BEHIND = 1024
"""Events that a listener may be behind before the oldest are dropped: progress is news, not record."""


class FairQueue:
    """Places for runs, given out in turn to those who wait: one each, whoever has how many waiting.

    Args:
        places: runs at once.
        waiting: most that may wait; more are refused.
    """

    def __init__(self, places: int, waiting: int) -> None:
        self.free = places
        self.waiting = 0
        self._most = waiting
        self._lines: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def place(self, who: str, retry_after: float) -> AsyncIterator[None]:
        """Hold a place.

        Raises:
            ServeError: too many wait already (429).
        """
        await self._take(who, retry_after)
        try:
            yield
        finally:
            self._give()

    async def _take(self, who: str, retry_after: float) -> None:
        if self.free and not self.waiting:
            self.free -= 1
            return
        if self.waiting >= self._most:
            raise ServeError(
                f"the gateway is busy: {self.waiting} requests wait already; try again in {retry_after:.0f} s",
                status=429,
                type="rate_limit_error",
                code="overloaded",
                retry_after=retry_after,
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(who, deque()).append(turn)
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give()
            else:
                self._forget(who, turn)
            raise

    def _give(self) -> None:
        """Hand a place to the first of the next line, and put that line behind the others."""
        self.free += 1
        while self._lines and self.free:
            who, line = next(iter(self._lines.items()))
            turn = line.popleft()
            self.waiting -= 1
            if line:
                self._lines.move_to_end(who)
            else:
                del self._lines[who]
            if not turn.done():  # otherwise whoever waited has been cancelled and has not run since
                self.free -= 1
                turn.set_result(None)

    def _forget(self, who: str, turn: asyncio.Future[None]) -> None:
        line = self._lines.get(who, ())
        if turn in line:
            self._lines[who].remove(turn)
            self.waiting -= 1
            if not self._lines[who]:
                del self._lines[who]


@dataclass(slots=True, eq=False)
class Running:
    """One run, and everybody who waits for it."""

    order: Order
    name: str
    """Under which a retry finds it; empty when none can."""
    desk: Desk = field(default_factory=Desk)
    began: float = field(default_factory=time.monotonic)
    listeners: list[asyncio.Queue[Event | None]] = field(default_factory=list)
    waiting: int = 0
    """Clients that want its outcome."""
    ended: float | None = None
    task: asyncio.Task[Outcome] | None = None

    def hear(self, event: Event) -> None:
        """Pass an event on to everybody who listens."""
        for listener in self.listeners:
            if listener.qsize() >= BEHIND:
                listener.get_nowait()
            listener.put_nowait(event)

    def over(self) -> None:
        """No more events will come."""
        self.ended = time.monotonic()
        for listener in self.listeners:
            listener.put_nowait(None)

    @property
    def spent(self) -> Usage:
        """What it has cost so far, or in the end, whether it came to one or was cancelled."""
        return self.desk.account.spent if self.desk.account else Usage()

    async def outcome(self) -> Outcome:
        """What the run comes to; waiting for it, or giving that up, leaves the run as it is."""
        assert self.task is not None
        return await asyncio.shield(self.task)

    async def events(self) -> AsyncIterator[Event]:
        """What happens from now on, until the run is over."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self.listeners.append(queue)
        if self.ended is not None:
            queue.put_nowait(None)
        try:
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self.listeners.remove(queue)


class Runs:
    """All runs of the gateway.

    Args:
        places: runs at once.
        waiting: most requests that may wait for a place.
        store: where runs are recorded; `None` keeps nothing.
    """

    def __init__(self, *, places: int = 64, waiting: int = 512, store: Store | None = None) -> None:
        self.queue = FairQueue(places, waiting)
        self.draining = False
        self._store = store
        self._known: OrderedDict[str, Running] = OrderedDict()
        self._alive: set[Running] = set()
        self._seconds = 1.0
        """How long a run takes, smoothed."""
        self._places = places

    @property
    def alive(self) -> int:
        """Runs that wait or run."""
        return len(self._alive)

    @property
    def retry_after(self) -> float:
        """Seconds after which a place may be free."""
        return max(1.0, self._seconds * (1 + self.queue.waiting) / self._places)

    @asynccontextmanager
    async def wanted(
        self, order: Order, *, who: str = "", name: str = "", joins: bool = True
    ) -> AsyncIterator[Running]:
        """A run for as long as the client stays; the last one to leave an unfinished run cancels it.

        Args:
            order: what is to be run.
            who: whose turn it takes while it waits; keys take turns.
            name: a request of the same name joins the run in flight, or gets the outcome of one that ended lately.
            joins: whether this request does; if not, later ones join it.

        Raises:
            ServeError: the gateway is shutting down (503).
        """
        running = self._known.get(name) if name and joins else None
        if running is None or self._stale(running):
            if self.draining:
                raise ServeError(
                    "the gateway is shutting down: try again in a few seconds",
                    status=503,
                    type="server_error",
                    code="shutting_down",
                    retry_after=5.0,
                )
            running = self._begin(order, who, name)
        running.waiting += 1
        try:
            yield running
        finally:
            running.waiting -= 1
            if not running.waiting and running.ended is None:
                await self._cancel(running)

    async def drain(self, seconds: float) -> None:
        """Let in nobody, wait for what runs, and cancel what is not done in time."""
        self.draining = True
        tasks = {r.task for r in self._alive if r.task}
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for running in [*self._alive]:
            await self._cancel(running)

    def _begin(self, order: Order, who: str, name: str) -> Running:
        running = Running(order, name)
        running.task = asyncio.create_task(self._run(running, who))
        running.task.add_done_callback(_seen)
        self._alive.add(running)
        if name:
            self._known[name] = running
            while len(self._known) > MOST_KEPT:
                self._known.popitem(last=False)
        return running

    async def _run(self, running: Running, who: str) -> Outcome:
        order = running.order
        try:
            async with self.queue.place(who, self.retry_after):
                began = time.monotonic()
                running.desk = Desk(seed=order.seed, roles=order.roles, observe=running.hear)
                outcome = await solve(
                    order.asked.problem,
                    order.method,
                    order.engine,
                    budget=order.budget,
                    desk=running.desk,
                    sampling=order.sampling,
                    store=self._store if order.asked.store else None,
                )
                self._seconds += 0.2 * (time.monotonic() - began - self._seconds)
                return outcome
        except BaseException:
            self._forget(running)  # what failed is not what a retry wants to hear again
            raise
        finally:
            self._alive.discard(running)
            running.over()

    async def _cancel(self, running: Running) -> None:
        task = running.task
        if task is not None and not task.done():
            task.cancel()
            await asyncio.wait({task})
        self._forget(running)

    def _forget(self, running: Running) -> None:
        if self._known.get(running.name) is running:
            del self._known[running.name]

    def _stale(self, running: Running) -> bool:
        return running.ended is not None and time.monotonic() - running.ended > KEPT


def _seen(task: asyncio.Task[Outcome]) -> None:
    with suppress(asyncio.CancelledError):
        task.exception()
