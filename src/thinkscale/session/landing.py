"""The places of an engine, and the queue through which concurrent work hands its results to one consumer."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Generic, TypeVar

from thinkscale.engines.protocol import Abort
from thinkscale.errors import first_failure

T = TypeVar("T")
A = TypeVar("A")

GRACE = 2.0
"""Seconds that an engine has to end aborted draws before its stream is closed."""


class Slots:
    """How many draws an engine runs at once; places go first come, first served."""

    def __init__(self, limit: int) -> None:
        self.free = limit
        self._queue: deque[asyncio.Future[None]] = deque()

    async def take(self, wanted: int) -> int:
        """Wait for a place and take up to `wanted`; returns how many were taken, at least one."""
        while self.free == 0:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._queue.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._call()
                raise
        taken = min(wanted, self.free)
        self.free -= taken
        self._call()
        return taken

    def give(self, places: int) -> None:
        """Return places."""
        self.free += places
        self._call()

    def _call(self) -> None:
        while self._queue and self.free:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return


class Landing(Generic[T]):
    """Queue of results for one consumer.

    When the consumer leaves early, whatever is under way is told to abort and waited for; what it still delivers is
    kept in `surplus`, because it was paid for.
    """

    def __init__(self) -> None:
        self.abort = Abort()
        self.timed_out = False
        """Whether the deadline and not the consumer caused the abort."""
        self.surplus: list[T] = []
        self._arrived: deque[tuple[int, T] | None] = deque()
        self._wanted: asyncio.Future[None] | None = None
        """The future that the consumer awaits while the queue is empty."""
        self._admitting = False
        self._caught_up = asyncio.Event()

    def put(self, index: int, result: T) -> None:
        """Deliver one result."""
        if not self.abort.everything:
            self._caught_up.clear()
        self._deliver((index, result))

    def _deliver(self, arrived: tuple[int, T] | None) -> None:
        self._arrived.append(arrived)
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    async def looked_at(self) -> None:
        """Wait until the consumer has seen every result so far, because it may not want any more."""
        await self._caught_up.wait()

    async def unless_over(
        self, admission: Coroutine[None, None, A], undo: Callable[[A], None] = lambda _: None
    ) -> A | None:
        """Wait for admission and for the consumer to catch up; `None`, after `undo`, if the consumer has left."""
        self._admitting = True
        try:
            admitted = None if self.abort.everything else await admission
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not self.abort.everything or task is None:
                raise
            task.uncancel()
            return None
        finally:
            self._admitting = False
            admission.close()
        if not self._caught_up.is_set():
            await self.looked_at()
        if admitted is not None and self.abort.everything:
            undo(admitted)
            return None
        return admitted

    async def of(
        self, launch: Coroutine[None, None, None], patience: float = GRACE
    ) -> AsyncGenerator[tuple[int, T], None]:
        """Run `launch`, which puts results here, and yield them as they arrive; re-raises its failure.

        When the consumer leaves, `launch` has `patience` seconds to end by itself before it is cancelled.
        """
        launching = asyncio.create_task(launch)
        launching.add_done_callback(lambda _: self._deliver(None))
        try:
            while (arrived := await self._next()) is not None:
                yield arrived
            try:
                await launching
            except BaseExceptionGroup as failures:
                raise first_failure(failures) from None
        finally:
            await self._end(launching, patience)

    async def _next(self) -> tuple[int, T] | None:
        while not self._arrived:
            self._caught_up.set()
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted
        return self._arrived.popleft()

    async def _end(self, launching: asyncio.Task[None], patience: float) -> None:
        self.abort.end()
        self._caught_up.set()
        if self._admitting:
            launching.cancel()
        if not launching.done():
            await asyncio.wait({launching}, timeout=patience)
            launching.cancel()
            await asyncio.wait({launching})
        if not launching.cancelled():
            launching.exception()  # marked as seen: what was not needed any more may fail unheard
        self.surplus += [arrived[1] for arrived in self._arrived if arrived is not None]
        self._arrived.clear()
