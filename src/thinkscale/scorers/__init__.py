"""Scorers: who judges a trace. They may call models through the session.

Larger is always better, and a trace that cannot be judged scores minus infinity. Injected text is never judged: the
model did not choose it. A model that judges is shown what was injected before the model's own words, which continue it,
and nothing that was injected after them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from thinkscale.budget import Bounded, Cost
from thinkscale.contracts import scores_of
from thinkscale.engines.protocol import ThinkFormat
from thinkscale.lexicons import count
from thinkscale.session import Session
from thinkscale.types import Logprobs, Origin, Problem, Score, Segment, Trace

UNJUDGED = -math.inf
"""The score of what cannot be judged."""


class Scorer(Protocol):
    """Judges a batch of traces of one problem; what it asks of the world, and gives, it says in `needs`."""

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, in order."""
        ...


def scoring_ceiling(scorer: Scorer, cap: int) -> Cost:
    """The most that judging one trace can cost when a call may generate `cap` tokens.

    A scorer that calls models says so by a method `ceiling(cap)`; one without it costs nothing.
    """
    return scorer.ceiling(cap) if isinstance(scorer, Bounded) else Cost()


async def judged(scorer: Scorer, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Trace]:
    """The traces, each with the score that a scorer gives it."""
    scores = await scores_of(scorer, problem, traces, llm)
    return [trace.scored(score) for trace, score in zip(traces, scores, strict=True)]


def shown(trace: Trace, think: ThinkFormat | None) -> Trace:
    """What a model that judges a trace is shown: its answer, as one segment; none where there is nothing to judge.

    The thinking is left out where the model marks it, as reward models were trained on answers. What was injected after
    the model's last word is left out as well; what failed or was cancelled is not judged at all.
    """
    text = up_to_its_last_word(trace).text
    answer = think.split(text)[1] if think else text
    return replace(trace, segments=(Segment(text=answer, origin=Origin.sampled),) if answer.strip() else ())


def up_to_its_last_word(trace: Trace) -> Trace:
    """A trace without what was injected after the model's last word; empty where there is nothing to judge."""
    return replace(trace, segments=()) if trace.finish.lost else trace.up_to_its_last_word()


async def shares(starts: Sequence[Problem | Trace], yes: Sequence[str], no: Sequence[str], llm: Session) -> list[float]:
    """P(yes) / (P(yes) + P(no)) of what comes next, where each option has several spellings; one call per spelling.

    Exact: the model is asked for the probability of each spelling, so `Not` never counts as `No`. Minus infinity where
    the budget does not reach or neither option is possible.
    """
    first, *others = (*yes, *no)
    # One spelling goes ahead, so that the others find what was read before them in the engine's cache.
    ahead = await llm.likelihoods([(start, first) for start in starts])
    behind = await llm.likelihoods([(start, other) for start in starts for other in others])
    heard = [(a, *behind[i * len(others) : (i + 1) * len(others)]) for i, a in enumerate(ahead)]
    return [_share(told, len(yes)) for told in heard]


def _share(heard: Sequence[Logprobs | None], yes: int) -> float:
    chances = [math.exp(math.fsum(h.chosen)) for h in heard if h is not None and h.chosen]
    if len(chances) < len(heard) or not any(chances):
        return UNJUDGED
    return math.fsum(chances[:yes]) / math.fsum(chances)


async def in_turns(read: Callable[[Trace], float], traces: Sequence[Trace], kind: str) -> list[Score]:
    """One score per trace, for readings that take their time with long ones: between two, others have their turn."""
    scores = []
    for trace in traces:
        scores.append(Score(value=read(trace), kind=kind))
        await asyncio.sleep(0)
    return scores


def said_phrases(trace: Trace, phrases: tuple[str, ...]) -> int:
    """How often the model itself wrote any of some phrases."""
    return sum(count(s.text, phrases) for s in trace.segments if s.origin is Origin.sampled)


def per_token(values: Sequence[float], signals: Logprobs) -> float:
    """Mean of a signal over the tokens; minus infinity where there are none, or not a signal for each."""
    tokens = len(signals.chosen)
    return math.fsum(values) / tokens if tokens and len(values) == tokens else UNJUDGED


def sampled_logprobs(trace: Trace) -> Logprobs | None:
    """Signals of everything that the model itself wrote in a trace; `None` when any of it has none."""
    parts = [s.logprobs for s in trace.segments if s.origin is Origin.sampled and s.tokens]
    whole: Logprobs | None = None
    for part in parts:
        if part is None:
            return None
        whole = part if whole is None else whole + part
    return whole
