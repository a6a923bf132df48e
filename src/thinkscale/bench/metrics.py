"""What a pool of graded samples says of k draws, exactly and without resampling.

Every estimator here is the average over all k-subsets of the samples that were drawn, and so unbiased for k fresh draws
as long as k is at most the number drawn. It knows counts, verdicts and scores, and neither texts nor files; votes over
answers are in `thinkscale.bench.majority`, error bars in `thinkscale.bench.stats`.

The score of a benchmark is the mean over its questions; the functions return one value per question, because an
interval needs them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thinkscale.errors import BenchError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def pass_at_k(correct: ArrayLike, n: ArrayLike, k: int) -> Floats:
    """P(at least one of k draws is correct) = 1 − C(n−c, k) / C(n, k); Chen et al. 2021, equation 1.

    With k = n it is best-of-n under an oracle: whether any sample is correct.

    Args:
        correct: c, correct samples of each question, shape [Q].
        n: samples of each question, shape [Q] or one number for all.
        k: draws, from 1 to the smallest n.

    Returns:
        Shape [Q], in [0, 1].

    Raises:
        BenchError: k or a count is out of range.
    """
    c, n = _counted(correct, n, k)
    return 1.0 - _all_of_k(n - c, n, k)


def pass_hat_k(correct: ArrayLike, n: ArrayLike, k: int) -> Floats:
    """pass^k = P(all of k draws are correct) = C(c, k) / C(n, k); Yao et al. 2024.

    With k = n it is worst-of-n: whether every sample is correct. Arguments and errors as for `pass_at_k`.
    """
    c, n = _counted(correct, n, k)
    return _all_of_k(c, n, k)


def g_pass_at_k(correct: ArrayLike, n: ArrayLike, k: int, tau: float) -> Floats:
    """G-Pass@k_τ = P(at least max(⌈τk⌉, 1) of k draws are correct); Liu et al. 2024.

    τ = 1 is pass^k and τ = 0 is pass@k. Arguments and errors as for `pass_at_k`; `tau` is in [0, 1].
    """
    if not 0 <= tau <= 1:
        raise BenchError(f"G-Pass@k was asked for with `tau={tau}`: choose a share from 0 to 1")
    # What the product overshoots by rounding must not cost a draw: .07 × 100 is 7.000000000000001.
    least = max(math.ceil(tau * k - 1e-9), 1)
    return np.asarray(hypergeometric(correct, n, k)[..., least:].sum(axis=-1))


def mg_pass_at_k(correct: ArrayLike, n: ArrayLike, k: int) -> Floats:
    """mG-Pass@k = (2/k) Σ_{i=⌈k/2⌉+1}^{k} P(at least i of k draws are correct); Liu et al. 2024.

    At k = 1 the sum is empty and the value 0. Arguments and errors as for `pass_at_k`.
    """
    at_least = np.flip(np.flip(hypergeometric(correct, n, k), -1).cumsum(axis=-1), -1)
    return np.asarray(at_least[..., math.ceil(k / 2) + 1 :].sum(axis=-1) * 2 / k)


def hypergeometric(correct: ArrayLike, n: ArrayLike, k: int) -> Floats:
    """P(j of k draws without replacement are correct), j = 0 … k; shape [Q, k+1].

    Arguments and errors as for `pass_at_k`.
    """
    c, n = _counted(correct, n, k)
    c, n, j = c[..., None], n[..., None], np.arange(k + 1)
    logs = np.array([math.lgamma(i + 1) for i in range(int(n.max()) + 1)])

    def choose(a: Ints, b: Ints) -> Floats:
        fits = (b >= 0) & (b <= a)
        b = np.where(fits, b, 0)
        return np.where(fits, logs[a] - logs[b] - logs[a - b], -np.inf)

    return np.asarray(np.exp(choose(c, j) + choose(n - c, k - j) - choose(n, np.full_like(j, k))))


def best_at_k(scores: ArrayLike, correct: ArrayLike, k: int) -> Floats:
    """P(the highest-scored of k draws is correct): Σ_i c_(i) C(N−1−i, k−1) / C(N, k), samples by falling score.

    Equal scores share their verdicts, which is the limit of shuffling them at random; published code averages a hundred
    shuffles instead.

    Args:
        scores: shape [Q, N] or [N]; larger is better, minus infinity for a sample that cannot be judged.
        correct: verdicts or credits in [0, 1], of the same shape.
        k: draws, from 1 to N.

    Returns:
        Shape [Q], in [0, 1].

    Raises:
        BenchError: the shapes differ, a score is not a number, or k is out of range.
    """
    value, credit = np.asarray(scores, float), np.asarray(correct, float)
    if value.shape != credit.shape or value.ndim not in (1, 2):
        raise BenchError(f"best-of-k saw scores {value.shape} and verdicts {credit.shape}: give both one shape [Q, N]")
    if np.isnan(value).any():
        raise BenchError("best-of-k saw a score that is not a number: use minus infinity for what cannot be judged")
    size = value.shape[-1]
    _check_k(k, size)
    ranked = np.atleast_2d(_by_rank(np.atleast_2d(value), np.atleast_2d(credit)))
    i = np.arange(size - k)
    # C(N−1−i, k−1) / C(N, k) by its recurrence, so that no binomial overflows.
    weight = np.concatenate(([1.0], np.cumprod((size - k - i) / (size - 1 - i)))) * k / size
    return np.asarray((ranked[:, : size - k + 1] @ weight).reshape(value.shape[:-1]))


@dataclass(frozen=True, slots=True)
class Average:
    """Average-of-n over repeated runs."""

    mean: float
    """Mean over questions and repeats, in [0, 1]."""
    sd: float
    """Sample standard deviation over repeats of the mean over questions: seed noise alone, no error bar of the
    benchmark; not a number with one repeat."""


def average_of_n(correct: ArrayLike) -> Average:
    """Mean over questions of each repeat, then mean and deviation over repeats (Eureka, Balachandran et al. 2024).

    Best-of-n and worst-of-n of the same matrix are `pass_at_k` and `pass_hat_k` with k = n; with k < n those are the
    unbiased expectations.

    Args:
        correct: verdicts in [0, 1], shape [Q, repeats].

    Raises:
        BenchError: it is not a matrix, or empty.
    """
    x = np.asarray(correct, float)
    if x.ndim != 2 or not x.size:
        raise BenchError(f"average-of-n saw verdicts of shape {x.shape}: give a matrix [questions, repeats]")
    runs = x.mean(axis=0)
    return Average(float(runs.mean()), float(runs.std(ddof=1)) if len(runs) > 1 else math.nan)


@dataclass(frozen=True, slots=True)
class S1Metrics:
    """Three figures of a way to control thinking length (Muennighoff et al. 2025, s1, section 3.2)."""

    control: float
    """Share of the runs whose length is in the target range, in [0, 1]."""
    scaling: float
    """Mean gain of accuracy per token of thinking."""
    performance: float
    """Highest accuracy reached."""


def s1_metrics(tokens: ArrayLike, accuracy: ArrayLike, *, low: float = 0, high: float = math.inf) -> S1Metrics:
    """Control, Scaling and Performance of runs at several budgets.

    Scaling is the mean slope over all pairs of runs, as in the paper's formula; its text calls it the mean slope of the
    piecewise linear curve, which would be over neighbours only.

    Args:
        tokens: thinking tokens of each run, shape [A], all different.
        accuracy: of each run, shape [A].
        low: least tokens of the target range.
        high: most tokens of the target range.

    Raises:
        BenchError: there are fewer than two runs, or two of one length.
    """
    a, f = np.asarray(tokens, float), np.asarray(accuracy, float)
    if a.shape != f.shape or a.ndim != 1 or len(np.unique(a)) != len(a) or len(a) < 2:
        raise BenchError(f"the s1 metrics saw lengths {a.tolist()}: give two or more runs of different lengths")
    i, j = np.triu_indices(len(a), 1)
    slopes = (f[j] - f[i]) / (a[j] - a[i])
    return S1Metrics(float(((low <= a) & (a <= high)).mean()), float(slopes.mean()), float(f.max()))


def _all_of_k(c: Ints, n: Ints, k: int) -> Floats:
    """C(c, k) / C(n, k), one factor per draw; where c < k one of them is 0."""
    i = np.arange(k)
    return np.asarray(np.prod(np.maximum(c[..., None] - i, 0) / (n[..., None] - i), axis=-1))


def _by_rank(value: Floats, credit: Floats) -> Floats:
    """Credits in the order of falling scores, each the mean of its block of equal scores; shape [Q, N]."""
    order = np.argsort(-value, axis=1, kind="stable")
    value, credit = np.take_along_axis(value, order, 1), np.take_along_axis(credit, order, 1)
    opens = np.ones_like(value, dtype=bool)
    opens[:, 1:] = value[:, 1:] != value[:, :-1]
    block = opens.ravel().cumsum() - 1
    return np.asarray((np.bincount(block, credit.ravel()) / np.bincount(block))[block].reshape(value.shape))


def _counted(correct: ArrayLike, n: ArrayLike, k: int) -> tuple[Ints, Ints]:
    c, n = np.broadcast_arrays(_whole(correct), _whole(n))
    if not c.size:
        raise BenchError("an estimate over no questions was asked for: give at least one")
    if (c < 0).any() or (c > n).any():
        raise BenchError("a question has more correct samples than samples, or fewer than none: check the counts")
    _check_k(k, int(n.min()))
    return c, n


def _whole(counts: ArrayLike) -> Ints:
    given = np.asarray(counts)
    if not np.equal(given, np.floor(given)).all():
        raise BenchError("a count of samples is not a whole number: give counts, not shares")
    return given.astype(np.int64)


def _check_k(k: int, n: int) -> None:
    if not 1 <= k <= n:
        raise BenchError(f"`k={k}` draws were asked of a pool of {n} samples: choose k from 1 to {n}")
