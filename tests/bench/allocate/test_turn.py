"""The turning point of a curve, and the curve of a model whose entropies have a closed form."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.bench.allocate.turn import (
    GRID,
    _mean_entropy,
    plan_temperature,
    renormalised_entropy,
    tempered,
    token_entropy,
    turning_point,
)
from thinkscale.budget import Budget, Ledger
from thinkscale.engines.scripted import Scripted
from thinkscale.engines.tabular import END, START, Tabular
from thinkscale.errors import BenchError, CapabilityError, EngineError
from thinkscale.session import Place, Run, Session
from thinkscale.types import Logprobs, LogprobSpace, Problem

EXAMPLE = [-3.0, -2.8, -2.62, -2.46, -2.32, -2.20, -2.10, -2.01, -1.85, -1.60, -1.25, -0.80, -0.25, 0.40]
PROBLEMS = [Problem.of("2 + 2?"), Problem.of("2 + 3?")]
TAIL = {START: {"sure": 0.6, "maybe": 0.396, **{f"noise{i}": 1e-5 for i in range(400)}}, "sure": {END: 1.0}}


def chain(table):
    """A table whose tokens without a row end the turn."""
    after = {t for row in table.values() for t in row} - {END}
    return Tabular({**{t: {END: 1.0} for t in after}, **table})


def entropy_at(row, temperature):
    weights = [p ** (1 / temperature) for p in row.values()]
    return -math.fsum(w / math.fsum(weights) * math.log(w / math.fsum(weights)) for w in weights)


class RawOnly(Tabular):
    """Gives log-probabilities of the raw distribution, whatever was asked for."""

    def stream(self, request, abort=None):
        sampling = replace(request.sampling, logprob_space=LogprobSpace.raw)
        return super().stream(replace(request, sampling=sampling), abort)


def test_the_example_turns_at_seven_tenths():
    found = turning_point(GRID, EXAMPLE)
    assert (found.temperature, found.for_majority, found.for_best_of_n) == (0.7, 0.7, 0.8)
    assert [p.temperature for p in found.curve] == pytest.approx([0.1 * i for i in range(1, 15)])


def test_a_second_derivative_is_two_central_differences_and_not_one_of_second_order():
    curve = turning_point(GRID, EXAMPLE).curve
    for i in range(2, 12):
        wide = (EXAMPLE[i + 2] - 2 * EXAMPLE[i] + EXAMPLE[i - 2]) / (4 * 0.1**2)
        assert curve[i].curvature == pytest.approx(wide)
    narrow = [EXAMPLE[i + 1] - 2 * EXAMPLE[i] + EXAMPLE[i - 1] for i in range(1, 13)]
    assert next(GRID[i + 1] for i, c in enumerate(narrow) if c > 0) == 0.8


@pytest.mark.parametrize("curve", [lambda t: -(t**2), lambda t: 3 * t - 1], ids=["concave", "straight"])
def test_a_curve_that_never_turns_has_its_turn_at_the_last_point_inside(curve):
    assert turning_point(GRID, [curve(t) for t in GRID]).temperature == 1.3


@given(st.integers(3, 12), st.floats(-3, 3), st.floats(-3, 3))
def test_a_straight_line_added_to_the_curve_moves_no_turn(turn, slope, level):
    curve = [-((t - GRID[turn]) ** 2) if t < GRID[turn] else 5 * (t - GRID[turn]) for t in GRID]
    tilted = [y + slope * t + level for t, y in zip(GRID, curve, strict=True)]
    assert turning_point(GRID, tilted).temperature == turning_point(GRID, curve).temperature


def test_entropy_is_that_of_the_released_code_and_the_renormalised_one_is_there_beside_it():
    kept = [math.log(p) for p in (0.6, 0.2, 0.1)]
    assert token_entropy(kept) == pytest.approx(0.954046, abs=5e-7)
    assert renormalised_entropy(kept) == pytest.approx(0.848686, abs=5e-7)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=8), st.floats(0.1, 2))
def test_over_a_whole_vocabulary_both_entropies_are_one_and_temperature_is_exact(weights, temperature):
    row = {str(i): w / math.fsum(weights) for i, w in enumerate(weights)}
    lp = [math.log(p) for p in row.values()]
    assert token_entropy([*lp, -math.inf]) == pytest.approx(renormalised_entropy(lp), abs=1e-9)
    assert token_entropy(tempered(lp, temperature)) == pytest.approx(entropy_at(row, temperature), abs=1e-9)


@pytest.mark.parametrize("model", [Tabular, RawOnly])
async def test_the_curve_of_a_model_is_its_closed_form_and_grows_with_temperature(model):
    engine = model()
    found = await plan_temperature(engine, PROBLEMS, samples=4)
    # Every turn is three tokens, of which one is free.
    exact = [entropy_at(engine.row("The answer is"), t) / 3 for t in GRID]
    measured = [math.exp(p.log_entropy) for p in found.curve]
    assert measured == pytest.approx(exact)
    assert all(np.diff(measured) > 0)
    assert found.temperature == turning_point(GRID, list(map(math.log, exact))).temperature
    assert (found.usage.calls, found.usage.output_tokens) == (14 * 4, 14 * 4 * 3)


async def test_a_model_with_a_long_tail_turns_where_its_closed_form_does():
    engine = chain(TAIL)
    found = await plan_temperature(engine, PROBLEMS[:1], samples=2, top=500)
    closed = [math.log(entropy_at(TAIL[START], t) / 2) for t in GRID]
    assert [p.log_entropy for p in found.curve] == pytest.approx(closed)
    assert 0.3 < found.temperature == turning_point(GRID, closed).temperature < 1.3


async def test_every_problem_weighs_the_same_and_no_more_of_them_are_asked_than_there_are_samples():
    ledger = Ledger(Budget())
    many = [Problem.of(f"{i}?") for i in range(9)]
    session = Session(Place(engine=Tabular(), ledger=ledger, run=Run()))
    found = await plan_temperature(session, many, (0.5, 1.0, 1.5), samples=5)
    assert found.usage.calls == ledger.spent.calls == 15


def test_a_position_without_alternatives_is_no_position_of_entropy_0():
    even = ((0, math.log(0.5)), (1, math.log(0.5)))
    signals = Logprobs(space=LogprobSpace.processed, chosen=(0.0, 0.0), top=((), even))
    assert _mean_entropy(signals, 1.0) == pytest.approx(math.log(2))


async def test_what_makes_a_curve_impossible_is_said():
    with pytest.raises(CapabilityError, match="`top-logprobs`"):
        await plan_temperature(Scripted(["a"], can=frozenset()), PROBLEMS)
    with pytest.raises(BenchError, match="give at least one"):
        await plan_temperature(Tabular(), [])
    with pytest.raises(BenchError, match=r"temperature `0.1` is `-inf`"):
        await plan_temperature(chain({START: {"a": 1.0}}), PROBLEMS, samples=2)
    spent = Session(Place(engine=Tabular(), ledger=Ledger(Budget(calls=2)), run=Run()))
    with pytest.raises(EngineError, match=r"at temperature `0.2`: the budget was spent"):
        await plan_temperature(spent, PROBLEMS, samples=2)
    ledger = Ledger(Budget())
    untouched = Session(Place(engine=Tabular(), ledger=ledger, run=Run()))
    for grid in ((0.5, 1.0), (0.0, 0.5, 1.0), (1.0, 0.5, 1.5)):
        with pytest.raises(BenchError, match="3 or more above 0, in increasing order"):
            await plan_temperature(untouched, PROBLEMS, grid)
    assert ledger.spent.calls == 0
    with pytest.raises(BenchError, match="3 or more above 0, in increasing order"):
        turning_point([0.1, 0.1, 0.2], [0, 0, 0])
