"""Votes over meanings: who is compared with whom, what equals what, and what it costs."""

import math
import re
from itertools import product

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget, Cost
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.engines.think_formats import THINK_TAGS
from thinkscale.errors import EngineError, SpecError
from thinkscale.methods.semantic_consistency import SemanticConsistency, cosine
from thinkscale.session import Run
from thinkscale.types import AnswerKind, Problem, Sampling, Stopped

PROBLEM = Problem.of("Why is the sky blue?", AnswerKind.text)
SHORT, LONG = "Blue light scatters most", "Short waves are scattered more strongly"
SEA, NONE = "It mirrors the sea", "Nobody can see it"
CLASS = {SHORT: 1, LONG: 1, SEA: 2, NONE: 3}


def pair(cue):
    """The two replies that a judge is asked about; empty for any other question."""
    found = re.search(r"First reply:\n(.*)\n\nSecond reply:\n(.*)\n\nClose", cue.prompt)
    return found.groups() if found else ()


def model(*attempts, same=lambda a, b: CLASS[a] == CLASS[b], **more):
    """Says the attempts in turn, and judges pairs by `same`."""
    said = iter(attempts)

    def script(cue):
        if asked := pair(cue):
            return "They differ a little. Yes." if same(*asked) else "Not at all: no"
        return next(said)

    return Scripted(script, **more)


def pairs(engine):
    return [pair(c) for c in engine.cues if pair(c)]


async def run(engine, n, budget=None, problem=PROBLEM, roles=None, **fields):
    run = Run(concurrency=1, roles=roles or {})
    method = SemanticConsistency(n=n, **fields)
    return await solve(problem, method, engine, budget=budget or Budget(), run=run, sampling=Sampling(max_tokens=20))


async def test_the_largest_class_wins_under_the_words_of_its_first_member():
    outcome = await run(model(SEA, SHORT, LONG, NONE), 4)
    assert outcome.answer == SHORT
    assert [(v.answer, v.count) for v in outcome.votes] == [(SHORT, 2), (SEA, 1), (NONE, 1)]
    assert outcome.confidence == 0.5


async def test_only_new_words_are_compared_and_only_with_the_first_of_each_class():
    engine = model(SHORT, SHORT, SEA, LONG, SEA, LONG, NONE)
    await run(engine, 7)
    assert pairs(engine) == [(SHORT, SEA), (SHORT, LONG), (SEA, LONG), (SHORT, NONE), (SEA, NONE)]


@pytest.mark.parametrize("meanings", [*product((1, 2, 3), repeat=4)])
async def test_the_classes_of_an_equivalence_are_its_own_in_the_order_in_which_they_were_seen(meanings):
    words = [f"{'abcd'[i]}{meaning}" for i, meaning in enumerate(meanings)]
    outcome = await run(model(*words, same=lambda x, y: x[1] == y[1]), 4)
    counts = sorted(((meanings.count(m), -meanings.index(m)) for m in {*meanings}), reverse=True)
    assert [(v.count, v.answer) for v in outcome.votes] == [(n, words[-first]) for n, first in counts]


async def test_an_answer_that_equals_two_classes_unites_them():
    engine = model("a", "b", "c", "d", same=lambda x, y: {x, y} in ({"a", "c"}, {"b", "c"}))
    outcome = await run(engine, 4)
    assert [(v.answer, v.count) for v in outcome.votes] == [("a", 3), ("d", 1)]
    assert pairs(engine)[-1] == ("a", "d")


async def test_the_judge_may_be_another_model_and_is_asked_greedily():
    judge = model()
    outcome = await run(model(SHORT, LONG), 2, roles={"judge": judge})
    assert (outcome.votes[0].count, len(judge.cues), outcome.usage.calls) == (2, 1, 3)
    assert judge.cues[0].sampling.temperature == 0.0
    assert "Why is the sky blue?" in judge.cues[0].prompt


@pytest.mark.parametrize(
    ("verdict", "same"),
    [
        ("yes", True),
        ("No, not at first sight, but in the end: YES.", True),
        ("<think>yes yes</think>No.", False),
        ("Yes. On second thought: no", False),
        ("I know nothing about yesterday", False),
        ("", False),
    ],
)
async def test_the_last_yes_or_no_after_the_thinking_is_the_verdict(verdict, same):
    engine = Scripted([SHORT, LONG, verdict], think=THINK_TAGS)
    assert (await run(engine, 2)).votes[0].count == 1 + same


async def test_what_the_budget_does_not_allow_to_ask_is_not_the_same():
    outcome = await run(model(SEA, SHORT, LONG), 3, Budget(calls=3))
    assert (outcome.answer, outcome.stopped) == (SEA, Stopped.budget)
    assert len(outcome.votes) == 3


async def test_a_verdict_that_fails_is_not_the_same():
    engine = Scripted([SHORT, LONG, Line(fails=EngineError("gone"))])
    assert len((await run(engine, 2)).votes) == 2


async def test_the_number_of_questions_is_bounded():
    engine = model(*"abcdef", same=lambda *_: False)
    await run(engine, 6, comparisons=4)
    assert len(pairs(engine)) == 4
    assert SemanticConsistency(n=6, comparisons=4).ceiling(10) == Cost(tokens=100, calls=10)
    assert SemanticConsistency(n=3, max_tokens=2).ceiling(10) == Cost(tokens=36, calls=6)


async def test_n_attempts_that_all_differ_take_a_question_for_every_pair():
    engine = model(*"abcde", same=lambda *_: False)
    await run(engine, 5)
    assert len(pairs(engine)) == 10


async def test_embeddings_compare_without_any_call():
    vectors = {SHORT: (1, 0), LONG: (0.9, 0.1), SEA: (0, 1)}
    fields = {"embed": lambda texts: [vectors[t] for t in texts], "threshold": 0.9}
    outcome = await run(model(SEA, SHORT, LONG), 3, **fields)
    assert (outcome.answer, outcome.votes[0].count, outcome.usage.calls) == (SHORT, 2, 3)
    assert SemanticConsistency(n=3, **fields).ceiling(10) == Cost(tokens=30, calls=3)
    assert len((await run(model(SEA, SHORT, LONG), 3, **{**fields, "threshold": 0.999})).votes) == 3


def test_the_cosine_is_that_of_the_angle():
    assert cosine((3, 4), (6, 8)) == pytest.approx(1.0)
    assert cosine((1, 0), (1, 1)) == pytest.approx(math.sqrt(0.5))
    assert cosine((1, 0), (-2, 0)) == -1.0
    assert cosine((0, 0), (1, 1)) == 0.0


async def test_a_long_answer_to_a_question_of_no_kind_counts_as_a_whole():
    long = "The light of the sun is scattered by the air, and blue light, having shorter waves, is scattered the most"
    engine = Scripted(["I do not know", long, long])
    outcome = await run(engine, 3, problem=Problem.of("Why is the sky blue?"))
    assert (outcome.answer, outcome.votes[0].count) == (long, 2)


async def test_nobody_answering_is_no_answer_and_no_question():
    engine = Scripted(["I do not know"] * 3)
    outcome = await run(engine, 3, embed=lambda _: [])
    assert (outcome.answer, len(engine.cues)) == (None, 3)


@pytest.mark.parametrize("fields", [{"n": 0}, {"comparisons": -1}, {"threshold": -2}, {"embed": "minilm"}])
def test_fields_that_make_no_sense_are_refused(fields):
    with pytest.raises(SpecError):
        SemanticConsistency(**fields)
