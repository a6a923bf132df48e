"""Error bars: the worked values, the exact laws behind them, and slow versions of what is resampled."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.bench import stats
from thinkscale.bench.stats import (
    bootstrap_mean,
    clustered_se,
    mcnemar,
    mean_se,
    paired_difference,
    power_at,
    questions_needed,
    variance_parts,
    wilson,
)
from thinkscale.errors import BenchError

A, B = [1, 1, 0, 1, 0, 1, 1, 0, 1, 0], [1, 0, 0, 1, 0, 1, 0, 0, 1, 0]
X, CLUSTERS = [1, 1, 1, 0, 0, 0, 1, 0], [0, 0, 0, 1, 1, 1, 2, 3]


def test_a_paired_difference_has_the_worked_values():
    found = paired_difference(A, B)
    assert (found.difference, found.se) == pytest.approx((0.2, 0.133333), abs=5e-7)
    assert math.hypot(mean_se(A).se, mean_se(B).se) == pytest.approx(0.230940, abs=5e-7)
    assert np.corrcoef(A, B)[0, 1] == pytest.approx(0.666667, abs=5e-7)
    assert (found.low, found.high) == (0, 0.5)


def test_the_clustered_error_has_the_worked_values():
    assert clustered_se(X, CLUSTERS) == pytest.approx(0.279508, abs=5e-7)
    assert clustered_se(X, range(8)) == pytest.approx(0.176777, abs=5e-7)
    assert mean_se(X, CLUSTERS).se == clustered_se(X, CLUSTERS)


def test_the_questions_needed_have_the_worked_values():
    plan = {"between": 1 / 9, "within": 2 / 6}
    assert [questions_needed(0.03, samples=k, **plan) for k in (1, 10)] == [3876, 1260]
    for k in (1, 10):
        n = questions_needed(0.03, samples=k, **plan)
        assert power_at(n, 0.03, samples=k, **plan) == pytest.approx(0.8, abs=1e-3)
        assert power_at(n, -0.03, samples=k, **plan) == power_at(n, 0.03, samples=k, **plan)
    assert power_at(100, 0, **plan) == pytest.approx(0.05)


def test_a_difference_without_noise_takes_a_question_to_show():
    assert questions_needed(0.1, between=0, within=0) == 1


def test_mcnemar_and_wilson_have_the_worked_values():
    assert mcnemar(10, 3) == pytest.approx(0.092285, abs=5e-7)
    assert mcnemar(3, 10) == mcnemar(10, 3)
    assert mcnemar(0, 0) == mcnemar(4, 4) == 1
    found = wilson(27, 30)
    assert (found.low, found.high) == pytest.approx((0.743789, 0.965400), abs=5e-7)
    assert (wilson(0, 5).low, wilson(5, 5).high) == (0, 1)


@given(st.integers(0, 40), st.data())
def test_wilson_inverts_the_score_test(n, data):
    n += 1
    successes = data.draw(st.integers(0, n))
    interval = wilson(successes, n)
    for p, inside in ((interval.low, successes > 0), (interval.high, successes < n)):
        if inside:
            assert abs(successes / n - p) / math.sqrt(p * (1 - p) / n) == pytest.approx(1.959964, rel=1e-5)


def test_the_parts_of_a_variance_make_the_standard_error():
    x = np.random.default_rng(0).random((7, 4)) < np.linspace(0.1, 0.9, 7)[:, None]
    parts = variance_parts(x)
    assert parts.of_mean == pytest.approx(mean_se(x).se ** 2)
    assert parts.of_mean == pytest.approx(parts.between / 7 + parts.within / 28)


def test_the_parts_of_a_variance_are_unbiased():
    rates, between, within = (0.2, 0.7), 0.0, 0.0
    for drawn in product((0, 1), repeat=4):
        for first, second in product(rates, repeat=2):
            p = [first, first, second, second]
            chance = math.prod(q if x else 1 - q for q, x in zip(p, drawn, strict=True)) / 4
            parts = variance_parts([drawn[:2], drawn[2:]])
            between, within = between + chance * parts.between, within + chance * parts.within
    assert between == pytest.approx(np.var(rates))
    assert within == pytest.approx(np.mean([p * (1 - p) for p in rates]))


def test_samples_of_a_question_are_not_counted_as_independent():
    x = np.repeat([[1], [0], [1], [1]], 50, axis=1)
    assert mean_se(x) == mean_se([1, 0, 1, 1])


def test_an_interval_of_a_mean_is_that_of_all_resamples():
    x = [0.0, 0.1, 0.5, 1.0]
    every = [np.mean(drawn) for drawn in product(x, repeat=4)]
    found = bootstrap_mean(x, resamples=20_000)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(every, [0.025, 0.975])), abs=0.03)
    assert found == bootstrap_mean(x, resamples=20_000)


def test_whole_clusters_are_resampled():
    groups = np.repeat(np.arange(5), 20)
    x = np.repeat([0.0, 1.0, 0.0, 1.0, 1.0], 20)
    alone, together = bootstrap_mean(x), bootstrap_mean(x, groups)
    assert together.high - together.low > 3 * (alone.high - alone.low)
    assert together == bootstrap_mean([0.0, 1.0, 0.0, 1.0, 1.0])


def test_the_p_value_is_that_of_all_signs():
    differences = np.array([0.5, -0.25, 1.0, 0.75, -0.5, 0.25])
    every = [abs(np.dot(signs, differences)) >= differences.sum() - 1e-12 for signs in product((-1, 1), repeat=6)]
    found = paired_difference(differences, np.zeros(6), resamples=40_000).p
    assert found == pytest.approx(np.mean(every), abs=0.01)


def test_the_p_value_of_verdicts_is_that_of_mcnemar():
    a, b = np.repeat([1, 0, 1], [10, 3, 5]), np.repeat([0, 1, 1], [10, 3, 5])
    assert paired_difference(a, b, resamples=40_000).p == pytest.approx(mcnemar(10, 3), abs=0.006)


def test_methods_that_are_alike_do_not_differ():
    found = paired_difference(A, A)
    assert (found.difference, found.se, found.low, found.high, found.p) == (0, 0, 0, 0, 1)


def test_resampling_in_pieces_is_still_resampling(monkeypatch):
    monkeypatch.setattr(stats, "_CELLS", 64)
    found = paired_difference(A, B, resamples=2000)
    assert (found.low, found.high) == pytest.approx((0, 0.5), abs=0.11)
    assert found.p == pytest.approx(0.5, abs=0.06)


def test_a_single_question_has_no_error():
    assert math.isnan(mean_se([1]).se)
    assert math.isnan(mean_se([1], ["a"]).se)
    assert math.isnan(clustered_se([1, 0, 1], ["a"] * 3))
    reach = mean_se([1, 0, 1, 1]).interval()
    assert (reach.low + reach.high) / 2 == pytest.approx(0.75)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: mean_se([]),
        lambda: mean_se(1.0),
        lambda: clustered_se([1, 0], [1]),
        lambda: variance_parts([[1, 0]]),
        lambda: paired_difference([1, 0], [1]),
        lambda: paired_difference([1], [1]),
        lambda: paired_difference([1, 0], [0, 0], ["a", "a"]),
        lambda: wilson(3, 2),
        lambda: wilson(0, 0),
        lambda: wilson(1, 2, level=95),
        lambda: mcnemar(-1, 2),
        lambda: questions_needed(0, between=1, within=1),
        lambda: questions_needed(0.1, between=-1, within=1),
        lambda: questions_needed(0.1, between=1, within=1, power=1),
        lambda: power_at(0, 0.1, between=1, within=1),
    ],
)
def test_what_is_not_defined_is_refused(wrong):
    with pytest.raises(BenchError):
        wrong()
