"""Proposals for the next action: which are equal, which wins, and that every voting method counts them."""

import json

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget, Cost
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.errors import SpecError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.methods.tool_call_best_of_n import ToolCallBestOfN
from thinkscale.registry import parse, spec
from thinkscale.scorers.outcome_reward import OutcomeReward
from thinkscale.session import Run
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.stopping.fixed import Fixed
from thinkscale.store import Store
from thinkscale.types import Finish, Message, Problem, Sampling, Score, Stopped

TOOLS = ({"type": "function", "function": {"name": "click", "parameters": {}}},)
PROBLEM = Problem(messages=(Message("user", "Open the file."),), tools=TOOLS)


def click(arguments, says="I click.", **more):
    return Line(says=says, calls=({"type": "function", "function": {"name": "click", "arguments": arguments}},), **more)


PROPOSALS = [
    click('{"x": 9}'),
    click('{"x": 1, "why": "icon"}'),
    click('{"why": "icon", "x": 1.0}', says=""),
    click('{"x": 1, "why": "red"}'),
    click('{"x": 9'),
]


async def run(method, script, **more):
    run = Run(concurrency=1, roles=more.pop("roles", {}))
    engine = script if isinstance(script, Scripted) else Scripted(script)
    return await solve(PROBLEM, method, engine, budget=Budget(), run=run, sampling=Sampling(max_tokens=20), **more)


def arguments(outcome):
    return json.loads(outcome.answer)[0]["arguments"]


async def test_the_most_frequent_calls_win_and_one_that_cannot_be_read_does_not_vote():
    outcome = await run(ToolCallBestOfN(n=5), PROPOSALS)
    assert arguments(outcome) == {"x": 1, "why": "icon"}
    assert [v.count for v in outcome.votes] == [2, 1, 1]
    assert outcome.confidence == pytest.approx(0.4)
    assert outcome.best.segments[-1].tool_calls == PROPOSALS[1].calls


async def test_arguments_that_make_no_difference_are_left_out_of_the_comparison():
    outcome = await run(ToolCallBestOfN(n=5, exclude=("why",)), PROPOSALS)
    assert [v.count for v in outcome.votes] == [3, 1]
    assert arguments(outcome) == {"x": 1, "why": "icon"}


async def test_a_judge_sees_the_calls_as_text_and_picks():
    @spec
    class PrefersNine:
        async def score(self, problem, traces, llm):
            return [Score(value=float('"x":9' in t.text and "I click." in t.text), kind="nine") for t in traces]

    outcome = await run(ToolCallBestOfN(n=5, judge=PrefersNine()), PROPOSALS)
    assert arguments(outcome) == {"x": 9}
    assert [t.scores[-1].value for t in outcome.traces] == [1, 0, 0, 0, 0]
    assert outcome.best.text == "I click."


async def test_a_reward_model_may_be_the_judge():
    rewards = Scripted([Line(rewards=(r,)) for r in (0.1, 0.2, 0.9, 0.3)])
    method = ToolCallBestOfN(n=4, judge=OutcomeReward())
    outcome = await run(method, PROPOSALS, roles={"reward": rewards})
    assert outcome.best.segments[-1].tool_calls == PROPOSALS[2].calls
    assert method.ceiling(10) == Cost(tokens=40, calls=8)


async def test_a_turn_without_calls_votes_for_what_it_says():
    outcome = await run(ToolCallBestOfN(n=3), [click("{}"), "The answer is 5", "The answer is 5"])
    assert outcome.answer == "5"


async def test_every_voting_method_counts_calls_and_stops_when_they_agree():
    outcome = await run(SelfConsistency(n=5, stop=Fixed()), PROPOSALS)
    assert arguments(outcome) == {"x": 1, "why": "icon"}
    outcome = await run(SelfConsistency(n=9, stop=AheadByK(k=2)), PROPOSALS[1:3] * 5)
    assert (outcome.stopped, outcome.votes[0].count) == (Stopped.enough, 2)


async def test_calls_of_a_draw_that_was_cut_or_failed_do_not_vote():
    lines = [click("{}", says="w " * 30), click("{}", finish=Finish.error)]
    assert (await run(ToolCallBestOfN(n=2), lines)).answer is None


async def test_a_repeated_run_finds_the_calls_in_the_store():
    store = Store(":memory:")
    first = await run(ToolCallBestOfN(n=5, exclude=("why",)), PROPOSALS, store=store)
    silent = Scripted(PROPOSALS)
    again = await run(ToolCallBestOfN(n=5, exclude=("why",)), silent, store=store)
    assert silent.cues == []
    assert (again.answer, again.votes) == (first.answer, first.votes)
    store.close()


def test_it_can_be_written_as_a_spec():
    made = parse("tool-call-best-of-n(n=4, judge=outcome-reward, exclude=[why, id])", "method")
    assert made == ToolCallBestOfN(n=4, judge=OutcomeReward(), exclude=("why", "id"))
    with pytest.raises(SpecError):
        ToolCallBestOfN(n=0)
