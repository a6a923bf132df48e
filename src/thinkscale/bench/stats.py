"""Error bars: how far a figure of a benchmark may be off, and whether two methods differ.

The unit that was sampled is the question, or the cluster of questions that share a passage: samples of one question are
never counted as independent. Formulas are those of Miller 2024 unless a function says otherwise. It knows numbers per
question and not where they come from.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thinkscale.errors import BenchError

Floats = NDArray[np.float64]
RESAMPLES = 10_000
"""Of a bootstrap or a randomisation test."""
_CELLS = 1 << 22
"""Numbers held at once while resampling."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Two ends of a confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over questions with its standard error."""

    mean: float
    se: float
    """Not a number with a single question."""

    def interval(self, level: float = 0.95) -> Interval:
        """Mean ± z · SE; for a share of few questions use `wilson`."""
        reach = _z(level) * self.se
        return Interval(self.mean - reach, self.mean + reach)


@dataclass(frozen=True, slots=True)
class Variance:
    """Where the variance of a benchmark's mean comes from."""

    between: float
    """ω², variance of the true rates over questions; unbiased, so noise may put it slightly below 0."""
    within: float
    """σ² = E[p(1−p)] for verdicts, variance of one sample around its question's rate."""
    of_mean: float
    """ω²/n + σ²/(nK), the square of the standard error."""


@dataclass(frozen=True, slots=True)
class Paired:
    """A difference of two methods on the same questions."""

    difference: float
    se: float
    low: float
    """Lower end of the bootstrap interval."""
    high: float
    p: float
    """Two-sided, from turning around the signs of the differences at random."""


def mean_se(values: ArrayLike, clusters: ArrayLike | None = None) -> Estimate:
    """Mean over questions and its standard error: the sample deviation of question means over √n.

    Noise inside a question is already in it. With clusters the error is `clustered_se`.

    Args:
        values: shape [Q] or [Q, K], K samples per question.
        clusters: name of the cluster of each question, shape [Q].
    """
    x = _means(values)
    if clusters is not None:
        return Estimate(float(x.mean()), clustered_se(x, clusters))
    return Estimate(float(x.mean()), float(x.std(ddof=1)) / math.sqrt(len(x)) if len(x) > 1 else math.nan)


def clustered_se(values: ArrayLike, clusters: ArrayLike) -> float:
    """√(Σ_c (Σ_{q∈c} (x_q − x̄))²) / n, for questions that are not independent of each other.

    With every question a cluster of its own it is the plain error with n in place of n − 1. It is not a number with a
    single cluster, whose sum of differences is 0 whatever the questions are.

    Args:
        values: shape [Q] or [Q, K].
        clusters: shape [Q].
    """
    x = _means(values)
    sums, _ = _summed(x - x.mean(), clusters)
    return math.sqrt(float((sums**2).sum())) / len(x) if len(sums) > 1 else math.nan


def variance_parts(values: ArrayLike) -> Variance:
    """The variance between questions and that of sampling, from K ≥ 2 samples of each of n ≥ 2 questions; shape [Q, K].

    Raises:
        BenchError: there are fewer questions or samples.
    """
    x = np.asarray(values, float)
    if x.ndim != 2 or min(x.shape) < 2:
        raise BenchError(
            f"a variance was to be split of values {x.shape}: give 2 questions and 2 samples of each, or more"
        )
    within = float(x.var(axis=1, ddof=1).mean())
    seen = float(x.mean(axis=1).var(ddof=1))
    return Variance(between=seen - within / x.shape[1], within=within, of_mean=seen / len(x))


def bootstrap_mean(
    values: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile interval of the mean, questions (or whole clusters) drawn with replacement; shapes as in `mean_se`."""
    sums, sizes = _summed(_means(values), clusters)
    rng = np.random.default_rng(seed)
    picks = (rng.integers(0, len(sums), (rows, len(sums))) for rows in chunks(resamples, len(sums)))
    return percentiles(np.concatenate([sums[i].sum(axis=1) / sizes[i].sum(axis=1) for i in picks]), level)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    clusters: ArrayLike | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Paired:
    """Mean of a − b over questions that both methods answered, with its error, bootstrap interval and p-value.

    The p-value is that of a randomisation test: were the methods alike, each difference could as well have the other
    sign. It holds at any number of questions. The interval is by question, or by cluster.

    Args:
        a: shape [Q] or [Q, K].
        b: shape [Q] or [Q, K'], the same questions in the same order.
        clusters: shape [Q].
        level: of the interval.
        resamples: of the interval, and of the test.
        seed: of both.

    Raises:
        BenchError: the questions differ in number, or there are fewer than two, or than two clusters.
    """
    x, y = _means(a), _means(b)
    if len(x) != len(y) or len(x) < 2:
        raise BenchError(f"{len(x)} questions were to be paired with {len(y)}: give both methods the same two or more")
    sums, _ = _summed(x - y, clusters)
    if len(sums) < 2:
        raise BenchError(f"a difference over {len(x)} questions of one cluster has no error: give two clusters or more")
    found = mean_se(x - y, clusters)
    reach = bootstrap_mean(x - y, clusters, level=level, resamples=resamples, seed=seed)
    return Paired(found.mean, found.se, reach.low, reach.high, _sign_test(sums, resamples, seed))


def wilson(successes: float, n: int, level: float = 0.95) -> Interval:
    """Interval of a share (Wilson 1927), which keeps within [0, 1] and holds at small n; a tie may count in part.

    Raises:
        BenchError: there are no trials, or more successes than trials.
    """
    if not 0 <= successes <= n or n < 1:
        raise BenchError(f"the interval of {successes} successes in {n} trials was asked for: check the counts")
    z, p = _z(level), successes / n
    middle, shrink = p + z * z / (2 * n), 1 + z * z / n
    reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (middle - reach) / shrink, (middle + reach) / shrink
    return Interval(low if successes else 0.0, high if successes < n else 1.0)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p-value for two methods with one verdict per question each.

    Args:
        only_a: questions that only the first got right.
        only_b: questions that only the second got right.

    Raises:
        BenchError: a count is negative.
    """
    if min(only_a, only_b) < 0:
        raise BenchError(f"McNemar's test saw counts {only_a} and {only_b}: a count is not negative")
    n = only_a + only_b
    tail = sum(math.comb(n, i) for i in range(min(only_a, only_b) + 1))
    return min(1.0, float(2 * tail / 2**n))


def questions_needed(
    difference: float,
    *,
    between: float,
    within: float,
    samples: int = 1,
    power: float = 0.8,
    level: float = 0.95,
) -> int:
    """Questions at which a paired difference is found: (z_{α/2} + z_β)² (ω² + (σ_A² + σ_B²)/K) / δ².

    Args:
        difference: δ, the smallest difference that matters; not 0.
        between: ω², variance over questions of the difference of true rates.
        within: σ_A² + σ_B², variance of one sample of each method around its question's rate.
        samples: K of each method and question.
        power: 1 − β, probability of finding δ.
        level: 1 − α, of the two-sided test.

    Raises:
        BenchError: δ is 0, a variance negative, there is no sample, or the power is not between 0 and 1.
    """
    _check_plan(between, within, samples)
    if difference == 0:
        raise BenchError("the questions that show a difference of 0 were asked for: name the smallest that matters")
    if not 0 < power < 1:
        raise BenchError(f"a power of {power} was asked for: choose a probability between 0 and 1, such as .8")
    reach = max(0.0, _z(level) + NormalDist().inv_cdf(power))
    return max(1, math.ceil(reach**2 * (between + within / samples) / difference**2))


def power_at(
    questions: int, difference: float, *, between: float, within: float, samples: int = 1, level: float = 0.95
) -> float:
    """Probability that a two-sided test of this many questions finds a difference; arguments as `questions_needed`."""
    _check_plan(between, within, min(samples, questions))
    se = math.sqrt((between + within / samples) / questions)
    if se == 0:
        return float(difference != 0)
    shift, z = abs(difference) / se, _z(level)
    return NormalDist().cdf(shift - z) + NormalDist().cdf(-shift - z)


def chunks(rows: int, width: int) -> Iterator[int]:
    """Row counts that sum to `rows`, each small enough that a matrix of that width fits into memory."""
    most = max(1, _CELLS // max(1, width))
    for done in range(0, rows, most):
        yield min(most, rows - done)


def percentiles(draws: Floats, level: float = 0.95) -> Interval:
    """The middle `level` of resampled values."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def _means(values: ArrayLike) -> Floats:
    x = np.asarray(values, float)
    if x.ndim not in (1, 2) or not x.size:
        raise BenchError(f"a statistic saw values of shape {x.shape}: give one per question, or [questions, samples]")
    return x if x.ndim == 1 else np.asarray(x.mean(axis=1))


def _summed(x: Floats, clusters: ArrayLike | None) -> tuple[Floats, Floats]:
    """Sum and size of every cluster; without clusters every question is one."""
    if clusters is None:
        return x, np.ones(len(x))
    names = np.asarray(clusters)
    if names.shape != x.shape:
        raise BenchError(f"{len(x)} questions came with clusters of shape {names.shape}: name one cluster for each")
    _, index = np.unique(names, return_inverse=True)
    return np.bincount(index, x).astype(float), np.bincount(index).astype(float)


def _sign_test(sums: Floats, resamples: int, seed: int) -> float:
    rng = np.random.default_rng([seed, 1])
    seen, beaten = abs(float(sums.sum())), 0
    for rows in chunks(resamples, len(sums)):
        signs = rng.integers(0, 2, (rows, len(sums))) * 2.0 - 1.0
        beaten += int((np.abs(signs @ sums) >= seen - 1e-9 * max(1.0, seen)).sum())
    return (1 + beaten) / (1 + resamples)


def _check_plan(between: float, within: float, samples: int) -> None:
    if between < 0 or within < 0 or samples < 1:
        raise BenchError(
            f"a test was planned with variances {between:g} and {within:g} and {samples} samples or questions: "
            "variances are not negative, and there is one of each at least"
        )


def _z(level: float) -> float:
    if not 0 < level < 1:
        raise BenchError(f"an interval of level {level} was asked for: choose a share between 0 and 1, such as .95")
    return NormalDist().inv_cdf((1 + level) / 2)
