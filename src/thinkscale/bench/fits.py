"""Curves through what was measured at several budgets, and what they are worth beyond it.

A form is a curve whose unknowns enter as z = θ₀ + θ₁ ln k, so one damped Gauss-Newton iteration fits them all, a
thousand resamples at once. The rules of honest fits are built in: fewer than four budgets are refused, parameters and
predictions come with intervals over questions, and every form is tried on the largest budget without having seen it,
beside a constant. It knows budgets and numbers, not what was bought with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thinkscale.bench.stats import Interval, chunks, percentiles
from thinkscale.errors import BenchError

Floats = NDArray[np.float64]
LEAST = 4
"""Budgets below which no curve is fitted."""


class Form(StrEnum):
    """The curves that are compared; k is the budget and θ are the parameters."""

    constant = "constant"
    """y = exp(θ₀): the budget changes nothing."""
    power = "power"
    """y = exp(θ₀) · k^θ₁."""
    logistic = "logistic"
    """y = 1 / (1 + exp(−θ₀ − θ₁ ln k)), for shares below 1."""
    coverage = "coverage"
    """y = exp(−exp(θ₀) · k^θ₁), for shares below 1 (Brown et al. 2024: a = −exp(θ₀), b = θ₁)."""


@dataclass(frozen=True, slots=True)
class CoverageLaw:
    """c(k) = exp(a · k^b), the share of questions that k draws solve (Brown et al. 2024, section 3)."""

    a: float
    """Below 0."""
    b: float
    """Below 0 where more draws solve more."""

    def at(self, k: ArrayLike) -> Floats:
        """Coverage after k draws, of the shape of `k`."""
        return np.asarray(np.exp(self.a * np.asarray(k, float) ** self.b))


@dataclass(frozen=True, slots=True, eq=False)
class FormFit:
    """One form, fitted."""

    form: Form
    parameters: tuple[float, ...]
    """θ, from all budgets."""
    intervals: tuple[Interval, ...]
    """Of each parameter."""
    residual: float
    """Root mean square of log(predicted / measured), over all budgets."""
    held_out_error: float
    """log(predicted / measured) at the largest budget, by a fit that did not see it."""
    draws: Floats
    """θ of every resample in which the form is defined, shape [R, parameters]."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """A value read off a curve, never without its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, eq=False)
class ScalingFit:
    """All forms that apply to one measured curve."""

    budgets: tuple[float, ...]
    """Rising; the last one was held out."""
    measured: tuple[float, ...]
    """Mean over questions at each budget."""
    forms: Mapping[Form, FormFit]
    level: float

    def predict(self, form: Form, budget: float) -> Prediction:
        """The value of a form at a budget, with the interval over resampled questions."""
        fit = self.forms[form]
        z = _design(np.array([budget]), fit.form) @ np.vstack([fit.parameters, fit.draws]).T
        values = np.exp(_CURVES[form](z[0])[0])
        reach = percentiles(values[1:], self.level)
        return Prediction(float(values[0]), reach.low, reach.high)


@dataclass(frozen=True, slots=True, eq=False)
class PassUntil:
    """Pass rates from drawing until there are enough successes."""

    estimate: Floats
    """Shape [Q], in [0, 1]."""
    censored: NDArray[np.bool_]
    """Questions whose draws ended at the cap, shape [Q]; report how many there are."""


def pass_until(successes: ArrayLike, trials: ArrayLike, r: int) -> PassUntil:
    """Pass rate of questions tried until r successes or a cap: (r−1)/(K−1), or s/cap where the cap came first.

    Both together are unbiased at any cap (Girshick, Mosteller & Savage 1946). The share r/K, which the method was
    published with (Hu et al. 2023), is biased upwards.

    Args:
        successes: s, shape [Q], at most r.
        trials: K, shape [Q].
        r: successes at which drawing stops, at least 2.

    Raises:
        BenchError: r is below 2, or the counts cannot come from such draws.
    """
    s, k = np.asarray(successes), np.asarray(trials)
    if r < 2:
        raise BenchError(f"PassUntil was asked for with `r={r}`: draw until 2 successes at least, or it is biased")
    if s.shape != k.shape or (s < 0).any() or (s > r).any() or (k < np.maximum(s, 1)).any():
        raise BenchError(
            f"PassUntil saw counts that drawing until {r} successes cannot give: check successes and trials"
        )
    censored = s < r
    return PassUntil(np.where(censored, s / k, (r - 1) / np.maximum(k - 1, 1)), censored)


def fit_coverage(k: ArrayLike, coverage: ArrayLike, variance: ArrayLike | None = None) -> CoverageLaw:
    """Least squares of exp(a k^b) to measured coverage, started from the line log(−log c) = log(−a) + b log k.

    Args:
        k: draws, shape [B], log-spaced by custom (40 points in the source).
        coverage: mean pass@k at each, shape [B]; points at 0 and 1 are dropped.
        variance: of each mean; points count by its inverse. All alike when absent.

    Raises:
        BenchError: fewer than four points are strictly between 0 and 1, or a variance is not above 0.
    """
    draws, c = np.asarray(k, float), np.asarray(coverage, float)
    inside = (c > 0) & (c < 1)
    spread = np.ones_like(c) if variance is None else np.asarray(variance, float)
    if draws.shape != c.shape or spread.shape != c.shape or not (spread[inside] > 0).all():
        raise BenchError("a coverage law saw points without their draws or variance: give one of each, above 0")
    x, y, weights = draws[inside], c[inside], 1 / spread[inside]
    _enough(x)

    def curve(z: Floats) -> tuple[Floats, Floats]:
        log_c, slope = _log_coverage(z)
        return np.exp(log_c), slope * np.exp(log_c)

    design = _design(x, Form.coverage)
    theta = _refined(curve, design, y[None], weights, _line(np.log(-np.log(y))[None], design, weights))[0]
    return CoverageLaw(a=-math.exp(theta[0]), b=float(theta[1]))


def fit_scaling(
    budgets: ArrayLike, values: ArrayLike, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> ScalingFit:
    """Every form that applies, fitted to the log of the mean response by least squares.

    A form for shares is left out where a mean is 1 or more. Resamples of questions in which a mean is 0 (or, for those
    forms, 1) have no fit and do not count towards the intervals.

    Args:
        budgets: shape [B], B ≥ 4, above 0 and all different.
        values: response of each question at each budget, shape [Q, B], Q ≥ 2; for coverage `pass_at_k` of every k.
        level: of the intervals.
        resamples: of the bootstrap over questions.
        seed: of the bootstrap.

    Raises:
        BenchError: there are too few budgets or questions, or a mean is not above 0.
    """
    x, y = np.asarray(budgets, float), np.asarray(values, float)
    _enough(x)
    if y.ndim != 2 or y.shape[1] != len(x) or len(y) < 2:
        raise BenchError(f"a curve of {len(x)} budgets saw values {y.shape}: give [questions, budgets], two or more")
    x, y = x[np.argsort(x)], y[:, np.argsort(x)]
    means = y.mean(axis=0)
    if (means <= 0).any():
        raise BenchError(
            f"the response at budget {x[means <= 0][0]:g} is not above 0: leave that budget out of the fit"
        )
    drawn = _resampled(y, resamples, seed)
    apply = [f for f in Form if f in (Form.constant, Form.power) or (means < 1).all()]
    forms = {form: _fitted(form, x, means, drawn, level) for form in apply}
    return ScalingFit(tuple(x.tolist()), tuple(means.tolist()), forms, level)


def parscale_loss(parameters: ArrayLike, streams: ArrayLike, *, e: float, a: float, alpha: float, k: float) -> Floats:
    """Loss of a model trained with parallel streams: E + (A·10⁹ / (N (k ln P + 1)))^α; Chen et al. 2025, ParScale.

    Args:
        parameters: N.
        streams: P, at least 1.
        e: E, loss that remains.
        a: A, in 10⁹ parameters.
        alpha: exponent.
        k: what a stream is worth; P streams act like k ln P + 1 times the parameters.
    """
    worth = np.asarray(parameters, float) * (k * np.log(np.asarray(streams, float)) + 1)
    return np.asarray(e + (a * 1e9 / worth) ** alpha)


def _log_power(z: Floats) -> tuple[Floats, Floats]:
    return z, np.ones_like(z)


def _log_logistic(z: Floats) -> tuple[Floats, Floats]:
    value = -np.logaddexp(0, -z)
    return value, -np.expm1(value)


def _log_coverage(z: Floats) -> tuple[Floats, Floats]:
    value = -np.exp(np.minimum(z, 50))
    return value, value


Curve = Callable[[Floats], tuple[Floats, Floats]]
"""From z to the value that is fitted and its derivative."""
_CURVES: Mapping[Form, Curve] = {
    Form.constant: _log_power,
    Form.power: _log_power,
    Form.logistic: _log_logistic,
    Form.coverage: _log_coverage,
}


def _started(form: Form, y: Floats) -> Floats:
    """Where a form gives y: its z."""
    if form is Form.logistic:
        return np.log(y) - np.log1p(-y)
    return np.log(-np.log(y)) if form is Form.coverage else np.log(y)


def _fitted(form: Form, x: Floats, means: Floats, drawn: Floats, level: float) -> FormFit:
    usable = (drawn > 0).all(axis=1)
    if form in (Form.logistic, Form.coverage):
        usable &= (drawn < 1).all(axis=1)
    if not usable.any():
        raise BenchError(f"the {form} form has no resample in which it is defined: measure more questions")
    theta = _solved(form, x, np.vstack([means, drawn[usable]]))
    draws = theta[1:]
    blind = _solved(form, x[:-1], means[None, :-1])
    residual = _CURVES[form](theta[:1] @ _design(x, form).T)[0][0] - np.log(means)
    ahead = _CURVES[form](blind @ _design(x[-1:], form).T)[0][0, 0] - math.log(means[-1])
    return FormFit(
        form=form,
        parameters=tuple(theta[0].tolist()),
        intervals=tuple(percentiles(column, level) for column in draws.T),
        residual=float(np.sqrt((residual**2).mean())),
        held_out_error=float(ahead),
        draws=draws,
    )


def _solved(form: Form, x: Floats, y: Floats) -> Floats:
    design, weights = _design(x, form), np.ones(len(x))
    return _refined(_CURVES[form], design, np.log(y), weights, _line(_started(form, y), design, weights))


def _design(x: Floats, form: Form) -> Floats:
    ones = np.ones((len(x), 1))
    return ones if form is Form.constant else np.hstack([ones, np.log(x)[:, None]])


def _line(z: Floats, design: Floats, weights: Floats) -> Floats:
    """Weighted least squares of rows z [R, B] on the design [B, P]; shape [R, P]."""
    root = np.sqrt(weights)[:, None]
    return np.asarray(np.linalg.lstsq(design * root, (z * root[:, 0]).T, rcond=None)[0].T)


def _refined(curve: Curve, design: Floats, target: Floats, weights: Floats, theta: Floats) -> Floats:
    """Least squares by Levenberg's damped steps, each row of `target` [R, B] by itself, from `theta` [R, P]."""
    damping = np.full(len(theta), 1e-3)

    def off(at: Floats) -> tuple[Floats, Floats, Floats]:
        value, slope = curve(at @ design.T)
        return target - value, slope, (weights * (target - value) ** 2).sum(axis=1)

    rest, slope, loss = off(theta)
    for _ in range(200):
        jacobian = slope[:, :, None] * design
        normal = np.einsum("rbp,b,rbq->rpq", jacobian, weights, jacobian)
        scale = np.einsum("rpp->rp", normal) * damping[:, None] + 1e-300
        gradient = np.einsum("rbp,b,rb->rp", jacobian, weights, rest)
        step = np.linalg.solve(normal + scale[:, :, None] * np.eye(theta.shape[1]), gradient[:, :, None])[:, :, 0]
        if (np.abs(step) <= 1e-11 * (1 + np.abs(theta))).all():
            break
        better = off(theta + step)[2] <= loss
        theta = np.where(better[:, None], theta + step, theta)
        damping = np.where(better, damping / 8, np.minimum(damping * 8, 1e12))
        rest, slope, loss = off(theta)
    return theta


def _resampled(values: Floats, resamples: int, seed: int) -> Floats:
    """Means over questions drawn with replacement, shape [resamples, B]."""
    n, rng = len(values), np.random.default_rng(seed)
    counts = (rng.multinomial(n, np.full(n, 1 / n), size=rows) for rows in chunks(resamples, n))
    return np.concatenate([drawn @ values / n for drawn in counts])


def _enough(x: Floats) -> None:
    if x.ndim != 1 or len(np.unique(x)) != len(x) or not (x > 0).all():
        raise BenchError(f"a curve saw budgets {x.tolist()[:8]}: give different ones above 0")
    if len(x) < LEAST:
        raise BenchError(f"a curve through {len(x)} budgets was asked for: measure {LEAST} at least")
