"""Attempts that are drawn through other methods, each within an account reserved for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Generic, TypeVar

from thinkscale.budget import Bounded, Cost, Grant
from thinkscale.engines.protocol import Request
from thinkscale.needs import needs_of
from thinkscale.session.calls import give_back
from thinkscale.session.landing import Landing
from thinkscale.session.place import Place
from thinkscale.types import Finish, Outcome, Path, Problem, Trace

M = TypeVar("M", bound=Bounded)


@dataclass(frozen=True, slots=True)
class Nested(Generic[M]):
    """One attempt through a method."""

    problem: Problem
    path: Path
    method: M


async def draw_through(
    place: Place, draws: Sequence[Nested[M]], solve: Callable[[Nested[M], Place], Awaitable[Outcome]]
) -> AsyncGenerator[tuple[int, Trace | None], None]:
    """Make every attempt; yields `(index, trace)`."""
    landing: Landing[Trace | None] = Landing()
    width = asyncio.Semaphore(place.run.concurrency or max(1, len(draws)))
    worst: dict[tuple[int, int], Cost] = {}

    async def attempt(index: int, grant: Grant) -> None:
        draw = draws[index]
        inner = replace(place, ledger=place.ledger.child(grant.each), path=draw.path)
        try:
            outcome = await solve(draw, inner)
            unmade = Trace(prompt=draw.problem.messages, path=draw.path, finish=Finish.budget, tools=draw.problem.tools)
            place.ledger.refused |= inner.ledger.refused
            landing.put(index, outcome.best or next(iter(outcome.traces), unmade))
        finally:
            place.ledger.settle(grant.each, inner.ledger.spent)
            width.release()

    async def launch() -> None:
        async with asyncio.TaskGroup() as attempts:
            for index, draw in enumerate(draws):
                if not await landing.unless_over(width.acquire()):
                    break
                which = (id(draw.problem), id(draw.method))
                if which not in worst:
                    worst[which] = _ceiling(place, draw.problem, draw.method)
                admission = place.ledger.admit(worst[which])
                grant = await landing.unless_over(admission, partial(give_back, place.ledger))
                if grant is None:
                    width.release()
                    break
                attempts.create_task(attempt(index, grant))

    try:
        async with aclosing(landing.of(launch(), patience=0)) as landed:
            async for index, trace in landed:
                yield index, trace
    finally:
        for trace in filter(None, landing.surplus):
            place.run.drop(trace, place.role)


def dearest(place: Place, problem: Problem, by: Sequence[Bounded]) -> Cost:
    """The most that one attempt through any of some methods can cost, in each dimension."""
    costs = [_ceiling(place, problem, method) for method in by]
    return Cost(tokens=max(c.tokens for c in costs), calls=max(c.calls for c in costs), usd=max(c.usd for c in costs))


def _ceiling(place: Place, problem: Problem, by: Bounded) -> Cost:
    """The ceiling of a method at its dearest engine, if every call reads the prompt and everything written before."""
    ceiling, usd = by.ceiling(place.cap), 0.0
    needs = needs_of(by)
    for engine in (place.engine, *(place.engine_of(name) for name in sorted(needs.roles.keys() | needs.players))):
        if price := engine.capabilities.price:
            read = engine.count(Request(messages=problem.messages)) + ceiling.tokens
            usd = max(usd, price.of(ceiling.calls * read, ceiling.tokens))
    return replace(ceiling, usd=usd) if usd else ceiling
