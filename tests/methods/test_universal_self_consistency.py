"""Universal self-consistency: what is shown, how a choice is read, and what stands in where there is none."""

import re

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget, Cost
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.engines.think_formats import THINK_TAGS
from thinkscale.errors import EngineError, SpecError
from thinkscale.methods.single import Single
from thinkscale.methods.universal_self_consistency import UniversalSelfConsistency, chosen, listed
from thinkscale.session import Run
from thinkscale.types import Finish, Problem, Sampling, Stopped

PROBLEM = Problem.of("Name a prime.")
CHOOSES = "The most consistent is"


def places(prompt):
    """Number → text of the responses that a prompt shows."""
    return {int(n): text for n, text in re.findall(r"Response (\d+):\n(.*)", prompt)}


def chooser(*attempts, choice):
    """Says the attempts in turn; then chooses the response whose text is `choice`, or says it when it is none."""

    def script(cue):
        if CHOOSES not in cue.prompt:
            return attempts[cue.number]
        shown = {text: number for number, text in places(cue.prompt).items()}
        return f"I see. {CHOOSES} Response {shown[choice]}." if choice in shown else choice

    return Scripted(script)


async def run(engine, n, budget=None, **fields):
    method = UniversalSelfConsistency(n=n, **fields)
    run = Run(seed=3, concurrency=1)
    return await solve(PROBLEM, method, engine, budget=budget or Budget(), run=run, sampling=Sampling(max_tokens=20))


@pytest.mark.parametrize(
    ("reply", "place"),
    [
        ("Response 2 is good, but the most consistent is Response 3.", 2),
        ("Response 9", None),
        ("", None),
        ("Response 0", None),
        ("The most consistent is Response **4**.", 3),
        ("the most consistent is response #1", 0),
        ("Response number three", None),
    ],
)
def test_the_last_response_that_is_named_is_chosen_and_without_one_none(reply, place):
    assert chosen(reply, [0, 1, 2, 3]) == place


def test_the_shuffle_is_undone():
    assert [chosen(f"Response {k}", [2, 0, 3, 1]) for k in (1, 2, 3, 4, 5)] == [2, 0, 3, 1, None]


def test_responses_stand_under_their_numbers():
    assert listed(["a", "b {c}"]) == "Response 1:\na\n\nResponse 2:\nb {c}"


@pytest.mark.parametrize("choice", ["It is 2.", "It is 3.", "It is 5."])
async def test_the_chosen_attempt_wins_wherever_it_was_shown(choice):
    outcome = await run(chooser("It is 2.", "It is 3.", "It is 5.", "It is 3.", choice=choice), 4)
    assert outcome.best.text == choice
    assert outcome.answer == choice[-2]
    assert outcome.usage.calls == 5


async def test_the_choice_sees_the_question_and_all_responses_in_another_order_for_another_problem():
    orders = set()
    for question in ("Name a prime.", "Name a square.", "Name a cube.", "Name a power."):
        engine = chooser("It is 1.", "It is 2.", "It is 3.", "It is 4.", choice="Response 1")
        await solve(Problem.of(question), UniversalSelfConsistency(n=4), engine, budget=Budget(), run=Run())
        prompt = engine.cues[-1].prompt
        assert question in prompt
        assert engine.cues[-1].sampling.temperature == 0.0
        assert sorted(places(prompt).values()) == [f"It is {k}." for k in (1, 2, 3, 4)]
        orders.add(tuple(places(prompt).values()))
    assert len(orders) > 1


async def test_where_the_chosen_attempt_has_no_answer_the_first_that_has_one_is_returned():
    outcome = await run(chooser("I do not know.", "It is 3.", "It is 5.", choice="I do not know."), 3)
    assert outcome.answer == "3"


async def test_where_the_choice_cannot_be_read_the_vote_decides_and_says_so():
    outcome = await run(chooser("It is 2.", "It is 3.", "It is 3.", choice="all of them"), 3)
    assert outcome.answer == "3"
    assert "the choice cannot be read: the vote decided" in outcome.warnings[0]


async def test_where_the_budget_ends_before_the_choice_the_vote_decides_and_says_so():
    outcome = await run(chooser("It is 2.", "It is 3.", "It is 3.", choice="It is 2."), 3, budget=Budget(calls=3))
    assert (outcome.answer, outcome.stopped, outcome.usage.calls) == ("3", Stopped.budget, 3)
    assert "the vote decided" in outcome.warnings[0]


async def test_where_the_choice_fails_or_is_cut_by_the_budget_the_vote_decides():
    engine = Scripted(["It is 2.", "It is 3.", "It is 3.", Line(fails=EngineError("gone"))])
    assert (await run(engine, 3)).answer == "3"
    engine = Scripted(["It is 2.", "It is 3.", "It is 3.", f"{CHOOSES} Response 1 " + "or so " * 9])
    outcome = await run(engine, 3, budget=Budget(tokens=14))
    assert (outcome.answer, outcome.usage.output_tokens) == ("3", 14)


async def test_one_attempt_or_none_needs_no_choice():
    engine = Scripted([Line(says="", finish=Finish.error), "It is 7."])
    outcome = await run(engine, 2)
    assert (outcome.answer, len(engine.cues)) == ("7", 2)


async def test_thinking_is_not_shown():
    def script(cue):
        return "Response 2" if CHOOSES in cue.prompt else f"<think>secret</think>It is {cue.number + 2}."

    engine = Scripted(script, think=THINK_TAGS)
    await run(engine, 2)
    assert sorted(places(engine.cues[-1].prompt).values()) == ["It is 2.", "It is 3."]


def test_the_ceiling_is_that_of_the_attempts_and_one_choice():
    assert UniversalSelfConsistency(n=4).ceiling(100) == Cost(tokens=500, calls=5)
    assert UniversalSelfConsistency(n=4, max_tokens=9, by=Single(max_tokens=3)).ceiling(100) == Cost(tokens=21, calls=5)


@pytest.mark.parametrize("fields", [{"n": 0}, {"max_tokens": 0}])
def test_numbers_that_make_no_sense_are_refused(fields):
    with pytest.raises(SpecError):
        UniversalSelfConsistency(**fields)
