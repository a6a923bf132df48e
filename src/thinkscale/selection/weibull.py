"""Two Weibull distributions fitted to the probabilities of many pools at once, to tell high ones from low ones.

The likelihood of a Weibull mixture has no closed-form maximum. Expectation maximisation needs one Newton search for the
shape of each part and vectorises over pools, without a numerical library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from thinkscale.selection.ballots import BoolArray, FloatArray

START = (0.5, 1.0, 1.0, 1.5, 2.0)
"""Weight of the first part, shape and scale of the first, shape and scale of the second (released code of RPC)."""
WEIGHTS = (0.2, 0.8)
LEAST, MOST = 0.01, 1e3
"""Bounds of shapes and scales; without the upper one a part collapses onto one value."""
FEWEST = 4
STEPS, NEWTON_STEPS, TOLERANCE = 300, 4, 1e-9
FLOOR = 1e-300
TOGETHER = 60_000
"""Values that are fitted together, so that what is computed of them stays in the processor's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """The fitted mixture of each pool."""

    weights: FloatArray
    """Of the two parts, shape [pools, 2, 1]."""
    shapes: FloatArray
    """Same shape."""
    scales: FloatArray
    """Same shape."""

    def log_parts(self, log_x: FloatArray) -> FloatArray:
        """Log of weight × density of each part, shape [pools, 2, n] for log x of shape [pools, n]."""
        parts = log_x[:, None, :] - np.log(self.scales)
        parts *= self.shapes
        parts -= np.exp(np.minimum(parts, 700.0))
        parts -= log_x[:, None, :]
        parts += np.log(self.weights * self.shapes)
        return parts


def likely_high(x: FloatArray, known: BoolArray) -> BoolArray:
    """Which values are in the high part with probability ½ or more, or not below the mean; shape [..., n].

    Args:
        x: positive values where `known`, shape [..., n].
        known: which entries count.
    """
    n = x.shape[-1]
    if not n:
        return known
    flat, mask = x.reshape(-1, n), known.reshape(-1, n)
    mean = np.where(mask, flat, 0.0).sum(axis=-1, keepdims=True) / np.maximum(mask.sum(axis=-1, keepdims=True), 1)
    high = mask & (flat >= mean)
    enough = np.flatnonzero(mask.sum(axis=-1) >= FEWEST)
    if enough.size:
        high[enough] |= _posterior(flat[enough], mask[enough]) & mask[enough]
    whole: BoolArray = high.reshape(x.shape)
    return whole


def fitted(log_x: FloatArray, mask: BoolArray) -> Mixture:
    """The mixtures of maximum likelihood near the start, one per row; each row is fitted as if it were alone."""
    several = max(1, TOGETHER // max(1, log_x.shape[1]))
    found = [_fitted(log_x[at : at + several], mask[at : at + several]) for at in range(0, len(log_x), several)]
    weights, shapes, scales = (
        np.concatenate([np.empty((0, 2, 1)), *(getattr(mixture, name) for mixture in found)])
        for name in ("weights", "shapes", "scales")
    )
    return Mixture(weights, shapes, scales)


def _fitted(log_x: FloatArray, mask: BoolArray) -> Mixture:
    rows = len(log_x)
    w, k1, l1, k2, l2 = START
    whole = Mixture(*(np.tile([[a], [b]], (rows, 1, 1)) for a, b in ((w, 1 - w), (k1, k2), (l1, l2))))
    best = np.full(rows, -np.inf)
    active, now, sample = np.arange(rows), whole, _Sample.of(log_x, mask)
    for _ in range(STEPS):
        responsible, likelihood = _expect(now, sample)
        # A row that no longer gains, or that is no longer a number, keeps what it has.
        gains = likelihood - best[active] > TOLERANCE
        if not gains.all():
            active, likelihood, responsible = active[gains], likelihood[gains], responsible[gains]
            if not active.size:
                break
            sample, now = _Sample.of(log_x[active], mask[active]), Mixture(*(v[gains] for v in _values(now)))
        best[active] = likelihood
        now = _maximised(responsible, sample, now.shapes)
        for mine, better in zip(_values(whole), _values(now), strict=True):
            mine[active] = better
    return whole


def _values(mixture: Mixture) -> tuple[FloatArray, FloatArray, FloatArray]:
    return mixture.weights, mixture.shapes, mixture.scales


def _posterior(x: FloatArray, mask: BoolArray) -> BoolArray:
    log_x = np.log(np.where(mask, x, 1.0))
    mixture = fitted(log_x, mask)
    means = mixture.scales * _gamma(1 + 1 / mixture.shapes)
    parts = np.exp(mixture.log_parts(log_x))
    second = means[:, 1] > means[:, 0]
    upper = np.where(second, parts[:, 1], parts[:, 0])
    likely: BoolArray = upper >= 0.5 * (parts.sum(axis=1) + FLOOR)
    return likely


@dataclass(frozen=True, slots=True, eq=False)
class _Sample:
    """What every step of a fit asks of the data, shape [rows, n]."""

    log_x: FloatArray
    mask: BoolArray
    count: FloatArray
    """How many values count, shape [rows, 1, 1]."""
    top: FloatArray
    """The highest log, same shape."""
    below: FloatArray
    """Logs minus the highest, 0 where they do not count."""

    @classmethod
    def of(cls, log_x: FloatArray, mask: BoolArray) -> _Sample:
        top = np.where(mask, log_x, -np.inf).max(axis=-1, keepdims=True)
        below = np.where(mask, log_x - top, 0.0)
        return cls(log_x, mask, mask.sum(axis=-1, dtype=np.float64)[:, None, None], top[:, None], below)


def _expect(mixture: Mixture, sample: _Sample) -> tuple[FloatArray, FloatArray]:
    parts = np.maximum(mixture.log_parts(sample.log_x), math.log(FLOOR))
    total = np.logaddexp(parts[:, 0], parts[:, 1])
    parts -= total[:, None]
    responsible = np.exp(parts, out=parts)
    responsible *= sample.mask[:, None]
    return responsible, np.where(sample.mask, total, 0.0).sum(axis=-1)


def _maximised(responsible: FloatArray, sample: _Sample, shapes: FloatArray) -> Mixture:
    mass = np.maximum(responsible.sum(axis=-1, keepdims=True), FLOOR)
    first = np.clip(mass[:, :1] / sample.count, *WEIGHTS)
    mean = _dot(responsible, sample.below) / mass
    squares = sample.below**2
    for _ in range(NEWTON_STEPS):
        powers = _powers(responsible, sample.below, shapes)
        sums = np.maximum(powers.sum(axis=-1, keepdims=True), FLOOR)
        slope = _dot(powers, sample.below) / sums
        spread = _dot(powers, squares) / sums - slope**2
        step = (1 / shapes + mean - slope) / (1 / shapes**2 + np.maximum(spread, 0.0))
        shapes = np.clip(np.clip(shapes + step, shapes / 3, shapes * 3), LEAST, MOST)
    powers = _powers(responsible, sample.below, shapes).sum(axis=-1, keepdims=True)
    scales = np.exp(sample.top + np.log(np.maximum(powers, FLOOR) / mass) / shapes)
    return Mixture(np.concatenate([first, 1 - first], axis=1), shapes, np.maximum(scales, LEAST))


def _powers(responsible: FloatArray, below: FloatArray, shapes: FloatArray) -> FloatArray:
    powers = below[:, None] * shapes
    np.exp(powers, out=powers)
    powers *= responsible
    return powers


def _dot(parts: FloatArray, values: FloatArray) -> FloatArray:
    """Sums of products, shape [rows, 2, 1]."""
    found: FloatArray = np.einsum("rpn,rn->rp", parts, values)[..., None]
    return found


def _gamma(x: FloatArray) -> FloatArray:
    return np.array([math.gamma(min(v, 170.0)) for v in x.ravel().tolist()]).reshape(x.shape)
