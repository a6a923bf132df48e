"""A grid of methods over a task: every method answers every problem, graded and accounted for.

Draws are shared through the store: methods that ask for the same draw get the same draw, each is charged what it
needed, and an experiment that was interrupted continues where it stopped. It knows no statistics.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from thinkscale.api import require_able, solve
from thinkscale.bench.majority import Votes, votes_of
from thinkscale.bench.tasks import Item
from thinkscale.budget import Budget, Ledger
from thinkscale.engines.protocol import Engine
from thinkscale.needs import Capability, needs_of
from thinkscale.selection.majority import own_rule
from thinkscale.selection.numeric import Numeric
from thinkscale.selection.voting import Voting
from thinkscale.session import Method, Place, Run, Session
from thinkscale.store import Store
from thinkscale.types import Finish, Outcome, Sampling, Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one method did on one problem."""

    item: str
    answer: str | None
    right: bool
    """Whether that answer is; `credit` is what counts."""
    calls: int
    needed: int
    """Generated tokens that the method needed, drawn or found in the store: what methods are compared at."""
    paid: int
    """Generated tokens that it was charged."""
    seconds: float
    """Time on the wall, in which draws that were found in the store are not made."""
    stopped: str
    run: str
    credit: float = 0.0
    """Worth of the answer, in [0, 1]: where its selection rule ties, that of the tied answers in equal parts."""
    replayed: int = 0
    """Calls that were answered from the store: their time is that of another method."""
    attempts: int = 0
    silent: int = 0
    """Attempts without an answer."""
    cut: int = 0
    """Attempts that ended at their cap or at the end of the budget."""
    votes: Votes | None = None
    """How all attempts fall into classes, for the baseline."""
    drawn: int = 0
    """Tokens of all attempts that `votes` counts."""
    gold: tuple[str, ...] = ()
    credits: Mapping[str, float] = field(default_factory=dict)
    """Worth of each answer's key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything about an experiment but its methods."""

    engine: Engine
    roles: dict[str, Engine]
    store: Store | None
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    max_tokens: int = 512
    concurrency: int | None = None
    """Draws of one problem in flight at once."""
    jobs: int = 1
    """Problems in flight at once."""


async def run_method(
    method: Method, items: Sequence[Item], plan: Plan, *, logprobs: int | None, heard: Callable[[Result], None]
) -> list[Result]:
    """One method over all problems; `heard` is told every result as it comes.

    Args:
        method: as a user would construct it.
        items: the problems.
        plan: engine, store and limits.
        logprobs: asked for with every draw, so that methods with different needs share their draws.
        heard: told of every result, in the order in which problems are finished.
    """
    places = asyncio.Semaphore(plan.jobs)

    async def one(item: Item) -> Result:
        async with places:
            result = await _graded(method, item, plan, logprobs)
        heard(result)
        return result

    try:
        async with asyncio.TaskGroup() as tasks:
            begun = [tasks.create_task(one(item)) for item in items]
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [task.result() for task in begun]


async def require_all(methods: Sequence[Method], plan: Plan) -> None:
    """Refuse, before the first draw, a grid of which some method cannot run; the errors are those of `solve`."""
    for engine in {id(e): e for e in (plan.engine, *plan.roles.values())}.values():
        await engine.open()
    session = Session(Place(engine=plan.engine, ledger=Ledger(plan.budget), run=Run(roles=plan.roles)))
    for method in methods:
        require_able(method, session)


def logprobs_for(methods: Sequence[Method], plan: Plan | None = None) -> int | None:
    """The log-probabilities that all methods together need: of how many likeliest tokens, `None` for none at all.

    What a method needs may depend on what an engine offers; without a plan it is everything.
    """

    def can(role: str) -> frozenset[Capability]:
        return plan.roles.get(role, plan.engine).capabilities.can if plan else frozenset(Capability)

    asked = [needs_of(method).served(can) for method in methods]
    return max((needs.top_logprobs for needs in asked if Capability.logprobs in needs.can), default=None)


async def _graded(method: Method, item: Item, plan: Plan, logprobs: int | None) -> Result:
    run = Run(seed=plan.seed, concurrency=plan.concurrency, roles=plan.roles, frugal=True)
    outcome = await solve(
        item.problem,
        method,
        plan.engine,
        budget=plan.budget,
        run=run,
        sampling=Sampling(max_tokens=plan.max_tokens, logprobs=logprobs),
        store=plan.store,
    )
    attempts = [t for t in outcome.traces if t.finish is not Finish.aborted]
    credits = await _credits(attempts, item)
    keys = [t.answer.key if t.answer else None for t in attempts]
    right, paid = await item.right(outcome.answer), outcome.usage.output_tokens
    return Result(
        item=item.id,
        answer=outcome.answer,
        right=right,
        calls=outcome.usage.calls,
        needed=paid if outcome.needed is None else outcome.needed,
        paid=paid,
        seconds=outcome.usage.seconds,
        stopped=outcome.stopped.value,
        run=outcome.run,
        credit=_split(method, outcome, attempts, credits, right=right),
        replayed=run.replayed,
        attempts=len(attempts),
        silent=keys.count(None),
        cut=sum(t.finish in (Finish.length, Finish.budget) for t in attempts),
        votes=votes_of(keys, [credits[k] if k else 0.0 for k in keys]),
        drawn=sum(t.tokens for t in attempts),
        gold=item.gold,
        credits=credits,
    )


def _split(
    method: Method, outcome: Outcome, attempts: Sequence[Trace], credits: Mapping[str, float], *, right: bool
) -> float:
    """The worth of an answer, or of those that the method's selection rule finds equally good, in equal parts."""
    rule, best = own_rule(method), outcome.best
    if not isinstance(rule, Voting) or isinstance(rule, Numeric) or best is None or best.answer is None:
        return float(right)
    ballots = rule.ballots(attempts)
    shares = dict(zip(ballots.keys, rule.shares(ballots).tolist(), strict=True))
    if not shares.get(best.answer.key):  # the method chose among other attempts, or by something else
        return float(right)
    return float(sum(share * credits.get(key, 0.0) for key, share in shares.items()))


async def _credits(attempts: Sequence[Trace], item: Item) -> dict[str, float]:
    texts = {t.answer.key: t.answer.text for t in reversed(attempts) if t.answer}
    return {key: float(await item.right(text)) for key, text in texts.items()}
