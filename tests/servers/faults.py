"""A server that fails in every way that servers and networks fail in, at random and on record.

What it wrote is known per request, so what a client says it received can be checked against it.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import NoReturn

from aiohttp import web

from servers.mock import Event, Mock, Served, Tokens, failure, opened

GONE = 30.0
"""Seconds after which a client that should have left is taken to hang."""


def answer(seed: int) -> Tokens:
    """What a choice says, with characters of several bytes."""
    return (" Voilà", ":", " the", " answer", " is", f" {40 + seed % 3}", " ✓", ".")


@dataclass(slots=True, kw_only=True, eq=False)
class Faults(Mock):
    """A mock of which a share of requests goes wrong.

    Args:
        seed: of the order of faults.
        rate: share of requests that go wrong, 0 to 1.
        only: the faults to choose from; all of them when empty.
    """

    seed: int = 0
    rate: float = 0.4
    only: tuple[str, ...] = ()
    says: Callable[[int], Tokens] = answer
    done: Counter[str] = field(default_factory=Counter)
    """How often each fault was played."""
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        Mock.__post_init__(self)
        self._random = random.Random(self.seed)

    async def respond(self, request: web.Request, served: Served) -> web.StreamResponse:
        """Answer as asked, or go wrong."""
        if self._random.random() >= self.rate:
            return await Mock.respond(self, request, served)
        served.fault = self._random.choice(self.only or tuple(FAULTS))
        self.done[served.fault] += 1
        served.n = served.body.get("n") or 1
        served.written = [0] * served.n
        play = _Play(self, request, served, self.events(served.body, served.n), self._random)
        return await FAULTS[served.fault](play)


@dataclass(slots=True)
class _Play:
    """One request that goes wrong."""

    server: Faults
    request: web.Request
    served: Served
    events: list[Event]
    random: random.Random

    def some(self) -> list[Event]:
        """The first few events, without the last."""
        return self.events[: self.random.randrange(1, len(self.events))]

    async def write(self, response: web.StreamResponse, events: Iterable[Event]) -> None:
        for event in events:
            await response.write(event.data)
            self.served.count([event])

    async def silence(self) -> NoReturn:
        """Say nothing until the client leaves, which cancels this."""
        await asyncio.sleep(GONE)
        raise AssertionError("a client waited for a silent server")

    async def leave(self, *, politely: bool) -> NoReturn:
        """End the connection, not the reply."""
        # What a client has not read when the connection ends may be lost to it, however well it behaves.
        self.served.lossy = True
        transport = self.request.transport
        assert transport is not None
        if politely:
            transport.close()
        else:
            transport.abort()
        await self.silence()


async def late(play: _Play) -> web.StreamResponse:
    await asyncio.sleep(play.random.uniform(0.01, 0.1))
    return await Mock.respond(play.server, play.request, play.served)


async def slow_drip(play: _Play) -> web.StreamResponse:
    """A few bytes at a time, so that events and characters are torn."""
    response = await opened(play.request)
    for event in play.events:
        at = 0
        while at < len(event.data):
            size = play.random.randrange(1, 48)
            await response.write(event.data[at : at + size])
            await asyncio.sleep(0)
            at += size
        play.served.count([event])
    await response.write_eof()
    return response


async def limited_for_seconds(play: _Play) -> web.StreamResponse:
    return failure(429, "slow down", {"Retry-After": "1"})


async def limited_for_milliseconds(play: _Play) -> web.StreamResponse:
    return failure(429, "slow down", {"retry-after-ms": "40"})


async def limited(play: _Play) -> web.StreamResponse:
    return failure(429, "slow down")


async def broken(play: _Play) -> web.StreamResponse:
    return failure(500, "internal error")


async def bad_gateway(play: _Play) -> web.StreamResponse:
    return web.Response(status=502, text="<html><h1>502 Bad Gateway</h1></html>", content_type="text/html")


async def unavailable(play: _Play) -> web.StreamResponse:
    return web.Response(status=503, text="upstream connect error")


async def mute(play: _Play) -> web.StreamResponse:
    """Not even headers."""
    await play.silence()


async def stall(play: _Play) -> web.StreamResponse:
    """Headers, perhaps some tokens, then silence."""
    response = await opened(play.request)
    if play.random.random() < 0.7:
        await play.write(response, play.some())
    await play.silence()


async def reset_at_once(play: _Play) -> web.StreamResponse:
    await play.leave(politely=False)


async def reset_within(play: _Play) -> web.StreamResponse:
    response = await opened(play.request)
    await play.write(response, play.some())
    await play.leave(politely=False)


async def truncated(play: _Play) -> web.StreamResponse:
    """The connection ends in the middle of an event."""
    response = await opened(play.request)
    told = play.some()
    await play.write(response, told)
    await response.write(play.events[len(told)].data[:25])
    await play.leave(politely=True)


async def web_page(play: _Play) -> web.StreamResponse:
    return web.Response(text="<!doctype html><p>Please log in.", content_type="text/html")


async def garbage_event(play: _Play) -> web.StreamResponse:
    response = await opened(play.request)
    await play.write(response, play.some())
    await response.write(b'data: {"choices": [{"index"\n\n')
    await response.write_eof()
    return response


async def error_event(play: _Play) -> web.StreamResponse:
    response = await opened(play.request)
    await play.write(response, play.some())
    await response.write(b'data: {"error": {"message": "the engine died", "code": 500}}\n\n')
    await response.write_eof()
    return response


async def mislabelled(play: _Play) -> web.StreamResponse:
    """Events under another content type: a client may refuse to read them."""
    play.served.lossy = True
    response = await opened(play.request, "application/octet-stream")
    await play.write(response, play.events)
    await response.write_eof()
    return response


async def no_end_mark(play: _Play) -> web.StreamResponse:
    response = await opened(play.request)
    await play.write(response, play.events[:-1])
    await response.write_eof()
    return response


async def fewer_choices(play: _Play) -> web.StreamResponse:
    response = await opened(play.request)
    await play.write(response, play.server.events(play.served.body, max(1, play.served.n - 1)))
    await response.write_eof()
    return response


FAULTS: dict[str, Callable[[_Play], Awaitable[web.StreamResponse]]] = {
    play.__name__: play
    for play in (
        late,
        slow_drip,
        limited_for_seconds,
        limited_for_milliseconds,
        limited,
        broken,
        bad_gateway,
        unavailable,
        mute,
        stall,
        reset_at_once,
        reset_within,
        truncated,
        web_page,
        garbage_event,
        error_event,
        mislabelled,
        no_end_mark,
        fewer_choices,
    )
}
"""Every way of going wrong, by name."""
