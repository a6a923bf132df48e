"""The narrow waist: the only way a method spends compute.

A session owns what every method would otherwise copy: concurrency, retries, seeds, cache, budget, abort, journal,
continuation and answer extraction. It knows nothing of how methods choose. The rules it keeps are in `docs/design.md`,
section 3; each is a test in `tests/session`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Protocol

from thinkscale.budget import Budget, Cost
from thinkscale.engines.protocol import Capabilities, Capability, ThinkFormat
from thinkscale.errors import CapabilityError
from thinkscale.identity import seed_of
from thinkscale.prompts import render
from thinkscale.session.calls import Calls, make_calls
from thinkscale.session.nested import draw_through
from thinkscale.session.place import Place
from thinkscale.types import AnswerKind, Finish, Logprobs, Message, Outcome, Path, Problem, Sampling, Trace

LONG = 2e-4
"""Seconds of a stop rule beyond which letting others run costs nothing beside it."""


class Method(Protocol):
    """A way to spend compute on a problem; what it asks of the world it says in `needs`, of the type `Needs`."""

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """Answer the problem; every call goes through `llm`."""
        ...

    def ceiling(self, cap: int) -> Cost:
        """The most that one `solve` can cost when a call may generate `cap` tokens."""
        ...


def attempt_ceiling(by: Method | None, cap: int) -> Cost:
    """The most that one attempt can cost: that of the method it is drawn through, or of one call."""
    return by.ceiling(cap) if by else Cost(tokens=cap, calls=1)


class Session:
    """What a method sees of the world: one engine, one account, one place in the tree of draws."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.enough = False
        """Whether a stop rule ended a `sample` of this session early."""

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can do."""
        return self.place.capabilities

    @property
    def think(self) -> ThinkFormat:
        """How the model marks its thinking; a plain fallback for models that do not."""
        return self.place.think

    @property
    def kind(self) -> AnswerKind:
        """How answers are found."""
        return self.place.kind

    @property
    def cap(self) -> int:
        """Tokens that one call may generate unless the method says otherwise."""
        return self.place.cap

    @property
    def exhausted(self) -> bool:
        """Whether nothing more can be drawn; the only thing an open loop has to ask."""
        return self.place.ledger.exhausted

    def warn(self, message: str) -> None:
        """Say something that the reader of the result must know; the same words are kept once."""
        self.place.run.warn(message)

    async def sample(
        self,
        what: Problem | Sequence[Message],
        n: int = 1,
        *,
        by: Method | Sequence[Method] | None = None,
        until: Callable[[Trace], bool] | None = None,
        enough: Callable[[Sequence[Trace]], bool] | None = None,
        **sampling: object,
    ) -> list[Trace]:
        """Draw up to n traces of one prompt; they come back in draw order.

        Args:
            what: the problem, or bare messages.
            n: how many; fewer come back when the budget ends first.
            by: draw each attempt through this method instead of by one call; of several, through each in turn.
            until: shown each growing trace, with log-probabilities where they are asked for and the engine has them on
                the way; their tuples go on growing, so copy what you keep. Returning true cuts that draw short
                (`finish=aborted`).
            enough: a stop rule, shown the first 1, 2, … traces in draw order, so that finishing order cannot change
                where it fires. Draws that it makes unnecessary are cancelled and charged, and do not come back.
            **sampling: fields of `Sampling`.
        """
        early: dict[int, Trace] = {}
        first: list[Trace] = []
        fired = False
        if enough is not None and hasattr(enough, "within"):
            enough = enough.within(n)
        async with aclosing(self._attempts(what, n, by, until, sampling)) as attempts:
            async for index, trace in attempts:
                early[index] = trace
                while len(first) in early and not fired:
                    first = await self._agreed(first, early.pop(len(first)))
                    fired = enough is not None and len(first) < n and await _fires(enough, first)
                if fired:
                    self.enough = True
                    break
        return first

    async def arrivals(
        self,
        what: Problem | Sequence[Message],
        n: int = 1,
        *,
        by: Method | Sequence[Method] | None = None,
        until: Callable[[Trace], bool] | None = None,
        **sampling: object,
    ) -> AsyncGenerator[Trace, None]:
        """The same in order of arrival. Leaving the loop cancels the rest; wrap it in `contextlib.aclosing`.

        An answer bears the label that its class has by then: two classes that a later answer unites keep theirs.
        """
        async with aclosing(self._attempts(what, n, by, until, sampling)) as attempts:
            async for _, trace in attempts:
                yield (await self._agreed([], trace))[0]

    async def extend(
        self,
        traces: Sequence[Trace],
        n: int = 1,
        *,
        inject: str = "",
        until: Callable[[Trace], bool] | None = None,
        final: bool = True,
        **sampling: object,
    ) -> list[Trace]:
        """Continue every trace n ways at once, after appending `inject`; results stand in the order of `traces`.

        What the budget does not allow comes back as it was, with `finish=budget`. A step that is not `final` will be
        continued whatever it says, so an answer found in it does not free what is kept back for a closing question.
        """
        opened = [t.inject(inject) for t in traces]
        starts = [replace(t, path=path, finish=Finish.open) for t in opened for path in self._forks(t, n)]
        results = [replace(s, finish=Finish.budget) for s in starts]
        calls = Calls(place=self.place, starts=starts, sampling=self._with(sampling), until=until, final=final)
        async with aclosing(make_calls(calls)) as extended:
            async for index, trace in extended:
                results[index] = trace
        agreed: list[Trace] = []
        for trace in results:
            agreed = await self._agreed(agreed, trace)
        return agreed

    async def ask(self, template: str, n: int = 1, *, max_tokens: int | None = None, **fields: object) -> list[Trace]:
        """Put a fresh question made from `prompts/<template>.txt`: to a critic, a judge, an aggregator."""
        return await self.sample((Message("user", render(template, **fields)),), n, max_tokens=max_tokens)

    async def ask_each(self, template: str, asked: Sequence[Mapping[str, object]], **sampling: object) -> list[Trace]:
        """Put one fresh question per set of fields, all at once; fewer replies come back when the budget ends first.

        What is said here is about answers and is none: it does not free what is kept back for a closing question.
        """
        starts = [self.open((Message("user", render(template, **fields)),)) for fields in asked]
        calls = Calls(place=self.place, starts=starts, sampling=self._with(sampling), final=False)
        async with aclosing(make_calls(calls)) as replies:
            arrived = {index: trace async for index, trace in replies}
        return [trace for _, trace in sorted(arrived.items())]

    def seed(self, problem: Problem, purpose: str) -> int:
        """A seed for what a method itself leaves to chance; it follows from the run's seed, as that of a draw does."""
        run = self.place.run
        return seed_of(run.seed, self.place.role, run.name_of(problem.messages), purpose, self.place.path)

    async def likelihood(self, prompt: Problem | Trace, continuation: str) -> Logprobs | None:
        """Teacher-forced log-probabilities of a given text after a prompt or a trace; `None` when the budget is spent.

        Raises:
            CapabilityError: the engine cannot score given text.
        """
        self.require(frozenset({Capability.likelihood}))
        start = prompt if isinstance(prompt, Trace) else self._start(prompt)
        sampling = replace(self.place.sampling, max_tokens=0, logprobs=self.place.sampling.logprobs or 0)
        calls = Calls(place=self.place, starts=[start], sampling=sampling, continuation=continuation)
        async with aclosing(make_calls(calls)) as scored:
            found = [trace async for _, trace in scored]
        if found and found[0].finish is Finish.error:
            self.warn(f"the likelihood of a text is not known: {found[0].error or 'the engine gave no reason'}")
        whole = found and found[0].finish not in (Finish.error, Finish.aborted, Finish.budget)
        return found[0].segments[-1].logprobs if whole else None

    async def rewards(
        self, traces: Sequence[Trace], split: Callable[[str], Sequence[str]] = lambda text: (text,)
    ) -> list[tuple[float, ...] | None]:
        """What a reward model thinks of every trace, as one number per step.

        Args:
            traces: what is judged, in order; the prompt of each is the question.
            split: cuts an answer into steps, which joined give it back; whole answers unless said otherwise.

        Returns:
            `None` where there is nothing to judge, the budget is spent or the model failed.

        Raises:
            CapabilityError: the engine of this session is no reward model.
        """
        self.require(frozenset({Capability.rewards}))
        judged = [(i, t) for i, t in enumerate(traces) if t.text]
        calls = Calls(
            place=self.place,
            starts=[Trace(prompt=t.prompt, path=t.path) for _, t in judged],
            sampling=replace(self.place.sampling, max_tokens=0, logprobs=None),
            steps=[tuple(split(t.text)) for _, t in judged],
        )
        found: list[tuple[float, ...] | None] = [None] * len(traces)
        async with aclosing(make_calls(calls)) as rewarded:
            async for index, trace in rewarded:
                found[judged[index][0]] = trace.scores[-1].steps if trace.scores else None
                if trace.finish is Finish.error:
                    self.warn(f"an answer could not be judged: {trace.error or 'the engine gave no reason'}")
        return found

    def role(self, name: str) -> Session:
        """The engine that plays a role (`judge`, `draft`, `reward`), on the same ledger.

        Where nobody was named for it, and for `main`, that is the main engine of the run, whoever asks.
        """
        return Session(replace(self.place, engine=self.place.engine_of(name), role=name))

    @asynccontextmanager
    async def child(self, budget: Budget) -> AsyncIterator[Session]:
        """A session with a nested budget, reserved here while it lives and charged here when it ends."""
        left = self.place.ledger.left
        wanted = {name: limit for name, limit in budget.limits().items() if name != "seconds"}
        grant = await self.place.ledger.admit(replace(left, **wanted).clip(left))
        reserved = grant.each if grant else Cost()
        account = self.place.ledger.child(reserved, budget)
        try:
            with self.place.ledger.aside() if grant else nullcontext():
                yield Session(replace(self.place, ledger=account))
        finally:
            if grant:
                self.place.ledger.settle(reserved, account.spent)

    def continuing(self, text: str) -> Session:
        """The same session, but every attempt at a problem goes on from a beginning that somebody else wrote."""
        return Session(replace(self.place, before=Trace(prompt=()).inject(text).segments))

    def closed(self, trace: Trace) -> Trace:
        """A trace at the point where its answer follows: thinking that is not over is cut short."""
        answering = self.think.close.strip() in trace.text
        return trace if answering else trace.inject(self.think.cut_short(trace.text))

    def branch(self, number: int) -> Session:
        """The same session, one level down in the tree of draws: equal questions there are other draws."""
        return Session(replace(self.place, path=(*self.place.path, number)))

    def require(self, needs: frozenset[Capability]) -> None:
        """Refuse, before anything is spent, what the engine cannot do.

        Raises:
            CapabilityError: naming what is missing.
        """
        missing = ", ".join(f"`{need}`" for need in sorted(needs - self.capabilities.can))
        role, model = self.place.role, self.place.model
        if missing and role != "main":
            raise CapabilityError(
                f"the role `{role}` needs {missing}, which the model `{model}` does not offer: give that role a model "
                f"that does, as in `--model …,{role}=…`"
            )
        if missing:
            raise CapabilityError(
                f"the model `{model}` does not offer {missing}, which this method needs: choose another method, "
                "scorer or model"
            )

    def _attempts(
        self,
        what: Problem | Sequence[Message],
        n: int,
        by: Method | Sequence[Method] | None,
        until: Callable[[Trace], bool] | None,
        sampling: dict[str, object],
    ) -> AsyncGenerator[tuple[int, Trace], None]:
        start = self._start(what)
        first = self.place.run.number(self.place.role, start, n)
        paths = [(*self.place.path, first + j) for j in range(n)]
        if by is None:
            starts = [Trace(prompt=start.prompt, segments=start.segments, path=path) for path in paths]
            return make_calls(Calls(place=self.place, starts=starts, sampling=self._with(sampling), until=until))
        problem = what if isinstance(what, Problem) else Problem(messages=start.prompt, answer_kind=self.kind)
        place = replace(self.place, sampling=self._with(sampling))
        methods = by if isinstance(by, Sequence) else (by,)
        return draw_through(place, problem, methods, paths, lambda method, at: method.solve(problem, Session(at)))

    def open(self, what: Problem | Sequence[Message]) -> Trace:
        """An empty trace of the problem, to be extended; no call is made."""
        start = self._start(what)
        return replace(start, path=(*self.place.path, self.place.run.number(self.place.role, start, 1)))

    def _start(self, what: Problem | Sequence[Message]) -> Trace:
        if isinstance(what, Problem):
            self.place.run.offer(what)
            return Trace(prompt=what.messages, segments=self.place.before, path=self.place.path)
        return Trace(prompt=tuple(what), path=self.place.path)

    def _forks(self, trace: Trace, n: int) -> list[Path]:
        """Paths of n continuations; the first and only one keeps the path of what it continues."""
        turn = self.place.run.number(self.place.role, trace, n)
        if n == 1 and turn == 0:
            return [trace.path]
        return [(*trace.path, turn + j) for j in range(n)]

    def _with(self, sampling: dict[str, object]) -> Sampling:
        given = {name: value for name, value in sampling.items() if value is not None}
        return replace(self.place.sampling, **given) if given else self.place.sampling  # type: ignore[arg-type]

    async def _agreed(self, traces: list[Trace], new: Trace) -> list[Trace]:
        """The traces and one more, every answer under the label of its equivalence class."""
        traces.append(new)
        if new.answer is None:
            return traces
        classes = self.place.run.classes
        if classes.settled([new.answer], self.kind):
            traces[-1] = self.place.run.relabelled(new)
            return traces
        await classes.add([new.answer], self.kind)
        return [self.place.run.relabelled(t) for t in traces]


async def _fires(enough: Callable[[Sequence[Trace]], bool], traces: Sequence[Trace]) -> bool:
    """Ask a stop rule about some traces. One that is slow lets others run between two draws."""
    began = time.perf_counter()
    fired = enough(traces)
    if time.perf_counter() - began > LONG:
        await asyncio.sleep(0)
    return fired
