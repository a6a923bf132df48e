"""Curves: what was put in comes out, what cannot be known is refused, and every prediction has its interval."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkscale.bench.fits import CoverageLaw, Form, fit_coverage, fit_scaling, parscale_loss, pass_until
from thinkscale.bench.metrics import pass_at_k
from thinkscale.errors import BenchError

POINTS = np.geomspace(1, 10_000, 40)


def noisy(curve, budgets, questions=60, spread=0.05):
    noise = np.random.default_rng(0).normal(1, spread, (questions, len(budgets)))
    return curve(np.asarray(budgets, float)) * noise / noise.mean(axis=0)


def test_the_coverage_law_has_the_worked_values():
    found = CoverageLaw(a=-2.5, b=-0.4).at([1, 10, 100, 1000])
    assert list(found) == pytest.approx([0.082085, 0.369624, 0.672856, 0.854072], abs=5e-7)


@settings(max_examples=25, deadline=None)
@given(st.floats(-6, -0.2), st.floats(-0.9, -0.1))
def test_a_coverage_law_comes_back(a, b):
    found = fit_coverage(POINTS, CoverageLaw(a, b).at(POINTS))
    assert (found.a, found.b) == pytest.approx((a, b), abs=1e-6)


def test_points_at_zero_and_one_are_dropped_and_sure_points_count_more():
    law = CoverageLaw(-2.5, -0.4)
    k, c = np.array([0.5, *POINTS, 1e6]), np.array([0, *law.at(POINTS), 1])
    found = fit_coverage(k, c)
    assert (found.a, found.b) == pytest.approx((-2.5, -0.4), abs=1e-6)
    bent = law.at(POINTS) + np.where(POINTS > 1000, 0.05, 0)
    alike, weighted = fit_coverage(POINTS, bent), fit_coverage(POINTS, bent, np.where(POINTS > 1000, 1.0, 1e-4))
    assert abs(weighted.b + 0.4) < abs(alike.b + 0.4) / 10


def test_a_fit_to_coverage_is_the_best_near_it():
    ks = np.unique(np.geomspace(1, 50, 40).astype(int))
    c = np.array([pass_at_k([1, 3, 10, 50], 100, k).mean() for k in ks])
    law = fit_coverage(ks, c)
    loss = ((law.at(ks) - c) ** 2).sum()
    for a, b in ((1.001, 1), (0.999, 1), (1, 1.001), (1, 0.999)):
        assert ((CoverageLaw(law.a * a, law.b * b).at(ks) - c) ** 2).sum() > loss


def test_pass_until_has_the_worked_value():
    assert pass_until([3], [10], 3).estimate[0] == pytest.approx(0.2222, abs=5e-5)


def test_the_published_share_is_biased_upwards():
    p = 0.1
    assert sum(p * (1 - p) ** (k - 1) / k for k in range(1, 2000)) == pytest.approx(0.255843, abs=5e-7)


@settings(deadline=None)
@given(st.floats(0.05, 0.95), st.integers(2, 4), st.integers(0, 8))
def test_pass_until_is_unbiased_at_any_cap(p, r, extra):
    cap, mean = r + extra, 0.0
    for k in range(r, cap + 1):
        chance = math.comb(k - 1, r - 1) * p**r * (1 - p) ** (k - r)
        mean += chance * pass_until([r], [k], r).estimate[0]
    for s in range(r):
        found = pass_until([s], [cap], r)
        assert found.censored[0]
        mean += math.comb(cap, s) * p**s * (1 - p) ** (cap - s) * found.estimate[0]
    assert mean == pytest.approx(p)


def test_the_loss_of_parallel_streams_has_the_published_values():
    stack = {"e": 0.69124, "a": 0.011306, "alpha": 0.18937, "k": 0.39346}
    pile = {"e": 1.28877, "a": 0.19735, "alpha": 0.19633, "k": 0.33446}
    streams = [1, 2, 4, 8]
    assert list(parscale_loss(1.6e9, streams, **stack)) == pytest.approx([1.08271, 1.06524, 1.05174, 1.04081], abs=1e-5)
    assert list(parscale_loss(1.6e9, streams, **pile)) == pytest.approx([1.95184, 1.92524, 1.90406, 1.88655], abs=1e-5)


CURVES = {
    Form.power: ((-3.0, 0.4), lambda k: math.exp(-3) * k**0.4),
    Form.logistic: ((-2.0, 0.5), lambda k: 1 / (1 + np.exp(2 - 0.5 * np.log(k)))),
    Form.coverage: ((1.0, -0.3), lambda k: np.exp(-math.exp(1) * k**-0.3)),
}


@pytest.mark.parametrize("form", CURVES, ids=str)
def test_each_form_finds_its_own_parameters_and_predicts_best(form):
    parameters, curve = CURVES[form]
    budgets = [1, 2, 4, 8, 16, 32, 64]
    found = fit_scaling(budgets, noisy(curve, budgets), resamples=200)
    fit = found.forms[form]
    assert fit.parameters == pytest.approx(parameters, abs=1e-6)
    assert fit.residual == pytest.approx(0, abs=1e-9)
    assert fit.held_out_error == pytest.approx(0, abs=1e-7)
    assert all(i.low < p < i.high for i, p in zip(fit.intervals, parameters, strict=True))
    assert min(found.forms, key=lambda f: abs(found.forms[f].held_out_error)) is form
    ahead = found.predict(form, 640)
    assert ahead.low < curve(640) < ahead.high
    assert ahead.value == pytest.approx(curve(640))


def test_every_resample_is_fitted_as_it_would_be_alone():
    budgets = [1, 3, 9, 27, 81]
    values = noisy(CURVES[Form.logistic][1], budgets, questions=5, spread=0.3)
    together = fit_scaling(budgets, values, resamples=50)
    rng = np.random.default_rng(0)
    counts = rng.multinomial(5, np.full(5, 0.2), size=50)
    for i in (0, 17, 49):
        again = fit_scaling(budgets, np.repeat(values, counts[i], axis=0), resamples=2)
        assert together.forms[Form.logistic].draws[i] == pytest.approx(again.forms[Form.logistic].parameters, abs=1e-6)


def test_a_constant_is_always_among_the_rivals_and_shares_alone_have_a_ceiling():
    budgets = [1, 2, 4, 8]
    found = fit_scaling(budgets, noisy(lambda k: 3 * k**0.5, budgets))
    assert set(found.forms) == {Form.constant, Form.power}
    assert found.forms[Form.constant].held_out_error == pytest.approx(-math.log(2))
    assert found.forms[Form.power].parameters[1] == pytest.approx(0.5)


def test_budgets_may_come_in_any_order():
    budgets = np.array([8, 1, 4, 2])
    values = noisy(lambda k: 3 * k**0.5, budgets)
    found = fit_scaling(budgets, values)
    assert found.budgets == (1, 2, 4, 8)
    assert found.measured == pytest.approx(tuple(3 * math.sqrt(k) for k in (1, 2, 4, 8)))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: fit_scaling([1, 2, 4], np.ones((5, 3))),
        lambda: fit_scaling([1, 2, 4, 4], np.ones((5, 4))),
        lambda: fit_scaling([0, 1, 2, 4], np.ones((5, 4))),
        lambda: fit_scaling([1, 2, 4, 8], np.ones((1, 4))),
        lambda: fit_scaling([1, 2, 4, 8], np.eye(4)[:3]),
        lambda: fit_coverage([1, 2, 4, 8], [0, 0.2, 0.5, 0.6]),
        lambda: fit_coverage([1, 2, 4, 8], [0.1, 0.2, 0.5, 0.6], [0, 1, 1, 1]),
        lambda: pass_until([1], [5], 1),
        lambda: pass_until([3], [5], 2),
        lambda: pass_until([2], [1], 2),
    ],
)
def test_what_cannot_be_fitted_is_refused(wrong):
    with pytest.raises(BenchError):
        wrong()


def test_too_few_budgets_are_named():
    with pytest.raises(BenchError, match="3 budgets was asked for: measure 4 at least"):
        fit_scaling([1, 2, 4], np.ones((5, 3)))
