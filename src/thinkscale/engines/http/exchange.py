"""The HTTP requests behind one request of ours: all draws in one, or each alone, and what a server is found to refuse.

An exchange decides how to ask and passes on what arrives. It does not retry: whoever asked does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from thinkscale.engines.dialects import Dialect, Habits, News, Piece
from thinkscale.engines.dialects.fields import put_priority, written
from thinkscale.engines.dialects.words import Word, Words
from thinkscale.engines.http.choices import Choices
from thinkscale.engines.protocol import UNMADE, Abort, Chunk, Request, ThinkFormat
from thinkscale.engines.sse import Events
from thinkscale.engines.transport import Transport
from thinkscale.errors import ContextError, EngineError, ModelError

log = logging.getLogger(__name__)
DONE = b"[DONE]"


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
    words: Words = field(init=False)
    """How its events are written."""

    def __post_init__(self) -> None:
        self.words = Words(self.dialect)

    def learn_to_ask_apart(self, why: str) -> None:
        """From now on every draw is a request of its own."""
        log.info("%s %s: every draw is asked for by a request of its own", self.transport.shown, why)
        self.most = 1

    def drops(self, error: EngineError) -> bool:
        """Whether a refusal names a field that we can do without; it is not sent again."""
        said, habits = str(error), self.habits
        if not _refused(error):
            return False
        if "max_completion_tokens" in said and habits.cap == "max_tokens":
            self.habits = replace(habits, cap="max_completion_tokens")
            return True
        if "priority" in said and habits.later is not None:
            self.habits = replace(habits, later=None)
            return True
        named = [name for name in habits.always if name in said]
        if not named:
            return False
        log.info("%s refuses %s: not sent any more", self.transport.shown, ", ".join(named))
        self.habits = replace(habits, always={k: v for k, v in habits.always.items() if k not in named})
        return True


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
            if len(draws) <= self.endpoint.shares or not _refused(refusal) or not self._begun.isdisjoint(draws):
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
        endpoint, sampling = self.endpoint, self.request.sampling
        stops = () if endpoint.habits.tells_stop else sampling.stop
        watched, opened = self.request.apart, endpoint.think.unclosed(written(self.request.prefix), ended=True)
        choices = Choices(stops, draws, self.abort, endpoint.think, endpoint.ending, opened=opened, watched=watched)
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
            self._pass(choices.end(cut=True))
            return []
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

    async def _listen(self, draws: Sequence[int], choices: Choices) -> None:
        """Read a reply into its choices; the request is made again without what the server refuses."""
        request = self.request if len(draws) == self.request.n else self._part(draws)
        while True:
            try:
                await self._read(request, choices)
                return
            except EngineError as error:
                if not self._begun.isdisjoint(draws) or not self.endpoint.drops(error):
                    raise

    async def _read(self, request: Request, choices: Choices) -> None:
        """Make a request and read its reply, to its end or until nothing more of it is wanted."""
        endpoint = self.endpoint
        body = endpoint.dialect.body(request, endpoint.model, request.n, endpoint.habits)
        put_priority(body, endpoint.habits, waits=_further(request))
        async with endpoint.transport.streamed(endpoint.dialect.path, body) as reply:
            if not reply.streams:
                whole = await reply.whole()
                if not isinstance(whole, dict):
                    raise EngineError(
                        f"`{endpoint.transport.shown}` sent JSON that is no reply: check that it is an "
                        "OpenAI-compatible server"
                    )
                self._pass(choices.take([self._checked(endpoint.dialect.whole(whole, request))]))
                return
            events = Events()
            async for block in reply.blocks():
                if self._hear(events.feed(block), choices):
                    await reply.finish()
                    return
                if choices.unwanted:
                    return
            if self._hear(events.end(), choices) or choices.over:
                return
        raise self._cut_off()

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
            self._pass(choices.take(heard))
        return over

    def _said(self, events: Sequence[bytes], choices: Choices) -> Iterator[News | Piece | Word]:
        dialect, words = self.endpoint.dialect, self.endpoint.words
        begun, counted = choices.begun, choices.counted
        for event in events:
            if begun and (known := words.read(event, counted=counted)) is not None:
                yield known
                continue
            begun = True
            said = self.endpoint.transport.decoded(event)
            if not isinstance(said, dict):
                continue
            news = self._checked(dialect.news(said))
            words.learn(event, news)
            counted = counted or news.prompt is not None
            yield news

    def _checked(self, news: News) -> News:
        if news.error is not None:
            code = news.error.get("code")
            raise self.endpoint.transport.failure(code if isinstance(code, int) and code >= 400 else 500, news.error)
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


def _refused(error: EngineError) -> bool:
    """Whether the server took offence at the request's form."""
    return error.status in (400, 422) and not isinstance(error, ContextError | ModelError)
