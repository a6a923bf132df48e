"""An OpenAI-style server that behaves, answers from bytes made in advance, and remembers what it saw.

One event is one token. Times are `time.monotonic()`, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from itertools import groupby
from operator import attrgetter
from typing import TypeVar

import orjson
from aiohttp import ClientConnectionError, web

PROMPT_TOKENS = 8
Tokens = tuple[str, ...]
M = TypeVar("M", bound="Mock")


def answer(seed: int) -> Tokens:
    """What a choice says: two seeds of three agree."""
    return (" The", " answer", " is", " 41" if seed % 3 == 2 else " 42", ".")


class Beyond(StrEnum):
    """What happens to a request for more choices than the server makes at once."""

    refuses = "refuses"
    ignores = "ignores"


class Bill(StrEnum):
    """How usage is reported at the end of a stream."""

    total = "total"
    each = "each"
    """One event per choice, right after its end, with the tokens of that choice alone."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a stream."""

    data: bytes
    index: int = 0
    tokens: int = 0
    step: int = 0
    """When it comes: the events of one step are written together."""


@dataclass(slots=True)
class Served:
    """One request for a completion, as the server saw it."""

    at: float
    body: dict[str, object] = field(repr=False)
    n: int = 1
    written: list[int] = field(default_factory=list)
    """Tokens per choice in the events that were wholly written."""
    said: float = 0.0
    """When the last of them was."""
    fault: str = ""
    lossy: bool = False
    """Whether some of what was written may not have been readable at the other end."""
    ended: float | None = None
    disconnected: float | None = None
    """When the client was seen to leave before the end."""

    def count(self, events: Iterable[Event]) -> None:
        """Note what was written."""
        self.said = time.monotonic()
        for event in events:
            self.written[event.index] += event.tokens


@dataclass(slots=True, kw_only=True, eq=False)
class Mock:
    """The server and how it behaves.

    Args:
        says: the tokens of a choice by its seed; choice i of a request has the seed of the request plus i.
        thinks: tokens of thinking before them, in the field `reasoning`.
        delay: seconds before the first byte.
        go: what the first byte waits for.
        pace: seconds between one token of every choice and the next; 0 writes the whole reply at once.
        most: largest `n` it takes.
        kept: how many requests it remembers.
    """

    says: Callable[[int], Tokens] = answer
    thinks: Tokens = ()
    reasoning: str = "reasoning_content"
    delay: float = 0.0
    go: asyncio.Event | None = None
    pace: float = 0.0
    most: int | None = None
    beyond: Beyond = Beyond.refuses
    bill: Bill = Bill.total
    model: str = "mock"
    owner: str = "mock"
    """By which its kind is told."""
    kept: int | None = None
    url: str = ""
    requests: int = 0
    streams: int = 0
    """Streams that are open."""
    models_asked: int = 0
    served: deque[Served] = field(init=False)
    _made: dict[object, list[Event]] = field(default_factory=dict)
    _joined: dict[object, bytes] = field(default_factory=dict)
    _server: web.Server | None = None

    def __post_init__(self) -> None:
        self.served = deque(maxlen=self.kept)

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._server.connections) if self._server else 0

    @property
    def disconnects(self) -> list[float]:
        """When clients left before the end."""
        return [s.disconnected for s in self.served if s.disconnected is not None]

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/stats", self._stats)
        return app

    async def _models(self, _: web.Request) -> web.Response:
        self.models_asked += 1
        listed = {"object": "list", "data": [{"id": self.model, "object": "model", "owned_by": self.owner}]}
        return web.json_response(listed)

    async def _stats(self, _: web.Request) -> web.Response:
        seen = {"requests": self.requests, "streams": self.streams, "served": [asdict(s) for s in self.served]}
        for one in seen["served"]:
            del one["body"]
        return web.json_response(seen)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        served = Served(time.monotonic(), orjson.loads(await request.read()))
        self.requests += 1
        self.streams += 1
        self.served.append(served)
        try:
            return await self.respond(request, served)
        except (asyncio.CancelledError, ConnectionError, ClientConnectionError):
            served.disconnected = time.monotonic()
            raise
        finally:
            self.streams -= 1
            served.ended = time.monotonic()

    async def respond(self, request: web.Request, served: Served) -> web.StreamResponse:
        """Answer as asked."""
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.go:
            await self.go.wait()
        n = self.granted(served.body)
        if n is None:
            return failure(400, f"`n` must be at most {self.most}")
        served.n, served.written = n, [0] * n
        if not served.body.get("stream"):
            served.written = [billed for *_, billed in self.texts(served.body, n)]
            return web.Response(body=self.whole(served.body, n), content_type="application/json")
        response = await opened(request)
        if self.pace:
            await self._paced(response, served)
        else:
            await response.write(self.joined(served.body, n))
            served.count(self.events(served.body, n))
        await response.write_eof()
        return response

    async def _paced(self, response: web.StreamResponse, served: Served) -> None:
        for _, events in groupby(self.events(served.body, served.n), key=attrgetter("step")):
            step = list(events)
            await response.write(b"".join(e.data for e in step))
            served.count(step)
            await asyncio.sleep(self.pace)

    def granted(self, body: dict[str, object]) -> int | None:
        """How many choices a request gets; `None` if it asks for too many."""
        n = body.get("n") or 1
        if self.most is None or n <= self.most:
            return n
        return None if self.beyond is Beyond.refuses else self.most

    def whole(self, body: dict[str, object], n: int) -> bytes:
        """The reply in one piece."""
        texts = self.texts(body, n)
        choices = [
            {"index": i, "message": {"role": "assistant", "content": "".join(tokens)}, "finish_reason": finish}
            for i, (tokens, finish, _) in enumerate(texts)
        ]
        head = {"id": "chatcmpl-0", "object": "chat.completion", "created": 0, "model": self.model}
        return orjson.dumps(head | {"choices": choices, "usage": _usage(sum(billed for *_, billed in texts))})

    def joined(self, body: dict[str, object], n: int) -> bytes:
        """The whole streamed reply."""
        key, events = self._events(body, n)
        if key not in self._joined:
            self._joined[key] = b"".join(e.data for e in events)
        return self._joined[key]

    def events(self, body: dict[str, object], n: int) -> list[Event]:
        """The events of a streamed reply with n choices, one token of every choice after the other."""
        return self._events(body, n)[1]

    def _events(self, body: dict[str, object], n: int) -> tuple[object, list[Event]]:
        options = body.get("stream_options") or {}
        billed = bool(options.get("include_usage")) if isinstance(options, dict) else False
        texts = tuple(self.texts(body, n))
        key = (texts, billed, self.bill)
        if key not in self._made:
            self._made[key] = list(self._written(texts, billed))
        return key, self._made[key]

    def texts(self, body: dict[str, object], n: int) -> Sequence[tuple[Tokens, str, int]]:
        """For every choice: what it says, why it ends, and for how many tokens it is billed."""
        seed, cap = body.get("seed") or 0, body.get("max_completion_tokens") or body.get("max_tokens")
        stops = body.get("stop") or ()
        stops = (stops,) if isinstance(stops, str) else stops
        return [_cut(self.says(seed + i), cap, stops) for i in range(n)]

    def _written(self, texts: Sequence[tuple[Tokens, str, int]], billed: bool) -> Iterator[Event]:
        for i in range(len(texts)):
            yield Event(self._event(i, {"role": "assistant", "content": ""}), i)
        thought = len(self.thinks)
        for step in range(thought + max(len(tokens) for tokens, _, _ in texts) + 1):
            for i, (tokens, finish, counted) in enumerate(texts):
                at = step - thought
                if at < 0:
                    yield Event(self._event(i, {self.reasoning: self.thinks[step]}), i, 1, step)
                elif at < len(tokens):
                    yield Event(self._event(i, {"content": tokens[at]}), i, 1, step)
                elif at == len(tokens):
                    yield Event(self._event(i, {}, finish), i, counted - len(tokens), step)
                    if billed and self.bill is Bill.each:
                        yield Event(self._data(choices=[], usage=_usage(counted + thought)), i, 0, step)
        if billed and self.bill is Bill.total:
            total = sum(counted + thought for _, _, counted in texts)
            yield Event(self._data(choices=[], usage=_usage(total)), step=-1)
        yield Event(b"data: [DONE]\n\n", step=-1)

    def _event(self, index: int, delta: dict[str, str], finish: str | None = None) -> bytes:
        return self._data(choices=[{"index": index, "delta": delta, "finish_reason": finish}])

    def _data(self, **content: object) -> bytes:
        head = {"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 0, "model": self.model}
        return b"data: " + orjson.dumps(head | content) + b"\n\n"


def failure(status: int, message: str, headers: dict[str, str] | None = None) -> web.Response:
    """An error reply in OpenAI's form."""
    error = {"error": {"message": message, "type": "invalid_request_error", "code": status}}
    return web.Response(status=status, body=orjson.dumps(error), headers=headers or {}, content_type="application/json")


async def opened(request: web.Request, content_type: str = "text/event-stream") -> web.StreamResponse:
    """A stream whose headers are on their way."""
    response = web.StreamResponse(headers={"Content-Type": content_type, "Cache-Control": "no-cache"})
    await response.prepare(request)
    return response


@asynccontextmanager
async def serving(mock: M, port: int = 0) -> AsyncIterator[M]:
    """Run a server in this event loop on the loopback address; its address is `mock.url`."""
    runner = web.AppRunner(mock.app(), handler_cancellation=True, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
        mock.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        mock._server = runner.server
        yield mock
    finally:
        await runner.cleanup()


async def until(met: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Wait until a condition is met; whether it was before so many seconds, far more than it should take, were over."""
    end = time.monotonic() + seconds
    while not met():
        if time.monotonic() > end:
            return False
        await asyncio.sleep(0.002)
    return True


def _cut(tokens: Tokens, cap: int | None, stops: Sequence[str]) -> tuple[Tokens, str, int]:
    """What is said of `tokens`, why it ends, and for how many tokens it is billed."""
    text = ""
    for count, token in enumerate(tokens[:cap], 1):
        text += token
        found = [at for stop in stops if (at := text.find(stop)) >= 0]
        if found:
            return (text[: min(found)],), "stop", count
    kept = tokens[:cap]
    return kept, "length" if len(kept) < len(tokens) else "stop", len(kept)


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": PROMPT_TOKENS + tokens}
