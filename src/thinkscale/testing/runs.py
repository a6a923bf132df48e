"""The question, the budgets and the model that components are checked with."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import cast

from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.engines.protocol import Abort, Chunk, Engine, Request
from thinkscale.engines.scripted import Cue, Line, Scripted
from thinkscale.needs import needs_of
from thinkscale.registry import parse
from thinkscale.session import Method, Run
from thinkscale.store import Store
from thinkscale.types import AnswerKind, Outcome, Problem, Sampling, Trace

PROBLEM = Problem.of("A baker makes 3 trays of 4 rolls. How many rolls is that?", AnswerKind.math)
BUDGETS = (
    *(Budget(tokens=n) for n in (1, 2, 5, 9, 17, 33, 70, 200)),
    *(Budget(calls=n) for n in (1, 2, 3, 7)),
    Budget(tokens=40, calls=3),
)
CAP = 64
"""Tokens of one call."""


def talk(cue: Cue) -> Line:
    """A line whose length, thinking and answer depend on the seed alone."""
    steps = " ".join(f"Step {i} gives {i * 7}." for i in range(1, 2 + cue.seed % 5))
    return Line(says=f" {steps} The answer is {12 + cue.seed % 3}.", logprob=-0.1 - (cue.seed % 7) / 10, pace=0.0)


class Uneven(Scripted):
    """A model whose draws are written at speeds of their own, one word of some draw after another of any."""

    async def stream(self, request: Request, abort: Abort | None = None) -> AsyncGenerator[Chunk, None]:
        """Speak one line per draw."""
        chance = random.Random(len(self.cues))
        speeds = {i: chance.choice((0.1, 1.0, 1.0, 9.0)) for i in range(request.n)}
        drawn = {}
        for i, seed in enumerate(request.seeds):
            alone = replace(request, seeds=(seed,), paths=request.paths[i : i + 1])
            drawn[i] = super().stream(alone, Abort(parent=abort, renumbered=(i,)) if abort else None)
        while drawn:
            index = min(drawn, key=lambda i: chance.random() * speeds[i])
            async for chunk in drawn[index]:
                yield replace(chunk, index=index)
                break
            else:
                del drawn[index]


async def outcome_of(
    method: Method,
    engine: Engine,
    budget: Budget | None = None,
    concurrency: int | None = None,
    store: Store | None = None,
) -> Outcome:
    """What a method makes of the question, with one engine in all roles."""
    run = Run(seed=7, concurrency=concurrency, roles=dict.fromkeys(needs_of(method).players, engine))
    return await solve(
        PROBLEM, method, engine, budget=budget or Budget(), run=run, sampling=Sampling(max_tokens=CAP), store=store
    )


async def scored_pool() -> list[Trace]:
    """Attempts with answers and with scores from 0 to 1, which a rule that sums scores can weigh votes by."""
    sampler = cast(Method, parse("best-of-n(n=6, scorer=mean-logprob)", "method"))
    drawn = [t for t in (await outcome_of(sampler, Scripted(talk))).traces if t.answer is not None]
    return [replace(t, scores=tuple(replace(s, value=math.exp(s.value)) for s in t.scores)) for t in drawn]
