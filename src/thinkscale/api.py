"""The way in: put a question to a method on an engine and get an outcome, whatever the budget was.

Around the method stands what is the same for all of them: capability check, journal, the closing question that lets
every budget buy an answer, and the bill.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, replace
from functools import partial, wraps
from typing import ParamSpec, TypeVar

from thinkscale import prompts
from thinkscale.answers import kind_of
from thinkscale.answers.algebra import Verdict
from thinkscale.budget import CLOSING_TOKENS, Budget, Ledger
from thinkscale.contracts import solve_by
from thinkscale.engines.opening import engines_for
from thinkscale.engines.protocol import Engine
from thinkscale.errors import SettingsError
from thinkscale.identity import RULES, digest, prompt_name, rules_name
from thinkscale.needs import Capability, Needs, idle_rules, needs_of, refuse_clashes
from thinkscale.registry import digests_of, parse
from thinkscale.selection.majority import Majority
from thinkscale.session import Event, Method, Place, Run, Session
from thinkscale.session.said import answer_in_thinking, is_unclosed
from thinkscale.settings import Settings, load
from thinkscale.store import RunRow, Store
from thinkscale.types import AnswerKind, Finish, Origin, Outcome, Problem, Sampling, Stopped, Trace

_UNFINISHED = frozenset({Finish.stop, Finish.length, Finish.budget})
P = ParamSpec("P")
T = TypeVar("T")


def run(work: Coroutine[None, None, T]) -> T:
    """The one synchronous door: run a coroutine to its end, also where an event loop is already running."""
    results: list[T] = []
    failures: list[BaseException] = []

    # The result goes by a list, because `asyncio.run` formats its main task, result included, as it ends.
    async def kept() -> None:
        results.append(await work)

    def elsewhere() -> None:
        try:
            asyncio.run(kept())
        except BaseException as failure:
            failures.append(failure)

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(kept())
        return results[0]
    thread = threading.Thread(target=copy_context().run, args=(elsewhere,))
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


async def aask(
    question: str | Problem,
    *,
    method: Method | str | None = None,
    model: Engine | str | None = None,
    budget: Budget | str | None = None,
    seed: int | None = None,
    roles: Mapping[str, Engine] | None = None,
    settings: Settings | None = None,
    observe: Callable[[Event], None] | None = None,
    shared: Run | None = None,
) -> Outcome:
    """Answer a question by a method, within a budget.

    Args:
        question: text, or a problem with its own messages and kind of answer.
        method: a method or its spec string; `settings.method` when absent.
        model: an engine or the name of a model; `settings.model` when absent.
        budget: what may be spent; `settings.budget` when absent.
        seed: the same seed repeats the same run.
        roles: engines for named roles (`judge`, `draft`), on the same budget.
        settings: loaded from file and environment when absent.
        observe: called with every piece of news.
        shared: what the run has to share, made of `seed`, `roles`, `observe` and the settings when absent; whoever
            holds it may end the run by its `cancel`, once it has an account.

    Raises:
        ThinkscaleError: what the caller must fix before anything can run. Failures of single draws are not raised.
    """
    settings = settings or load()
    method = method if method is not None else settings.method
    budget = budget if budget is not None else settings.budget
    model = model if model is not None else settings.model
    engine, named = engines_for(model, settings.base_url) if isinstance(model, str) else (model, {})
    run = shared or Run(
        seed=settings.seed if seed is None else seed,
        roles={**named, **(roles or {})},
        concurrency=settings.concurrency,
        observe=observe,
    )
    path = settings.store_path
    # In a thread, because another process may have the file, and the event loop is the caller's.
    store = await asyncio.to_thread(Store, path) if path else None
    try:
        with prompts.using(settings.prompts):
            return await solve(
                Problem.of(question) if isinstance(question, str) else question,
                parse(method, "method") if isinstance(method, str) else method,  # type: ignore[arg-type]
                engine,
                budget=Budget.parse(budget) if isinstance(budget, str) else budget,
                run=run,
                sampling=Sampling(max_tokens=settings.max_tokens),
                store=store,
            )
    finally:
        if store:
            await asyncio.to_thread(store.close)


def _synchronous(work: Callable[P, Coroutine[None, None, T]]) -> Callable[P, T]:
    @wraps(work)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        return run(work(*args, **kwargs))

    called.__name__ = called.__qualname__ = "ask"
    return called


ask = _synchronous(aask)


@dataclass(frozen=True, slots=True)
class _Verdicts:
    """What algebra said of two answers, kept in the store."""

    store: Store

    def recall(self, first: str, second: str) -> Verdict | None:
        known = self.store.verdicts_recall("algebra", RULES["classes"], [(first, second)])
        return Verdict(known[first, second]) if known else None

    def keep(self, first: str, second: str, verdict: Verdict) -> None:
        self.store.verdicts_keep("algebra", RULES["classes"], {(first, second): verdict})


@dataclass(frozen=True, slots=True)
class _Journal:
    """The pages of one run in the store."""

    store: Store
    run: str

    def record(self, trace: Trace, role: str) -> None:
        self.store.record(self.run, trace, role)


async def solve(
    problem: Problem,
    method: Method,
    engine: Engine,
    *,
    budget: Budget,
    run: Run | None = None,
    sampling: Sampling | None = None,
    store: Store | None = None,
) -> Outcome:
    """Run a method on a problem; the lower door, for those who hold an engine.

    Raises:
        CapabilityError: the engine cannot do what the method needs; nothing was spent.
        SettingsError: the method draws from a role that no engine was given for; nothing was spent.
        ScorerError: a selection rule sums scores that are below 0; nothing was spent.
    """
    run = run or Run()
    run.problem = problem
    asked = kind_of(problem.question) if problem.answer_kind is AnswerKind.auto else problem.answer_kind
    # `auto` takes words where mathematics has nothing to say; what the question says narrows that.
    kind = AnswerKind.auto if asked is AnswerKind.math and problem.answer_kind is AnswerKind.auto else asked
    for each in {id(e): e for e in (engine, *run.roles.values())}.values():
        await each.open()
    run.account = ledger = Ledger(budget, closing=True)
    place = Place(engine=engine, ledger=ledger, run=run, kind=kind)
    sampling = asking(require_able(method, Session(place)), sampling or Sampling())
    session = Session(replace(place, sampling=sampling))
    run_id = ""
    if store:
        page = _page(problem, method, engine, budget, run=run, sampling=sampling)
        run_id, run.memory, run.journal = page.id, store, _Journal(store, page.id)
        run.verdicts = _Verdicts(store)
        await store.room()
        store.begin(page)
    try:
        outcome = await close(problem, session, await solve_by(method, problem, session))
    except BaseException:
        if store:
            store.end(run_id, "interrupted")
        raise
    _doubt(outcome, run, kind)
    outcome = replace(outcome, best=outcome.best if outcome.spoke else None)
    outcome = replace(outcome, run=run_id, traces=_pool(outcome, run), **_bill(outcome, session))  # type: ignore[arg-type]
    if store:
        for number, trace in enumerate(outcome.traces):
            store.record(run_id, trace, "main", number)
        status = "interrupted" if run.cancelled else "done"
        store.end(run_id, status, summary(outcome, method, engine, run.seed, budget))
        if unrecorded := await store.settled():
            run_id = "" if store.trouble else run_id
            outcome = replace(outcome, run=run_id, warnings=(*outcome.warnings, unrecorded))
    return outcome


def require_able(method: object, session: Session) -> Needs:
    """Refuse, before anything is spent, what cannot work; warn of what would do nothing.

    Returns:
        What the method asks, with every choice made that depends on the engines.

    Raises:
        ScorerError: a rule sums scores that are below 0.
        SettingsError: nobody plays a role that the method draws from.
        CapabilityError: an engine cannot do what the method needs.
    """
    refuse_clashes(method)
    run = session.place.run
    missing = sorted(needs_of(method).players - run.roles.keys() - {"main"})
    if missing:
        named = ", ".join(f"`{role}`" for role in missing)
        raise SettingsError(
            f"the method draws from {named}, and no model plays that role: name one, as in `--model …,{missing[0]}=…`"
        )
    needs = needs_of(method).served(lambda role: session.place.engine_of(role).capabilities.can)
    session.require(needs.can)
    for role, needed in needs.roles.items():
        session.role(role).require(needed)
    for idle in idle_rules(method):
        session.warn(idle)
    return needs


def asking(needs: Needs, sampling: Sampling) -> Sampling:
    """A sampling with the log-probabilities that are needed."""
    if Capability.logprobs not in needs.everything():
        return sampling
    return replace(sampling, logprobs=max(sampling.logprobs or 0, needs.top_logprobs))


async def close(problem: Problem, session: Session, outcome: Outcome) -> Outcome:
    """If no attempt has an answer and one was cut short, close the most advanced one and ask it for its answer.

    A budget that is over pays for that from what it kept back. Where nothing can be paid any more, the answer is what
    the most advanced thinking had pointed out.
    """
    ledger, run, think = session.place.ledger, session.place.run, session.capabilities.think
    alive = [t for t in outcome.traces if t.finish is not Finish.error and not t.pruned]
    unfinished = [t for t in alive if t.tokens and not t.tools and (_broken_off(t) or is_unclosed(t, think))]
    starved = _starved(session, outcome) or ledger.exhausted
    if outcome.answer is not None or run.cancelled or not (starved or (unfinished and run.closes)):
        return outcome
    if starved:
        ledger.refused = True  # the attempt that the budget cut may be gone once it is closed
    else:
        session.warn("no attempt came to an end: the most advanced one was asked for its answer where it stood")
    best = [t for t in unfinished if t is outcome.best]
    start = max(best or unfinished or alive, key=lambda t: t.tokens, default=None) or session.open(problem)
    ledger.release()
    stands = start.up_to_its_last_word()
    end = session.think.asking(stands.text)
    # Two tokens at least: a model that ends its turn at once has answered nothing.
    [last] = await session.extend([stands], inject=end, max_tokens=CLOSING_TOKENS, min_tokens=2, temperature=0.0)
    said = last.segments[-1]
    if said.origin is Origin.injected or not said.text.strip():
        return _as_far_as_thought(session, outcome, unfinished)
    pool = [last if t is start else t for t in outcome.traces] if start in alive else [*outcome.traces, last]
    if last.answer is None:
        thought = [last if t is start else t for t in unfinished]
        return _as_far_as_thought(session, replace(outcome, traces=tuple(pool)), thought)
    return _of(pool, outcome)


def _broken_off(trace: Trace) -> bool:
    return trace.growing or trace.finish in _UNFINISHED


def _as_far_as_thought(session: Session, outcome: Outcome, unfinished: Sequence[Trace]) -> Outcome:
    """The answer that the most advanced of some attempts points out in a thinking which nobody can close any more."""
    for trace in sorted(unfinished, key=lambda t: -t.tokens):
        read = partial(session.place.run.find, trace.prompt, session.kind)
        found = answer_in_thinking(trace, session.capabilities.think, read)
        if found is not None:
            session.warn("no attempt came to an end: the answer is what the most advanced one had found so far")
            return _of([replace(t, answer=found) if t is trace else t for t in outcome.traces], outcome)
    return outcome


def _of(pool: Sequence[Trace], outcome: Outcome) -> Outcome:
    """The vote of a pool in which an attempt was closed."""
    return Outcome.of(Majority()(pool), pool, needed=outcome.needed)


def summary(outcome: Outcome, method: object, engine: Engine, seed: int, budget: Budget) -> dict[str, object]:
    """What `thinkscale ask --json` prints."""
    usage = outcome.usage
    return {
        "run": outcome.run,
        "answer": outcome.answer,
        "confidence": outcome.confidence,
        "method": repr(method),
        "model": engine.capabilities.name or engine.capabilities.model,
        "seed": seed,
        "stopped": outcome.stopped.value,
        "needed": outcome.needed,
        "paid": usage.output_tokens,
        "votes": [{"answer": v.answer, "count": v.count, "weight": v.weight} for v in outcome.votes],
        "usage": {
            "calls": usage.calls,
            "input_tokens": usage.input_tokens,
            "cached_tokens": usage.cached_tokens,
            "output_tokens": usage.output_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "seconds": round(usage.seconds, 3),
            "usd": usage.usd,
        },
        "budget": budget.limits(),
        "warnings": list(outcome.warnings),
    }


def _page(problem: Problem, method: object, engine: Engine, budget: Budget, *, run: Run, sampling: Sampling) -> RunRow:
    model = engine.capabilities.model
    question = prompt_name(problem.messages, problem.tools)
    roles = [part for name, each in sorted(run.roles.items()) for part in (name, each.capabilities.model)]
    roles += [*digests_of(method), *filter(None, [prompts.digest()]), *rules_name()]
    name = digest(question, problem.answer_kind, repr(method), model, run.seed, str(budget), repr(sampling), *roles)
    return RunRow(
        id=name[:12],
        started=time.time(),
        method=repr(method),
        model=engine.capabilities.name or model,
        seed=run.seed,
        budget=str(budget),
        problem=problem,
    )


def _doubt(outcome: Outcome, run: Run, kind: AnswerKind) -> None:
    """Warn where answers that could not be compared might change the winner."""
    vote = run.vote((), kind)
    if vote.undecided and vote.partition(()).may_change({v.key: v.weight for v in outcome.votes}):
        run.warn("some answers could not be compared: were they the same, another answer might have won")


def _pool(outcome: Outcome, run: Run) -> tuple[Trace, ...]:
    """All that was paid for: the traces of the outcome, then branches that were left, then what came too late."""
    return (*outcome.traces, *run.left_behind(outcome.traces), *run.surplus)


def _starved(session: Session, outcome: Outcome) -> bool:
    return session.place.ledger.refused or any(t.finish is Finish.budget for t in outcome.traces)


def _bill(outcome: Outcome, session: Session) -> dict[str, object]:
    failed = [t for t in outcome.traces if t.finish is Finish.error]
    if failed:
        session.warn(
            f"{len(failed)} of {len(outcome.traces)} attempts failed: {failed[0].error or 'the engine gave no reason'}"
        )
    if outcome.traces and len(failed) == len(outcome.traces):
        stopped = Stopped.error
    elif session.place.run.cancelled:
        stopped = Stopped.cancelled
    elif _starved(session, outcome):
        stopped = Stopped.budget
    else:
        stopped = outcome.stopped
    usage = replace(session.place.ledger.spent, seconds=time.monotonic() - session.place.ledger.started)
    return {"stopped": stopped, "usage": usage, "warnings": tuple(session.place.run.warnings)}
