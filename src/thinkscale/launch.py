"""How attempts get under way: admitted in draw order, flown concurrently, landed once.

Sits between the verbs of a session and the engine calls of `draws`. It knows accounts and places, not answers' meaning.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from thinkscale.answers import called, extract
from thinkscale.budget import Cost, Grant, Ledger
from thinkscale.desk import Event, priced
from thinkscale.draws import Flight, Landing
from thinkscale.engines.protocol import Abort, Capability, Chunk, Completion, Request
from thinkscale.identity import request_name, seeds_of, text_name
from thinkscale.registry import components, remembered
from thinkscale.types import Answer, AnswerKind, Finish, Message, Origin, Path, Problem, Sampling, Score, Segment, Trace

if TYPE_CHECKING:
    from thinkscale.session import Method, Session

COMPLETE = frozenset({Finish.eos, Finish.stop})
"""Ends that the model chose; anything else cut it off."""
LONG = 2e-4
"""Seconds of a stop rule beyond which letting others run costs nothing beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is to be done with every start: one call under the same settings."""

    session: Session
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
        price = self.session.capabilities.price
        if price is None:
            return Cost(tokens=self.cap, calls=1)
        judged = zip(self.starts, self.steps or [()] * len(self.starts), strict=True)
        different = {(id(s.prompt), id(s.segments), id(steps)): (s, steps) for s, steps in judged}.values()
        asked = (replace(request(self, s, self.sampling, (0,)), steps=steps) for s, steps in different)
        longest = max(map(self.session.engine.count, asked))
        prompt = longest * price.input / 1e6
        return Cost(tokens=self.cap, calls=1, usd=prompt + self.cap * price.output / 1e6, prompt_usd=prompt)


async def drawn(work: Work) -> AsyncGenerator[tuple[int, Trace], None]:
    """Make every call, as many at once as budget and engine allow; yields `(index of the start, trace)`."""
    session, starts = work.session, work.starts
    landing: Landing[Trace] = Landing()
    slots = session.desk.slots(session.engine)
    worst = work.worst() if starts else Cost()
    undo = partial(_unused, session.ledger)

    async def launch() -> None:
        begun = 0
        async with asyncio.TaskGroup() as flights:
            while begun < len(starts):
                grant = await landing.unless_over(session.ledger.admit(worst, _alike(work, begun)), undo)
                if grant is None:
                    return
                admitted = begun + grant.draws
                while begun < admitted:
                    # A place is taken last: whoever has one is drawing, so nobody waits for a place in vain.
                    places = await landing.unless_over(slots.take(admitted - begun), undo=slots.give)
                    if places is None:
                        session.ledger.cancel(grant.each, admitted - begun)
                        return
                    flight = _flight(work, range(begun, begun + places), grant, landing)
                    begun += places
                    if begun == len(starts):
                        await flight.run()
                    else:
                        flights.create_task(flight.run())

    session.desk.landings.add(landing)
    try:
        with session.desk.watched(landing, session.ledger):
            async with aclosing(landing.of(launch())) as landed:
                async for index, trace in landed:
                    yield index, trace
    finally:
        session.desk.landings.discard(landing)
        for trace in landing.surplus:
            session.desk.drop(trace, session.name)


async def solved(
    session: Session, problem: Problem, by: Sequence[Method], paths: Sequence[Path]
) -> AsyncGenerator[tuple[int, Trace], None]:
    """Attempts made by other methods in turn, each within an account reserved for it."""
    landing: Landing[Trace] = Landing()
    worst = [_with_money(session, problem, method) for method in by]
    undo = partial(_unused, session.ledger)
    width = asyncio.Semaphore(session.desk.concurrency or max(1, len(paths)))

    async def attempt(index: int, path: Path, grant: Grant) -> None:
        inner = session.nested(session.ledger.child(grant.each), path)
        try:
            outcome = await by[index % len(by)].solve(problem, inner)
            unmade = Trace(prompt=problem.messages, path=path, finish=Finish.budget)
            trace = outcome.best or next(iter(outcome.traces), unmade)
            session.ledger.refused |= inner.ledger.refused
            landing.put(index, trace)
        finally:
            session.ledger.settle(grant.each, inner.ledger.spent)
            width.release()

    async def launch() -> None:
        async with asyncio.TaskGroup() as attempts:
            for index, path in enumerate(paths):
                if not await landing.unless_over(width.acquire()):
                    break
                grant = await landing.unless_over(session.ledger.admit(worst[index % len(by)]), undo)
                if grant is None:
                    width.release()
                    break
                attempts.create_task(attempt(index, path, grant))

    try:
        async with aclosing(landing.of(launch(), patience=0)) as landed:
            async for index, trace in landed:
                yield index, trace
    finally:
        for trace in landing.surplus:
            session.desk.drop(trace, session.name)


async def satisfied(enough: Callable[[Sequence[Trace]], bool], traces: Sequence[Trace]) -> bool:
    """What a stop rule says of some traces. One that is slow lets others run between two draws."""
    began = time.perf_counter()
    fired = enough(traces)
    if time.perf_counter() - began > LONG:
        await asyncio.sleep(0)
    return fired


def _unused(ledger: Ledger, grant: Grant | None) -> None:
    """Give back what was admitted for a consumer that has left."""
    if grant is not None:
        ledger.cancel(grant.each, grant.draws)


@remembered
def roles_of(method: object) -> frozenset[str]:
    """The roles that a method and everything nested in it draw from, and which somebody has to play."""
    return frozenset().union(*(getattr(part, "roles", frozenset()) for part in components(method)))


def _with_money(session: Session, problem: Problem, by: Method) -> Cost:
    """The ceiling of a method at its dearest model: every call may read the prompt and all that was written before."""
    ceiling, usd = by.ceiling(session.cap), 0.0
    asked = {name for part in components(by) for name in getattr(part, "role_needs", ())}
    for engine in (session.engine, *(session.role(name).engine for name in sorted(asked | roles_of(by)))):
        if price := engine.capabilities.price:
            read = engine.count(Request(messages=problem.messages)) + ceiling.tokens
            usd = max(usd, (ceiling.calls * read * price.input + ceiling.tokens * price.output) / 1e6)
    return replace(ceiling, usd=usd) if usd else ceiling


def _flight(work: Work, which: range, grant: Grant, landing: Landing[Trace]) -> Flight:
    """One request for the starts at `which`, wired to the account, the journal and the waiting consumer."""
    session, start = work.session, work.starts[which[0]]
    short = grant.each.tokens < work.cap
    granted = replace(work.sampling, max_tokens=int(grant.each.tokens)) if short else work.sampling
    prompt, text = session.desk.name_of(start.prompt), text_name(start.segments)
    steps = work.steps[which[0]] if work.steps else ()
    paths = tuple([work.starts[i].path for i in which])
    # What a reward model thinks of a text does not depend on the draw that wrote it.
    seeds = (0,) * len(paths) if steps else tuple(seeds_of(session.desk.seed, session.name, prompt, text, paths))
    sampling = session.desk.sampling_of(granted)
    given = steps or work.continuation
    name = request_name(session.capabilities.model, prompt, text, sampling, given)
    slots, price = session.desk.slots(session.engine), session.capabilities.price

    def land(index: int, completion: Completion, replayed: bool) -> None:
        trace = continued(session, work.starts[which[index]], completion)
        if (short and trace.finish is Finish.length) or (landing.timed_out and trace.finish is Finish.aborted):
            trace = replace(trace, finish=Finish.budget)
        if work.final and trace.answer is not None:
            session.ledger.release()
        session.ledger.settle(grant.each, priced(completion.usage, price))
        slots.give(1)
        session.desk.record(trace, session.name, replayed=replayed)
        landing.put(which[index], trace)

    return Flight(
        engine=session.engine,
        request=replace(request(work, start, granted, seeds), steps=steps, paths=paths),
        keys=tuple([f"{name}{seed:016x}" for seed in seeds]),
        abort=Abort(parent=landing.abort),
        memory=session.desk.memory,
        frugal=session.desk.frugal,
        land=land,
        looked_at=landing.looked_at,
        failed=session.desk.fail,
        news=partial(_heard, work, which) if work.until or session.desk.observe else None,
    )


def _heard(work: Work, which: range, flight: Flight, index: int, chunk: Chunk) -> None:
    """Pass on what a draw just produced, and cut it short when the method has seen enough of it."""
    session, start = work.session, work.starts[which[index]]
    if session.desk.observe and session.desk.pieces and (chunk.tokens or chunk.text):
        at = len(flight.text[index]) - len(chunk.text)
        session.desk.observe(Event(path=start.path, role=session.name, text=chunk.text, at=at, tokens=chunk.tokens))
    if work.until and chunk.completion is None:
        text, tokens, signals = flight.text[index], flight.tokens[index], flight.signals[index]
        segment = Segment(text=text, origin=Origin.sampled, tokens=tokens, logprobs=signals)
        if work.until(replace(start, segments=(*start.segments, segment))):
            flight.abort.end(index)


def continued(session: Session, start: Trace, completion: Completion) -> Trace:
    """A trace with what a call added to it, and the answer found in the whole."""
    segment = Segment(
        text=completion.text,
        origin=Origin.sampled,
        tokens=completion.tokens,
        token_ids=completion.token_ids,
        logprobs=completion.logprobs,
        model=session.model,
        tool_calls=completion.tool_calls,
    )
    return Trace(
        prompt=start.prompt,
        path=start.path,
        segments=(*start.segments, segment),
        finish=completion.finish,
        stop_string=completion.stop_string,
        error=completion.error,
        answer=_answer(start.text, completion, session.kind),
        scores=_judged(completion),
    )


def _judged(completion: Completion) -> tuple[Score, ...]:
    rewards = completion.rewards
    return (Score(value=rewards[-1], kind="reward", steps=rewards),) if rewards else ()


def _answer(before: str, completion: Completion, kind: AnswerKind) -> Answer | None:
    if completion.finish in (Finish.aborted, Finish.error):
        return None
    if completion.tool_calls:
        return called(completion.tool_calls)
    return extract(before + completion.text, kind, truncated=completion.finish not in COMPLETE)


def request(work: Work, start: Trace, sampling: Sampling, seeds: tuple[int, ...]) -> Request:
    """The call that continues a trace: the same messages, the same turn, nothing added that was not written."""
    own = work.session.model
    # Token ids mean something to the model that wrote them only.
    prefix = tuple(s if s.model in ("", own) else replace(s, token_ids=()) for s in start.segments if s.text)
    messages, tools = start.prompt, work.session.desk.tools_of(start.prompt)
    if prefix and Capability.prefill not in work.session.capabilities.can:
        work.session.warn("this engine cannot continue a partial turn: the attempt was continued in a new user turn")
        spoken = (Message("assistant", start.text), Message("user", "Continue exactly where you stopped."))
        messages, prefix = (*messages, *spoken), ()
    return Request(
        messages=messages,
        prefix=prefix,
        sampling=sampling,
        seeds=seeds,
        continuation=work.continuation,
        tools=tools,
        apart=work.until is not None,
    )


def _alike(work: Work, at: int) -> int:
    """How many starts from `at` on continue the very same text, and can share one request."""
    starts, end = work.starts, at + 1
    if work.steps:
        return 1
    first = starts[at]
    while end < len(starts) and starts[end].segments is first.segments and starts[end].prompt is first.prompt:
        end += 1
    return end - at
