"""The eight rules of a session, and its verbs."""

import asyncio
import time
from contextlib import aclosing
from itertools import count

import pytest

from clocks import on_a_clock_of_its_own
from thinkscale.api import solve
from thinkscale.budget import Budget, Ledger
from thinkscale.engines.protocol import Capability, Chunk, Price
from thinkscale.engines.scripted import EVERYTHING, Line, Scripted
from thinkscale.engines.tabular import Tabular
from thinkscale.errors import CapabilityError, EngineError, SettingsError
from thinkscale.methods.budget_forcing import BudgetForcing
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.methods.semantic_consistency import SemanticConsistency
from thinkscale.methods.single import Single
from thinkscale.pace import Pace
from thinkscale.prompts import ask, using
from thinkscale.session import Place, Run, Session
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.stopping.fixed import Fixed
from thinkscale.store import Store
from thinkscale.types import Finish, Message, Origin, Problem, Sampling, Stopped

PROBLEM = Problem.of("2 + 2?")
WORDS = " ".join(f"w{i}" for i in range(40))


def session(engine, budget=None, *, max_tokens=50, closing=False, **run):
    ledger = Ledger(budget or Budget(), closing=closing)
    return Session(Place(engine=engine, ledger=ledger, run=Run(**run), sampling=Sampling(max_tokens=max_tokens)))


def by_path(cue):
    """Slower the smaller its seed, so that arrival and draw order differ."""
    return Line(says=f"{cue.seed % 5} words The answer is {cue.seed % 3}", pace=0.0 if cue.seed % 2 else 0.001)


# Rule 1: reserve before you await.


@pytest.mark.parametrize("concurrency", [1, 3, None])
async def test_draws_that_run_at_once_can_never_all_pass_one_check(concurrency):
    engine = Scripted(lambda _: Line(says=WORDS, pace=0.0))
    llm = session(engine, Budget(tokens=100), concurrency=concurrency)
    await asyncio.gather(*(llm.sample(PROBLEM, 5) for _ in range(4)))
    assert engine.spent.output_tokens == llm.place.ledger.spent.output_tokens <= 100


async def test_many_sessions_on_one_account_share_its_calls():
    engine = Scripted(lambda _: Line(says="a", pace=0.0))
    llm = session(engine, Budget(calls=7))
    got = await asyncio.gather(*(llm.role(f"r{i}").sample(PROBLEM, 3) for i in range(5)))
    assert sum(map(len, got)) == len(engine.cues) == 7


@pytest.mark.parametrize("by", [None, Single()], ids=repr)
async def test_what_was_reserved_for_a_draw_that_nobody_waits_for_any_more_is_given_back(by):
    for tokens in (9, 20, 60, 120):
        llm = session(Scripted(lambda _: Line(says="The answer is 4", pace=0.0)), Budget(tokens=tokens))
        await llm.sample(PROBLEM, 6, by=by, enough=AheadByK(k=2))
        assert (llm.place.ledger.in_flight, llm.place.ledger.left.tokens) == (
            0,
            tokens - llm.place.ledger.spent.output_tokens,
        )


# Rule 2: a budget is a stop signal, not an exception.


async def test_an_exhausted_session_returns_what_it_has():
    llm = session(Scripted(lambda _: WORDS), Budget(tokens=60))
    traces = await llm.sample(PROBLEM, 5)
    assert [(t.tokens, t.finish) for t in traces] == [(40, Finish.eos), (20, Finish.budget)]
    assert llm.exhausted
    assert await llm.sample(PROBLEM, 5) == []
    [same] = await llm.extend(traces[:1])
    assert (same.text, same.finish) == (traces[0].text, Finish.budget)
    assert await llm.likelihoods([(PROBLEM, "x")]) != [None]  # a likelihood generates nothing


async def test_the_cap_of_a_call_and_the_end_of_the_budget_are_told_apart():
    llm = session(Scripted(lambda _: WORDS), Budget(tokens=70), max_tokens=30)
    assert [t.finish for t in await llm.sample(PROBLEM, 3)] == [Finish.length, Finish.length, Finish.budget]


async def test_a_budget_that_was_not_used_up_is_not_blamed():
    outcome = await solve(PROBLEM, Single(), Tabular(), budget=Budget(tokens=100))
    assert outcome.stopped is Stopped.done


async def test_a_budget_always_buys_an_answer_when_no_attempt_reached_one():
    def script(cue):
        return " 42" if cue.prefix.endswith("Final Answer:") else WORDS

    engine = Scripted(script)
    outcome = await solve(PROBLEM, SelfConsistency(n=4), engine, budget=Budget(tokens=50), sampling=Sampling())
    assert (outcome.answer, outcome.stopped) == ("42", Stopped.budget)
    assert outcome.best.segments[-2].origin is Origin.injected
    assert outcome.usage.output_tokens == engine.spent.output_tokens <= 50


async def test_a_number_met_while_thinking_does_not_spend_what_is_kept_for_the_answer():
    engine = Scripted(lambda _: " 7" * 12)
    outcome = await solve(PROBLEM, BudgetForcing(waits=2, max_thinking=20), engine, budget=Budget(tokens=20))
    assert outcome.answer is not None


@on_a_clock_of_its_own
async def test_a_budget_of_seconds_stops_a_slow_engine_and_keeps_what_it_said():
    engine = Scripted(lambda _: Line(says=WORDS, pace=0.02))
    started = time.monotonic()
    outcome = await solve(PROBLEM, SelfConsistency(n=3), engine, budget=Budget(seconds=0.25))
    assert time.monotonic() - started <= 0.25
    assert outcome.stopped is Stopped.budget
    assert outcome.usage.output_tokens == engine.spent.output_tokens > 0
    assert {t.finish for t in outcome.traces} == {Finish.budget}


@pytest.mark.parametrize(
    "method",
    [
        SelfConsistency(n=6, stop=Fixed()),
        SelfConsistency(n=6, stop=Fixed(), by=Single()),
        SelfConsistency(n=6, stop=Fixed(), by=BudgetForcing(waits=1)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("budget", [Budget(), Budget(seconds=60, tokens=4000)], ids=repr)
@on_a_clock_of_its_own
async def test_a_run_that_is_cancelled_ends_at_once_with_the_best_it_has(method, budget):
    def script(cue):
        answers = cue.number < 2 or cue.prefix.endswith("Final Answer:")
        return Line(says="The answer is 4" if answers else WORDS, pace=0.005)

    engine = Scripted(script)
    run = Run(observe=lambda event: ended.set() if event.trace and event.trace.answer else None)
    ended = asyncio.Event()
    running = asyncio.create_task(solve(PROBLEM, method, engine, budget=budget, run=run))
    await ended.wait()
    cancelled = time.monotonic()
    run.cancel()
    outcome = await running
    assert time.monotonic() - cancelled < 0.1
    assert (outcome.answer, outcome.stopped) == ("4", Stopped.cancelled)
    assert outcome.usage.output_tokens == engine.spent.output_tokens
    assert not run.landings


@on_a_clock_of_its_own
async def test_a_run_that_is_cancelled_before_its_first_answer_asks_no_closing_question():
    engine = Scripted(lambda _: Line(says=WORDS, pace=0.005))
    run, budget, cap = Run(), Budget(tokens=200), Sampling(max_tokens=50)
    running = asyncio.create_task(solve(PROBLEM, SelfConsistency(n=3), engine, budget=budget, run=run, sampling=cap))
    await asyncio.sleep(0.03)
    run.cancel()
    outcome = await running
    assert (outcome.answer, outcome.stopped, len(engine.cues)) == (None, Stopped.cancelled, 3)
    assert {trace.finish for trace in outcome.traces} == {Finish.budget}


async def test_no_more_money_is_spent_than_allowed_however_little_it_is():
    for usd in (0.0, 0.00001, 0.0001, 0.001, 0.004, 0.01):
        engine = Scripted(lambda _: WORDS, price=Price(input=10.0, output=100.0))
        outcome = await solve(PROBLEM, SelfConsistency(n=4), engine, budget=Budget(usd=usd))
        assert (outcome.usage.usd or 0.0) <= usd + 1e-9
        assert outcome.stopped is (Stopped.budget if usd < 0.01 else outcome.stopped)


async def test_continuing_a_long_text_is_priced_at_its_length():
    engine = Scripted([WORDS, "b", " c", " d"], price=Price(input=100.0))
    llm = session(engine, Budget(usd=0.0085))
    long, short = await llm.sample(PROBLEM, 2)
    await llm.extend([short, long])
    assert llm.place.ledger.spent.usd <= 0.0085


async def test_nested_attempts_on_a_priced_engine_stay_within_the_money():
    engine = Scripted(lambda _: "a b The answer is 3", price=Price(input=10.0, output=100.0))
    outcome = await solve(PROBLEM, SelfConsistency(n=3, by=Single(), stop=Fixed()), engine, budget=Budget())
    assert len(outcome.traces) == 3
    engine = Scripted(lambda _: WORDS, price=Price(input=10.0, output=100.0))
    outcome = await solve(PROBLEM, SelfConsistency(n=9, by=Single(), stop=Fixed()), engine, budget=Budget(usd=0.01))
    assert 0.004 < outcome.usage.usd <= 0.01


async def test_nested_attempts_have_the_money_for_a_judge_that_is_dearer_than_the_model():
    said = count()
    model = Scripted(lambda _: f"a b The answer is {next(said) % 8}", price=Price(input=0.01, output=0.01))
    judge = Scripted(lambda _: "no", price=Price(input=10.0, output=100.0))
    nested = SelfConsistency(n=2, by=SemanticConsistency(n=4), stop=Fixed())
    desks = [Run(roles={"judge": judge}) for _ in range(2)]
    alone = await solve(PROBLEM, nested, model, budget=Budget(), run=desks[0])
    within = await solve(PROBLEM, nested, model, budget=Budget(usd=50.0), run=desks[1])
    assert within.usage.usd == pytest.approx(alone.usage.usd)
    assert alone.usage.usd > 0.0001


async def test_an_open_loop_ends_when_the_money_is_gone():
    llm = session(Scripted(lambda _: WORDS, price=Price(input=10.0, output=100.0)), Budget(usd=0.01))
    async with asyncio.timeout(60):
        while not llm.exhausted:
            await llm.sample(PROBLEM)
    assert llm.place.ledger.spent.usd <= 0.01


# Rule 3: seeds derive from identity.


@pytest.mark.parametrize("budget", [Budget(), Budget(tokens=35), Budget(calls=4)], ids=str)
async def test_finishing_order_cannot_change_a_result(budget):
    serial = await session(Scripted(by_path), budget, seed=3, concurrency=1).sample(PROBLEM, 8)
    for concurrency in (2, 3, None):
        assert await session(Scripted(by_path), budget, seed=3, concurrency=concurrency).sample(PROBLEM, 8) == serial


async def test_the_first_of_many_draws_are_the_draws_of_a_smaller_run():
    few, many = [await session(Tabular(), seed=5).sample(PROBLEM, n) for n in (3, 9)]
    assert many[:3] == few


async def test_another_seed_gives_other_draws():
    texts = [[t.text for t in await session(Tabular(), seed=s).sample(PROBLEM, 8)] for s in (0, 1)]
    assert texts[0] != texts[1]


async def test_asking_twice_gives_other_draws():
    engine = Scripted(lambda cue: str(cue.seed))
    llm = session(engine)
    first, second = await llm.sample(PROBLEM, 2), await llm.sample(PROBLEM, 2)
    more = await llm.extend(first, 2), await llm.extend(first, 2)
    assert [t.path for t in first + second] == [(0,), (1,), (2,), (3,)]
    assert len({c.seed for c in engine.cues}) == 12
    assert len({t.path for pair in more for t in pair}) == 8


async def test_asking_twice_through_a_role_or_a_nested_budget_gives_other_draws_too():
    engine = Scripted(lambda cue: str(cue.seed))
    llm = session(engine)
    await llm.sample(PROBLEM, 2)
    for _ in range(2):
        await llm.role("judge").sample(PROBLEM, 2)
        async with llm.child(Budget(calls=2)) as inner:
            await inner.sample(PROBLEM, 2)
    assert len({c.seed for c in engine.cues}) == len(engine.cues) == 10


# Rule 4: failures are data.


async def test_a_passing_failure_is_tried_again():
    def script(cue):
        return Line(fails=EngineError("busy", retryable=True, retry_after=0.0)) if cue.number < 2 else "The answer is 4"

    engine = Scripted(script)
    outcome = await solve(PROBLEM, Single(), engine, budget=Budget(calls=1))
    assert (outcome.answer, outcome.usage.calls, len(engine.cues)) == ("4", 1, 3)


async def test_a_lasting_failure_is_tried_once_and_reported():
    engine = Scripted(lambda _: Line(fails=EngineError("no such model")))
    outcome = await solve(PROBLEM, SelfConsistency(n=3), engine, budget=Budget())
    assert (outcome.answer, outcome.stopped, len(outcome.traces)) == (None, Stopped.error, 3)
    assert outcome.warnings == ("3 of 3 attempts failed: no such model",)
    assert len(engine.cues) == 3


async def test_one_failure_never_loses_the_other_draws():
    def script(cue):
        return Line(fails=EngineError("gone")) if cue.number == 2 else Line(says="The answer is 4")

    outcome = await solve(
        PROBLEM, SelfConsistency(n=5, stop=Fixed()), Scripted(script), budget=Budget(), run=Run(concurrency=1)
    )
    assert [t.finish for t in outcome.traces].count(Finish.error) == 1
    assert (outcome.answer, outcome.votes[0].count, outcome.confidence) == ("4", 4, 0.8)


class Brittle(Scripted):
    """Breaks off after five words of its first requests, and works from then on."""

    breaks = 1

    async def stream(self, request, abort=None):
        self.breaks, words = self.breaks - 1, 0
        first = self.breaks >= 0
        async with aclosing(super().stream(request, abort)) as chunks:
            async for chunk in chunks:
                yield chunk
                words += 1
                if first and words == 5:
                    raise EngineError("connection reset", retryable=True, retry_after=0.0)


async def test_draws_that_break_off_half_way_are_asked_for_again_and_what_was_lost_is_charged():
    engine = Brittle(lambda _: Line(says=WORDS, pace=0.0))
    llm = session(engine)
    traces = await llm.sample(PROBLEM, 3)
    assert [t.text for t in traces] == [WORDS] * 3
    assert llm.place.ledger.spent.output_tokens == 5 + sum(t.tokens for t in traces)
    assert llm.place.ledger.spent.calls == 3
    assert {cue.sampling.max_tokens for cue in engine.cues[3:]} == {llm.cap - 2}


async def test_a_draw_that_lost_half_of_its_cap_is_kept_as_it_is():
    engine = Brittle(lambda _: Line(says=WORDS, pace=0.0))
    engine.breaks = 10
    llm = session(engine)
    traces = await llm.sample(PROBLEM, 3, max_tokens=6)
    assert [t.finish for t in traces] == [Finish.error] * 3
    assert llm.place.ledger.spent.output_tokens <= 18
    assert all(t.error == "connection reset" for t in traces)


class Choosy(Scripted):
    """Serves a request but for one of its draws, the first two times."""

    async def stream(self, request, abort=None):
        busy = len(self.cues) < 5
        async with aclosing(super().stream(request, abort)) as chunks:
            async for chunk in chunks:
                if busy and chunk.index == request.n - 1:
                    if chunk.completion:
                        yield Chunk(chunk.index, failure=EngineError("busy", retryable=True, retry_after=0.0))
                else:
                    yield chunk


async def test_a_draw_that_fails_alone_is_asked_for_alone():
    engine = Choosy(lambda _: Line(says="a b c", pace=None))
    traces = await session(engine).sample(PROBLEM, 4)
    assert [t.text for t in traces] == ["a b c"] * 4
    assert len(engine.cues) == 6
    assert [cue.seed for cue in engine.cues[4:]] == [engine.cues[3].seed] * 2


@on_a_clock_of_its_own
async def test_a_retry_does_not_outlast_the_deadline():
    busy = Scripted(lambda _: Line(fails=EngineError("busy", retryable=True, retry_after=60.0)))
    begun = time.monotonic()
    outcome = await solve(PROBLEM, SelfConsistency(n=2), busy, budget=Budget(seconds=0.6))
    assert time.monotonic() - begun <= 0.6
    assert outcome.answer is None


class Forgetful(Scripted):
    """Ends the first reply without completing its draws."""

    async def stream(self, request, abort=None):
        first = not self.cues
        async with aclosing(super().stream(request, abort)) as chunks:
            async for chunk in chunks:
                if first and chunk.completion:
                    return
                yield chunk


async def test_a_reply_that_ends_too_soon_is_not_spliced_into_the_next():
    llm = session(Forgetful(lambda _: Line(says="a b c", pace=0.0)))
    [trace] = await llm.sample(PROBLEM)
    assert (trace.text, trace.finish, trace.tokens) == ("a b c", Finish.eos, 3)
    assert llm.place.ledger.spent.output_tokens == 6


async def test_a_broken_expectation_ends_the_run_as_itself():
    with pytest.raises(AssertionError, match="the script has 1 lines"):
        await session(Scripted(["a"]), concurrency=1).sample(PROBLEM, 2)
    with pytest.raises(AssertionError, match="expected prompt"):
        await session(Scripted([Line(says="a", prompt="other")])).sample(PROBLEM)


# Rule 5: capabilities fail early.


async def test_what_the_engine_cannot_do_is_refused_before_anything_is_spent():
    engine = Scripted(can=frozenset())
    llm = session(engine)
    with pytest.raises(CapabilityError, match="`likelihood`"):
        await llm.likelihoods([(PROBLEM, "x")])
    with pytest.raises(CapabilityError, match="`grammar`, `prefill`"):
        llm.require(frozenset({Capability.prefill, Capability.grammar}))
    assert engine.cues == []


async def test_continuing_without_prefill_falls_back_to_a_new_turn_and_says_so():
    engine = Scripted(lambda cue: " and on" if cue.number else "half", can=EVERYTHING - {Capability.prefill})
    llm = session(engine)
    [longer] = await llm.extend(await llm.sample(PROBLEM), inject=" Wait")
    assert longer.text == "half Wait and on"
    assert (engine.cues[1].prefix, engine.cues[1].prompt) == ("", "Continue exactly where you stopped.")
    assert "new user turn" in next(iter(llm.place.run.warnings))


# Rule 6: cancellation reaches the socket.


async def test_enough_cancels_what_is_in_flight_and_charges_it():
    def script(cue):
        return Line(says="The answer is 4") if cue.number < 2 else Line(says=WORDS, pace=0.001)

    engine = Scripted(script)
    outcome = await solve(PROBLEM, SelfConsistency(n=6, stop=AheadByK(k=2), pace="swift"), engine, budget=Budget())
    assert (outcome.answer, outcome.stopped) == ("4", Stopped.enough)
    assert len(outcome.traces) == 6
    assert {t.finish for t in outcome.traces[2:]} == {Finish.aborted}
    assert all(t.answer is None for t in outcome.traces[2:])
    assert outcome.usage.output_tokens == engine.spent.output_tokens < 8 + 4 * 40
    assert outcome.usage.calls == engine.spent.calls == 6


async def test_leaving_a_loop_over_arrivals_cancels_the_rest():
    engine = Scripted(lambda cue: Line(says="a" if cue.number == 0 else WORDS, pace=0.001))
    llm = session(engine)
    async with aclosing(llm.arrivals(PROBLEM, 4)) as arrivals:
        async for trace in arrivals:
            assert trace.text == "a"
            break
    assert llm.place.ledger.in_flight == 0
    assert [t.finish for t in llm.place.run.surplus] == [Finish.aborted] * 3
    assert llm.place.ledger.spent.output_tokens == engine.spent.output_tokens < 100


@pytest.mark.parametrize("by", [None, Single()], ids=repr)
@on_a_clock_of_its_own
async def test_cancelling_a_run_from_outside_settles_the_account_and_stops_the_engine(by):
    engine = Scripted(lambda _: Line(says=WORDS * 5, pace=0.002))
    llm = session(engine, Budget(tokens=1000), max_tokens=200)
    running = asyncio.create_task(llm.sample(PROBLEM, 3, by=by))
    await asyncio.sleep(0.03)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    spent = engine.spent.output_tokens
    assert (llm.place.ledger.in_flight, llm.place.ledger.spent.output_tokens) == (0, spent)
    assert 0 < spent < 600
    await asyncio.sleep(0.02)
    assert engine.spent.output_tokens == spent
    assert llm.place.ledger._reserved.tokens == 0


async def test_a_stop_rule_that_takes_its_time_leaves_some_to_others():
    turns, asked = 0, []

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    def slow(traces):
        time.sleep(0.001)
        asked.append(turns)
        return False

    task = asyncio.create_task(other())
    method = SelfConsistency(n=64, stop=slow)
    await solve(PROBLEM, method, Scripted(lambda _: "The answer is 4."), budget=Budget())
    task.cancel()
    assert len(set(asked)) == len(asked) == 63


async def test_a_draw_is_cut_short_when_the_method_has_seen_enough_of_it():
    engine = Scripted(lambda _: Line(says=WORDS, pace=0.0))
    llm = session(engine)
    traces = await llm.sample(PROBLEM, 2, until=lambda t: t.tokens >= 5)
    assert [t.finish for t in traces] == [Finish.aborted] * 2
    assert all(5 <= t.tokens < 40 for t in traces)
    assert llm.place.ledger.spent.output_tokens == engine.spent.output_tokens
    [longer] = await llm.extend(traces[:1], until=lambda t: t.tokens >= 20)
    assert 20 <= longer.tokens < 60


async def test_thrift_makes_no_call_that_a_stop_rule_made_needless():
    engine = Scripted(lambda _: "The answer is 4")
    llm = session(engine, concurrency=1)
    await llm.sample(PROBLEM, 16, enough=AheadByK(k=2), pace=Pace.thrift)
    assert len(engine.cues) == 2


# Rule 7: the cache is content-addressed.


async def test_a_draw_once_paid_for_is_never_paid_for_again():
    store, engine = Store(":memory:"), Tabular()
    first = await session(engine, memory=store).sample(PROBLEM, 4)
    replayed = session(engine, memory=store)
    assert await replayed.sample(PROBLEM, 6) == [*first, *(await session(engine).sample(PROBLEM, 6))[4:]]
    assert replayed.place.run.replayed == 4
    cold = session(engine, memory=store, seed=1)
    await cold.sample(PROBLEM, 4)
    assert cold.place.run.replayed == 0


async def test_failures_and_cancelled_draws_are_not_remembered():
    store = Store(":memory:")
    await session(Scripted(lambda _: Line(says="a", finish=Finish.error)), memory=store).sample(PROBLEM)
    engine = Scripted(lambda _: Line(says=WORDS, pace=0.0))
    await session(engine, memory=store).sample(PROBLEM, until=lambda t: t.tokens > 2)
    engine = Scripted(lambda _: "b")
    assert [t.text for t in await session(engine, memory=store).sample(PROBLEM)] == ["b"]


# Rule 8: continuation is done once, here.


async def test_a_continuation_adds_nothing_that_was_not_written():
    problem = Problem(messages=(Message("system", "Be brief."), Message("user", "2 + 2?")))
    engine = Scripted([Line(says="a b", prompt="2 + 2?", prefix=""), Line(says=" d", prefix="a b c")])
    llm = session(engine)
    [longer] = await llm.extend(await llm.sample(problem), inject=" c")
    assert longer.text == "a b c d"
    assert longer.prompt == problem.messages
    assert [(s.text, s.origin, s.tokens) for s in longer.segments] == [
        ("a b", Origin.sampled, 2), (" c", Origin.injected, 0), (" d", Origin.sampled, 1),
    ]  # fmt: skip
    assert llm.place.ledger.spent.output_tokens == 3


# The verbs.


async def test_arrivals_come_in_order_of_arrival_and_sample_in_order_of_draw():
    def script(cue):
        return Line(says="slow", pace=0.01) if cue.number % 4 == 0 else Line(says="fast")

    arrived = [t.path async for t in session(Scripted(script)).arrivals(PROBLEM, 4)]
    assert arrived == [(1,), (2,), (3,), (0,)]
    assert [t.path for t in await session(Scripted(script)).sample(PROBLEM, 4)] == [(0,), (1,), (2,), (3,)]


async def test_a_whole_frontier_is_continued_at_once_in_order():
    engine = Scripted(lambda cue: str(cue.number))
    llm = session(engine)
    traces = await llm.extend(await llm.sample(PROBLEM, 2), 3, inject="|")
    assert [t.path for t in traces] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert [t.text[:2] for t in traces] == ["0|"] * 3 + ["1|"] * 3


async def test_a_fresh_question_is_asked_by_template(tmp_path):
    (tmp_path / "critic.txt").write_text("Judge: {text}")
    engine = Scripted([Line(says="fine", prompt="Judge: 4")])
    with using(tmp_path):
        [[trace]] = await session(engine).each([ask("critic", text="4")])
        with pytest.raises(SettingsError, match="which is not given"):
            ask("critic")
    assert trace.text == "fine"
    with pytest.raises(SettingsError, match="no prompt template `nobody`"):
        ask("nobody")


async def test_the_likelihood_of_a_text_generates_nothing():
    llm = session(Tabular())
    [scored] = await llm.likelihoods([(PROBLEM, "The answer is 4")])
    assert [round(x, 6) for x in scored.chosen] == [0.0, round(-0.6931471805599453, 6)]
    [trace] = await llm.sample(PROBLEM, max_tokens=1)
    assert [round(x, 6) for x in (await llm.likelihoods([(trace, " 5")]))[0].chosen] == [-1.203973]
    assert (await llm.likelihoods([(PROBLEM, "")]))[0].chosen == ()
    assert llm.place.ledger.spent.output_tokens == 1
    assert await session(Tabular(), Budget(calls=0)).likelihoods([(PROBLEM, "x")]) == [None]


async def test_a_role_is_another_engine_on_the_same_account():
    judge = Scripted(["7 out of 10"])
    llm = session(Scripted(["a"]), Budget(calls=2), roles={"judge": judge})
    await llm.sample(PROBLEM)
    assert [t.text for t in await llm.role("judge").sample(PROBLEM)] == ["7 out of 10"]
    assert llm.exhausted
    assert await llm.role("judge").sample(PROBLEM) == []
    assert llm.role("nobody").place.engine is llm.place.engine


async def test_a_nested_budget_is_charged_to_the_outer_one():
    engine = Scripted(lambda _: WORDS)
    llm = session(engine, Budget(tokens=100))
    async with llm.child(Budget(tokens=50)) as inner:
        traces = await inner.sample(PROBLEM, 3)
        assert [t.tokens for t in traces] == [40, 10]
        assert llm.place.ledger.left.tokens == 50
    assert llm.place.ledger.spent.output_tokens == 50
    assert (llm.place.ledger.left.tokens, llm.place.ledger.in_flight) == (50, 0)
    async with llm.child(Budget(tokens=500)) as inner:
        assert inner.place.ledger.left.tokens == 50


async def test_attempts_through_a_method_each_have_an_account_and_share_the_whole():
    for tokens in (0, 5, 30, 60, 200):
        engine = Scripted(lambda cue: " 7" * (3 + cue.seed % 20))
        llm = session(engine, Budget(tokens=tokens))
        traces = await llm.sample(PROBLEM, 4, by=BudgetForcing(waits=1, max_thinking=15))
        assert engine.spent.output_tokens == llm.place.ledger.spent.output_tokens <= tokens
        assert llm.place.ledger.in_flight == 0
        assert len({t.path for t in traces}) == len(traces)


async def test_nested_attempts_do_not_depend_on_finishing_order():
    def run(concurrency, budget):
        llm = session(Scripted(by_path), budget, seed=2, concurrency=concurrency)
        return llm.sample(PROBLEM, 4, by=SelfConsistency(n=2, stop=Fixed()))

    for budget in (Budget(), Budget(tokens=40)):
        assert await run(1, budget) == await run(None, budget)


async def test_a_method_written_as_open_loop_ends_with_the_budget():
    llm = session(Scripted(lambda _: "a b c"), Budget(tokens=20))
    traces = []
    async with asyncio.timeout(60):
        while not llm.exhausted:
            traces += await llm.sample(PROBLEM)
    assert sum(t.tokens for t in traces) == 20


async def test_a_settings_field_that_does_not_exist_is_an_error():
    with pytest.raises(TypeError):
        await session(Scripted(["a"])).sample(PROBLEM, temprature=1.0)


@on_a_clock_of_its_own
async def test_drawing_beside_an_open_nested_budget_does_not_wait_for_it():
    llm = session(Scripted(lambda _: "a b"), Budget(tokens=60))
    async with asyncio.timeout(0.2), llm.child(Budget(tokens=30)):
        assert [t.tokens for t in await llm.sample(PROBLEM)] == [2]


@on_a_clock_of_its_own
async def test_waiting_for_budget_does_not_hold_a_place_that_others_need():
    llm = session(Scripted(lambda _: "a b"), Budget(tokens=60), concurrency=1)
    async with asyncio.timeout(0.2), llm.child(Budget(tokens=30)) as inner:
        beside = asyncio.create_task(llm.sample(PROBLEM))
        await asyncio.sleep(0)
        assert [t.tokens for t in await inner.sample(PROBLEM)] == [2]
        beside.cancel()
