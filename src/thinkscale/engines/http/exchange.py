"""The HTTP requests behind one request of ours: all draws in one, or each alone, and what a server is found to refuse.

An exchange decides how to ask and passes on what arrives. It does not retry: whoever asked does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import orjson

from thinkscale.engines import guard
from thinkscale.engines.dialects import Dialect, Habits, News, Piece
from thinkscale.engines.dialects.fields import put_priority, written
from thinkscale.engines.dialects.words import Word, Words
from thinkscale.engines.http.choices import Choices
from thinkscale.engines.http.dispensable import blind, named, refused, room, without
from thinkscale.engines.protocol import UNMADE, Abort, Chunk, Request, ThinkFormat
from thinkscale.engines.refusals import status_of
from thinkscale.engines.sse import Events
from thinkscale.engines.transport import Transport
from thinkscale.errors import CapabilityError, EngineError

log = logging.getLogger(__name__)
DONE = b"[DONE]"
_CAPS = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}


@dataclass(slots=True, kw_only=True)
class Endpoint:
    """One model on one server, and what has been learned about it."""

    transport: Transport
    dialect: Dialect
    model: str
    habits: Habits
    think: ThinkFormat
    most: int | None = None
    """Most choices that one request may ask for; `None` if any number."""
    shares: int = 0
    """Most choices that a request for several has brought."""
    ending: int | None = None
    """Tokens that end a text without a piece of their own; `None` until a reply has shown it."""
    context: int | None = None
    """Tokens of prompt and answer together, where they are known."""
    left_out: set[str] = field(default_factory=set)
    """Fields and roles that it refused and can do without."""
    swapped: bool = False
    """Whether the other name of the cap was tried."""
    words: Words = field(init=False)
    """How its events are written."""

    def __post_init__(self) -> None:
        self.words = Words(self.dialect)

    def learn_to_ask_apart(self, why: str) -> None:
        """From now on every draw is a request of its own."""
        log.info("%s %s: every draw is asked for by a request of its own", self.transport.shown, why)
        self.most = 1

    def body(self, request: Request) -> dict[str, object]:
        """The request as the server takes it."""
        cap = request.sampling.max_tokens
        if cap and self.context and cap >= self.context:
            request = replace(request, sampling=replace(request.sampling, max_tokens=max(1, self.context - 1)))
        body = self.dialect.body(request, self.model, request.n, self.habits)
        put_priority(body, self.habits, waits=_further(request))
        if self.left_out:
            without(body, self.left_out)
        return body

    def drops(self, error: EngineError, body: Mapping[str, object]) -> bool:
        """Whether a refusal names something in the body that we can do without; it is not sent again.

        Raises:
            CapabilityError: it names what the reply depends on.
        """
        words, habits = error.words, self.habits
        cap = next((name for name in _CAPS if name in body), None)
        if cap and refused(error) and "max_completion_tokens" in words and (cap != habits.cap or not self.swapped):
            if cap == habits.cap:
                self.habits, self.swapped = replace(habits, cap=_CAPS[cap]), True
            return True
        extra = [*habits.always, *(["priority"] if habits.later is not None else [])]
        found = [name for name in extra if name in words and name in body] if refused(error) else []
        found = list(dict.fromkeys([*found, *named(error, body, self.transport.clean)]))
        if new := [name for name in found if name not in self.left_out]:
            self.left_out.update(new)
            log.warning("%s refuses %s: not sent any more", self.transport.shown, ", ".join(f"`{n}`" for n in new))
        if "priority" in found:
            self.habits = replace(self.habits, later=None)
        return bool(found)


@dataclass(slots=True)
class Exchange:
    """One request of ours on its way."""

    endpoint: Endpoint
    request: Request
    abort: Abort
    put: Callable[[list[Chunk]], None]
    """Takes what arrives."""
    _begun: set[int] = field(default_factory=set)
    """Draws of which something was passed on."""
    _down: set[int] = field(default_factory=set)

    async def run(self) -> None:
        """Make as few requests as the server allows and pass on what they bring.

        Raises:
            EngineError: nothing can be had from the server, or the only draw failed.
        """
        draws = range(self.request.n)
        # A choice cannot be cancelled, and the server goes on at our expense with one that was cut here.
        cut_here = self.request.sampling.stop and not self.endpoint.habits.tells_stop
        alone = self.request.apart or cut_here or not self.endpoint.dialect.shares
        most = 1 if alone else self.endpoint.most
        size = len(draws) if most is None else most
        groups = [draws[at : at + size] for at in range(0, len(draws), size)]
        if len(groups) == 1:
            await self._together(groups[0])
            return
        async with asyncio.TaskGroup() as requests:
            for group in groups:
                requests.create_task(self._apart(group))

    async def _apart(self, draws: Sequence[int]) -> None:
        """One of several requests: its failure is that of its draws alone."""
        try:
            await self._together(draws)
        except EngineError as failure:
            self.put([Chunk(draw, failure=failure) for draw in draws if draw not in self._down])

    async def _together(self, draws: Sequence[int]) -> None:
        """Several draws by one request, or apart where the server turns out to give one choice at a time."""
        if len(draws) == 1:
            await self._ask(draws)
            return
        try:
            unseen = await self._ask(draws)
        except EngineError as refusal:
            if len(draws) <= self.endpoint.shares or not refused(refusal) or not self._begun.isdisjoint(draws):
                raise
            # Either `n` is refused or something else is; the second fails again, alone.
            await self._ask(draws[:1])
            self.endpoint.learn_to_ask_apart(f"refused {len(draws)} choices at once")
            unseen = [*draws[1:]]
        else:
            if unseen:
                self.endpoint.learn_to_ask_apart(f"gave {len(draws) - len(unseen)} of {len(draws)} choices")
        async with asyncio.TaskGroup() as requests:
            for draw in unseen:
                requests.create_task(self._apart([draw]))

    async def _ask(self, draws: Sequence[int]) -> list[int]:
        """Make one request and pass on its reply; returns the draws that it said nothing about."""
        if all(draw in self.abort for draw in draws):
            self._pass([Chunk(d, completion=UNMADE) for d in draws])
            return []
        choices = self._choices(draws)
        task = cast("asyncio.Task[None]", asyncio.current_task())
        cut = False

        def look() -> None:
            nonlocal cut
            if not cut and choices.unwanted:
                cut = task.cancel()

        try:
            with self.abort.watched(look):
                await self._listen(draws, choices)
        except asyncio.CancelledError:
            if not cut or task.uncancel():
                raise
        except EngineError:
            self._pass(choices.end())
            raise
        if choices.unwanted:
            if choices.unbounded:
                self.endpoint.learn_to_ask_apart("goes on where a choice was to end")
            self._pass(choices.end(cut=True))
            return choices.unseen if choices.unbounded else []
        if choices.woven:
            self.endpoint.learn_to_ask_apart("gives several choices one number")
            raise EngineError(
                f"`{self.endpoint.transport.shown}` gave {len(draws)} choices under one number: ask for each alone",
                retryable=True,
            )
        self._pass(choices.end())
        if choices.broken:
            raise self._cut_off()
        self._learn(choices, len(draws))
        return choices.unseen

    def _learn(self, choices: Choices, asked: int) -> None:
        endpoint = self.endpoint
        endpoint.ending = choices.ending
        if choices.miscounted:
            endpoint.ending = None
            if endpoint.most != 1:
                endpoint.learn_to_ask_apart("does not let us count the tokens of a choice")
        elif asked > 1 and not choices.unseen:
            endpoint.shares = max(endpoint.shares, asked)

    def _choices(self, draws: Sequence[int]) -> Choices:
        """What will come of some of the draws."""
        endpoint, request = self.endpoint, self.request
        prefix, think = written(request.prefix), endpoint.think
        opened = think.unclosed(prefix, ended=True)
        return Choices(
            () if endpoint.habits.tells_stop else request.sampling.stop,
            draws,
            self.abort,
            think,
            endpoint.ending,
            bounds=guard.Bounds(request, endpoint.context),
            opened=opened,
            closed=not opened and think.close.strip() in prefix,
            begun=bool(prefix),
            watched=request.apart,
            trusted=len(draws) <= endpoint.shares,
        )

    async def _listen(self, draws: Sequence[int], choices: Choices) -> None:
        """Read a reply into its choices; the request is made again without what the server refuses."""
        request = self.request if len(draws) == self.request.n else self._part(draws)
        while True:
            body = self.endpoint.body(request)
            try:
                await self._read(request, body, choices)
                return
            except EngineError as error:
                if not self._begun.isdisjoint(draws):
                    raise
                if blind(error, request):
                    raise self._blind(error) from None
                if left := room(error, request, self.endpoint.context):
                    log.info("%s has room for %d tokens behind this prompt", self.endpoint.transport.shown, left)
                    request = replace(request, sampling=replace(request.sampling, max_tokens=left))
                elif not self.endpoint.drops(error, body):
                    raise

    async def _read(self, request: Request, body: Mapping[str, object], choices: Choices) -> None:
        """Make a request and read its reply, to its end or until nothing more of it is wanted."""
        endpoint = self.endpoint
        async with endpoint.transport.streamed(endpoint.dialect.path, body) as reply:
            if not await reply.streams():
                self._take([self._whole(await reply.whole(), request)], choices)
                return
            reply.allow(guard.Bounds(request, endpoint.context).stream)
            events = Events()
            async for block in reply.blocks():
                if self._hear(events.feed(block), choices):
                    choices.close(done=True)
                    await reply.finish()
                    return
                if choices.unwanted:
                    return
            if self._hear(events.end(), choices):
                choices.close(done=True)
                return
            choices.close(done=False)
            if choices.over:
                return
        raise self._cut_off()

    def _whole(self, reply: object, request: Request) -> News:
        """What a reply in one piece says."""
        at = self.endpoint.transport
        if not isinstance(reply, dict):
            raise EngineError(f"`{at.shown}` sent JSON that is no reply: check that it is an OpenAI-compatible server")
        try:
            return self._checked(self.endpoint.dialect.whole(reply, request))
        except guard.ODD as error:
            raise guard.odd(at.shown, "its reply", error) from None

    def _blind(self, error: EngineError) -> CapabilityError:
        at = self.endpoint
        return CapabilityError(
            f"`{at.model}` at `{at.transport.shown}` reads text only (`{at.transport.clean(error.words)}`): take what "
            "is no text out of the messages, or ask a model that reads it",
            status=400,
        )

    def _cut_off(self) -> EngineError:
        return EngineError(
            f"`{self.endpoint.transport.shown}` ended its reply in the middle: ask again, or see the server's log",
            retryable=True,
        )

    def _hear(self, events: Sequence[bytes], choices: Choices) -> bool:
        """Take in events; whether the last one was among them."""
        over = DONE in events
        heard: list[News | Piece | Word] = []
        try:
            # As far as it goes: what was said before a complaint counts.
            heard.extend(self._said(events[: events.index(DONE)] if over else events, choices))
        finally:
            self._take(heard, choices)
        return over

    def _take(self, heard: Sequence[News | Piece | Word], choices: Choices) -> None:
        try:
            self._pass(choices.take(heard))
        except guard.ODD as error:
            raise guard.odd(self.endpoint.transport.shown, "a call of a tool", error) from None

    def _said(self, events: Sequence[bytes], choices: Choices) -> Iterator[News | Piece | Word]:
        dialect, words = self.endpoint.dialect, self.endpoint.words
        begun, counted = choices.begun, choices.counted
        for event in events:
            if begun and (known := words.read(event, counted=counted)) is not None:
                yield known
                continue
            begun = True
            try:
                said = orjson.loads(event)
            except orjson.JSONDecodeError:
                said = self.endpoint.transport.decoded(event)
                choices.mend()
            if not isinstance(said, dict):
                continue
            try:
                news = self._checked(dialect.news(said))
                words.learn(event, news)
            except guard.ODD as error:
                at = self.endpoint.transport
                raise guard.odd(
                    at.shown, at.clean(event[: guard.COMPLAINT].decode("utf-8", "replace")), error
                ) from None
            counted = counted or news.prompt is not None
            yield news

    def _checked(self, news: News) -> News:
        if news.error is not None:
            raise self.endpoint.transport.failure(status_of(news.error), news.error)
        return news

    def _pass(self, chunks: list[Chunk]) -> None:
        self._begun.update(c.index for c in chunks)
        self._down.update(c.index for c in chunks if c.completion is not None)
        if chunks:
            self.put(chunks)

    def _part(self, draws: Sequence[int]) -> Request:
        paths = self.request.paths or tuple((i,) for i in range(self.request.n))
        seeds = tuple(self.request.seeds[d] for d in draws)
        return replace(self.request, seeds=seeds, paths=tuple(paths[d] for d in draws))


def _further(request: Request) -> bool:
    """Whether the first attempt at the question is not among the draws, nor is any step of it."""
    return bool(request.paths) and all(any(path) for path in request.paths)
