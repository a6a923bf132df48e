"""The mean of numeric answers, for regression (an estimate of a quantity rather than a choice among answers)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from thinkscale.registry import spec
from thinkscale.selection.ballots import FloatArray
from thinkscale.selection.numeric import Centre, Estimate, Numeric


@spec
class Mean(Numeric):
    """The attempt whose number lies nearest to the mean of all numbers; `estimate` gives the mean itself."""

    @property
    def centred(self) -> Centre:
        """The mean."""
        return Centre.mean

    def centre(self, values: FloatArray) -> FloatArray:
        """The mean of the numbers of each pool."""
        known = np.isfinite(values)
        mean: FloatArray = np.where(known, values, 0.0).sum(axis=-1) / np.maximum(known.sum(axis=-1), 1)
        return mean

    def interval(self, values: Sequence[float]) -> Estimate:
        """The mean with its normal 95 % interval; unbounded for a single number."""
        n = len(values)
        mean = math.fsum(v / n for v in values)
        if n < 2:
            return Estimate(value=mean, low=-math.inf, high=math.inf, count=n)
        deviation = math.hypot(*(v - mean for v in values)) / math.sqrt(n - 1)
        reach = NormalDist().inv_cdf(0.975) * deviation / math.sqrt(n)
        return Estimate(value=mean, low=mean - reach, high=mean + reach, count=n)
