"""The weighted ensemble of models: who is asked, how votes are weighed, and who must be there."""

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget, Cost
from thinkscale.engines.protocol import Price
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.errors import CapabilityError, SettingsError, SpecError
from thinkscale.methods.budget_forcing import BudgetForcing
from thinkscale.methods.ensemble import Ensemble
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.methods.single import Single
from thinkscale.registry import parse
from thinkscale.session import Run
from thinkscale.stopping.fixed import Fixed
from thinkscale.types import Problem, Sampling, Stopped

PROBLEM = Problem.of("2 + 2?")


def says(*answers, **more):
    return Scripted([f"The answer is {a}" if a is not None else "I do not know" for a in answers], **more)


async def run(method, budget=None, main=None, **roles):
    run = Run(roles=roles, concurrency=1)
    engine = main or Scripted([])
    return await solve(PROBLEM, method, engine, budget=budget or Budget(), run=run, sampling=Sampling(max_tokens=10))


def weights(outcome):
    return {v.answer: v.weight for v in outcome.votes}


async def test_shares_are_weighed_and_the_heaviest_answer_wins():
    a, b = says(4, 4, 5, 4), says(5, 5, 5, 6)
    outcome = await run(Ensemble(models=("a", "b"), weights=(0.3, 0.7), n=4), a=a, b=b)
    assert outcome.answer == "5"
    assert weights(outcome) == pytest.approx({"5": 0.3 * 0.25 + 0.7 * 0.75, "4": 0.3 * 0.75, "6": 0.7 * 0.25})
    assert sum(len(e.cues) for e in (a, b)) == outcome.usage.calls == 8


async def test_other_weights_elect_another_answer():
    for weight, answer in ((0.6, "4"), (0.4, "5")):
        method = Ensemble(models=("a", "b"), weights=(weight, 1 - weight), n=2)
        assert (await run(method, a=says(4, 4), b=says(5, 5))).answer == answer


async def test_without_weights_all_models_count_the_same_and_ties_go_to_the_first():
    outcome = await run(Ensemble(models=("a", "b"), n=1), a=says(4), b=says(5))
    assert (outcome.answer, weights(outcome)) == ("4", {"4": 0.5, "5": 0.5})


async def test_weights_need_not_sum_to_one():
    outcome = await run(Ensemble(models=("a", "b"), weights=(1, 3), n=1), a=says(4), b=says(5))
    assert weights(outcome) == {"5": 0.75, "4": 0.25}


async def test_an_attempt_without_an_answer_stays_in_the_denominator_of_its_model():
    outcome = await run(Ensemble(models=("a", "b"), n=2), a=says(None, 4), b=says(5, 5))
    assert (outcome.answer, weights(outcome)) == ("5", {"5": 0.5, "4": 0.25})


async def test_every_trace_says_which_role_it_came_from():
    outcome = await run(Ensemble(models=("a", "b"), n=2), a=says(4, 4), b=says(5, 5))
    assert [t.scores[-1].note for t in outcome.traces] == ["a", "b", "a", "b"]
    assert len({t.path for t in outcome.traces}) == 4


async def test_a_budget_that_ends_early_has_served_all_models_alike():
    outcome = await run(Ensemble(models=("a", "b"), n=8), Budget(calls=3), a=says(*[4] * 8), b=says(*[5] * 8))
    assert [t.scores[-1].note for t in outcome.traces] == ["a", "b", "a"]
    assert (outcome.stopped, weights(outcome)) == (Stopped.budget, {"4": 0.5, "5": 0.5})


async def test_a_model_of_weight_zero_is_not_asked_nor_missed():
    outcome = await run(Ensemble(models=("a", "b"), weights=(1, 0), n=2), a=says(4, 4))
    assert (outcome.answer, outcome.usage.calls) == ("4", 2)
    assert Ensemble(models=("a", "b"), weights=(1, 0), n=2).ceiling(10) == Cost(tokens=20, calls=2)


async def test_the_model_itself_may_be_one_of_them():
    outcome = await run(Ensemble(models=("main", "b"), weights=(0.6, 0.4), n=1), main=says(4), b=says(5))
    assert outcome.answer == "4"


@pytest.mark.parametrize("nested", [False, True])
async def test_a_role_that_nobody_plays_is_refused_before_anything_is_spent(nested):
    main, a = Scripted([]), Scripted([])
    method = Ensemble(models=("a", "b", "c"), n=1)
    with pytest.raises(SettingsError, match=r"draws from `b`, `c`, and no model plays that role: .*`--model …,b=…`"):
        await run(SelfConsistency(n=2, by=method) if nested else method, main=main, a=a)
    assert main.cues == a.cues == []


async def test_attempts_may_be_drawn_through_a_method_by_the_model_in_the_role():
    method = Ensemble(models=("a", "b"), n=1, by=SelfConsistency(n=3, stop=Fixed()))
    outcome = await run(method, a=says(4, 4, 5), b=says(6, 5, 5))
    assert weights(outcome) == {"4": 0.5, "5": 0.5}
    outcome = await run(Ensemble(models=("a", "b"), n=1, by=Single()), a=says(4), b=says(5))
    assert weights(outcome) == {"4": 0.5, "5": 0.5}


async def test_what_an_attempt_needs_is_needed_of_the_models_in_the_roles_and_not_of_the_model_itself():
    plain, able = Scripted(can=frozenset()), says(4)
    method = Ensemble(models=("a",), n=1, by=BudgetForcing(waits=0))
    with pytest.raises(CapabilityError, match="the role `a` needs `prefill`"):
        await run(method, main=able, a=plain)
    outcome = await run(method, main=plain, a=Scripted(lambda _: "Answer: 4"))
    assert (outcome.answer, plain.cues) == ("4", [])


@pytest.mark.parametrize("usd", [0, 1e-5, 2e-5, 5e-5, 1e-4, 1.0])
async def test_a_dear_model_spends_no_more_money_than_there_is(usd):
    cheap = Scripted(lambda _: Line(says="The answer is 4", pace=0.0), price=Price(output=0.1))
    dear = Scripted(lambda _: Line(says="The answer is 5", pace=0.0), price=Price(output=1.0))
    outcome = await run(Ensemble(models=("main", "b"), n=5), Budget(usd=usd), main=cheap, b=dear)
    assert (outcome.usage.usd or 0) <= usd + 1e-12
    billed = (cheap.spent.output_tokens * 0.1 + dear.spent.output_tokens) / 1e6
    assert (outcome.usage.usd or 0) == pytest.approx(billed)


@pytest.mark.parametrize(
    "fields",
    [
        {"models": ()},
        {"models": ("a", "a")},
        {"models": ("a",), "weights": (1, 2)},
        {"models": ("a",), "weights": (-1,)},
        {"models": ("a", "b"), "weights": (0, 0)},
        {"models": ("a",), "weights": (float("nan"),)},
        {"models": ("a",), "n": 0},
    ],
)
def test_models_and_weights_that_make_no_sense_are_refused(fields):
    with pytest.raises(SpecError):
        Ensemble(**fields)


def test_it_can_be_written_as_a_spec():
    made = parse("ensemble(models=[small, large], weights=[0.25, 0.75], n=4)", "method")
    assert made == Ensemble(models=("small", "large"), weights=(0.25, 0.75), n=4)
