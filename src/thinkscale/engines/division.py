"""One request to a pool: given to a replica whole, or divided among several and what comes of it joined again.

Whoever of them fails before it began is left for another; whoever fails later takes down only what it had.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from thinkscale.engines.protocol import UNMADE, Abort, Chunk, Request
from thinkscale.engines.routing import Place, Replica, Routing, Waiter
from thinkscale.errors import EngineError, first_failure
from thinkscale.identity import prompt_name
from thinkscale.types import Finish


async def _as_a_whole(chunks: AsyncGenerator[Chunk, None]) -> AsyncGenerator[Chunk, None]:
    """The chunks, except that draws which all fail before anything arrives are one failure of the whole, and raised."""
    failed: list[Chunk] = []
    arrived = False
    async with aclosing(chunks):
        async for chunk in chunks:
            if chunk.failure is not None and not arrived:
                failed.append(chunk)
                continue
            arrived = True
            while failed:
                yield failed.pop(0)
            yield chunk
    if failed and failed[0].failure is not None:
        raise failed[0].failure


@dataclass(slots=True)
class _Group:
    """Draws of a request that one replica makes together."""

    place: Place
    order: Sequence[Replica]
    """The replicas that might have had them."""
    left: list[int] = field(init=False)
    """Draws that have not ended."""
    arrived: bool = False
    movable: bool = False
    """Whether it failed in a way in which another replica need not."""

    def __post_init__(self) -> None:
        self.left = [*self.place.draws]


@dataclass(slots=True)
class _News:
    """A chunk on its way to whoever asked."""

    chunk: Chunk
    taken: asyncio.Future[None] | None = None
    """Done when it was looked at: no engine gets ahead of what its reader wants."""


class Members(Protocol):
    """Who opens replicas."""

    async def open(self) -> None:
        """Open all of them, once."""
        ...

    async def join(self, replica: Replica) -> None:
        """Open one that could not be opened before.

        Raises:
            EngineError: it still cannot, or it is not what the others are.
        """
        ...


@dataclass(slots=True)
class Division:
    """One request, wherever its draws are made."""

    pool: Members
    routing: Routing
    request: Request
    abort: Abort
    _since: int = field(init=False)
    _news: asyncio.Queue[_News | None] = field(init=False, default_factory=asyncio.Queue)

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """Serve every draw and yield what comes, from all replicas as it comes."""
        await self.pool.open()
        self._since = self.routing.event()
        waiter = Waiter(self._since, self._preferred(), [*range(self.request.n)])
        with self.abort.watched(partial(self._end_aborted, waiter)):
            place = await self._seated(waiter)
        if place is None or waiter.draws or not self._news.empty():
            divided = self._divided(waiter, place)
        else:
            # Nearly every request: one replica makes all of it, and nothing has to be joined.
            group = _Group(place, waiter.order)
            try:
                async with aclosing(self._made(group)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            except EngineError as failure:
                if not group.movable:
                    raise
                divided = self._divided(self._elsewhere(group, failure))
        async with aclosing(_as_a_whole(divided)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _divided(self, waiter: Waiter, place: Place | None = None) -> AsyncGenerator[Chunk, None]:
        """What several replicas make at once, beginning with those of `place`."""
        serving = asyncio.create_task(self._serve(waiter, place))
        # A task that is cancelled before its first step never gets to return its places itself.
        serving.add_done_callback(lambda _: self.routing.over(place) if place else None)
        serving.add_done_callback(lambda _: self._news.put_nowait(None))
        try:
            while news := await self._news.get():
                yield news.chunk
                if news.taken and not news.taken.done():
                    news.taken.set_result(None)
            try:
                await serving
            except BaseExceptionGroup as failures:
                raise first_failure(failures) from None
        finally:
            serving.cancel()
            await asyncio.wait({serving})
            if not serving.cancelled():
                serving.exception()  # marked as seen: whoever left does not want to know

    async def _serve(self, waiter: Waiter, place: Place | None = None) -> None:
        """Find places for draws until all have one, and bring down those that get none."""
        async with asyncio.TaskGroup() as groups:
            if place is not None:
                self._start(groups, place, waiter)
            with self.abort.watched(partial(self._end_aborted, waiter)):
                while waiter.draws:
                    place = await self._seated(waiter)
                    if place is not None:
                        self._start(groups, place, waiter)

    async def _seated(self, waiter: Waiter) -> Place | None:
        """A place for some draws, as soon as there is one; those that get none come down."""
        self._end_aborted(waiter)
        if not waiter.draws:
            return None
        try:
            return await self.routing.turn(waiter)
        except EngineError as failure:
            self._fail(waiter.draws, failure)
            waiter.draws.clear()
            return None

    def _end_aborted(self, waiter: Waiter) -> None:
        for index in [i for i in waiter.draws if i in self.abort]:
            waiter.draws.remove(index)
            self._news.put_nowait(_News(Chunk(index, completion=UNMADE)))
        if not waiter.draws:
            waiter.end()

    def _start(self, groups: asyncio.TaskGroup, place: Place, waiter: Waiter) -> None:
        flight = groups.create_task(self._fly(_Group(place, waiter.order)))
        flight.add_done_callback(lambda _: self.routing.over(place))

    async def _fly(self, group: _Group) -> None:
        """Have a group made, by another replica if this one failed before it began."""
        try:
            async with aclosing(self._made(group)) as chunks:
                async for chunk in chunks:
                    await self._pass_on(chunk)
        except EngineError as failure:
            if group.movable:
                await self._serve(self._elsewhere(group, failure))
            else:
                self._fail(group.left, failure)

    async def _made(self, group: _Group) -> AsyncGenerator[Chunk, None]:
        """What a group's replica makes of it, and the failure of what it leaves unfinished.

        Raises:
            EngineError: nothing of it arrived; if the group is movable, another replica may do better.
        """
        place, failure = group.place, None
        failed: list[Chunk] = []
        try:
            try:
                if not place.replica.opened:
                    await self.pool.join(place.replica)
                async with aclosing(place.replica.engine.stream(*self._part(place))) as chunks:
                    async for chunk in chunks:
                        # Draws that all fail before anything arrives are one failure of the whole.
                        if chunk.failure is not None and not group.arrived:
                            failed.append(chunk)
                            continue
                        group.arrived = True
                        for early in failed:
                            yield self._noted(group, early)
                        failed.clear()
                        yield self._noted(group, chunk)
                if group.left:
                    cut = EngineError("a replica ended its reply before every draw was complete", retryable=True)
                    failure = failed[0].failure if failed else cut
            except EngineError as error:
                failure = error
            group.movable = self.routing.judge(place, failure)
        finally:
            self.routing.over(place)
        if failure and not group.arrived:
            raise failure
        for index in group.left if failure else ():
            yield Chunk(index, failure=failure)

    def _part(self, place: Place) -> tuple[Request, Abort]:
        """The request for the draws of a place, and the wish to end them."""
        request = self.request
        if len(place.draws) == request.n:
            return request, self.abort
        paths = request.paths or tuple((i,) for i in range(request.n))
        seeds = tuple(request.seeds[i] for i in place.draws)
        part = replace(request, seeds=seeds, paths=tuple(paths[i] for i in place.draws))
        return part, Abort(parent=self.abort, renumbered=place.draws)

    def _noted(self, group: _Group, chunk: Chunk) -> Chunk:
        """A chunk by the number that its draw has here, once the replica's account of it is up to date."""
        self.routing.heard(group.place)
        index = group.place.draws[chunk.index]
        if chunk.completion is not None or chunk.failure is not None:
            group.left.remove(index)
            self._ended(group.place, chunk)
        return chunk if index == chunk.index else replace(chunk, index=index)

    def _elsewhere(self, group: _Group, failure: EngineError) -> Waiter:
        """The draws of a group that failed before it began, on their way to the other replicas."""
        others = [r for r in group.order if r is not group.place.replica]
        return Waiter(self._since, others, group.left, failure)

    def _preferred(self) -> Sequence[Replica]:
        """The replicas as the request's prompt prefers them."""
        replicas = self.routing.replicas
        if len(replicas) == 1:
            return replicas
        return self.routing.order(prompt_name(self.request.messages, self.request.tools))

    def _ended(self, place: Place, chunk: Chunk) -> None:
        if chunk.failure is not None and chunk.failure.overloaded:
            place.replica.limit.cut(place.cuts)
            self.routing.pause(place.replica, chunk.failure)
        self.routing.ended(place, well=chunk.completion is not None and chunk.completion.finish is not Finish.error)

    async def _pass_on(self, chunk: Chunk) -> None:
        news = _News(chunk, asyncio.get_running_loop().create_future())
        self._news.put_nowait(news)
        if news.taken:
            await news.taken

    def _fail(self, draws: Sequence[int], failure: EngineError) -> None:
        for index in draws:
            self._news.put_nowait(_News(Chunk(index, failure=failure)))
