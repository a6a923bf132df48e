"""An engine whose draws follow from their seeds alone, and which writes them at any speed, in pieces of any size."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

from thinkscale.engines.protocol import Capabilities, Capability, Chunk, Completion
from thinkscale.errors import EngineError
from thinkscale.types import Finish, Usage

WORD = " hm"


@dataclass(frozen=True)
class Plan:
    """What a seed writes; words are tokens."""

    words: tuple[str, ...]
    breaks: tuple[int, ...] = ()
    """Words after which it breaks off the first, the second … time."""
    fails: int | None = None
    """Words after which it fails for good."""


def planned(world, seed, *, breaks=0.0, fails=0.0):
    """The plan of a seed: many ties, empty replies, and replies that say nothing."""
    chance = random.Random(world * 1_000_003 + seed)
    words = [WORD] * chance.choice((0, 1, 3, 3, 5, chance.randint(0, 14)))
    if words and chance.random() < 0.85:
        words[-1] = rf" \boxed{{{chance.choice((1, 1, 1, 2, 3))}}}"
    off = tuple(chance.randint(0, 3) for _ in range(chance.choice((1, 1, 2)))) if chance.random() < breaks else ()
    return Plan(tuple(words), off, chance.randint(0, 4) if chance.random() < fails else None)


class Paced:
    """Writes plans.

    Args:
        plan: of a seed.
        chance: decides speeds and the size of pieces; what is written does not depend on it.
        places: draws at once that it says it makes.
        tells: whether tokens come as they are written, or all at the end.
        piece: most words of a piece; of 1, the end of a draw is a piece of its own.
        snaps: how many times a whole request breaks off.
    """

    def __init__(self, plan, chance, *, places=1024, tells=True, piece=3, snaps=0):
        self.plan, self.chance, self.tells, self.piece, self.snaps = plan, chance, tells, piece, snaps
        self.capabilities = Capabilities(model="paced", can=frozenset(Capability), concurrency=places)
        self.written = 0
        self.asked = set()
        self._broke = Counter()

    def count(self, request):
        return 1

    async def open(self):
        pass

    async def aclose(self):
        pass

    async def stream(self, request, abort):
        said = dict.fromkeys(range(request.n), 0)
        speeds = {i: self.chance.choice((0.1, 1, 1, 5, 30)) for i in said}
        plans = [self.plan(seed) for seed in request.seeds]
        tries = [self._broke[seed] for seed in request.seeds]
        self.asked.update(request.seeds)
        cap = request.sampling.max_tokens
        while said:
            index = min(said, key=lambda i: self.chance.random() * speeds[i])
            await asyncio.sleep(self.chance.random() * speeds[index])
            if self.snaps and self.chance.random() < 0.1:
                self.snaps -= 1
                raise EngineError("snapped", retryable=True)
            chunk = self._next(plans[index], tries[index], said[index], cap, index, index in abort)
            said[index] += chunk.tokens
            self.written += chunk.tokens
            self._broke[request.seeds[index]] += chunk.failure is not None
            if chunk.completion or chunk.failure:
                del said[index]
            yield chunk

    def _next(self, plan, tries, said, cap, index, aborted):
        end = min(len(plan.words), cap)
        off = plan.breaks[tries] if tries < len(plan.breaks) else plan.fails
        stop = end if off is None or off >= end else off
        more = 0 if aborted else min(self.chance.randint(1, self.piece) if self.tells else stop, stop - said)
        at, piece = said + more, "".join(plan.words[said : said + more])
        if aborted or (at == end and (not self.tells or not more or (self.piece > 1 and self.chance.random() < 0.5))):
            finish = Finish.aborted if aborted and at < end else Finish.length if end < len(plan.words) else Finish.eos
            whole = Completion(
                text="".join(plan.words[:at]),
                finish=finish,
                tokens=at,
                usage=Usage(calls=1, input_tokens=0, output_tokens=at),
            )
            return Chunk(index, piece, more, whole)
        if stop < end and not more:
            return Chunk(index, failure=EngineError("broke off", retryable=tries < len(plan.breaks)))
        return Chunk(index, piece, more)


class Remembered:
    """A memory in a dictionary."""

    def __init__(self):
        self.kept = {}

    def recall(self, keys):
        return {key: self.kept[key] for key in keys if key in self.kept}

    def remember(self, key, completion):
        self.kept[key] = completion
