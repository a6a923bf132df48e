"""How often a plurality vote of k draws is right, exactly: over all k-subsets of a pool, or over k independent draws.

Equal shares are split (the expectation of a random tie-break), and a draw without an answer is paid for and does not
vote. No resampling is needed: draws of each class are independent once the total is let free, binomial for subsets and
Poisson for independent draws, so the sum over all count vectors is a product of one polynomial per class, read at
total k. Cost grows with classes · k³. It knows counts and credits, not what the answers say.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thinkscale.errors import BenchError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Votes:
    """How the samples of one question fall into answer classes."""

    counts: tuple[int, ...]
    """Samples of each class."""
    credit: tuple[float, ...]
    """What an answer of each class is worth, in [0, 1]; the mean verdict of its samples."""
    silent: int = 0
    """Samples without an answer."""

    @property
    def total(self) -> int:
        """All samples."""
        return sum(self.counts) + self.silent


def votes_of(answers: Sequence[Hashable | None], correct: Sequence[float]) -> Votes:
    """The classes of a pool, in the order in which they were first seen.

    Args:
        answers: key of each sample's answer, length N; `None` where it has none.
        correct: verdict of each sample, length N; where equal answers were judged differently, their class is worth the
            mean.

    Raises:
        BenchError: the lengths differ.
    """
    if len(answers) != len(correct):
        raise BenchError(f"a vote saw {len(answers)} answers and {len(correct)} verdicts: give one verdict per answer")
    verdicts: dict[Hashable, list[float]] = {}
    for answer, verdict in zip(answers, correct, strict=True):
        if answer is not None:
            verdicts.setdefault(answer, []).append(float(verdict))
    counts = tuple(map(len, verdicts.values()))
    return Votes(counts, tuple(math.fsum(v) / len(v) for v in verdicts.values()), len(answers) - sum(counts))


def majority_at_k(votes: Votes, k: int) -> float:
    """Expected credit of the vote of k samples drawn without replacement; the mean over all k-subsets of the pool.

    With k = N it is the vote of the whole pool. A subset in which nobody votes is worth 0.

    Raises:
        BenchError: k is not from 1 to N.
    """
    if not 1 <= k <= votes.total:
        raise BenchError(f"a vote of `k={k}` was asked of {votes.total} samples: choose k from 1 to {votes.total}")
    rate = k / votes.total  # any rate gives the same quotient; this one keeps every term in range
    classes = np.array([_binomial(n, rate, k) for n in votes.counts]).reshape(-1, k + 1)
    won = _plurality(classes, _binomial(votes.silent, rate, k), np.array(votes.credit))
    return won / float(_binomial(votes.total, rate, k)[k])


def expected_majority(probabilities: ArrayLike, credit: ArrayLike, draws: int, *, silent: float = 0.0) -> float:
    """Expected credit of the vote of independent draws: the sum over multinomial counts, ties split.

    Args:
        probabilities: of each class, shape [C].
        credit: of each class, in [0, 1], shape [C].
        draws: N, at least 1.
        silent: probability of a draw without an answer; with the others it sums to 1.

    Raises:
        BenchError: the probabilities do not sum to 1, or there is no draw.
    """
    p, worth = np.asarray(probabilities, float), np.asarray(credit, float)
    whole = math.fsum(p.tolist()) + silent
    if p.ndim != 1 or p.shape != worth.shape or (p < 0).any() or silent < 0 or abs(whole - 1) > 1e-9:
        raise BenchError(f"a vote saw probabilities that sum to {whole:g}: give shares of 1, and one credit for each")
    if draws < 1:
        raise BenchError(f"a vote of {draws} draws was asked for: choose one at least")
    classes = np.array([_poisson(draws * x, draws) for x in p])
    won = _plurality(classes, _poisson(draws * silent, draws), worth)
    return won / float(_poisson(draws, draws)[draws])


def _plurality(classes: Floats, silent: Floats, credit: Floats) -> float:
    """Σ over count vectors that sum to k of Π weights × (credit of the winners / number of winners).

    Args:
        classes: weight of a count a = 0 … k of each class, shape [C, k+1].
        silent: the same of draws that do not vote, shape [k+1].
        credit: shape [C].
    """
    k = len(silent) - 1
    lag = np.subtract.outer(np.arange(k + 1), np.arange(k + 1))
    shifts = np.where(lag >= 0, classes[:, np.abs(lag)], 0.0)
    total = 0.0
    for top in range(1, k + 1):
        if not (classes[:, top] > 0).any():
            continue
        # Both by [draws so far, classes that have `top` votes]: the weight, and the weight times the winners' credit.
        ways = np.zeros((k + 1, k // top + 1))
        ways[:, 0] = silent
        earned = np.zeros_like(ways)
        for weights, shift, worth in zip(classes, shifts * (lag < top), credit, strict=True):
            won, kept = ways[: k + 1 - top, :-1] * weights[top], earned[: k + 1 - top, :-1] * weights[top]
            ways, earned = shift @ ways, shift @ earned
            ways[top:, 1:] += won
            earned[top:, 1:] += kept + worth * won
        total += float((earned[k, 1:] / np.arange(1, k // top + 1)).sum())
    return total


def _binomial(n: int, p: float, k: int) -> Floats:
    """P(a of n) for a = 0 … k."""
    if p == 1:
        return np.asarray(np.arange(k + 1) == n, float)
    a = np.arange(min(n, k) + 1)
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in a]
    return np.pad(np.exp(logs + a * math.log(p) + (n - a) * math.log1p(-p)), (0, k + 1 - len(a)))


def _poisson(mean: float, k: int) -> Floats:
    """P(a) for a = 0 … k."""
    a = np.arange(k + 1)
    if mean == 0:
        return np.asarray(a == 0, float)
    return np.asarray(np.exp(a * math.log(mean) - mean - np.array([math.lgamma(i + 1) for i in a])))
