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

from thinkscale.answers import called
from thinkscale.budget import Cost, Grant, Ledger
from thinkscale.engines.protocol import Abort, Capability, Completion, Request
from thinkscale.identity import request_name, seeds_of, text_name
from thinkscale.session.flight import Flight
from thinkscale.session.landing import Landing
from thinkscale.session.place import Place
from thinkscale.session.run import price_of
from thinkscale.session.said import answer_in
from thinkscale.session.watch import Until, Watch
from thinkscale.types import Answer, Finish, Message, Origin, Path, Sampling, Score, Segment, Trace

Progress = Callable[[int, int], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """One call for every start, all under the same settings."""

    place: Place
    starts: Sequence[Trace]
    sampling: Sampling
    """With `max_tokens` set."""
    until: Until | None = None
    every: int = 1
    """Tokens between two snapshots that `until` is shown."""
    progress: Progress | None = None
    """Told how many tokens a draw has written; returns whether the consumer is to have a look."""
    marks: frozenset[str] = frozenset()
    """Stop strings that end a step: what they end answers nothing."""
    growing: bool = False
    """Whether a draw that a limit cut goes on, and answers nothing yet."""
    thinking: bool = False
    """Whether draws are thinking that goes on or is yet to be closed, and answer nothing."""
    continuations: Sequence[str] = ()
    """For likelihoods: the text behind every start."""
    steps: Sequence[tuple[str, ...]] = ()
    """For rewards: the steps to judge after every start."""

    @property
    def cap(self) -> int:
        """Tokens that one call may generate."""
        return self.sampling.max_tokens or 0

    def given(self, index: int) -> str | tuple[str, ...] | None:
        """What is not sampled but judged or scored behind a start."""
        if self.steps:
            return self.steps[index]
        return self.continuations[index] if self.continuations else None

    def worst(self) -> Cost:
        """The most that one call can cost; prompts are priced at their full length."""
        place, price = self.place, self.place.capabilities.price
        if price is None:
            return Cost(tokens=self.cap, calls=1)
        different = {(id(s.prompt), id(s.segments), self.given(i)): i for i, s in enumerate(self.starts)}
        longest = max(place.engine.count(request(self, i, self.sampling, (0,))) for i in different.values())
        prompt = price.of(longest)
        return Cost(tokens=self.cap, calls=1, usd=prompt + price.of(0, self.cap), prompt_usd=prompt)


async def make_calls(calls: Calls) -> AsyncGenerator[tuple[int, Trace], None]:
    """Make every call, as many at once as budget and engine allow; yields `(index of the start, trace)`.

    Starts that continue the same text share a request, wherever they stand; they are admitted one after the other.
    """
    async with aclosing(follow_calls(calls)) as news:
        async for index, trace in news:
            if trace is not None:
                yield index, trace


async def follow_calls(calls: Calls) -> AsyncGenerator[tuple[int, Trace | None], None]:
    """The same, and an index alone whenever `progress` asks for a look."""
    place = calls.place
    landing: Landing[Trace | None] = Landing()
    groups = _groups(calls)

    async def launch() -> None:
        worst = calls.worst() if calls.starts else Cost()
        async with asyncio.TaskGroup() as flights:
            for group in groups:
                if not await _launch_group(calls, group, worst, landing, flights):
                    return

    place.run.landings.add(landing)
    try:
        with place.run.watched(landing, place.ledger):
            async with aclosing(landing.of(launch())) as landed:
                async for index, trace in landed:
                    yield index, trace
    finally:
        place.run.landings.discard(landing)
        for trace in filter(None, landing.surplus):
            place.run.drop(trace, place.role)


async def _launch_group(
    calls: Calls, group: Sequence[int], worst: Cost, landing: Landing[Trace | None], flights: asyncio.TaskGroup
) -> bool:
    """Start the calls of starts that are alike; returns whether the consumer wants more and the account allows it."""
    place, begun = calls.place, 0
    slots = place.run.slots(place.engine)
    while begun < len(group):
        admission = place.ledger.admit(worst, len(group) - begun)
        grant = await landing.unless_over(admission, partial(give_back, place.ledger))
        if grant is None:
            return False
        admitted = begun + grant.draws
        while begun < admitted:
            # A place is taken last: whoever has one is drawing, so nobody waits for a place in vain.
            places = await landing.unless_over(slots.take(admitted - begun), undo=slots.give)
            if places is None:
                place.ledger.cancel(grant.each, admitted - begun)
                return False
            flight = _flight(calls, group[begun : begun + places], grant, landing)
            begun += places
            if places == len(calls.starts):  # the only request
                await flight.run()
            else:
                flights.create_task(flight.run())
    return True


def _groups(calls: Calls) -> list[Sequence[int]]:
    """Indices of the starts, those that continue the same text together, in the order of their first ones."""
    starts, name_of = calls.starts, calls.place.run.name_of
    if calls.steps or len(starts) == 1:
        return [[i] for i in range(len(starts))]
    same: dict[object, list[int]] = {}
    for i, start in enumerate(starts):
        same.setdefault((id(start.prompt), id(start.segments), calls.given(i)), []).append(i)
    if len(same) < 2:
        return list(same.values())
    alike: dict[object, list[int]] = {}
    for indices in same.values():
        first = starts[indices[0]]
        name = (name_of(first.prompt, first.tools), text_name(first.segments), calls.given(indices[0]))
        alike.setdefault(name, []).extend(indices)
    return list(alike.values())


def give_back(ledger: Ledger, grant: Grant | None) -> None:
    """Return what was admitted for a consumer that has left."""
    if grant is not None:
        ledger.cancel(grant.each, grant.draws)


def _flight(calls: Calls, which: Sequence[int], grant: Grant, landing: Landing[Trace | None]) -> Flight:
    """One request for the starts at `which`, wired to the account, the journal and the waiting consumer."""
    place, start = calls.place, calls.starts[which[0]]
    short = grant.each.tokens < calls.cap
    granted = replace(calls.sampling, max_tokens=int(grant.each.tokens)) if short else calls.sampling
    prompt, text = place.run.name_of(start.prompt, start.tools), text_name(start.segments)
    paths = tuple([calls.starts[i].path for i in which])
    # What a reward model thinks of a text does not depend on the draw that wrote it.
    seeds = (0,) * len(paths) if calls.steps else tuple(seeds_of(place.run.seed, place.role, prompt, text, paths))
    sampling = place.run.sampling_of(granted)
    name = request_name(place.capabilities.model, prompt, text, sampling, calls.given(which[0]))
    slots, price = place.run.slots(place.engine), place.capabilities.price
    watch = _watch(calls, which, landing)

    def settle(completion: Completion) -> None:
        place.ledger.settle(grant.each, price_of(completion.usage, price))
        slots.give(1)

    def land(index: int, completion: Completion, replayed: bool) -> None:
        trace = extend_trace(calls, calls.starts[which[index]], completion)
        if (short and trace.finish is Finish.length) or (landing.timed_out and trace.finish is Finish.aborted):
            trace = replace(trace, finish=Finish.budget)
        if place.final and trace.answer is not None:
            place.ledger.release()
        if calls.progress and completion.stands:
            calls.progress(which[index], completion.stands)
        place.run.record(trace, place.role, replayed=replayed)
        landing.put(which[index], trace)

    return Flight(
        engine=place.engine,
        request=request(calls, which[0], granted, seeds, paths),
        keys=tuple([f"{name}{seed:016x}" for seed in seeds]),
        abort=Abort(parent=landing.abort),
        memory=place.run.memory,
        frugal=place.run.frugal,
        settle=settle,
        land=land,
        looked_at=landing.looked_at,
        continued=_continued(place),
        failed=place.run.fail,
        news=watch.hear if watch else None,
        restart=watch.restart if watch else lambda _: None,
        stands=watch.stands if watch else lambda _: 0,
        undecided=watch.undecided if watch else lambda _: None,
    )


def _continued(place: Place) -> Callable[[], None] | None:
    """What is told of draws that go on where an earlier run was cut off, where they are to and can."""
    if not place.run.continues or Capability.prefill not in place.capabilities.can:
        return None
    return partial(
        place.run.warn,
        "attempts that an interrupt had cut off were continued from there: they are not what the seed alone gives",
    )


def _watch(calls: Calls, which: Sequence[int], landing: Landing[Trace | None]) -> Watch | None:
    """The watch over a request, where anybody wants to see its pieces."""
    run, progress = calls.place.run, calls.progress
    if calls.until is None and run.observe is None and progress is None:
        return None

    def tell(index: int, tokens: int) -> None:
        if progress and progress(which[index], tokens):
            landing.put(which[index], None)

    starts, told = [calls.starts[i] for i in which], tell if progress else None
    return Watch(run=run, role=calls.place.role, starts=starts, until=calls.until, every=calls.every, progress=told)


def extend_trace(calls: Calls, start: Trace, completion: Completion) -> Trace:
    """A trace with what a call added to it, and the answer found in the whole."""
    step = completion.stop_string in calls.marks or (calls.growing and completion.finish.cut)
    step = step or (calls.thinking and not completion.tool_calls)
    segment = Segment(
        text=completion.text,
        origin=Origin.sampled,
        tokens=completion.tokens,
        token_ids=completion.token_ids,
        logprobs=completion.logprobs,
        model=calls.place.model,
        tool_calls=completion.tool_calls,
    )
    whole = Trace(
        prompt=start.prompt,
        segments=(*start.segments, segment),
        finish=completion.finish,
        stop_string=completion.stop_string,
        path=start.path,
        scores=_rewards(completion),
        error=completion.error,
        tools=start.tools,
        parents=start.parents,
        pruned=start.pruned,
    )
    return replace(whole, answer=None if step else _answer(whole, start.answer, calls.place))


def _rewards(completion: Completion) -> tuple[Score, ...]:
    rewards = completion.rewards
    return (Score(value=rewards[-1], kind="reward", steps=rewards),) if rewards else ()


def _answer(trace: Trace, before: Answer | None, place: Place) -> Answer | None:
    if trace.finish.lost:
        return None
    if trace.segments[-1].tool_calls:
        return called(trace.segments[-1].tool_calls)
    return answer_in(trace, place.capabilities.think, partial(place.run.find, trace.prompt, place.kind), before)


def request(
    calls: Calls, index: int, sampling: Sampling, seeds: tuple[int, ...], paths: tuple[Path, ...] = ()
) -> Request:
    """The call that continues a start: the same messages, the same turn, nothing added that was not written."""
    start, own = calls.starts[index], calls.place.model
    # Token ids mean something to the model that wrote them only.
    prefix = tuple(s if s.model in ("", own) else replace(s, token_ids=()) for s in start.segments if s.text)
    messages, tools = start.prompt, start.tools
    if prefix and Capability.prefill not in calls.place.capabilities.can:
        calls.place.run.warn("this engine cannot continue a partial turn: the attempt was continued in a new user turn")
        spoken = (Message("assistant", start.text), Message("user", "Continue exactly where you stopped."))
        messages, prefix = (*messages, *spoken), ()
    return Request(
        messages=messages,
        prefix=prefix,
        sampling=sampling,
        seeds=seeds,
        paths=paths,
        continuation=calls.continuations[index] if calls.continuations else None,
        steps=calls.steps[index] if calls.steps else (),
        tools=tools,
        apart=calls.until is not None,
    )
