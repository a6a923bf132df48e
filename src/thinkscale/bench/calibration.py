"""Whether a confidence means what it says: calibration, discrimination and what abstaining would buy.

Confidences are in [0, 1], one per question; for a voted answer it is the winner's share of the weight. Nothing here
knows how a confidence was obtained.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from thinkscale.bench.stats import RESAMPLES, Interval, chunks, percentiles
from thinkscale.errors import BenchError

Floats = NDArray[np.float64]


def ece(confidence: ArrayLike, correct: ArrayLike, *, bins: int = 10) -> float:
    """Expected calibration error, Σ_b |B|/n · |accuracy − confidence| over equal bins (low, high]; Guo et al. 2017.

    It is biased upwards below some 200 questions: report `ece_interval` with it.

    Args:
        confidence: shape [Q], in [0, 1]; 0 belongs to the first bin.
        correct: shape [Q], in [0, 1].
        bins: of equal width.

    Raises:
        BenchError: the shapes differ, a confidence or a verdict is outside [0, 1], or there is no bin.
    """
    return float(np.abs(_gaps(confidence, correct, bins).sum(axis=0)).sum()) / np.size(correct)


def ece_interval(
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    bins: int = 10,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap interval of `ece` over questions; arguments and errors as there.

    Resampling adds noise to every bin, so the interval leans upwards of the estimate when questions are few.
    """
    gaps = _gaps(confidence, correct, bins)
    n, rng = len(gaps), np.random.default_rng(seed)
    counts = (rng.multinomial(n, np.full(n, 1 / n), size=rows) for rows in chunks(resamples, n))
    return percentiles(np.concatenate([np.abs(drawn @ gaps).sum(axis=1) / n for drawn in counts]), level)


def brier(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Mean of (confidence − correct)², shapes as in `ece`; Brier 1950."""
    p, x = _pair(confidence, correct)
    return float(((p - x) ** 2).mean())


def auroc(confidence: ArrayLike, correct: ArrayLike) -> float | None:
    """P(a right answer has more confidence than a wrong one), ties counting half; `None` when all are right, or wrong.

    Args:
        confidence: shape [Q], any scale on which larger is surer.
        correct: shape [Q], 0 or 1.
    """
    p, x = _pair(confidence, correct, unit=False)
    right, wrong = p[x > 0.5], np.sort(p[x <= 0.5])
    if not len(right) or not len(wrong):
        return None
    below = np.searchsorted(wrong, right, "left") + np.searchsorted(wrong, right, "right")
    return float(below.mean()) / (2 * len(wrong))


@dataclass(frozen=True, slots=True, eq=False)
class RiskCoverage:
    """What is wrong among the answers that are given when the least sure are withheld."""

    coverage: Floats
    """Share of questions answered, rising to 1."""
    risk: Floats
    """Share of wrong answers among them."""


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> RiskCoverage:
    """The curve over all thresholds (El-Yaniv & Wiener 2010); equal confidences are answered or withheld together.

    Args:
        confidence: shape [Q], any scale on which larger is surer.
        correct: shape [Q], in [0, 1].
    """
    p, x = _pair(confidence, correct, unit=False)
    order = np.argsort(-p, kind="stable")
    p, given = p[order], np.arange(1, len(p) + 1)
    last = np.append(p[1:] != p[:-1], True)
    risk = np.cumsum(1 - x[order]) / given
    return RiskCoverage(coverage=given[last] / len(p), risk=risk[last])


def _gaps(confidence: ArrayLike, correct: ArrayLike, bins: int) -> Floats:
    """Correct minus confidence of every question, in the column of its bin; shape [Q, bins]."""
    p, x = _pair(confidence, correct)
    if bins < 1:
        raise BenchError(f"a calibration error over {bins} bins was asked for: choose one at least")
    # Edges as quotients: .7 is the float 7/10, and 7 × .1 is not.
    index = np.maximum(np.searchsorted(np.arange(bins + 1) / bins, p, "left") - 1, 0)
    gaps = np.zeros((len(p), bins))
    gaps[np.arange(len(p)), index] = x - p
    return gaps


def _pair(confidence: ArrayLike, correct: ArrayLike, *, unit: bool = True) -> tuple[Floats, Floats]:
    p, x = np.asarray(confidence, float), np.asarray(correct, float)
    if p.shape != x.shape or p.ndim != 1 or not p.size:
        raise BenchError(f"calibration saw confidences {p.shape} and verdicts {x.shape}: give one of each per question")
    if np.isnan(p).any() or (unit and not ((p >= 0) & (p <= 1)).all()):
        raise BenchError("calibration saw a confidence that is no share from 0 to 1: normalise it or leave it out")
    if not ((x >= 0) & (x <= 1)).all():
        raise BenchError("calibration saw a verdict that is not from 0 to 1: leave out what was not judged")
    return p, x
