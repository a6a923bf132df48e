"""The scorers that ask a reward model: what it is shown, what its numbers become, and what a budget leaves of them."""

import gzip
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget, Cost, Ledger
from thinkscale.engines.protocol import Capability, ThinkFormat
from thinkscale.engines.replay import Replay
from thinkscale.engines.scripted import EVERYTHING, Line, Scripted
from thinkscale.errors import CapabilityError, EngineError, SpecError
from thinkscale.methods.best_of_n import BestOfN
from thinkscale.needs import needs_of
from thinkscale.registry import parse
from thinkscale.scorers.length import Length
from thinkscale.scorers.outcome_reward import OutcomeReward
from thinkscale.scorers.process_reward import ProcessReward
from thinkscale.session import Place, Run, Session
from thinkscale.testing import BUDGETS, PROBLEM
from thinkscale.types import Finish, Origin, Problem, Sampling, Segment, Stopped, Trace

MUTE = EVERYTHING - {Capability.rewards}
TAGS = ThinkFormat(open="<think>", close="</think>")


def said(text, *more, **fields):
    """A trace of a sampled text and further segments: (text, origin)."""
    parts = [(text, Origin.sampled), *more]
    segments = tuple(Segment(text=t, origin=o, tokens=len(t.split())) for t, o in parts)
    return Trace(prompt=PROBLEM.messages, segments=segments, finish=fields.pop("finish", Finish.eos), **fields)


def judge(rewards=None):
    """A reward model that gives every step the number it names, or what it is told to."""
    return Scripted(lambda cue: Line(rewards=rewards or tuple(map(_named, cue.steps))), can=frozenset({"rewards"}))


def _named(step):
    return next((float(word) for word in step.split() if word.replace(".", "").replace("-", "").isdigit()), 0.0)


def session(reward, think=None, budget=None):
    run = Run(roles={"reward": reward})
    return Session(
        Place(
            engine=Scripted(can=MUTE, think=think),
            ledger=Ledger(budget or Budget()),
            run=run,
            sampling=Sampling(max_tokens=9),
        )
    )


async def test_an_outcome_reward_is_that_of_the_whole_answer():
    reward = judge()
    llm = session(reward)
    scores = await OutcomeReward().score(PROBLEM, [said("0.25 yes\n\nno"), said("-7 yes")], llm)
    assert [s.value for s in scores] == [0.25, -7.0]
    assert {s.kind for s in scores} == {"outcome-reward"}
    assert {c.steps for c in reward.cues} == {("0.25 yes\n\nno",), ("-7 yes",)}
    assert [c.prompt for c in reward.cues] == [PROBLEM.question] * 2
    assert (llm.place.ledger.spent.calls, llm.place.ledger.spent.output_tokens) == (2, 0)


@pytest.mark.parametrize(
    ("reduce", "value"), [("last", 0.9), ("min", 0.2), ("mean", 1.6 / 3), ("prod", 0.09), ("mean-logit", 0.5672)]
)
async def test_a_process_reward_keeps_the_scores_of_the_steps_and_reduces_them(reduce, value):
    reward = judge()
    [score] = await ProcessReward(reduce=reduce).score(PROBLEM, [said("0.5 a\n\n0.2 b\n\n0.9 c")], session(reward))
    assert score.steps == (0.5, 0.2, 0.9)
    assert score.value == pytest.approx(value, abs=1e-4)
    assert score.kind == "process-reward"
    assert reward.cues[0].steps == ("0.5 a\n\n", "0.2 b\n\n", "0.9 c")


async def test_another_mark_ends_other_steps():
    reward = judge()
    await ProcessReward(mark="\n").score(PROBLEM, [said("1 a\n2 b")], session(reward))
    assert reward.cues[0].steps == ("1 a\n", "2 b")


@pytest.mark.parametrize(
    ("spec", "words"), [("process-reward(reduce=max)", "no way"), ('process-reward(mark="")', "`mark`")]
)
def test_a_reduction_or_a_mark_that_makes_no_sense_is_refused(spec, words):
    with pytest.raises(SpecError, match=words):
        parse(spec, "scorer")


async def test_logits_are_not_multiplied_and_the_reader_is_told():
    llm = session(judge())
    [score] = await ProcessReward(reduce="prod").score(PROBLEM, [said("0.5 a\n\n-3 b")], llm)
    assert (score.value, score.steps) == (-math.inf, (0.5, -3.0))
    assert any("-3 is no probability" in warning for warning in llm.place.run.warnings)


@pytest.mark.parametrize("scorer", [OutcomeReward(), ProcessReward()], ids=repr)
async def test_what_cannot_be_judged_scores_minus_infinity_and_costs_nothing(scorer):
    reward = judge()
    traces = [
        Trace(prompt=PROBLEM.messages),
        said("1 a", finish=Finish.error),
        said("1 a", finish=Finish.aborted),
        said("  \n"),
        Trace(prompt=PROBLEM.messages).inject("0.5 ours"),
    ]
    assert [s.value for s in await scorer.score(PROBLEM, traces, session(reward))] == [-math.inf] * len(traces)
    assert await scorer.score(PROBLEM, [], session(reward)) == []
    assert not reward.cues


async def test_text_injected_before_the_models_words_is_shown_and_after_them_is_not():
    reward = judge()
    trace = said("0.5 so", (" Wait,", Origin.injected), (" it is 4", Origin.sampled), (" Final", Origin.injected))
    await OutcomeReward().score(PROBLEM, [trace], session(reward))
    assert reward.cues[0].steps == ("0.5 so Wait, it is 4",)


async def test_the_thinking_of_a_model_that_marks_it_is_not_judged():
    reward = judge()
    traces = [said("<think>0.1 hm\n\nhm</think>\n\n0.9 is it"), said("0.8 at once"), said("<think>0.1 hm</think>")]
    scores = await ProcessReward().score(PROBLEM, traces, session(reward, think=TAGS))
    assert [s.value for s in scores] == [0.9, 0.8, -math.inf]
    assert {c.steps for c in reward.cues} == {("0.9 is it",), ("0.8 at once",)}
    await OutcomeReward().score(PROBLEM, [said("2 plain Final Answer: 4")], session(reward))
    assert reward.cues[-1].steps == ("2 plain Final Answer: 4",), "a model without markers has no thinking to leave out"


async def test_a_failing_reward_model_leaves_no_score_and_a_warning():
    reward = Scripted(lambda _: Line(fails=EngineError("the judge is gone")), can=frozenset({Capability.rewards}))
    llm = session(reward)
    [score] = await OutcomeReward().score(PROBLEM, [said("1 a")], llm)
    assert score.value == -math.inf
    assert any("the judge is gone" in warning for warning in llm.place.run.warnings)


async def test_the_budget_leaves_the_first_traces_judged():
    llm = session(judge(), budget=Budget(calls=2))
    scores = await OutcomeReward().score(PROBLEM, [said(f"{k} a") for k in (3, 1, 2)], llm)
    assert [s.value for s in scores] == [3.0, 1.0, -math.inf]
    assert llm.exhausted


@pytest.mark.parametrize("scorer", ["outcome-reward", "process-reward"])
async def test_a_role_without_a_reward_model_is_refused_before_anything_is_spent(scorer):
    method = parse(f"self-consistency(n=2, by=best-of-n(n=2, scorer={scorer}))", "method")
    assert needs_of(method).roles == {"reward": frozenset({Capability.rewards})}
    for roles in ({}, {"reward": Scripted(can=MUTE)}):
        writer = Scripted(can=MUTE)
        with pytest.raises(CapabilityError, match=r"the role `reward` needs `rewards`, which .* `--model …,reward=…`"):
            await solve(PROBLEM, method, writer, budget=Budget(), run=Run(roles=roles))
        assert not writer.cues


def test_the_ceiling_of_best_of_n_counts_what_judging_takes():
    assert BestOfN(n=4, scorer=OutcomeReward()).ceiling(100) == Cost(tokens=400, calls=8)
    assert BestOfN(n=4, scorer=ProcessReward()).ceiling(100) == Cost(tokens=400, calls=8)
    assert BestOfN(n=4, scorer=Length()).ceiling(100) == Cost(tokens=400, calls=4)


@pytest.mark.parametrize("budget", BUDGETS, ids=str)
@pytest.mark.parametrize("concurrency", [1, None])
async def test_best_of_n_returns_the_best_answer_that_any_budget_bought(budget, concurrency):
    reward = judge()
    lines = [f"{quality} good. The answer is {answer}." for quality, answer in ((0.5, 7), (0.1, 8), (0.9, 9), (0.2, 8))]
    writer = Scripted(lines * 9, can=MUTE)
    run = Run(roles={"reward": reward}, concurrency=concurrency)
    outcome = await solve(
        PROBLEM,
        BestOfN(n=4, scorer=OutcomeReward()),
        writer,
        budget=budget,
        run=run,
        sampling=Sampling(max_tokens=9),
    )
    calls, tokens = len(writer.cues) + len(reward.cues), writer.spent.output_tokens
    assert (outcome.usage.calls, outcome.usage.output_tokens) == (calls, tokens)
    assert calls <= (budget.calls or math.inf)
    assert tokens <= (budget.tokens or math.inf)
    judged = [t for t in outcome.traces if t.scores and math.isfinite(t.scores[-1].value) and t.answer]
    if judged:
        assert outcome.best == max(judged, key=lambda t: t.scores[-1].value)
    if any(t.answer for t in outcome.traces):
        assert outcome.answer is not None
    if budget.calls and budget.calls < 8:
        assert outcome.stopped is Stopped.budget


async def test_where_nothing_could_be_judged_the_vote_decides():
    writer = Scripted([f"The answer is {k}." for k in (1, 2, 2)], can=MUTE)
    outcome = await solve(
        PROBLEM,
        BestOfN(n=3, scorer=OutcomeReward()),
        writer,
        budget=Budget(calls=3),
        run=Run(roles={"reward": judge()}),
    )
    assert (outcome.answer, outcome.stopped) == ("2", Stopped.budget)


async def test_equal_answers_of_other_draws_are_judged_alike():
    reward = judge()
    trace = said("0.5 a")
    scores = await OutcomeReward().score(PROBLEM, [trace, replace(trace, path=(7,))], session(reward))
    assert scores[0] == scores[1]
    assert {c.seed for c in reward.cues} == {0}


async def test_recorded_step_scores_are_those_of_the_steps_that_the_scorer_cuts():
    path = Path(__file__).parents[1] / "data" / "recorded" / "llama32_3b_beam_2x4.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        problem = Problem.of(row.get("question") or row["prompt"])
        method = parse("best-of-n(n=4, scorer=process-reward)", "method")
        outcome = await solve(problem, method, Replay(path), budget=Budget(), sampling=Sampling(max_tokens=4000))
        assert [t.scores[-1].steps for t in outcome.traces] == [tuple(s["step_scores"]) for s in row["samples"]]
        assert [t.scores[-1].value for t in outcome.traces] == [s["agg_score_last"] for s in row["samples"]]
        assert outcome.usage.calls == 8
