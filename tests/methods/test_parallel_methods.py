"""The methods that draw several attempts: single, self-consistency and best-of-n."""

import math
from itertools import product

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget, Cost
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.engines.tabular import Tabular
from thinkscale.errors import CapabilityError, SpecError
from thinkscale.methods.best_of_n import BestOfN
from thinkscale.methods.budget_forcing import BudgetForcing
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.methods.single import Single
from thinkscale.scorers.length import Length
from thinkscale.scorers.mean_logprob import MeanLogprob
from thinkscale.selection.majority import Majority
from thinkscale.session import Run
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.stopping.fixed import Fixed
from thinkscale.types import Finish, Problem, Sampling, Stopped

PROBLEM = Problem.of("2 + 2?")
EXAMPLE = [("A", 0.3), ("B", 0.9), ("A", 0.4), ("C", 0.95), ("B", 0.1)]
NUMBERS = {"A": 1, "B": 2, "C": 3}


def said(*answers):
    return [Line(says=f"The answer is {a}", pace=None) for a in answers]


async def solved(method, script, budget=None, run=None):
    engine = script if isinstance(script, Tabular) else Scripted(script)
    sampling = Sampling(max_tokens=50)
    return await solve(PROBLEM, method, engine, budget=budget or Budget(), run=run, sampling=sampling)


async def test_single_is_one_greedy_call():
    engine = Tabular()
    outcome = await solved(Single(), engine)
    assert (outcome.answer, outcome.usage.calls, outcome.confidence, outcome.stopped) == ("4", 1, None, Stopped.done)


async def test_greedy_attempts_are_all_the_same_so_one_is_drawn_and_there_is_no_confidence():
    engine = Scripted(lambda _: "The answer is 4.")
    outcome = await solve(PROBLEM, SelfConsistency(n=16, temperature=0.0), engine, budget=Budget())
    assert (outcome.answer, outcome.usage.calls, outcome.confidence) == ("4", 1, None)
    assert any("temperature 0" in warning for warning in outcome.warnings)
    through = SelfConsistency(n=3, temperature=0.0, by=Single(temperature=0.5), stop=Fixed())
    assert (await solve(PROBLEM, through, engine, budget=Budget())).usage.calls == 3


async def test_the_worked_example_has_its_two_different_winners():
    lines = [Line(says=f"The answer is {NUMBERS[a]}", logprob=math.log(score)) for a, score in EXAMPLE]
    vote = await solved(SelfConsistency(n=5, stop=Fixed()), list(lines))
    assert (vote.answer, vote.confidence) == ("1", 0.4)
    best = await solved(BestOfN(n=5, scorer=MeanLogprob()), list(lines))
    assert best.answer == "3"
    assert [round(math.exp(t.scores[0].value), 9) for t in best.traces] == [s for _, s in EXAMPLE]


@pytest.mark.parametrize(("n", "chance"), [(1, 0.5), (2, 0.5), (3, 0.56), (5, 0.6125)])
async def test_the_vote_of_n_wins_as_often_as_its_closed_form_says(n, chance):
    total = 0.0
    for draws in product((0, 1, 2), repeat=min(n, 3)):
        if n > 3:
            break
        outcome = await solved(SelfConsistency(n=n, stop=Fixed()), said(*draws))
        total += math.prod((0.5, 0.3, 0.2)[d] for d in draws) * (outcome.answer == "0")
    if n <= 3:
        assert total == pytest.approx(chance)
    else:
        wins = [
            (await solved(SelfConsistency(n=n, stop=Fixed()), Tabular(), run=Run(seed=s))).answer for s in range(400)
        ]
        assert wins.count("4") / 400 == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / 400))


async def test_it_stops_as_soon_as_the_vote_is_clear():
    outcome = await solved(SelfConsistency(n=16, stop=AheadByK(k=2)), said(*[4] * 16), run=Run(concurrency=1))
    assert (outcome.answer, outcome.stopped) == ("4", Stopped.enough)
    assert outcome.votes[0].count == 2


async def test_a_rule_that_fires_on_the_last_draw_saved_nothing():
    outcome = await solved(SelfConsistency(n=3, stop=AheadByK(k=3)), said(4, 4, 4))
    assert outcome.stopped is Stopped.done


async def test_an_answer_by_any_other_spelling_votes_the_same():
    outcome = await solved(SelfConsistency(n=3, stop=Fixed()), said("0.5", "7", r"\frac{1}{2}"))
    assert (outcome.answer, outcome.votes[0].count) == ("0.5", 2)


async def test_nobody_answering_is_no_answer_and_not_a_crash():
    for method in (SelfConsistency(n=3), BestOfN(n=3), BestOfN(n=3, scorer=Length())):
        outcome = await solved(method, ["I do not know"] * 3)
        assert (outcome.answer, outcome.confidence, outcome.votes) == (None, None, ())


async def test_the_best_of_n_can_be_chosen_by_vote_instead():
    lines = said(1, 1, 2)
    outcome = await solved(BestOfN(n=3, scorer=Length(), select=Majority()), lines)
    assert outcome.answer == "1"
    assert len(outcome.traces[0].scores) == 1


async def test_equal_scores_go_to_the_first_attempt():
    assert (await solved(BestOfN(n=3, scorer=Length()), said(7, 8, 9))).best.path == (0,)


@pytest.mark.parametrize("method", [BestOfN(n=3), SelfConsistency(n=3, stop=Fixed())], ids=repr)
async def test_one_failed_attempt_stays_in_the_pool_and_does_not_vote(method):
    lines = [*said(4), Line(says="The answer is 9", finish=Finish.error), *said(4)]
    outcome = await solved(method, lines)
    assert (outcome.answer, outcome.votes[0].count, len(outcome.traces)) == ("4", 2, 3)
    assert outcome.confidence == pytest.approx(2 / 3)
    assert outcome.warnings[0].startswith("1 of 3 attempts failed")


async def test_attempts_may_be_drawn_by_another_method():
    method = BestOfN(n=3, by=BudgetForcing(waits=1, max_thinking=20), scorer=Length())
    outcome = await solved(method, lambda cue: "a b" if not cue.prefix.endswith(":") else f" {cue.seed % 3}")
    assert len(outcome.traces) == 3
    assert outcome.usage.calls == 9
    assert all("Wait" in t.text for t in outcome.traces)
    assert len({t.path for t in outcome.traces}) == 3


async def test_what_a_nested_part_needs_is_needed_by_the_whole():
    for method in (SelfConsistency(by=BudgetForcing()), BestOfN(), BestOfN(scorer=Length(), by=BestOfN())):
        with pytest.raises(CapabilityError):
            await solve(PROBLEM, method, Scripted(can=frozenset()), budget=Budget())


def test_the_ceiling_of_a_nest_is_that_of_all_its_calls():
    assert SelfConsistency(n=4).ceiling(100) == Cost(tokens=400, calls=4)
    assert BestOfN(n=2, by=SelfConsistency(n=4)).ceiling(100) == Cost(tokens=800, calls=8)
    assert SelfConsistency(n=2, by=BudgetForcing(waits=1, max_thinking=10)).ceiling(100) == Cost(tokens=220, calls=6)
    assert Single(max_tokens=7).ceiling(100) == Cost(tokens=7, calls=1)


@pytest.mark.parametrize("method", [SelfConsistency, BestOfN])
def test_at_least_one_attempt_is_made(method):
    with pytest.raises(SpecError):
        method(n=0)
