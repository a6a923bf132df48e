"""The median of numeric answers, for regression with attempts that may be far off."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from thinkscale.registry import spec
from thinkscale.selection.ballots import FloatArray
from thinkscale.selection.numeric import Centre, Estimate, Numeric


@spec
class Median(Numeric):
    """The attempt whose number lies nearest to the median of all numbers; `estimate` gives the median itself."""

    @property
    def centred(self) -> Centre:
        """The median."""
        return Centre.median

    def centre(self, values: FloatArray) -> FloatArray:
        """The median of the numbers of each pool, the midpoint of the two middle ones for an even count."""
        if not values.shape[-1]:
            return np.zeros(values.shape[:-1])
        ordered = np.sort(np.where(np.isfinite(values), values, np.inf), axis=-1)
        count = np.maximum(np.isfinite(values).sum(axis=-1, keepdims=True), 1)
        low = np.take_along_axis(ordered, (count - 1) // 2, axis=-1)[..., 0]
        high = np.take_along_axis(ordered, count // 2, axis=-1)[..., 0]
        return np.where(low == high, low, low / 2 + high / 2)

    def interval(self, values: Sequence[float]) -> Estimate:
        """The median with the order statistics between which it lies with at least 95 %, whatever the distribution."""
        ordered, n = sorted(values), len(values)
        value = float(self.centre(np.array(ordered)))
        below, tail = 0, 1.0
        # The l-th smallest number is above the median with the probability of fewer than l heads in n throws.
        while tail <= 0.025 * 2**n and below < n // 2:
            below += 1
            tail += math.comb(n, below)
        if not below:
            return Estimate(value=value, low=-math.inf, high=math.inf, count=n)
        return Estimate(value=value, low=ordered[below - 1], high=ordered[n - below], count=n)
