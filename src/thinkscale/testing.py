"""Conformance suites for methods, engines and scorers: what every built-in passes, and every plug-in should.

Each check is a coroutine that returns nothing or raises `AssertionError` with a sentence that says which guarantee is
broken. They need no test framework.

>>> import asyncio, thinkscale as ts
>>> asyncio.run(check_method(ts.SelfConsistency(n=4)))
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from thinkscale.api import solve
from thinkscale.budget import Budget, Ledger
from thinkscale.engines.protocol import Abort, Capability, Completion, Engine, Request, complete
from thinkscale.engines.scripted import EVERYTHING, Cue, Line, Scripted
from thinkscale.errors import CapabilityError, EngineError
from thinkscale.methods.best_of_n import BestOfN
from thinkscale.needs import needs_of
from thinkscale.registry import names, parse
from thinkscale.scorers import Scorer
from thinkscale.selection import Selector
from thinkscale.selection.majority import rule_of
from thinkscale.session import Method, Place, Run, Session
from thinkscale.store import Store
from thinkscale.types import AnswerKind, Finish, Logprobs, Message, Origin, Outcome, Problem, Sampling, Stopped, Trace

PROBLEM = Problem.of("A baker makes 3 trays of 4 rolls. How many rolls is that?", AnswerKind.math)
BUDGETS = (
    *(Budget(tokens=n) for n in (1, 2, 5, 9, 17, 33, 70, 200)),
    *(Budget(calls=n) for n in (1, 2, 3, 7)),
    Budget(tokens=40, calls=3),
)


def talk(cue: Cue) -> Line:
    """A line whose length, thinking and answer depend on the seed alone."""
    steps = " ".join(f"Step {i} gives {i * 7}." for i in range(1, 2 + cue.seed % 5))
    return Line(says=f" {steps} The answer is {12 + cue.seed % 3}.", logprob=-0.1 - (cue.seed % 7) / 10, pace=0.0)


async def check_method(method: Method, *, script: Callable[[Cue], Line] = talk) -> None:
    """Check that a method is anytime, accounted for and repeatable.

    Args:
        method: as a user would construct it.
        script: what the model says; give one of your own when the method asks in a format of its own.
    """
    _check_spec(method)
    await _check_repeats(method, script)
    await _check_bill(method, script)
    await _check_budgets(method, script)
    await _check_failures(method)
    await _check_capabilities(method, script)
    await _check_memory(method, script)


async def _outcome(
    method: Method,
    engine: Engine,
    budget: Budget | None = None,
    concurrency: int | None = None,
    store: Store | None = None,
) -> Outcome:
    run = Run(seed=7, concurrency=concurrency, roles=dict.fromkeys(needs_of(method).players, engine))
    return await solve(
        PROBLEM, method, engine, budget=budget or Budget(), run=run, sampling=Sampling(max_tokens=64), store=store
    )


def _check_spec(method: Method) -> None:
    assert dataclasses.is_dataclass(method), "a method is a dataclass of hyper-parameters"
    params = type(method).__dataclass_params__
    assert params.frozen, "a method is frozen: its hyper-parameters never change"
    name = repr(method).partition("(")[0]
    if name in names("method"):
        assert parse(repr(method), "method") == method, f"`{method!r}` does not parse back to the same method"


async def _check_repeats(method: Method, script: Callable[[Cue], Line]) -> None:
    for budget in (Budget(), Budget(tokens=90), Budget(calls=5)):
        serial = await _outcome(method, Scripted(script), budget, concurrency=1)
        for concurrency in (3, None):
            other = await _outcome(method, Scripted(script), budget, concurrency)
            where = f"under {budget} with {concurrency or 'all'} draws at once"
            assert other.answer == serial.answer, f"{where} the answer is {other.answer}, serially {serial.answer}"
            assert other.votes == serial.votes, f"{where} the votes differ from the serial run"
            assert _voters(other) == _voters(serial), f"{where} other traces voted than in the serial run"


def _voters(outcome: Outcome) -> list[tuple[tuple[int, ...], str]]:
    return [(t.path, t.text) for t in outcome.traces if t.answer is not None]


async def _check_bill(method: Method, script: Callable[[Cue], Line]) -> None:
    engine = Scripted(script)
    outcome = await _outcome(method, engine)
    seen, billed = engine.spent, outcome.usage
    assert billed.calls == len(engine.cues) == seen.calls, f"{billed.calls} calls billed, {len(engine.cues)} made"
    assert billed.output_tokens == seen.output_tokens, (
        f"{billed.output_tokens} tokens billed, {seen.output_tokens} made"
    )
    most = method.ceiling(64)
    assert billed.calls <= most.calls, f"`ceiling` promises at most {most.calls} calls, {billed.calls} were made"
    assert billed.output_tokens <= most.tokens, f"`ceiling` promises at most {most.tokens} tokens"
    again = rule_of(method)(outcome.traces)
    same = (again.best.answer if again.best else None) == (outcome.best.answer if outcome.best else None)
    assert same, "selecting again from the saved pool gives another answer"


async def _check_budgets(method: Method, script: Callable[[Cue], Line]) -> None:
    for nothing in (Budget(tokens=0), Budget(calls=0), Budget(seconds=0), Budget(usd=0, tokens=0)):
        engine = Scripted(script)
        outcome = await _outcome(method, engine, nothing)
        assert outcome.stopped is Stopped.budget, f"under {nothing} the run does not say that the budget ended it"
        assert not engine.cues, f"under {nothing} the engine was asked {len(engine.cues)} times"
    for budget in BUDGETS:
        engine = Scripted(script)
        outcome = await _outcome(method, engine, budget)
        for name, limit in budget.limits().items():
            spent = engine.spent.output_tokens if name == "tokens" else engine.spent.calls
            assert spent <= limit, f"{spent} {name} were spent of {limit}"
        assert outcome.usage.output_tokens == engine.spent.output_tokens, f"under {budget} the bill is wrong"


async def _check_failures(method: Method) -> None:
    mute = await _outcome(method, Scripted(lambda _: Line(says=" I do not know.", pace=0.0)))
    assert mute.answer is None, "no attempt had an answer, yet the method returns one"
    broken = await _outcome(method, Scripted(lambda _: Line(fails=EngineError("the model is gone"))))
    assert broken.answer is None, "every call failed, yet there is an answer"
    assert broken.stopped is Stopped.error, "every call failed and the outcome does not say so"
    assert any("the model is gone" in w for w in broken.warnings), "the cause of the failure is lost"


async def _check_capabilities(method: Method, script: Callable[[Cue], Line]) -> None:
    for need in sorted(needs_of(method).everything()):
        engine = Scripted(script, can=EVERYTHING - {need})
        refusal = ""
        try:
            await _outcome(method, engine)
        except CapabilityError as error:
            refusal = str(error)
        assert need in refusal, f"an engine without `{need}` was not refused by a message that names it"
        assert not engine.cues, "the refusal came after something was spent"


async def _check_memory(method: Method, script: Callable[[Cue], Line]) -> None:
    store = Store(":memory:")
    try:
        first = await _outcome(method, Scripted(script), concurrency=1, store=store)
        silent = Scripted(script)
        second = await _outcome(method, silent, concurrency=1, store=store)
        assert not silent.cues, f"a run that was paid for asked the engine {len(silent.cues)} times when repeated"
        assert (first.answer, first.votes) == (second.answer, second.votes), "replaying a run changes its result"
        pool = store.pool(second.run)
        assert [t.text for t in pool] == [t.text for t in second.traces], "the saved pool is not the outcome's pool"
    finally:
        store.close()


async def check_scorer(scorer: Scorer) -> None:
    """Check that a scorer judges every trace, in order, by what the model said alone."""
    drawn = (await _outcome(BestOfN(n=6, scorer=scorer), Scripted(talk))).traces
    pool = [replace(t, scores=()) for t in drawn if t.answer is not None]
    scores = await _scores(scorer, pool)
    assert len(scores) == len(pool), f"{len(pool)} traces were judged with {len(scores)} scores"
    assert await _scores(scorer, []) == [], "an empty pool has scores"
    assert await _scores(scorer, pool[::-1]) == scores[::-1], "a trace's score depends on its place in the pool"
    assert not any(math.isnan(s) for s in scores), "a score is not a number"
    nudged = [t.inject(" Wait") for t in pool]
    assert await _scores(scorer, nudged) == scores, "text that was injected changed a score"
    bare = [replace(t, segments=tuple(replace(s, logprobs=None) for s in t.segments)) for t in pool]
    assert len(await _scores(scorer, bare)) == len(bare), "traces without log-probabilities are not judged"
    empty = [Trace(prompt=PROBLEM.messages, finish=Finish.error, error="gone")]
    assert len(await _scores(scorer, empty)) == 1, "a failed trace is not judged"


async def _scores(scorer: Scorer, traces: Sequence[Trace]) -> list[float]:
    session = Session(Place(engine=Scripted(talk), ledger=Ledger(Budget()), run=Run(seed=1), kind=AnswerKind.math))
    return [score.value for score in await scorer.score(PROBLEM, traces, session)]


def _sampler() -> Method:
    method = parse("best-of-n(n=6, scorer=mean-logprob)", "method")
    return method  # type: ignore[return-value]


async def check_selector(selector: Selector) -> None:
    """Check that a selection rule is pure, ignores what has no answer, and picks from the pool.

    The pool is scored with numbers from 0 to 1, which a rule that sums scores can weigh votes by.
    """
    drawn = [t for t in (await _outcome(_sampler(), Scripted(talk))).traces if t.answer is not None]
    pool = [replace(t, scores=tuple(replace(s, value=math.exp(s.value)) for s in t.scores)) for t in drawn]
    ranking = selector(pool)
    if ranking.confidence is not None:
        assert 0 <= ranking.confidence <= 1, f"the confidence is {ranking.confidence}"
    assert ranking == selector(tuple(pool)), "the same pool gives two rankings"
    assert ranking.best in pool, "the winner is not in the pool"
    assert selector(pool[:1]).best == pool[0], "a pool of one does not elect it"
    mute = [replace(t, answer=None) for t in pool]
    assert selector([*pool, *mute]).votes == ranking.votes, "traces without an answer vote"
    assert selector([]).best is None, "an empty pool elects somebody"
    assert selector(mute).votes == (), "a pool without answers has votes"


async def check_engine(engine: Engine, *, prompt: str = "Count from 1 to 5.") -> None:
    """Check that an engine keeps the protocol; every capability it declares is put to use.

    Args:
        engine: ready to use; it is left open.
        prompt: something that the model answers with more than a few tokens.
    """
    request = Request(
        messages=(Message("user", prompt),), sampling=Sampling(temperature=0.0, max_tokens=12), seeds=(1,)
    )
    await _check_draws(engine, request)
    await _check_stream(engine, request)
    await _check_endings(engine, request)
    can = engine.capabilities.can
    if Capability.prefill in can:
        await _check_prefill(engine, request)
    if Capability.logprobs in can:
        await _check_logprobs(engine, request)
    if Capability.likelihood in can:
        await _check_likelihood(engine, request)
    if Capability.min_tokens in can:
        await _check_min_tokens(engine, request)


async def _one(engine: Engine, request: Request) -> Completion:
    [completion] = await complete(engine, request)
    return completion


async def _check_draws(engine: Engine, request: Request) -> None:
    assert engine.capabilities == engine.capabilities, "capabilities change"
    assert engine.capabilities.model, "the engine does not say which weights it runs"
    assert engine.count(request) > 0, "the prompt counts no tokens"
    first, second = await _one(engine, request), await _one(engine, request)
    assert first.text == second.text, "greedy decoding of one prompt alone does not repeat"
    hot = replace(request, sampling=replace(request.sampling, temperature=1.0), seeds=(5, 6, 7))
    draws = await complete(engine, hot)
    assert len(draws) == 3, f"3 draws were asked for, {len(draws)} came"
    for draw in draws:
        assert 0 < draw.tokens <= 12, f"a draw of at most 12 tokens has {draw.tokens}"
        assert draw.usage.calls == 1, "a draw is one call"
        assert draw.usage.output_tokens == draw.tokens, "the usage of a draw disagrees with its tokens"
    if engine.capabilities.exact:
        again = await complete(engine, hot)
        assert [d.text for d in again] == [d.text for d in draws], "the same seeds give other draws"


async def _check_stream(engine: Engine, request: Request) -> None:
    many = replace(request, sampling=replace(request.sampling, temperature=1.0), seeds=(1, 2, 3, 4))
    texts, tokens, ended = [""] * 4, [0] * 4, [0] * 4
    async with aclosing(engine.stream(many)) as chunks:
        async for chunk in chunks:
            assert not ended[chunk.index], "a draw goes on after its completion"
            texts[chunk.index] += chunk.text
            tokens[chunk.index] += chunk.tokens
            if chunk.completion is not None:
                ended[chunk.index] += 1
                assert texts[chunk.index] == chunk.completion.text, "the streamed text is not the completion's"
                assert tokens[chunk.index] == chunk.completion.tokens, "the streamed tokens are not the completion's"
    assert ended == [1] * 4, "a draw did not end with exactly one completion"
    async with aclosing(engine.stream(many)) as chunks:
        async for _ in chunks:
            break
    assert (await _one(engine, request)).tokens > 0, "after a stream was closed the engine is of no more use"


async def _check_endings(engine: Engine, request: Request) -> None:
    whole = await _one(engine, request)
    word = next((w for w in whole.text.split()[1:] if w not in whole.text.split()[0]), None)
    if word is not None:
        cut = await _one(engine, replace(request, sampling=replace(request.sampling, stop=(word,))))
        assert cut.finish is Finish.stop, f"the stop string {word!r} did not end the draw"
        assert cut.stop_string == word, "the completion does not say which stop string fired"
        assert cut.text == whole.text[: whole.text.index(word)], "the text does not end right before the stop string"
    abort = Abort(everything=True)
    long = replace(request, sampling=replace(request.sampling, max_tokens=200), seeds=(1, 2))
    ended = await asyncio.wait_for(complete(engine, long, abort), timeout=60)
    assert len(ended) == 2, "an aborted draw has no completion"
    assert all(c.tokens <= 200 for c in ended), "an aborted draw ran past its cap"


async def _check_prefill(engine: Engine, request: Request) -> None:
    whole = await _one(engine, request)
    half = await _one(engine, replace(request, sampling=replace(request.sampling, max_tokens=6)))
    if half.finish is not Finish.length:
        return
    said = Trace(prompt=request.messages).inject(half.text).segments[0]
    said = replace(said, origin=Origin.sampled, token_ids=half.token_ids)
    rest = await _one(engine, replace(request, prefix=(said,), sampling=replace(request.sampling, max_tokens=6)))
    assert half.text + rest.text == whole.text, "continuing a turn says something else than going on would have"


async def _check_logprobs(engine: Engine, request: Request) -> None:
    draw = await _one(engine, replace(request, sampling=replace(request.sampling, logprobs=0)))
    signals = draw.logprobs
    assert signals is not None, "log-probabilities were asked for and did not come"
    assert len(signals.chosen) == draw.tokens, f"{draw.tokens} tokens have {len(signals.chosen)} log-probabilities"
    assert all(p <= 1e-6 for p in signals.chosen), "a log-probability is positive"
    await _check_growth(engine, request)
    if Capability.token_moments in engine.capabilities.can:
        assert len(signals.logsumexp) == len(signals.mean_logit) == draw.tokens, "a token has no moments"
        assert signals.vocab > 0, "the vocabulary behind the moments is not given"
    if Capability.token_entropy in engine.capabilities.can:
        assert len(signals.entropy) == draw.tokens, "a token has no entropy"
        assert all(h > -1e-6 for h in signals.entropy), "an entropy is negative"
    if Capability.top_logprobs in engine.capabilities.can:
        top = (await _one(engine, replace(request, sampling=replace(request.sampling, logprobs=2)))).logprobs
        assert top is not None, "top log-probabilities did not come"
        assert all(len(t) == 2 and t[0][1] >= t[1][1] for t in top.top), "the two likeliest tokens are not in order"


async def _check_growth(engine: Engine, request: Request) -> None:
    """Log-probabilities come with the chunks of a draw that is watched, and with those of no other."""
    sampling = replace(request.sampling, logprobs=0)
    for watched in (True, False):
        told: list[Logprobs] = []
        async with aclosing(engine.stream(replace(request, sampling=sampling, apart=watched))) as chunks:
            async for chunk in chunks:
                if chunk.completion is None and chunk.logprobs is not None:
                    told.append(chunk.logprobs)
                whole = chunk.completion.logprobs if chunk.completion is not None else None
        assert watched or not told, "log-probabilities came on the way to nobody who watches"
        if told and whole is not None:
            grown = Logprobs.joined(told).chosen
            assert grown == whole.chosen[: len(grown)], "the log-probabilities on the way are not the completion's"


async def _check_likelihood(engine: Engine, request: Request) -> None:
    draw = await _one(engine, replace(request, sampling=replace(request.sampling, logprobs=0)))
    scored = await _one(engine, replace(request, continuation=draw.text))
    assert scored.tokens == 0, "scoring a given text generated tokens"
    assert scored.logprobs is not None, "a likelihood request brought no log-probabilities"
    assert draw.logprobs is not None, "log-probabilities were asked for and did not come"
    both = list(zip(scored.logprobs.chosen, draw.logprobs.chosen, strict=False))
    assert both, "a likelihood request brought no log-probabilities"
    gap = max(abs(a - b) for a, b in both)
    assert gap < 0.05, f"the likelihood of a text differs by {gap:.3f} from what it was sampled with"


async def _check_min_tokens(engine: Engine, request: Request) -> None:
    long = replace(request, sampling=replace(request.sampling, min_tokens=12))
    assert (await _one(engine, long)).tokens == 12, "the turn ended before `min_tokens`"
