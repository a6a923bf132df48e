"""Calls to an engine: admitted in draw order, made at once, each delivered as a trace.

Stands between the verbs of a session and the requests of `flight`. It knows accounts and engines, and of answers only
how to find one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from thinkscale.answers import called, extract
from thinkscale.budget import Cost, Grant, Ledger
from thinkscale.engines.protocol import Abort, Capability, Chunk, Completion, Request
from thinkscale.identity import request_name, seeds_of, text_name
from thinkscale.session.flight import Flight
from thinkscale.session.landing import Landing
from thinkscale.session.place import Place
from thinkscale.session.run import Event, price_of
from thinkscale.types import Answer, AnswerKind, Finish, Message, Origin, Sampling, Score, Segment, Trace

COMPLETE = frozenset({Finish.eos, Finish.stop})
"""Ends that the model chose; anything else cut it off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """What is to be done with every start: one call under the same settings."""

    place: Place
    starts: Sequence[Trace]
    sampling: Sampling
    """With `max_tokens` set."""
    until: Callable[[Trace], bool] | None = None
    continuation: str | None = None
    steps: Sequence[tuple[str, ...]] = ()
    """For a reward request: the steps to judge after every start."""
    final: bool = True
    """Whether an answer found now may stand; a step on the way to one leaves the closing reserve where it is."""

    @property
    def cap(self) -> int:
        """Tokens that one call may generate."""
        return self.sampling.max_tokens or 0

    def worst(self) -> Cost:
        """The most that one call can cost; prompts are priced at their full length."""
        price = self.place.capabilities.price
        if price is None:
            return Cost(tokens=self.cap, calls=1)
        judged = zip(self.starts, self.steps or [()] * len(self.starts), strict=True)
        different = {(id(s.prompt), id(s.segments), id(steps)): (s, steps) for s, steps in judged}.values()
        asked = (replace(request(self, s, self.sampling, (0,)), steps=steps) for s, steps in different)
        longest = max(map(self.place.engine.count, asked))
        prompt = longest * price.input / 1e6
        return Cost(tokens=self.cap, calls=1, usd=prompt + self.cap * price.output / 1e6, prompt_usd=prompt)


async def make_calls(calls: Calls) -> AsyncGenerator[tuple[int, Trace], None]:
    """Make every call, as many at once as budget and engine allow; yields `(index of the start, trace)`."""
    place, starts = calls.place, calls.starts
    landing: Landing[Trace] = Landing()
    slots = place.run.slots(place.engine)
    worst = calls.worst() if starts else Cost()
    undo = partial(give_back, place.ledger)

    async def launch() -> None:
        begun = 0
        async with asyncio.TaskGroup() as flights:
            while begun < len(starts):
                grant = await landing.unless_over(place.ledger.admit(worst, _alike(calls, begun)), undo)
                if grant is None:
                    return
                admitted = begun + grant.draws
                while begun < admitted:
                    # A place is taken last: whoever has one is drawing, so nobody waits for a place in vain.
                    places = await landing.unless_over(slots.take(admitted - begun), undo=slots.give)
                    if places is None:
                        place.ledger.cancel(grant.each, admitted - begun)
                        return
                    flight = _flight(calls, range(begun, begun + places), grant, landing)
                    begun += places
                    if begun == len(starts):
                        await flight.run()
                    else:
                        flights.create_task(flight.run())

    place.run.landings.add(landing)
    try:
        with place.run.watched(landing, place.ledger):
            async with aclosing(landing.of(launch())) as landed:
                async for index, trace in landed:
                    yield index, trace
    finally:
        place.run.landings.discard(landing)
        for trace in landing.surplus:
            place.run.drop(trace, place.role)


def give_back(ledger: Ledger, grant: Grant | None) -> None:
    """Give back what was admitted for a consumer that has left."""
    if grant is not None:
        ledger.cancel(grant.each, grant.draws)


def _flight(calls: Calls, which: range, grant: Grant, landing: Landing[Trace]) -> Flight:
    """One request for the starts at `which`, wired to the account, the journal and the waiting consumer."""
    place, start = calls.place, calls.starts[which[0]]
    short = grant.each.tokens < calls.cap
    granted = replace(calls.sampling, max_tokens=int(grant.each.tokens)) if short else calls.sampling
    prompt, text = place.run.name_of(start.prompt), text_name(start.segments)
    steps = calls.steps[which[0]] if calls.steps else ()
    paths = tuple([calls.starts[i].path for i in which])
    # What a reward model thinks of a text does not depend on the draw that wrote it.
    seeds = (0,) * len(paths) if steps else tuple(seeds_of(place.run.seed, place.role, prompt, text, paths))
    sampling = place.run.sampling_of(granted)
    given = steps or calls.continuation
    name = request_name(place.capabilities.model, prompt, text, sampling, given)
    slots, price = place.run.slots(place.engine), place.capabilities.price

    def land(index: int, completion: Completion, replayed: bool) -> None:
        trace = extend_trace(place, calls.starts[which[index]], completion)
        if (short and trace.finish is Finish.length) or (landing.timed_out and trace.finish is Finish.aborted):
            trace = replace(trace, finish=Finish.budget)
        if calls.final and trace.answer is not None:
            place.ledger.release()
        place.ledger.settle(grant.each, price_of(completion.usage, price))
        slots.give(1)
        place.run.record(trace, place.role, replayed=replayed)
        landing.put(which[index], trace)

    return Flight(
        engine=place.engine,
        request=replace(request(calls, start, granted, seeds), steps=steps, paths=paths),
        keys=tuple([f"{name}{seed:016x}" for seed in seeds]),
        abort=Abort(parent=landing.abort),
        memory=place.run.memory,
        frugal=place.run.frugal,
        land=land,
        looked_at=landing.looked_at,
        failed=place.run.fail,
        news=partial(_heard, calls, which) if calls.until or place.run.observe else None,
    )


def _heard(calls: Calls, which: range, flight: Flight, index: int, chunk: Chunk) -> None:
    """Pass on what a draw just produced, and cut it short when the method has seen enough of it."""
    place, start = calls.place, calls.starts[which[index]]
    if place.run.observe and place.run.pieces and (chunk.tokens or chunk.text):
        at = len(flight.text[index]) - len(chunk.text)
        place.run.observe(Event(path=start.path, role=place.role, text=chunk.text, at=at, tokens=chunk.tokens))
    if calls.until and chunk.completion is None:
        text, tokens, signals = flight.text[index], flight.tokens[index], flight.signals[index]
        segment = Segment(text=text, origin=Origin.sampled, tokens=tokens, logprobs=signals)
        if calls.until(replace(start, segments=(*start.segments, segment))):
            flight.abort.end(index)


def extend_trace(place: Place, start: Trace, completion: Completion) -> Trace:
    """A trace with what a call added to it, and the answer found in the whole."""
    segment = Segment(
        text=completion.text,
        origin=Origin.sampled,
        tokens=completion.tokens,
        token_ids=completion.token_ids,
        logprobs=completion.logprobs,
        model=place.model,
        tool_calls=completion.tool_calls,
    )
    return Trace(
        prompt=start.prompt,
        path=start.path,
        segments=(*start.segments, segment),
        finish=completion.finish,
        stop_string=completion.stop_string,
        error=completion.error,
        answer=_answer(start.text, completion, place.kind),
        scores=_rewards(completion),
    )


def _rewards(completion: Completion) -> tuple[Score, ...]:
    rewards = completion.rewards
    return (Score(value=rewards[-1], kind="reward", steps=rewards),) if rewards else ()


def _answer(before: str, completion: Completion, kind: AnswerKind) -> Answer | None:
    if completion.finish in (Finish.aborted, Finish.error):
        return None
    if completion.tool_calls:
        return called(completion.tool_calls)
    return extract(before + completion.text, kind, truncated=completion.finish not in COMPLETE)


def request(calls: Calls, start: Trace, sampling: Sampling, seeds: tuple[int, ...]) -> Request:
    """The call that continues a trace: the same messages, the same turn, nothing added that was not written."""
    own = calls.place.model
    # Token ids mean something to the model that wrote them only.
    prefix = tuple(s if s.model in ("", own) else replace(s, token_ids=()) for s in start.segments if s.text)
    messages, tools = start.prompt, calls.place.run.tools_of(start.prompt)
    if prefix and Capability.prefill not in calls.place.capabilities.can:
        calls.place.run.warn("this engine cannot continue a partial turn: the attempt was continued in a new user turn")
        spoken = (Message("assistant", start.text), Message("user", "Continue exactly where you stopped."))
        messages, prefix = (*messages, *spoken), ()
    return Request(
        messages=messages,
        prefix=prefix,
        sampling=sampling,
        seeds=seeds,
        continuation=calls.continuation,
        tools=tools,
        apart=calls.until is not None,
    )


def _alike(calls: Calls, at: int) -> int:
    """How many starts from `at` on continue the very same text, and can share one request."""
    starts, end = calls.starts, at + 1
    if calls.steps:
        return 1
    first = starts[at]
    while end < len(starts) and starts[end].segments is first.segments and starts[end].prompt is first.prompt:
        end += 1
    return end - at
