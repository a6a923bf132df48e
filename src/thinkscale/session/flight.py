"""One request in flight: replay the draws that are known, ask the engine for the rest, and retry those that fail.

This is the only part of a session that touches engines. It turns one admitted batch into completions and knows nothing
of budgets, answers or methods.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, fields, replace
from typing import Protocol

import stamina

from thinkscale.engines.protocol import UNMADE, Abort, Chunk, Completion, Engine, Request
from thinkscale.errors import EngineError
from thinkscale.types import Finish, Logprobs, Origin, Segment, Usage

ATTEMPTS = 5
"""How often a request is made before its failure is recorded."""


class Memory(Protocol):
    """Completions that were paid for, by key."""

    def recall(self, keys: Sequence[str]) -> dict[str, Completion]:
        """The known ones among `keys`."""
        ...

    def remember(self, key: str, completion: Completion) -> None:
        """Keep one for good."""
        ...


@dataclass(slots=True)
class Flight:
    """One request under way, and what has arrived of each of its draws."""

    engine: Engine
    request: Request
    keys: tuple[str, ...]
    abort: Abort
    memory: Memory | None
    settle: Callable[[Completion], None]
    """Called once per draw as soon as it costs no more, with its completion."""
    land: Callable[[int, Completion, bool], None]
    """Called once per draw, then or later, with its index, its completion, and whether that came from memory."""
    looked_at: Callable[[], Awaitable[None]]
    """Waits until the consumer has seen what landed."""
    news: Callable[[Flight, int, Chunk], None] | None = None
    """Called with the flight, the index of a draw and every piece of it that arrives."""
    restart: Callable[[int], None] = lambda _: None
    """Called when a draw is asked for again: what it had written is gone."""
    stands: Callable[[int], int] = lambda _: 0
    """The most tokens that anybody was told of a draw."""
    undecided: Callable[[int], asyncio.Task[None] | None] = lambda _: None
    """Waits for what was asked about a draw, if anything was: it may be cut where it stood."""
    frugal: bool = False
    """Whether known draws land one after the other, until the consumer has enough."""
    continued: Callable[[], None] | None = None
    """Told of every draw that goes on where an earlier run was cut off; `None` has such draws made anew."""
    failed: Callable[[EngineError], None] | None = None
    """Called with what made draws fail for good, before they land."""
    text: list[str] = field(init=False)
    tokens: list[int] = field(init=False)
    """Tokens that arrived in the attempt at hand."""
    signals: list[Logprobs | None] = field(init=False)
    """Their log-probabilities, as far as somebody watches and the engine tells them on the way."""
    lost: list[int] = field(init=False)
    """Tokens of attempts that broke off; they are charged to the draw."""
    landed: set[int] = field(init=False, default_factory=set)
    cuts: dict[int, tuple[str, int]] = field(init=False, default_factory=dict)
    """Text and tokens at which draws were cut: what an engine wrote beyond is charged and left out."""
    _retries: asyncio.TaskGroup = field(init=False)

    def __post_init__(self) -> None:
        self.text = [""] * self.request.n
        self.tokens = [0] * self.request.n
        self.lost = [0] * self.request.n
        self.signals = [None] * self.request.n

    async def run(self) -> None:
        """Bring every draw down: replayed, complete, failed, or cut off where a cancellation found it."""
        try:
            async with asyncio.TaskGroup() as self._retries:
                begun = await self._replay(self.memory.recall(self.keys)) if self.memory else {}
                for index, so_far in begun.items():
                    self._retries.create_task(self._go_on(index, so_far))
                wanted = [i for i in self._missing(range(self.request.n)) if i not in begun]
                try:
                    await self._stream(wanted)
                except EngineError as failure:
                    await self._retry(wanted, failure)
        finally:
            for index in self._missing(range(self.request.n)):
                self._forget(index)
                self._end(index, self._partial(index, Finish.aborted))

    async def _replay(self, known: Mapping[str, Completion]) -> dict[int, Completion]:
        """Land what was paid for. A draw that was aborted counts as such only where it would be aborted again.

        Returns:
            The beginnings of draws that are to go on from there.
        """
        cut = {i: c for i, key in enumerate(self.keys) if (c := known.get(key)) and c.finish is Finish.aborted}
        for index, key in enumerate(self.keys):
            if index in self.abort:
                break
            if key in known and index not in cut:
                self._down(index, known[key], replayed=True)
                if self.frugal:
                    await self.looked_at()
            elif index in cut and self.news:
                self._show(index, cut[index])
                self.news(self, index, Chunk(index, "", 0))
                if question := self.undecided(index):
                    await question
                self._show(index, UNMADE)
        if self.landed or cut:
            await self.looked_at()
        for index in self._missing(range(self.request.n)):
            if index in self.abort:
                self._down(index, cut.get(index, UNMADE), replayed=index in cut)
        most = (self.request.sampling.max_tokens or math.inf) if self.continued else 0
        return {i: c for i, c in cut.items() if i not in self.landed and 0 < c.tokens < most}

    async def _go_on(self, index: int, so_far: Completion) -> None:
        """Have a draw go on where an earlier run was cut off; where that breaks off it is made anew, as any other."""
        request, cap = self.request, self.request.sampling.max_tokens
        least = max(0, request.sampling.min_tokens - so_far.tokens)
        left = replace(request.sampling, max_tokens=cap and cap - so_far.tokens, min_tokens=least)
        written = Segment(text=so_far.text, origin=Origin.sampled, tokens=so_far.tokens, token_ids=so_far.token_ids)
        rest = replace(
            request,
            prefix=(*request.prefix, written),
            sampling=left,
            # Not the numbers that the beginning was drawn by.
            seeds=((request.seeds[index] + so_far.tokens) % 2**63,),
            paths=request.paths[index : index + 1],
        )
        if self.continued:
            self.continued()
        self._show(index, so_far)
        self.signals[index] = _longer(None, so_far.logprobs) if so_far.logprobs else None
        abort = Abort(parent=self.abort, renumbered=(index,))
        try:
            async with aclosing(self.engine.stream(rest, abort)) as chunks:
                async for chunk in chunks:
                    whole = _joined(so_far, chunk.completion) if chunk.completion else None
                    self._heard(index, replace(chunk, index=index, completion=whole))
                    if chunk.failure is not None:
                        raise chunk.failure
            if self._missing([index]):
                raise EngineError("the engine ended its reply before the draw was complete", retryable=True)
        except EngineError as failure:
            await self._retry([index], failure)

    def cut(self, index: int, text: str, tokens: int) -> None:
        """End a draw at a text it had, whatever it has written since."""
        if index not in self.cuts:
            self.cuts[index] = (text, tokens)
            self.abort.end(index)

    def _show(self, index: int, so_far: Completion) -> None:
        """Let a draw stand where a completion leaves it."""
        self.text[index], self.tokens[index], self.signals[index] = so_far.text, so_far.tokens, so_far.logprobs

    async def _retry(self, wanted: list[int], failure: EngineError) -> None:
        """Ask again for draws that failed, as long as that can help; what stays failed comes down as it is."""
        # What retries hold waits for the collector: the flight, with all that was asked, is taken from them at the end.
        hopeful = [self._worth_retrying]
        attempts = aiter(stamina.retry_context(on=lambda e: hopeful[0](wanted, e), attempts=ATTEMPTS, timeout=None))
        try:
            while attempt := await self._unless_over(attempts):
                with attempt:
                    if attempt.num == 1:
                        raise failure
                    await self._cut(wanted)
                    await self._stream(wanted)
        except EngineError as error:
            await self._cut(wanted)
            if self.failed and self._missing(wanted):
                self.failed(error)
            for index in self._missing(wanted):
                self._down(index, self._partial(index, Finish.error, str(error)))
        finally:
            hopeful.clear()

    async def _cut(self, wanted: Sequence[int]) -> None:
        """Before draws that broke off are asked for again or given up: land those that are cut where they stood."""
        for index in self._missing(wanted):
            if not self.abort.over and (question := self.undecided(index)):
                await question
            if index in self.cuts:
                self._end(index, self._partial(index, Finish.aborted))

    async def _unless_over(self, attempts: AsyncIterator[stamina.Attempt]) -> stamina.Attempt | None:
        """The next attempt, after the wait before it; `None` when there is none, or nobody waits for it any more."""
        waiting = asyncio.ensure_future(anext(attempts, None))
        with self.abort.watched(lambda: self.abort.over and waiting.cancel()):
            try:
                return None if self.abort.over else await waiting
            except asyncio.CancelledError:
                if not self.abort.over:
                    raise
                return None
            finally:
                waiting.cancel()

    async def _stream(self, wanted: list[int]) -> None:
        """Make one request for those of the draws that are missing; one that fails alone leaves `wanted`."""
        asked = self._missing(wanted)
        if not asked:
            return
        abort = self.abort
        if len(asked) < self.request.n:
            abort = Abort(parent=abort, renumbered=tuple(asked))
        async with aclosing(self.engine.stream(self._asking(asked), abort)) as chunks:
            async for chunk in chunks:
                index = asked[chunk.index]
                self._heard(index, chunk)
                if chunk.failure is not None:
                    wanted.remove(index)
                    self._retries.create_task(self._retry([index], chunk.failure))
        if self._missing(wanted):
            raise EngineError("the engine ended its reply before every draw was complete", retryable=True)

    def _heard(self, index: int, chunk: Chunk) -> None:
        self.text[index] += chunk.text
        self.tokens[index] += chunk.tokens
        if self.news:
            if chunk.logprobs is not None:
                self.signals[index] = _longer(self.signals[index], chunk.logprobs)
            self.news(self, index, chunk)
        if chunk.completion is not None:
            self._down(index, chunk.completion)

    def _asking(self, wanted: Sequence[int]) -> Request:
        """The request for some of the draws, with the cap that what they lost has left them."""
        request = self.request
        if len(wanted) < request.n:
            request = replace(
                request,
                seeds=tuple(request.seeds[i] for i in wanted),
                paths=tuple(request.paths[i] for i in wanted if request.paths),
            )
        for index in wanted:
            if self.tokens[index]:
                self.lost[index] += self.tokens[index]
                self._show(index, UNMADE)
            self.restart(index)
        cap, lost = request.sampling.max_tokens, max(self.lost[i] for i in wanted)
        if lost and cap:
            request = replace(request, sampling=replace(request.sampling, max_tokens=cap - lost))
        return request

    def _worth_retrying(self, wanted: Sequence[int], error: Exception) -> bool | float:
        """Whether to ask again, or after how many seconds: not once half of what a draw may cost is lost."""
        if not isinstance(error, EngineError) or not error.retryable or self.abort.over:
            return False
        cap = self.request.sampling.max_tokens or math.inf
        if any(2 * (self.lost[i] + self.tokens[i]) > cap for i in self._missing(wanted)):
            return False
        return True if error.retry_after is None else error.retry_after

    def _missing(self, wanted: Sequence[int]) -> list[int]:
        landed = self.landed
        return [i for i in wanted if i not in landed]

    def _partial(self, index: int, finish: Finish, error: str | None = None) -> Completion:
        """What arrived of a draw that did not reach its end."""
        tokens = self.tokens[index]
        spent = Usage(calls=1, output_tokens=tokens)
        return Completion(text=self.text[index], finish=finish, tokens=tokens, usage=spent, error=error)

    def _down(self, index: int, completion: Completion, *, replayed: bool = False) -> None:
        """Settle a draw that is complete, and land it once it is known whether it is cut."""
        if self.abort.over:
            self._forget(index)
        if question := self.undecided(index):
            self._settle(index, completion)
            self._retries.create_task(self._land_later(question, index, completion, replayed))
        else:
            self._end(index, completion, replayed=replayed)

    def _forget(self, index: int) -> None:
        """Nobody wants to know any more what was asked about a draw."""
        if question := self.undecided(index):
            question.cancel()

    async def _land_later(
        self, question: asyncio.Task[None], index: int, completion: Completion, replayed: bool
    ) -> None:
        try:
            await question
        finally:
            self._land(index, completion, replayed)

    def _end(self, index: int, completion: Completion, *, replayed: bool = False) -> None:
        self._settle(index, completion)
        self._land(index, completion, replayed)

    def _settle(self, index: int, completion: Completion) -> None:
        self.landed.add(index)
        lost = Usage(output_tokens=self.lost[index])
        self.settle(replace(completion, usage=completion.usage + lost) if self.lost[index] else completion)

    def _land(self, index: int, completion: Completion, replayed: bool) -> None:
        if index in self.cuts and completion.finish is not Finish.error:
            completion = _cut_back(completion, *self.cuts[index])
        if (stands := self.stands(index)) > max(completion.tokens, completion.stands):
            completion = replace(completion, stands=stands)
        if self.lost[index]:
            lost = Usage(output_tokens=self.lost[index])
            finish = Finish.budget if completion.finish is Finish.length else completion.finish
            completion = replace(completion, usage=completion.usage + lost, finish=finish)
        if self.memory and not replayed and completion.usage.calls and completion.finish is not Finish.error:
            self.memory.remember(self.keys[index], completion)
        self.land(index, completion, replayed)


def _joined(begun: Completion, rest: Completion) -> Completion:
    """One completion of the beginning of a draw and what came of going on from there: it is one call."""
    ids = begun.token_ids + rest.token_ids if begun.token_ids and rest.token_ids else ()
    signals = begun.logprobs + rest.logprobs if begun.logprobs and rest.logprobs else None
    return replace(
        rest,
        text=begun.text + rest.text,
        tokens=begun.tokens + rest.tokens,
        token_ids=ids,
        logprobs=signals,
        usage=replace(rest.usage, calls=1, output_tokens=begun.tokens + rest.usage.output_tokens),
    )


def _cut_back(whole: Completion, text: str, tokens: int) -> Completion:
    """A completion as it was at an earlier text; its usage stays that of the whole."""
    if whole.tokens <= tokens:
        return replace(whole, finish=Finish.aborted, stop_string=None)
    signals = whole.logprobs.split(tokens)[0] if whole.logprobs else None
    return Completion(text=text, finish=Finish.aborted, tokens=tokens, logprobs=signals, usage=whole.usage)


def _longer(whole: Logprobs | None, piece: Logprobs) -> Logprobs:
    """The log-probabilities of a growing draw and of its next piece, at the cost of the piece alone.

    For that the record is one and the same all along, with lists for its tuples: who looks at it keeps copies.
    """
    names = [f.name for f in fields(piece) if isinstance(getattr(piece, f.name), tuple | list)]
    if whole is None:
        return replace(piece, **{name: list(getattr(piece, name)) for name in names})  # type: ignore[arg-type]
    for name in names:
        getattr(whole, name).extend(getattr(piece, name))
    return whole
