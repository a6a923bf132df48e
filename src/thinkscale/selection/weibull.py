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
        z = self.shapes * (log_x[:, None, :] - np.log(self.scales))
        return np.log(self.weights * self.shapes) - log_x[:, None, :] + z - np.exp(np.minimum(z, 700.0))


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
    rows = len(log_x)
    w, k1, l1, k2, l2 = START
    whole = Mixture(
        np.tile(np.array([[w], [1 - w]]), (rows, 1, 1)),
        np.tile(np.array([[k1], [k2]]), (rows, 1, 1)),
        np.tile(np.array([[l1], [l2]]), (rows, 1, 1)),
    )
    best = np.full(rows, -np.inf)
    active = np.arange(rows)
    for _ in range(STEPS):
        now = Mixture(whole.weights[active], whole.shapes[active], whole.scales[active])
        responsible, likelihood = _expect(now, log_x[active], mask[active])
        # A row that no longer gains, or that is no longer a number, keeps what it has.
        gains = likelihood - best[active] > TOLERANCE
        best[active] = likelihood
        active = active[gains]
        if not active.size:
            break
        better = _maximised(responsible[gains], log_x[active], mask[active], whole.shapes[active])
        whole.weights[active], whole.shapes[active], whole.scales[active] = (
            better.weights,
            better.shapes,
            better.scales,
        )
    return whole


def _posterior(x: FloatArray, mask: BoolArray) -> BoolArray:
    log_x = np.log(np.where(mask, x, 1.0))
    mixture = fitted(log_x, mask)
    means = mixture.scales * _gamma(1 + 1 / mixture.shapes)
    parts = np.exp(mixture.log_parts(log_x))
    second = means[:, 1] > means[:, 0]
    upper = np.where(second, parts[:, 1], parts[:, 0])
    likely: BoolArray = upper >= 0.5 * (parts.sum(axis=1) + FLOOR)
    return likely


def _expect(mixture: Mixture, log_x: FloatArray, mask: BoolArray) -> tuple[FloatArray, FloatArray]:
    parts = np.maximum(mixture.log_parts(log_x), math.log(FLOOR))
    total = np.logaddexp(parts[:, 0], parts[:, 1])
    responsible = np.where(mask[:, None], np.exp(parts - total[:, None]), 0.0)
    return responsible, np.where(mask, total, 0.0).sum(axis=-1)


def _maximised(responsible: FloatArray, log_x: FloatArray, mask: BoolArray, shapes: FloatArray) -> Mixture:
    mass = np.maximum(responsible.sum(axis=-1, keepdims=True), FLOOR)
    first = np.clip(mass[:, :1] / mask.sum(axis=-1)[:, None, None], *WEIGHTS)
    top = np.where(mask, log_x, -np.inf).max(axis=-1)[:, None, None]
    below = np.where(mask[:, None], log_x[:, None] - top, 0.0)
    mean = (responsible * below).sum(axis=-1, keepdims=True) / mass
    for _ in range(NEWTON_STEPS):
        powers = responsible * np.exp(shapes * below)
        sums = np.maximum(powers.sum(axis=-1, keepdims=True), FLOOR)
        slope = (powers * below).sum(axis=-1, keepdims=True) / sums
        spread = (powers * below**2).sum(axis=-1, keepdims=True) / sums - slope**2
        step = (1 / shapes + mean - slope) / (1 / shapes**2 + np.maximum(spread, 0.0))
        shapes = np.clip(np.clip(shapes + step, shapes / 3, shapes * 3), LEAST, MOST)
    powers = (responsible * np.exp(shapes * below)).sum(axis=-1, keepdims=True)
    scales = np.exp(top + np.log(np.maximum(powers, FLOOR) / mass) / shapes)
    return Mixture(np.concatenate([first, 1 - first], axis=1), shapes, np.maximum(scales, LEAST))


def _gamma(x: FloatArray) -> FloatArray:
    return np.array([math.gamma(min(v, 170.0)) for v in x.ravel().tolist()]).reshape(x.shape)
