"""Guarantees of scorers that ask a model about its own answers."""

import math
from dataclasses import replace

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget, Cost, Ledger
from thinkscale.engines.protocol import Capability
from thinkscale.engines.scripted import EVERYTHING, Line, Scripted
from thinkscale.engines.tabular import Tabular
from thinkscale.errors import CapabilityError, EngineError
from thinkscale.methods.best_of_n import BestOfN
from thinkscale.registry import parse
from thinkscale.scorers.p_true import PTrue
from thinkscale.scorers.self_calibration import SelfCalibration
from thinkscale.scorers.verbalised_confidence import VerbalisedConfidence
from thinkscale.session import Place, Run, Session
from thinkscale.types import Answer, Finish, Origin, Problem, Sampling, Segment, Stopped, Trace

PROBLEM = Problem.of("2 + 2?")
ASKERS = [PTrue(), SelfCalibration(), VerbalisedConfidence()]
IMPOSSIBLE = -1e5


def said(text, path=(0,), answer=None, finish=Finish.eos):
    segment = Segment(text=text, origin=Origin.sampled, tokens=len(text.split()))
    answer = Answer(answer, answer) if answer else None
    return Trace(prompt=PROBLEM.messages, segments=(segment,), path=path, answer=answer, finish=finish)


def session(engine, budget=None):
    return Session(Place(engine=engine, ledger=Ledger(budget or Budget()), run=Run(), sampling=Sampling(max_tokens=9)))


def spelled(chances):
    """An engine that gives each spelling of a reply this log-probability, and no other any chance."""
    return Scripted(lambda cue: Line(logprob=chances.get(cue.continuation, IMPOSSIBLE)))


async def values(scorer, *traces, llm):
    return [s.value for s in await scorer.score(PROBLEM, traces, llm)]


async def test_p_true_of_the_worked_example_is_normalised():
    llm = session(spelled({" A": -0.2231, " B": -2.3026}))
    assert await values(PTrue(), said("It is 4.", answer="4"), llm=llm) == [pytest.approx(0.8889, abs=1e-4)]


async def test_all_spellings_of_an_option_count_and_nothing_that_contains_one():
    chances = {"A": math.log(0.1), " A": math.log(0.2), "(A": math.log(0.3), " B": math.log(0.2), " Also": -0.01}
    llm = session(spelled(chances))
    assert await values(PTrue(), said("4", answer="4"), llm=llm) == [pytest.approx(0.75)]
    chances = {" Yes": math.log(0.3), "No": math.log(0.1), " Not": -0.01, " Now": -0.01}
    assert await values(SelfCalibration(), said("4"), llm=session(spelled(chances))) == [pytest.approx(0.75)]


async def test_an_option_that_is_impossible_either_way_is_no_judgement():
    llm = session(spelled({}))
    assert await values(PTrue(), said("4", answer="4"), llm=llm) == [-math.inf]
    assert await values(SelfCalibration(), said("4"), llm=llm) == [-math.inf]


async def test_p_true_shows_the_answers_of_the_pool_in_draw_order():
    engine = spelled({" A": -1.0, " B": -1.0})
    traces = [said("4", (2,), "4"), said("5", (0,), "5"), said("4", (1,), "4"), said("?", (3,))]
    scores = await values(PTrue(ideas=2), *traces, llm=session(engine))
    assert scores == [0.5, 0.5, 0.5, -math.inf]
    prompts = list(dict.fromkeys(cue.prompt for cue in engine.cues))
    assert len(engine.cues) == 12, "equal answers are asked about once"
    assert all("Question: 2 + 2?\nBrainstormed answer: 5\nBrainstormed answer: 4\nPossible" in p for p in prompts)
    assert [p.split("Possible answer: ")[1][0] for p in prompts] == ["5", "4"]
    assert {cue.prompt for cue in engine.cues if cue.prefix} == set()


async def test_p_true_without_ideas_and_with_examples():
    engine = spelled({" A": -1.0})
    await values(PTrue(ideas=0, examples="Question: 1 + 1?\n…is: A\n"), said("4", answer="4"), llm=session(engine))
    assert engine.cues[0].prompt.startswith("Question: 1 + 1?\n…is: A\n\nQuestion: 2 + 2?\nPossible answer: 4\n")


async def test_self_calibration_continues_the_answer_itself():
    engine = spelled({" Yes": math.log(0.6), " No": math.log(0.2)})
    trace = said("So 4.").inject(" Wait,")
    segments = (*trace.segments, replace(trace.segments[0], text=" yes 4."))
    whole = replace(trace, segments=segments, finish=Finish.eos).inject(" Final")
    assert await values(SelfCalibration(), whole, llm=session(engine)) == [pytest.approx(0.75)]
    assert {cue.prefix for cue in engine.cues} == {"So 4. Wait, yes 4.\n\nIs this answer correct? (Yes/No)\nReply:"}
    assert {cue.continuation for cue in engine.cues} == {" Yes", "Yes", " No", "No"}


async def test_self_calibration_is_exact_where_probabilities_are_known():
    table = {"": {" Yes": 0.3, "Yes": 0.1, " No": 0.15, "No": 0.05, "4": 0.2, "<end>": 0.2}, "4": {"<end>": 1.0}}
    assert await values(SelfCalibration(), said("4"), llm=session(Tabular(table))) == [pytest.approx(0.4 / 0.6)]


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("85", 0.85),
        ("Confidence: 85%.", 0.85),
        ("I first said 20, now 62.5", 0.625),
        ("90/100", 0.9),
        ("7 out of 100", 0.07),
        ("7 out of 10", 0.7),
        ("I would say 3/4.", 0.75),
        ("0.85", 0.85),
        (".5", 0.5),
        ("0.5%", 0.005),
        ("1", 0.01),
        ("1.0", 1.0),
        ("9 out of 0", -math.inf),
        ("12/10", -math.inf),
        ("100", 1.0),
        ("0", 0.0),
        ("quite sure", -math.inf),
        ("120", -math.inf),
        ("-5", -math.inf),
        ("", -math.inf),
    ],
)
async def test_verbalised_confidence_is_the_last_number_of_the_reply(reply, value):
    llm = session(Scripted([Line(says=reply)]))
    assert await values(VerbalisedConfidence(), said("It is 4."), llm=llm) == [value]


async def test_a_number_in_which_the_reply_was_cut_off_is_none():
    says = {"a": "I would say 8", "b": "70 or"}
    llm = session(Scripted(lambda cue: Line(says=says[cue.prompt.split("\n")[3]], finish=Finish.length)))
    assert await values(VerbalisedConfidence(), said("a"), said("b", (1,)), llm=llm) == [-math.inf, 0.7]


async def test_verbalised_confidence_shows_question_and_attempt_and_asks_once_for_equal_ones():
    engine = Scripted(lambda cue: "80" if "five" in cue.prompt else "30")
    traces = [said("five", (1,)), said("four", (0,)), said("five", (2,)).inject(" Wait")]
    assert await values(VerbalisedConfidence(), *traces, llm=session(engine)) == [0.8, 0.3, 0.8]
    assert sorted(("four" in c.prompt, "five" in c.prompt) for c in engine.cues) == [(False, True), (True, False)]
    assert all("2 + 2?" in c.prompt and c.sampling.temperature == 0 for c in engine.cues)


@pytest.mark.parametrize("scorer", ASKERS, ids=repr)
async def test_what_cannot_be_judged_costs_nothing(scorer):
    engine = Scripted()
    traces = [
        Trace(prompt=PROBLEM.messages),
        said("4", finish=Finish.error),
        said("4", finish=Finish.aborted),
        said("  \n"),
        Trace(prompt=PROBLEM.messages).inject("ours"),
    ]
    assert await values(scorer, *traces, llm=session(engine)) == [-math.inf] * len(traces)
    assert await scorer.score(PROBLEM, [], session(engine)) == []
    assert not engine.cues


@pytest.mark.parametrize("scorer", ASKERS, ids=repr)
async def test_the_ceiling_covers_what_judging_costs(scorer):
    engine = Scripted(lambda _: "word " * 99)
    llm = session(engine)
    await scorer.score(PROBLEM, [said("4", answer="4")], llm)
    spent = Cost(tokens=llm.place.ledger.spent.output_tokens, calls=llm.place.ledger.spent.calls)
    assert spent == scorer.ceiling(9)
    assert BestOfN(n=3, scorer=scorer).ceiling(9) == (Cost(tokens=9, calls=1) + scorer.ceiling(9)) * 3


@pytest.mark.parametrize("scorer", ASKERS, ids=repr)
async def test_a_judge_that_fails_leaves_no_score(scorer):
    llm = session(Scripted(lambda _: Line(fails=EngineError("the judge is gone"))))
    assert await values(scorer, said("4", answer="4"), llm=llm) == [-math.inf]
    assert any("the judge is gone" in warning for warning in llm.place.run.warnings)


@pytest.mark.parametrize("name", ["p-true", "self-calibration"])
async def test_an_engine_without_likelihoods_is_refused_before_anything_is_spent(name):
    engine = Scripted(can=EVERYTHING - {Capability.likelihood})
    with pytest.raises(CapabilityError, match="likelihood"):
        await solve(PROBLEM, parse(f"best-of-n(scorer={name})", "method"), engine, budget=Budget())
    assert not engine.cues


async def test_what_the_budget_does_not_reach_is_not_judged():
    engine = Scripted(lambda cue: f"The answer is {cue.number}." if cue.number < 3 else "90")
    method = BestOfN(n=3, scorer=VerbalisedConfidence())
    outcome = await solve(PROBLEM, method, engine, budget=Budget(calls=4))
    judged = [t.path for t in outcome.traces if t.scores[-1].value == 0.9]
    assert (judged, outcome.stopped, len(engine.cues)) == ([(0,)], Stopped.budget, 4)
    assert outcome.best.path == (0,)
