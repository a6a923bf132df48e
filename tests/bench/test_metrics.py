"""Estimators over subsets of a pool: the figures of the papers, and the average over every subset, taken one by one."""

import math
from fractions import Fraction
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.bench.metrics import (
    average_of_n,
    best_at_k,
    g_pass_at_k,
    hypergeometric,
    mg_pass_at_k,
    pass_at_k,
    pass_hat_k,
    s1_metrics,
)
from thinkscale.errors import BenchError


@st.composite
def verdicts(draw):
    pool = draw(st.lists(st.booleans(), min_size=1, max_size=8))
    return pool, draw(st.integers(1, len(pool)))


@st.composite
def scored(draw):
    scores = draw(st.lists(st.sampled_from([-math.inf, 0.0, 1.0, 2.5, 4.0]), min_size=1, max_size=6))
    correct = draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    return scores, correct, draw(st.integers(1, len(scores)))


def over_subsets(pool, k, of):
    found = [of(subset) for subset in combinations(pool, k)]
    return sum(found) / len(found)


@pytest.mark.parametrize(("n", "c", "k", "expected"), [(5, 2, 2, 0.7), (10, 3, 5, 0.916667), (4, 3, 2, 1.0)])
def test_pass_at_k_has_the_published_values(n, c, k, expected):
    assert pass_at_k([c], [n], k)[0] == pytest.approx(expected, abs=5e-7)


def test_the_plug_in_is_lower_than_the_estimator():
    plug_in = 1 - (1 - 3 / 10) ** 5
    assert plug_in == pytest.approx(0.83193, abs=5e-6)
    assert pass_at_k([3], [10], 5)[0] > plug_in


def test_pass_hat_k_has_its_value():
    assert pass_hat_k([7], [10], 3)[0] == pytest.approx(0.291667, abs=5e-7)


@pytest.mark.parametrize(
    ("c", "at", "mg"), [(8, (0.715385, 0.284615, 0.038462), 0.161538), (12, (0.973077, 0.755495, 0.271978), 0.513736)]
)
def test_g_pass_at_k_has_the_published_values(c, at, mg):
    assert [g_pass_at_k([c], [16], 4, tau)[0] for tau in (0.5, 0.75, 1.0)] == pytest.approx(at, abs=5e-7)
    assert mg_pass_at_k([c], [16], 4)[0] == pytest.approx(mg, abs=5e-7)
    assert mg_pass_at_k([c], [16], 1)[0] == 0


def test_a_threshold_that_is_a_whole_number_of_draws_loses_none_to_rounding():
    assert math.ceil(0.07 * 100) == 8
    assert g_pass_at_k([7], [100], 100, 0.07)[0] == pytest.approx(1)


@given(verdicts())
def test_the_closed_forms_are_means_over_all_subsets(drawn):
    pool, k = drawn
    c, n = sum(pool), len(pool)
    assert pass_at_k([c], [n], k)[0] == pytest.approx(over_subsets(pool, k, any))
    assert pass_hat_k([c], [n], k)[0] == pytest.approx(over_subsets(pool, k, all))
    for j in range(k + 1):
        assert hypergeometric([c], [n], k)[0, j] == pytest.approx(over_subsets(pool, k, lambda s, j=j: sum(s) == j))
    for tau in (0, 0.3, 0.5, 1):
        least = max(math.ceil(tau * k), 1)
        assert g_pass_at_k([c], [n], k, tau)[0] == pytest.approx(
            over_subsets(pool, k, lambda s, m=least: sum(s) >= m), abs=1e-12
        )
    above = (over_subsets(pool, k, lambda s, i=i: sum(s) >= i) for i in range(math.ceil(k / 2) + 1, k + 1))
    assert mg_pass_at_k([c], [n], k)[0] == pytest.approx(2 / k * sum(above), abs=1e-12)


@given(st.integers(1, 10), st.data(), st.floats(0.01, 0.99))
def test_pass_at_k_and_pass_hat_k_are_unbiased(n, data, p):
    k = data.draw(st.integers(1, n))
    c = np.arange(n + 1)
    chance = np.array([math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in c])
    assert chance @ pass_at_k(c, n, k) == pytest.approx(1 - (1 - p) ** k)
    assert chance @ pass_hat_k(c, n, k) == pytest.approx(p**k)


def test_large_pools_neither_overflow_nor_lose_digits():
    c, n, k = 123, 10_000, 2_000
    exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    assert pass_at_k([c], [n], k)[0] == pytest.approx(float(exact), rel=1e-12)
    assert hypergeometric([c], [n], k).sum() == pytest.approx(1, rel=1e-9)


def test_questions_are_estimated_together_as_alone():
    c, n = np.array([0, 2, 5, 9]), np.array([4, 5, 5, 12])
    for estimate in (pass_at_k, pass_hat_k, mg_pass_at_k, lambda *a: g_pass_at_k(*a, 0.5)):
        assert list(estimate(c, n, 3)) == pytest.approx([estimate([a], [b], 3)[0] for a, b in zip(c, n, strict=True)])


def test_best_of_k_has_the_worked_values():
    assert [best_at_k([5, 4, 3, 2, 1], [1, 0, 1, 0, 0], k) for k in range(1, 6)] == pytest.approx(
        [0.4, 0.6, 0.7, 0.8, 1]
    )
    assert [best_at_k([5, 4, 4, 2, 1], [0, 1, 0, 0, 1], k) for k in range(1, 6)] == pytest.approx(
        [0.4, 0.25, 0.2, 0.1, 0]
    )


@given(scored())
def test_best_of_k_is_the_mean_over_all_subsets_and_all_breaks_of_ties(drawn):
    scores, correct, k = drawn

    def best(subset):
        top = max(scores[i] for i in subset)
        winners = [correct[i] for i in subset if scores[i] == top]
        return sum(winners) / len(winners)

    exact = over_subsets(range(len(scores)), k, best)
    assert best_at_k(scores, correct, k) == pytest.approx(exact, abs=1e-12)
    assert best_at_k([scores, scores[::-1]], [correct, correct[::-1]], k) == pytest.approx([exact] * 2, abs=1e-12)


def test_splitting_a_tie_is_the_limit_of_shuffling_it():
    orders = list(permutations([(4, 1), (4, 0), (4, 0)]))
    shuffled = [best_at_k([5, 3.2, 3.1, 3.0, 1], [0, *(c for _, c in order), 1], 2) for order in orders]
    assert best_at_k([5, 4, 4, 4, 1], [0, 1, 0, 0, 1], 2) == pytest.approx(np.mean(shuffled))


def test_average_best_and_worst_of_n_have_the_worked_values():
    runs = [[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]]
    average, c = average_of_n(runs), np.sum(runs, axis=1)
    assert (average.mean, average.sd) == pytest.approx((0.5, 0.25))
    assert pass_at_k(c, 3, 3).mean() == 0.75
    assert pass_hat_k(c, 3, 3).mean() == 0.25
    assert math.isnan(average_of_n([[1], [0]]).sd)


def test_the_three_metrics_of_s1_have_the_worked_values():
    found = s1_metrics([1000, 2000, 4000], [0.40, 0.50, 0.55], high=3000)
    assert found.scaling == pytest.approx(5.8333e-5, abs=5e-10)
    assert found.control == pytest.approx(2 / 3)
    assert found.performance == 0.55
    assert s1_metrics([4000, 1000, 2000], [0.55, 0.40, 0.50]).scaling == pytest.approx(found.scaling)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: pass_at_k([1], [4], 5),
        lambda: pass_at_k([1], [4], 0),
        lambda: pass_at_k([5], [4], 2),
        lambda: pass_at_k([0.5], [4], 2),
        lambda: pass_at_k([], [], 1),
        lambda: g_pass_at_k([1], [4], 2, 1.5),
        lambda: best_at_k([1, 2], [1], 1),
        lambda: best_at_k([1, math.nan], [1, 0], 1),
        lambda: best_at_k([1, 2], [1, 0], 3),
        lambda: average_of_n([1, 0]),
        lambda: s1_metrics([1, 1], [0, 1]),
        lambda: s1_metrics([1], [0]),
    ],
)
def test_what_is_not_defined_is_refused(wrong):
    with pytest.raises(BenchError):
        wrong()
