"""Draws of one prompt under a stop rule, in waves: evidence counts in the order of its tokens (`thinkscale.pace`).

A wave is as many draws as its pace allows. An attempt is shown to the rule once no unfinished draw of its wave can come
before it. Who votes is therefore a function of the draws alone, whatever their speed and however many run at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from thinkscale.budget import Cost
from thinkscale.contracts import verdict_of
from thinkscale.pace import Pace, Wave, least, wave_size
from thinkscale.session.calls import Progress
from thinkscale.session.place import Place
from thinkscale.session.starts import agree
from thinkscale.types import Finish, Trace

LONG = 2e-4
"""Seconds of a stop rule beyond which letting others run costs nothing beside it."""

Rule = Callable[[Sequence[Trace]], bool]


class Draws(list[Trace]):
    """Traces in the order in which they count, and what the stop rule made of them."""

    enough: bool = False
    """Whether the rule was satisfied before all draws were made."""
    needed: int | None = None
    """Tokens that the rule needed, however many were paid."""
    waves: tuple[int, ...] = ()
    """Sizes of the waves of which every draw counts, first ones first."""


async def draw_all(place: Place, arriving: AsyncGenerator[tuple[int, Trace | None], None]) -> Draws:
    """All draws, in draw order."""
    draws = Draws()
    async with aclosing(arriving) as traces:
        found = {index: trace async for index, trace in traces if trace is not None}
    for _, trace in sorted(found.items()):
        await agree(place, draws, trace)
    draws.needed = sum(trace.tokens for trace in draws)
    draws.waves = (len(draws),) if _whole(draws) else ()
    return draws


def _whole(draws: Draws) -> bool:
    """Whether the budget cut none of the draws."""
    return bool(draws) and all(trace.finish is not Finish.budget for trace in draws)


@dataclass(slots=True, kw_only=True)
class Waves:
    """The draws of one `sample` under a stop rule."""

    place: Place
    n: int
    rule: Rule
    pace: Pace
    each: Cost
    """The most that one draw can cost."""
    begin: Callable[[slice, Progress], AsyncGenerator[tuple[int, Trace | None], None]]
    """Makes some of the draws; yields each with its place among them, a place alone when there is something to see."""
    draws: Draws = field(default_factory=Draws)
    _held: dict[int, Trace] = field(default_factory=dict)
    """What has come in and is not due."""

    async def run(self) -> Draws:
        """Draw wave after wave until the rule fires, n draws are made, or the budget is over."""
        self.draws.needed, begun = 0, 0
        while begun < self.n and not self.draws.enough:
            wave = self._open(begun)
            size = len(wave.unfinished)
            begun += size
            whole = await self._draw(wave)
            self.draws.needed += wave.needed(fired=self.draws.enough)
            if not whole:
                break
            if not self.draws.enough and _whole(self.draws):
                self.draws.waves += (size,)
        for _, trace in sorted(self._held.items()):
            self.place.run.drop(trace, self.place.role)
        return self.draws

    def _open(self, begun: int) -> Wave:
        left = self.n - begun
        fewest = least(self.rule, self.draws, left)
        fit = self.place.ledger.fit(self.each, left)
        places = self.place.run.places(self.place.engine)
        size = wave_size(self.pace, fewest, n=self.n, left=left, places=places, fit=fit)
        return Wave(range(begun, begun + size))

    async def _draw(self, wave: Wave) -> bool:
        """Make the draws of a wave; returns whether all of them were made or the rule fired."""
        first = wave.unfinished[0]

        def progress(index: int, tokens: int) -> bool:
            wave.written(first + index, tokens)
            return wave.ready

        which = slice(first, wave.unfinished[-1] + 1)
        async with aclosing(self.begin(which, progress)) as arriving:
            async for index, trace in arriving:
                if trace is not None:
                    self._take(wave, first + index, trace)
                if await self._fires(wave):
                    self.draws.enough = True
                    return True
        made = not wave.unfinished
        for index in wave.unfinished:
            wave.refused(index)
        await self._fires(wave)
        return made

    def _take(self, wave: Wave, index: int, trace: Trace) -> None:
        self._held[index] = trace
        if trace.finish is Finish.error:
            wave.failed(index, trace.tokens)
        else:
            wave.ended(index, trace.tokens)

    async def _fires(self, wave: Wave) -> bool:
        """Whether the rule is satisfied with what is due by now; once the time is up it is not asked."""
        for index in wave.due():
            await agree(self.place, self.draws, self._held.pop(index))
            over = self.place.run.cancelled or time.monotonic() >= self.place.ledger.deadline
            if len(self.draws) < self.n and not over and await self._asked():
                return True
        return False

    async def _asked(self) -> bool:
        """What the rule says. One that is slow lets others run between two draws."""
        began = time.perf_counter()
        fired = verdict_of(self.rule, self.draws)
        if time.perf_counter() - began > LONG:
            await asyncio.sleep(0)
        return fired
