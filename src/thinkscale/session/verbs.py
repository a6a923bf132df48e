"""The narrow waist: the only way a method spends compute.

A session owns what every method would otherwise copy: concurrency, retries, seeds, cache, budget, abort, journal,
continuation and answer extraction. It does not know how methods choose. Its rules are in `docs/design.md`, section 3;
each is a test in `tests/session`. It is long because every verb that a method calls is here, with its parameters.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Protocol, cast

from thinkscale.budget import Budget, Cost
from thinkscale.contracts import solve_by
from thinkscale.engines.protocol import Capabilities, Capability, ThinkFormat
from thinkscale.errors import CapabilityError
from thinkscale.identity import seed_of
from thinkscale.pace import Pace, least
from thinkscale.session.calls import Calls, Progress, follow_calls, make_calls
from thinkscale.session.effects import run_effect
from thinkscale.session.nested import Nested, dearest, draw_through
from thinkscale.session.place import Place
from thinkscale.session.scoring import likelihoods_of, rewards_of
from thinkscale.session.starts import agree, end_step, forks, label, problem_of, root, sampling_with
from thinkscale.session.watch import Until
from thinkscale.session.waves import Draws, Rule, Waves, draw_all
from thinkscale.types import AnswerKind, Finish, Logprobs, Message, Outcome, Problem, Trace


class Method(Protocol):
    """A way to spend compute on a problem; its requirements are in `needs`, of the type `Needs`."""

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
        """The kind of answer that is looked for."""
        return self.place.kind

    @property
    def cap(self) -> int:
        """Tokens that one call may generate unless the method says otherwise."""
        return self.place.cap

    @property
    def exhausted(self) -> bool:
        """Whether the budget allows no further draw; the condition of an open loop."""
        return self.place.ledger.exhausted

    def warn(self, message: str) -> None:
        """Add a warning to the outcome; equal warnings are kept once."""
        self.place.run.warn(message)

    async def sample(
        self,
        what: Problem | Sequence[Message],
        n: int = 1,
        *,
        by: Method | Sequence[Method] | None = None,
        until: Until | None = None,
        every: int = 1,
        enough: Rule | None = None,
        pace: Pace = Pace.steady,
        **sampling: object,
    ) -> Draws:
        """Draw up to n traces of one prompt, in draw order, or with a stop rule in the order in which they count.

        Args:
            what: the problem, or bare messages.
            n: how many; fewer come back when the budget ends first.
            by: draw each attempt through this method instead of by one call; of several, through each in turn.
            until: called with each growing trace, with log-probabilities if they are asked for and the engine streams
                them; their tuples keep growing, so copy what you keep. It may be async. Returning true cuts the draw
                back to what it was shown (`finish=aborted`); tokens written since are charged.
            every: tokens between two calls of `until`, at least 1.
            enough: a stop rule, called with the first 1, 2, … traces in the order of their tokens, wave after wave.
                Draws that it makes unnecessary are cancelled, charged, and not returned.
            pace: the size of waves: `thrift` for the fewest tokens, `swift` for the fewest seconds.
            **sampling: fields of `Sampling`. A draw that a `stop` given here ends is a step and has no answer.
        """
        starts, methods = root(self.place, what, n), by if isinstance(by, Sequence) else (by,) if by else ()
        through = [methods[i % len(methods)] for i in range(n)] if methods else []
        problems = [problem_of(self.place, what)] * n

        def begin(which: slice, progress: Progress | None = None) -> AsyncGenerator[tuple[int, Trace | None], None]:
            calls = self._calls(starts[which], sampling, until, every, progress=progress)
            return self._through(problems[which], calls, through[which]) if through else follow_calls(calls)

        rule = enough.within(n) if enough is not None and hasattr(enough, "within") else enough
        if rule is None or least(rule, (), n) >= n:  # all are needed, whatever they say
            return await draw_all(self.place, begin(slice(n)))
        place = replace(self.place, sampling=sampling_with(self.place, sampling))
        one = self._calls(starts[:1], sampling)
        each = dearest(place, problems[0], methods) if methods else one.worst()
        return await Waves(place=self.place, n=n, rule=rule, pace=pace, each=each, begin=begin).run()

    async def arrivals(
        self, what: Problem | Sequence[Message], n: int = 1, *, by: Method | None = None, **sampling: object
    ) -> AsyncGenerator[Trace, None]:
        """The same draws in order of arrival. Leaving the loop cancels the rest; wrap it in `contextlib.aclosing`.

        An answer has the label of its class at that moment; labels do not change if a later answer joins two classes.
        """
        calls = self._calls(root(self.place, what, n), sampling)
        problems = [problem_of(self.place, what)] * n
        arriving = self._through(problems, calls, [by] * n) if by else follow_calls(calls)
        async with aclosing(arriving) as attempts:
            async for _, trace in attempts:
                if trace is not None:
                    agreed: list[Trace] = []
                    await agree(self.place, agreed, trace)
                    yield agreed[0]

    async def each(
        self,
        asked: Sequence[Problem | Sequence[Message]],
        n: int = 1,
        *,
        under: Sequence[Sequence[Trace]] = (),
        by: Method | None = None,
        final: bool = True,
        **sampling: object,
    ) -> list[list[Trace]]:
        """Draw every prompt n times, all at once; equal prompts share a request.

        Args:
            asked: problems, or bare messages.
            n: draws of each; fewer come back when the budget ends first.
            under: for every prompt, the traces that it was made from; the paths of its draws are below the first one.
            by: draw each through this method instead of by one call.
            final: whether a reply may answer the problem and so release the closing reserve; a judge's may not.
            **sampling: fields of `Sampling`.

        Returns:
            One group of traces per prompt, in order.
        """
        place = self.place if final else replace(self.place, final=False)
        parents = under or [()] * len(asked)
        starts = [start for what, above in zip(asked, parents, strict=True) for start in root(place, what, n, above)]
        calls = self._calls(starts, sampling, place=place)
        problems = [problem_of(place, what) for what in asked for _ in range(n)]
        arriving = self._through(problems, calls, [by] * len(starts)) if by else follow_calls(calls)
        async with aclosing(arriving) as arrived:
            found = {index: trace async for index, trace in arrived if trace is not None}
        drawn = [replace(trace, parents=starts[index].parents) for index, trace in sorted(found.items())]
        agreed: list[Trace] = [] if final else drawn
        for trace in drawn if final else ():
            await agree(place, agreed, trace)
        by_index = dict(zip(sorted(found), agreed, strict=True))
        return [[by_index[i] for i in range(at, at + n) if i in by_index] for at in range(0, len(starts), n)]

    async def extend(
        self,
        traces: Sequence[Trace],
        n: int = 1,
        *,
        inject: str = "",
        until: Until | None = None,
        every: int = 1,
        final: bool = True,
        thinking: bool = False,
        **sampling: object,
    ) -> list[Trace]:
        """Continue every trace n ways at once, after appending `inject`; results are in the order of `traces`.

        What the budget does not allow comes back unchanged, with `finish=budget`. A step that is not `final` will be
        continued anyway, so an answer in it does not release the closing reserve; one that is `thinking` has no answer,
        because its thinking is still to be closed.
        """
        opened = [t.inject(inject) for t in traces]
        starts = [fork for t in opened for fork in forks(self.place, t, n)]
        place = self.place if final else replace(self.place, final=False)
        calls = self._calls(starts, sampling, until, every, place=place)
        return await self._continued(replace(calls, thinking=thinking))

    async def step(
        self,
        traces: Sequence[Trace],
        n: int = 1,
        *,
        mark: str | None = "\n\n",
        until: Until | None = None,
        every: int = 1,
        **sampling: object,
    ) -> list[list[Trace]]:
        """Continue every growing trace n ways by one step, all at once; equal texts share a request.

        Args:
            traces: a frontier; a trace that has ended is alone in its group, unchanged.
            n: ways, at least 1.
            mark: text that ends a step and stays in it as sampled text. `None`: only `max_tokens` ends a step.
            until: as of `sample`.
            every: as of `sample`.
            **sampling: fields of `Sampling`.

        Returns:
            One group per trace, in order. A trace whose turn is not over has no answer; what the budget does not allow
            comes back unchanged, with `finish=budget`.
        """
        growing = [t for t in traces if t.growing]
        starts = [fork for t in growing for fork in forks(self.place, t, n)]
        stops = (*self.place.sampling.stop, mark) if mark else self.place.sampling.stop
        calls = self._calls(starts, {**sampling, "stop": stops}, until, every)
        marks = frozenset({mark}) if mark else frozenset()
        stepped = iter(await self._continued(replace(calls, marks=marks, growing=True)))
        groups = [[end_step(next(stepped), mark) for _ in range(n)] if t.growing else [t] for t in traces]
        for trace, group in zip(traces, groups, strict=True):
            self.place.run.grow(trace, group)
        return groups

    async def probe(self, traces: Sequence[Trace], suffix: str, **sampling: object) -> list[Trace]:
        """What the model would write after `suffix`, in order. The forks are charged and shown, and never vote.

        A fork that the budget does not allow is the trace with the suffix, with `finish=budget`.
        """
        run = self.place.run
        starts = [replace(t.inject(suffix), path=run.branch(t.path, 1)[0], finish=Finish.open) for t in traces]
        probes = await self._continued(self._calls(starts, sampling, place=replace(self.place, final=False)))
        run.surplus.extend(fork.prune() for fork in probes if fork.finish is not Finish.budget)
        return probes

    def agreed(self, traces: Sequence[Trace]) -> list[Trace]:
        """The traces with the present label of every answer's class: for pools collected by several calls."""
        return [label(self.place.run.vote(self.place.path, self.kind), trace) for trace in traces]

    def seed(self, problem: Problem, purpose: str) -> int:
        """A seed for a method's own random choices, derived from the run's seed like that of a draw."""
        run, place = self.place.run, self.place
        return seed_of(run.seed, place.role, run.name_of(problem.messages, problem.tools), purpose, place.path)

    async def likelihoods(self, pairs: Sequence[tuple[Problem | Trace, str]]) -> list[Logprobs | None]:
        """Log-probabilities of texts after prompts or traces, all at once.

        Args:
            pairs: (problem or trace, text that follows it).

        Returns:
            In order; `None` where the budget is spent or the engine failed.

        Raises:
            CapabilityError: the engine cannot score given text.
        """
        self.require(frozenset({Capability.likelihood}))
        return await likelihoods_of(self.place, pairs)

    async def rewards(
        self, traces: Sequence[Trace], split: Callable[[str], Sequence[str]] = lambda text: (text,)
    ) -> list[tuple[float, ...] | None]:
        """Rewards of every trace by a reward model, one number per step.

        Args:
            traces: attempts to judge, in order; the prompt of each is the question.
            split: cuts an answer into steps whose concatenation is the answer; by default one step.

        Returns:
            `None` where there is nothing to judge, the budget is spent or the model failed.

        Raises:
            CapabilityError: the engine of this session is no reward model.
        """
        self.require(frozenset({Capability.rewards}))
        return await rewards_of(self.place, traces, split)

    async def outside(self, effect: Callable[..., object], *args: object) -> object:
        """The result of `effect(*args)`: a user's check, tool, test or retriever, which is no call to a model.

        A result of plain data is recorded and replayed. It is `None`, with a warning, if the call raises or does not
        end in time (by the budget's deadline, within 120 s).
        """
        return await run_effect(self.place, effect, args)

    def role(self, name: str) -> Session:
        """The engine that plays a role (`judge`, `draft`, `reward`), on the same ledger.

        For `main`, and for a role without an engine of its own, that is the main engine of the run.
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
        """The same session, in which every attempt at a problem continues `text`."""
        return Session(replace(self.place, before=Trace(prompt=()).inject(text).segments))

    def closed(self, trace: Trace) -> Trace:
        """A trace at the point where its answer follows; unfinished thinking is closed."""
        answering = self.think.close.strip() in trace.text
        return trace if answering else trace.inject(self.think.cut_short(trace.text))

    def branch(self, number: int) -> Session:
        """The same session one level down in the tree of draws, where equal questions are other draws."""
        return Session(replace(self.place, path=(*self.place.path, number)))

    def require(self, needs: frozenset[Capability]) -> None:
        """Raise an error, before anything is spent, if the engine lacks a capability.

        Raises:
            CapabilityError: it names the missing capabilities.
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

    def open(self, what: Problem | Sequence[Message]) -> Trace:
        """An empty trace of the problem, to be extended; no call is made."""
        return root(self.place, what, 1)[0]

    @staticmethod
    def _through(
        asked: Sequence[Problem], calls: Calls, by: Sequence[Method]
    ) -> AsyncGenerator[tuple[int, Trace | None], None]:
        """Draws made through methods instead of calls."""
        place = replace(calls.place, sampling=calls.sampling)
        draws = [Nested(problem, start.path, m) for problem, start, m in zip(asked, calls.starts, by, strict=True)]
        return draw_through(place, draws, lambda draw, at: solve_by(draw.method, draw.problem, Session(at)))

    def _calls(
        self,
        starts: Sequence[Trace],
        sampling: Mapping[str, object],
        until: Until | None = None,
        every: int = 1,
        *,
        place: Place | None = None,
        progress: Progress | None = None,
    ) -> Calls:
        return Calls(
            place=place or self.place,
            starts=starts,
            sampling=sampling_with(self.place, sampling),
            until=until,
            every=every,
            progress=progress,
            marks=frozenset(cast(Sequence[str], sampling.get("stop") or ())),
        )

    async def _continued(self, calls: Calls) -> list[Trace]:
        """The result of every start, in order; what the budget does not allow is unchanged."""
        results = [replace(start, finish=Finish.budget) for start in calls.starts]
        async with aclosing(make_calls(calls)) as extended:
            async for index, trace in extended:
                results[index] = trace
        agreed: list[Trace] = []
        for trace in results:
            await agree(self.place, agreed, trace)
        return agreed
