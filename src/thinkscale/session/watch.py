"""What is done with the pieces of a growing draw: observers are told, and `until` may cut it where a snapshot stood.

A question about a snapshot that is awaited changes no result however long it takes: the draw goes on meanwhile, and is
delivered, cut back to the snapshot or whole, once the question is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from inspect import isawaitable, iscoroutine
from typing import NamedTuple

from thinkscale.engines.protocol import Chunk
from thinkscale.session.flight import Flight
from thinkscale.session.run import Event, Run
from thinkscale.types import Origin, Segment, Trace

Until = Callable[[Trace], bool | Awaitable[bool]]
"""Shown a growing trace, says whether it has gone far enough."""


class Snapshot(NamedTuple):
    """A growing draw as it was."""

    text: str
    tokens: int


@dataclass(slots=True, kw_only=True)
class Watch:
    """The watch over the draws of one request."""

    run: Run
    role: str
    starts: list[Trace]
    """What each draw continues."""
    until: Until | None
    every: int
    """Tokens between two snapshots that `until` is shown."""
    progress: Callable[[int, int], None] | None = None
    """Told how many tokens a draw is sure to have: never more than a snapshot that `until` may still cut it back to."""
    _told: dict[int, int] = field(default_factory=dict)
    """The most that `progress` was told of each draw."""
    _next: dict[int, int] = field(default_factory=dict)
    _questions: dict[int, asyncio.Task[None]] = field(default_factory=dict)

    def hear(self, flight: Flight, index: int, chunk: Chunk) -> None:
        """Take in a piece of a draw."""
        if self.run.observe and self.run.pieces and (chunk.tokens or chunk.text):
            at = len(flight.text[index]) - len(chunk.text)
            path = self.starts[index].path
            self.run.observe(Event(path=path, role=self.role, text=chunk.text, at=at, tokens=chunk.tokens))
        if chunk.completion is None and index not in flight.cuts:
            tokens = flight.tokens[index]
            if index not in self._questions:
                self._tell(index, tokens)
            if self.until and (self.every == 1 or tokens >= self._next.get(index, self.every)):
                self._next[index] = tokens + self.every
                self._ask(flight, index)

    def _ask(self, flight: Flight, index: int) -> None:
        start, tokens, text = self.starts[index], flight.tokens[index], flight.text[index]
        segment = Segment(text=text, origin=Origin.sampled, tokens=tokens, logprobs=flight.signals[index])
        verdict = self.until(replace(start, segments=(*start.segments, segment))) if self.until else False
        if isawaitable(verdict):
            before = self._questions.get(index)
            work = self._answer(before, verdict, flight, index, Snapshot(text, tokens))
            self._questions[index] = question = asyncio.create_task(work)
            question.add_done_callback(partial(_leave, before, verdict))
        elif verdict:
            flight.cut(index, text, tokens)

    async def _answer(
        self, before: asyncio.Task[None] | None, verdict: Awaitable[bool], flight: Flight, index: int, shown: Snapshot
    ) -> None:
        if before is not None:
            await before
        if index not in flight.cuts:
            self._tell(index, shown.tokens)
        if await verdict:
            flight.cut(index, shown.text, shown.tokens)
        elif self._questions.get(index) is asyncio.current_task():
            del self._questions[index]
            if index not in flight.cuts:
                self._tell(index, flight.tokens[index])

    def _tell(self, index: int, tokens: int) -> None:
        if self.progress and tokens > self._told.get(index, 0):
            self._told[index] = tokens
            self.progress(index, tokens)

    def restart(self, index: int) -> None:
        """A draw is made anew."""
        self._next.pop(index, None)

    def stands(self, index: int) -> int:
        """The most tokens that were told of a draw."""
        return self._told.get(index, 0)

    def undecided(self, index: int) -> asyncio.Task[None] | None:
        """What to wait for before a draw may be delivered, if anything was asked about it."""
        return self._questions.pop(index, None)


def _leave(before: asyncio.Task[None] | None, verdict: Awaitable[bool], _: asyncio.Task[None]) -> None:
    """A question is over, answered or not: nobody waits for the ones before it, and one never begun leaves nothing."""
    if before is not None:
        before.cancel()
    if iscoroutine(verdict):
        verdict.close()
