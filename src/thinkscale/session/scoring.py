"""Calls that generate nothing: the likelihoods of given texts, and the rewards of a reward model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from thinkscale.session.calls import Calls, make_calls
from thinkscale.session.place import Place
from thinkscale.session.starts import start_of
from thinkscale.types import Finish, Logprobs, Problem, Trace


async def likelihoods_of(place: Place, pairs: Sequence[tuple[Problem | Trace, str]]) -> list[Logprobs | None]:
    """Log-probabilities of the text of every pair after its problem or trace, in order."""
    calls = Calls(
        place=replace(place, final=False),
        starts=[before if isinstance(before, Trace) else start_of(place, before) for before, _ in pairs],
        sampling=replace(place.sampling, max_tokens=0, logprobs=place.sampling.logprobs or 0),
        continuations=[text for _, text in pairs],
    )
    found: list[Logprobs | None] = [None] * len(pairs)
    async with aclosing(make_calls(calls)) as scored:
        async for index, trace in scored:
            if trace.finish is Finish.error:
                reason = trace.error or "the engine gave no reason"
                place.run.warn(f"the likelihood of a text is not known: {reason}")
            elif trace.finish not in (Finish.aborted, Finish.budget):
                found[index] = trace.segments[-1].logprobs
    return found


async def rewards_of(
    place: Place, traces: Sequence[Trace], split: Callable[[str], Sequence[str]]
) -> list[tuple[float, ...] | None]:
    """Rewards of every step of every trace, in order."""
    judged = [(i, t) for i, t in enumerate(traces) if t.text]
    calls = Calls(
        place=place,
        starts=[Trace(prompt=t.prompt, path=t.path, tools=t.tools) for _, t in judged],
        sampling=replace(place.sampling, max_tokens=0, logprobs=None),
        steps=[tuple(split(t.text)) for _, t in judged],
    )
    found: list[tuple[float, ...] | None] = [None] * len(traces)
    async with aclosing(make_calls(calls)) as rewarded:
        async for index, trace in rewarded:
            found[judged[index][0]] = trace.scores[-1].steps if trace.scores else None
            if trace.finish is Finish.error:
                place.run.warn(f"an answer could not be judged: {trace.error or 'the engine gave no reason'}")
    return found
