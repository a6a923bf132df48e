"""Splitting compute between solutions and verifications."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.bench.allocate.solve_verify import Point, best_split, cost, fit_power_law, flops, frontier
from thinkscale.errors import BenchError

POINTS = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 5), st.sampled_from([0.1, 0.2, 0.3, 0.4])), min_size=1, max_size=14
).map(lambda rows: [Point(solutions=s, verifications=v, cost=cost(s, v, 1), accuracy=a) for s, v, a in rows])


@pytest.mark.parametrize(("s", "v", "ratio", "expected"), [(8, 4, 2, 72), (32, 0, 2, 32), (4, 8, 1, 36)])
def test_the_cost_in_solutions(s, v, ratio, expected):
    assert cost(s, v, ratio) == expected


def test_what_is_read_costs_what_is_written_costs():
    assert flops(8e9, 100) == 1.6e12
    assert flops(8e9, 100, 300) == 6.4e12


@given(POINTS)
def test_the_frontier_is_what_no_other_point_dominates(points):
    def dominated(p):
        return any(
            o.cost <= p.cost and o.accuracy >= p.accuracy and (o.cost, o.accuracy) != (p.cost, p.accuracy)
            for o in points
        )

    kept = frontier(points)
    assert sorted(map(repr, kept)) == sorted(repr(p) for p in points if not dominated(p))
    assert [p.cost for p in kept] == sorted(p.cost for p in kept)


@given(POINTS, st.integers(1, 60))
def test_the_best_split_is_the_most_accurate_within_the_budget_and_lies_on_the_frontier(points, budget):
    within = [p for p in points if p.cost <= budget]
    if not within:
        with pytest.raises(BenchError, match="measure cheaper ones"):
            best_split(points, budget)
        return
    best = best_split(points, budget)
    assert best.accuracy == max(p.accuracy for p in within)
    assert best.cost == min(p.cost for p in within if p.accuracy == best.accuracy)
    assert best in frontier(points)


@given(st.floats(0.1, 9), st.floats(-2, 2))
def test_an_exact_power_law_is_found_again(factor, exponent):
    budgets = [4, 8, 16, 64, 256]
    law = fit_power_law(budgets, [factor * b**exponent for b in budgets])
    assert (law.factor, law.exponent) == pytest.approx((factor, exponent), rel=1e-6, abs=1e-9)
    assert law(1024) == pytest.approx(factor * 1024**exponent, rel=1e-6)


def test_fewer_than_four_budgets_and_numbers_without_a_logarithm_are_refused():
    with pytest.raises(BenchError, match="3 budgets: measure at least 4"):
        fit_power_law([1, 2, 4, 4], [1, 2, 3, 3])
    with pytest.raises(BenchError, match="not all positive"):
        fit_power_law([1, 2, 4, 8], [0, 1, 2, 4])
    with pytest.raises(BenchError, match="not all positive"):
        fit_power_law([1, 2, 4, math.inf], [1, 1, 2, 4])
    with pytest.raises(BenchError, match="one value per budget"):
        fit_power_law([1, 2, 4, 8], [1, 2, 4])
