"""What is asked in the same turn of the event loop goes out together. It knows no server and no rewards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

Item = TypeVar("Item")
Result = TypeVar("Result")

_Waiting = list[tuple[Item, "asyncio.Future[Result]"]]


class Batches(Generic[Item, Result]):
    """A queue that is emptied once per turn of the event loop.

    Args:
        serve: gives one result per item, in order, and raises nothing.
    """

    def __init__(self, serve: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]]) -> None:
        self._serve = serve
        self._waiting: WeakKeyDictionary[asyncio.AbstractEventLoop, _Waiting[Item, Result]] = WeakKeyDictionary()
        self._under_way: WeakKeyDictionary[asyncio.AbstractEventLoop, set[asyncio.Task[None]]] = WeakKeyDictionary()

    async def put(self, items: Sequence[Item]) -> list[Result]:
        """The results of some items, in order, once all are there. Cancelling withdraws the items."""
        loop = asyncio.get_running_loop()
        waiting = self._waiting.setdefault(loop, [])
        if not waiting:
            loop.call_soon(self._send, loop)
        own: list[asyncio.Future[Result]] = [loop.create_future() for _ in items]
        waiting.extend(zip(items, own, strict=True))
        try:
            return [await future for future in own]
        finally:
            for future in own:
                future.cancel()

    async def aclose(self) -> None:
        """End what is under way in this event loop."""
        tasks = self._under_way.pop(asyncio.get_running_loop(), set())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting = [(item, future) for item, future in self._waiting.pop(loop) if not future.done()]
        if not waiting:
            return
        task = loop.create_task(self._served(waiting))
        tasks = self._under_way.setdefault(loop, set())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

        def withdrawn(_: object) -> None:
            if all(future.done() for _, future in waiting):
                task.cancel()

        for _, future in waiting:
            future.add_done_callback(withdrawn)

    async def _served(self, waiting: _Waiting[Item, Result]) -> None:
        try:
            results = await self._serve([item for item, _ in waiting])
            for (_, future), result in zip(waiting, results, strict=True):
                if not future.done():
                    future.set_result(result)
        finally:
            # Nobody is left waiting for what will not come.
            for _, future in waiting:
                future.cancel()
