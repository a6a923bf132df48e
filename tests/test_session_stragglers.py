"""What a session does with draws that are late: a quorum leaves them behind, `conclude` asks them for their answer."""

import time

import pytest

from clocks import on_a_clock_of_its_own
from thinkscale.budget import Budget, Cost, Ledger
from thinkscale.desk import Desk
from thinkscale.door import solve
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.engines.think_formats import THINK_TAGS
from thinkscale.errors import EngineError, SpecError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.methods.single import Single
from thinkscale.registry import parse
from thinkscale.session import Session
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.stopping.fixed import Fixed
from thinkscale.store import Store
from thinkscale.testing import _check_bill, _check_budgets, _check_capabilities, _check_failures, _check_memory
from thinkscale.types import Finish, Origin, Problem, Sampling, Stopped

PROBLEM = Problem.of("2 + 2?")
WORDS = " ".join(f"w{i}" for i in range(400))


def session(engine, budget=None, *, max_tokens=500, **desk):
    return Session(engine, Ledger(budget or Budget()), Desk(**desk), sampling=Sampling(max_tokens=max_tokens))


def one_late(late=1):
    """All answer at once but one, which would speak for four seconds."""

    def script(cue):
        return Line(says=WORDS, pace=0.01) if cue.number == late else Line(says=f"The answer is {cue.number}", pace=0.0)

    return Scripted(script)


# A quorum.


@pytest.mark.parametrize("by", [None, Single()], ids=repr)
@on_a_clock_of_its_own
async def test_once_a_quorum_is_in_a_straggler_is_left_behind_and_charged(by):
    engine = one_late()
    llm = session(engine)
    begun = time.monotonic()
    traces = await llm.sample(PROBLEM, 5, by=by, quorum=0.8)
    assert time.monotonic() - begun < 1
    assert [t.path[0] for t in traces] == [0, 2, 3, 4]
    assert [t.answer.text for t in traces] == ["0", "2", "3", "4"]
    assert [t.finish for t in llm.desk.surplus] == [Finish.aborted]
    assert (llm.enough, llm.ledger.in_flight) == (True, 0)
    assert llm.ledger.spent.output_tokens == engine.spent.output_tokens < 100
    assert llm.ledger.spent.calls == 5


@on_a_clock_of_its_own
async def test_a_straggler_has_its_grace():
    def script(cue):
        return Line(says="a b c d e The answer is 4", pace=0.004 if cue.number == 1 else 0.001)

    llm = session(Scripted(script))
    assert len(await llm.sample(PROBLEM, 5, quorum=0.8, grace=100)) == 5
    assert not llm.enough


@on_a_clock_of_its_own
async def test_without_a_quorum_everybody_is_waited_for():
    assert len(await session(one_late(late=9)).sample(PROBLEM, 5)) == 5
    llm = session(Scripted(lambda cue: Line(says="a b c", pace=0.02 if cue.number else 0.0)))
    assert len(await llm.sample(PROBLEM, 3)) == 3


@on_a_clock_of_its_own
async def test_a_draw_that_failed_has_arrived_and_stays_in_the_pool():
    def script(cue):
        slow = cue.number == 0
        return Line(says=WORDS if slow else "4", pace=0.01, finish=Finish.error if cue.number == 3 else Finish.eos)

    traces = await session(Scripted(script)).sample(PROBLEM, 4, quorum=0.75)
    assert [(t.path, t.finish) for t in traces] == [((1,), Finish.eos), ((2,), Finish.eos), ((3,), Finish.error)]


@on_a_clock_of_its_own
async def test_a_quorum_that_the_budget_cannot_reach_ends_with_the_budget():
    llm = session(Scripted(lambda _: "The answer is 4"), Budget(calls=3))
    assert len(await llm.sample(PROBLEM, 10, quorum=0.9)) == 3
    assert not llm.enough


@on_a_clock_of_its_own
async def test_a_stop_rule_still_decides_in_draw_order_beside_a_quorum():
    llm = session(Scripted(lambda _: "The answer is 4"), concurrency=1)
    assert len(await llm.sample(PROBLEM, 10, enough=AheadByK(k=2), quorum=0.9)) == 2


async def test_the_failure_of_an_engine_passes_through_a_quorum_as_itself():
    class Broken(Scripted):
        async def stream(self, request, abort=None):
            raise TimeoutError("of its own")
            yield

    with pytest.raises(TimeoutError, match="of its own"):
        await session(Broken()).sample(PROBLEM, 3, quorum=0.5)


@on_a_clock_of_its_own
async def test_a_run_with_a_quorum_counts_the_same_votes_from_the_store():
    store, method = Store(":memory:"), SelfConsistency(n=5, stop=Fixed(), quorum=0.8)
    outcomes = []
    for _ in range(2):
        engine = Scripted(
            lambda cue: Line(says=WORDS, pace=0.05) if cue.seed % 5 == 1 else f"The answer is {cue.seed % 2}"
        )
        outcomes.append(await solve(PROBLEM, method, engine, budget=Budget(), desk=Desk(seed=3), store=store))
    first, again = outcomes
    assert first.votes == again.votes
    assert [t.path for t in first.traces] == [t.path for t in again.traces]


@on_a_clock_of_its_own
async def test_an_outcome_by_quorum_says_that_it_was_enough_and_keeps_whom_it_left_behind():
    engine = one_late()
    outcome = await solve(PROBLEM, SelfConsistency(n=5, stop=Fixed(), quorum=0.8), engine, budget=Budget())
    assert (outcome.stopped, outcome.confidence) == (Stopped.enough, 0.25)
    assert [t.finish for t in outcome.traces] == [*[Finish.eos] * 4, Finish.aborted]
    assert outcome.usage.output_tokens == engine.spent.output_tokens


# Concluding.


def thinkers(quick, *, think=None, pace=0.001):
    """A few answer 4 at once; the others think until their thinking is cut short, and then answer 7."""

    def script(cue):
        if cue.prefix:
            return Line(
                says=" 7" if cue.prefix.endswith("Final Answer:") else f" The answer is {cue.prefix[-1]}", pace=0.0
            )
        return Line(says="The answer is 4", pace=0.0) if cue.number < quick else Line(says=WORDS, pace=pace)

    return Scripted(script, think=think)


@pytest.mark.parametrize("think", [None, THINK_TAGS], ids=["plain", "tags"])
@on_a_clock_of_its_own
async def test_those_whom_a_stop_rule_finds_thinking_conclude_and_vote(think):
    engine = thinkers(2, think=think)
    llm = session(engine)
    traces = await llm.sample(PROBLEM, 6, enough=AheadByK(k=2), conclude=8)
    assert [t.path for t in traces] == [(i,) for i in range(6)]
    assert [t.answer.text for t in traces] == ["4", "4", "7", "7", "7", "7"]
    for trace in traces[2:]:
        assert [s.origin for s in trace.segments] == [Origin.sampled, Origin.injected, Origin.sampled]
        assert trace.segments[1].text == llm.think.cut_short(trace.segments[0].text)
        assert 0 < trace.segments[0].tokens < 400
    assert (llm.enough, llm.desk.surplus, llm.ledger.in_flight) == (True, [], 0)
    assert llm.ledger.spent.calls == len(engine.cues) == 10
    assert llm.ledger.spent.output_tokens == engine.spent.output_tokens == sum(t.tokens for t in traces)
    assert {c.sampling.max_tokens for c in engine.cues[6:]} == {8}


async def test_who_is_answering_already_is_not_told_to_stop_thinking():
    def script(cue):
        if cue.prefix:
            return " 9"
        return Line(says="The answer is 4") if cue.number < 2 else Line(says="hm </think>\n\nWell " + WORDS, pace=0.001)

    llm = session(Scripted(script, think=THINK_TAGS), concurrency=3)
    late = (await llm.sample(PROBLEM, 3, enough=AheadByK(k=2), conclude=8, temperature=0.5))[2:]
    for trace in late:
        thought = trace.segments[0].text
        assert [s.text for s in trace.segments[1:-1]] == (
            [] if "</think>" in thought else [llm.think.cut_short(thought)]
        )


@on_a_clock_of_its_own
async def test_a_straggler_of_a_quorum_concludes_too():
    llm = session(thinkers(4, pace=0.01))
    traces = await llm.sample(PROBLEM, 5, quorum=0.8, conclude=8)
    assert [t.answer.text for t in traces] == ["4", "4", "4", "4", "7"]


async def test_who_finished_before_anybody_could_tell_votes_whole():
    llm = session(Scripted(lambda _: "The answer is 4"))
    assert len(await llm.sample(PROBLEM, 6, enough=AheadByK(k=2), conclude=8)) == 6
    assert llm.desk.surplus == []


async def test_who_failed_or_said_nothing_is_surplus():
    def script(cue):
        if cue.number < 2:
            return "The answer is 4"
        return Line(fails=EngineError("gone")) if cue.number == 2 else Line(says=WORDS, pace=0.001)

    llm = session(Scripted(script), concurrency=1)
    assert len(await llm.sample(PROBLEM, 6, enough=AheadByK(k=2), conclude=8)) == 2


@pytest.mark.parametrize("tokens", [4, 9, 20, 60, 150, 500, 2500])
async def test_conclusions_stay_within_the_budget_and_what_it_does_not_allow_is_surplus(tokens):
    engine = thinkers(2)
    llm = session(engine, Budget(tokens=tokens))
    traces = await llm.sample(PROBLEM, 6, enough=AheadByK(k=2), conclude=8)
    assert engine.spent.output_tokens == llm.ledger.spent.output_tokens <= tokens
    assert llm.ledger.in_flight == 0
    paths = [t.path for t in (*traces, *llm.desk.surplus)]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("spec", ["self-consistency(n=6, conclude=8)", "self-consistency(n=6, quorum=0.5, conclude=8)"])
@on_a_clock_of_its_own
async def test_the_method_keeps_every_guarantee_but_that_of_concurrency(spec):
    def talk(cue):
        said = " ".join(f"Step {i} gives {i * 7}." for i in range(1 + cue.seed % 9))
        return Line(says=f" {said} The answer is {12 + cue.seed % 2}.", pace=0.001 if cue.seed % 3 == 0 else 0.0)

    method = parse(spec, "method")
    await _check_bill(method, talk)
    await _check_budgets(method, talk)
    await _check_failures(method)
    await _check_capabilities(method, talk)
    if method.quorum is None:
        await _check_memory(method, talk)


def test_conclusions_are_part_of_the_ceiling():
    assert SelfConsistency(n=4, conclude=10).ceiling(100) == Cost(tokens=430, calls=7)
    assert SelfConsistency(n=4, quorum=0.5).ceiling(100) == Cost(tokens=400, calls=4)


@pytest.mark.parametrize(
    "spec", ["quorum=0", "quorum=1.1", "grace=-1", "conclude=-1", "conclude=8, by=single"], ids=lambda s: s
)
def test_settings_of_lateness_that_make_no_sense_are_refused(spec):
    with pytest.raises(SpecError):
        parse(f"self-consistency({spec})", "method")
