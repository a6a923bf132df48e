"""The temperature at which sampling starts to break down (Du et al. 2025, TURN): found from entropies, without labels.

Log mean token entropy grows ever more slowly with temperature until noise takes over and it turns upwards; sample at
that turn. It knows log-probabilities of short pilot samples, and nothing of answers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from thinkscale.budget import Budget, Ledger
from thinkscale.engines.protocol import Capability, Engine
from thinkscale.errors import BenchError, EngineError
from thinkscale.session import Place, Run, Session
from thinkscale.types import Logprobs, LogprobSpace, Problem, Usage

GRID = tuple(i / 10 for i in range(1, 15))
"""Temperatures .1 to 1.4: the released code names 1.5 as its end and leaves it out."""
BEST_OF_N_SHIFT = 0.1
"""How much warmer than the turn best-of-n samples; majority voting samples at it."""
CURVATURE_NOISE = 1e-9
"""A second derivative up to this is rounding and counts as 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPoint:
    """One temperature of the grid."""

    temperature: float
    log_entropy: float
    """Log of the mean token entropy in nats."""
    curvature: float
    """Second derivative of `log_entropy` by temperature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurningPoint:
    """Where to sample, and the curve that says so."""

    temperature: float
    """The turn, T*."""
    for_majority: float
    for_best_of_n: float
    curve: tuple[TurnPoint, ...]
    usage: Usage = Usage()
    """What the pilot cost."""


def turning_point(temperatures: Sequence[float], log_entropies: Sequence[float]) -> TurningPoint:
    """The first temperature inside the grid at which log entropy is convex, or the last one inside if none is.

    Differences are central, and one-sided at both ends, taken twice as in the released code: with a step h,
    (y(T + 2h) − 2y(T) + y(T − 2h)) / 4h² wherever both neighbours are inside.

    Raises:
        BenchError: fewer than 3 temperatures, not increasing or not above 0, or an entropy of 0 or not a number.
    """
    _check_grid(temperatures)
    for temperature, value in zip(temperatures, log_entropies, strict=True):
        if not math.isfinite(value):
            raise BenchError(f"the log entropy at temperature `{temperature:g}` is `{value}`: leave that one out")
    slopes = np.gradient(np.asarray(log_entropies, dtype=float), temperatures)
    curvatures = [float(c) for c in np.gradient(slopes, temperatures)]
    inside = range(1, len(temperatures) - 1)
    turn = float(temperatures[next((i for i in inside if curvatures[i] > CURVATURE_NOISE), inside[-1])])
    rows = zip(temperatures, log_entropies, curvatures, strict=True)
    return TurningPoint(
        temperature=turn,
        for_majority=turn,
        for_best_of_n=round(turn + BEST_OF_N_SHIFT, 9),
        curve=tuple(TurnPoint(temperature=t, log_entropy=y, curvature=c) for t, y, c in rows),
    )


def _check_grid(temperatures: Sequence[float]) -> None:
    if len(temperatures) < 3 or temperatures[0] <= 0 or any(a >= b for a, b in pairwise(temperatures)):
        raise BenchError(
            f"no turn can be found on the grid {list(temperatures)}: give 3 or more above 0, in increasing order"
        )


def token_entropy(logprobs: Sequence[float]) -> float:
    """−Σ p log p / Σ p over the k likeliest tokens, in nats, as the released code has it: p is not renormalised."""
    lp = np.asarray([x for x in logprobs if x > -math.inf], dtype=float)
    p = np.exp(lp)
    return max(0.0, float(-(p * lp).sum() / p.sum()))


def renormalised_entropy(logprobs: Sequence[float]) -> float:
    """Entropy in nats of the k likeliest tokens as a distribution of their own."""
    return token_entropy(tempered(logprobs, 1.0))


def tempered(logprobs: Sequence[float], temperature: float) -> list[float]:
    """Raw log-probabilities of the k likeliest tokens after a temperature, normalised over the k.

    Exact for the whole vocabulary; otherwise the larger k, the closer, the more so at high temperatures.
    """
    scaled = np.asarray(logprobs, dtype=float) / temperature
    high = scaled.max()
    return [float(x) for x in scaled - (high + math.log(np.exp(scaled - high).sum()))]


async def plan_temperature(
    llm: Session | Engine,
    problems: Sequence[Problem],
    grid: Sequence[float] = GRID,
    *,
    samples: int = 32,
    max_tokens: int = 1024,
    top: int = 100,
) -> TurningPoint:
    """Find the turn of a model by sampling at every temperature of a grid.

    Entropies are averaged over the tokens of a sample, its problem's samples and the problems. They are read where
    sampling happens, after temperature; of an engine that gives raw log-probabilities, the temperature is applied here.

    Args:
        llm: a session, whose budget then pays for the pilot, or an engine.
        problems: the first `samples` of them are used, each equally often.
        grid: temperatures above 0.
        samples: at each temperature, over all problems.
        max_tokens: cap of one sample.
        top: how many likeliest tokens are asked for at each position. The released code asks for 1000, which takes
            some 100 bytes per token and position here.

    Raises:
        CapabilityError: the engine gives no log-probabilities of the likeliest tokens.
        EngineError: at some temperature no sample could be drawn.
        BenchError: there are no problems, or entropies of which `turning_point` can make nothing.
    """
    if not problems:
        raise BenchError("a temperature was to be planned on no problems: give at least one")
    _check_grid(grid)
    session = await _session(llm)
    session.require(frozenset({Capability.top_logprobs}))
    asked = problems[:samples]
    pilot = _Pilot(session, max(1, samples // len(asked)), max_tokens, top)
    measured = [await pilot.entropy(asked, temperature) for temperature in grid]
    logs = [math.log(h) if h > 0 else -math.inf for h in measured]
    return replace(turning_point(grid, logs), usage=pilot.usage)


async def _session(llm: Session | Engine) -> Session:
    if isinstance(llm, Session):
        return llm
    await llm.open()
    return Session(Place(engine=llm, ledger=Ledger(Budget()), run=Run()))


@dataclass(slots=True)
class _Pilot:
    """Samples of all problems at one temperature after another, of which the entropies alone are kept."""

    session: Session
    each: int
    max_tokens: int
    top: int
    usage: Usage = field(default_factory=Usage)
    failure: str = "the budget was spent"

    async def entropy(self, problems: Sequence[Problem], temperature: float) -> float:
        """Mean token entropy at a temperature, in nats."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._of_problem(p, temperature)) for p in problems]
        means = [mean for task in tasks if (mean := task.result()) is not None]
        if not means:
            raise EngineError(
                f"no sample was drawn at temperature `{temperature:g}`: {self.failure}; see to that first"
            )
        return math.fsum(means) / len(means)

    async def _of_problem(self, problem: Problem, temperature: float) -> float | None:
        found = []
        drawn = self.session.arrivals(
            problem,
            self.each,
            temperature=temperature,
            max_tokens=self.max_tokens,
            logprobs=self.top,
            logprob_space=LogprobSpace.processed,
        )
        async with aclosing(drawn) as traces:
            async for trace in traces:
                self.usage += Usage(calls=1, output_tokens=trace.tokens)
                self.failure = trace.error or self.failure
                signals = trace.segments[-1].logprobs if trace.segments else None
                if signals is not None and any(signals.top):
                    found.append(_mean_entropy(signals, temperature))
        return math.fsum(found) / len(found) if found else None


def _mean_entropy(signals: Logprobs, temperature: float) -> float:
    raw = signals.space is LogprobSpace.raw
    rows = [[lp for _, lp in row] for row in signals.top if row]
    return math.fsum(token_entropy(tempered(row, temperature) if raw else row) for row in rows) / len(rows)
