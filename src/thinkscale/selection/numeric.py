"""What rules for numeric answers share: numbers are read off the answers, and the nearest attempt stands for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from thinkscale.registry import spec
from thinkscale.selection.ballots import Ballots, FloatArray, Way
from thinkscale.selection.picking import Picking
from thinkscale.selection.readings import number_of
from thinkscale.types import Trace


class Centre(StrEnum):
    """Centres of numbers that can be found for many subsets at once."""

    mean = "mean"
    median = "median"
    other = "other"
    """By `centre` alone, which is slow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number that a pool estimates, with a 95 % interval of what many more attempts would give."""

    value: float
    low: float
    """Minus infinity where the pool is too small for an interval."""
    high: float
    count: int
    """Attempts that answered with a number."""


@spec
class Numeric(Picking):
    """A pool's numbers have a centre; the attempt nearest to it wins, so that the answer is one that was given.

    Answers that are not numbers are left aside; where none is a number, the most frequent answer wins.
    """

    @property
    def way(self) -> Way:
        """The centre is that of the subset."""
        return Way.alone

    @property
    def centred(self) -> Centre:
        """Which centre it is."""
        return Centre.other

    def centre(self, values: FloatArray) -> FloatArray:
        """The centre of each pool of numbers, shape [...] for [..., n]; those that are not finite do not count."""
        raise NotImplementedError

    def interval(self, values: Sequence[float]) -> Estimate:
        """The centre of at least one number, and how sure it is."""
        raise NotImplementedError

    def estimate(self, traces: Sequence[Trace]) -> Estimate | None:
        """The centre of a pool itself, which need not be anybody's answer; `None` without a number."""
        values = [v for t in traces if (v := number_of(t)) is not None]
        return self.interval(values) if values else None

    def read(self, trace: Trace) -> float:
        """The number."""
        value = number_of(trace)
        return -math.inf if value is None else value

    def judged(self, ballots: Ballots) -> FloatArray:
        """Minus the distance to the centre of the pool."""
        values = np.where(ballots.votes, ballots.scores, -math.inf)
        known = np.isfinite(values)
        away = np.abs(np.where(known, values, 0.0) - self.centre(values)[..., None])
        return np.where(known, -away, -math.inf)
