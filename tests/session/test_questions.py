"""Questions that a method puts about its attempts, what it leaves to chance, and attempts through several methods."""

import pytest

from thinkscale.budget import Budget, Cost, Ledger
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.errors import SettingsError
from thinkscale.methods.best_of_n import BestOfN
from thinkscale.methods.single import Single
from thinkscale.prompts import ask
from thinkscale.session import Place, Run, Session
from thinkscale.types import Problem, Sampling

PROBLEM = Problem.of("2 + 2?")


def session(engine, budget=None, *, closing=False, path=(), **run):
    ledger = Ledger(budget or Budget(), closing=closing)
    return Session(Place(engine=engine, ledger=ledger, run=Run(**run), sampling=Sampling(max_tokens=10), path=path))


def pairs(*words):
    return [ask("same_meaning", question="why?", first=word, second="b") for word in words]


@pytest.mark.parametrize("concurrency", [1, 2, None])
async def test_replies_stand_in_the_order_of_the_questions(concurrency):
    def script(cue):
        word = cue.prompt.split("First reply:\n")[1].split()[0]
        return Line(says=word, pace=0.003 if word == "x" else 0.0)

    llm = session(Scripted(script), concurrency=concurrency)
    assert [[t.text for t in group] for group in await llm.each(pairs("x", "y", "z"))] == [["x"], ["y"], ["z"]]
    assert await llm.each([]) == []


async def test_a_budget_answers_the_first_questions():
    engine = Scripted(lambda _: Line(says="yes", pace=0.0))
    replies = await session(engine, Budget(calls=2)).each(pairs("x", "y", "z"))
    assert [[t.text for t in group] for group in replies] == [["yes"], ["yes"], []]
    assert ["\nx\n" in c.prompt for c in engine.cues] == [True, False]


async def test_the_same_question_asked_twice_is_another_draw():
    engine = Scripted(lambda _: "yes")
    llm = session(engine)
    replies = await llm.each(pairs("x", "x"), temperature=0.0)
    assert [[t.path for t in group] for group in replies] == [[(0,)], [(1,)]]
    assert len({c.seed for c in engine.cues}) == 2
    assert {c.sampling.temperature for c in engine.cues} == {0.0}


async def test_what_is_said_about_answers_frees_no_closing_reserve():
    llm = session(Scripted(lambda _: "The answer is 4"), Budget(calls=10, tokens=100), closing=True)
    before = llm.place.ledger.left
    await llm.each(pairs("x"), final=False)
    assert llm.place.ledger.left == before - Cost(tokens=4, calls=1)


def test_a_field_that_is_missing_is_named():
    with pytest.raises(SettingsError, match="second"):
        ask("same_meaning", question="", first="")


def test_what_a_method_leaves_to_chance_follows_from_run_problem_place_and_purpose():
    def seed(purpose="order", problem=PROBLEM, path=(), **run):
        return session(Scripted([]), path=path, **run).seed(problem, purpose)

    assert seed() == seed()
    others = [seed("colour"), seed(problem=Problem.of("?")), seed(path=(1,)), seed(seed=1)]
    assert len({seed(), *others}) == 5


async def test_attempts_through_several_methods_take_turns_each_within_its_own_ceiling():
    engine = Scripted(lambda cue: Line(says="The answer is 4", pace=0.0))
    llm = session(engine, Budget(tokens=40))
    traces = await llm.sample(PROBLEM, 4, by=[Single(max_tokens=5), BestOfN(n=3)])
    assert [len(t.path) for t in traces] == [2] * 4
    assert [t.path[0] for t in traces] == [0, 1, 2, 3]
    assert [c.sampling.temperature for c in engine.cues].count(0.0) == 2
    assert llm.place.ledger.spent.output_tokens == engine.spent.output_tokens <= 40
