"""How hard a question is for one model: five quantiles (Snell et al. 2024) or absolute bins (Liu et al. 2025).

Both are read from a pilot of samples, whose cost belongs to whatever policy is built on them (`allocate/policy.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from thinkscale.errors import BenchError


class Difficulty(StrEnum):
    """Bins by pass@1 itself, for models whose quantiles would all be easy."""

    easy = "easy"
    """Pass@1 of 50 % or more."""
    medium = "medium"
    """From 10 % to under 50 %."""
    hard = "hard"
    """Under 10 %."""


def absolute_difficulty(pass_at_1: float) -> Difficulty:
    """The bin of a question whose pass@1 is in [0, 1].

    Raises:
        BenchError: it is not a probability.
    """
    if not 0 <= pass_at_1 <= 1:
        raise BenchError(f"a pass@1 of `{pass_at_1}` has no bin: give a number from 0 to 1")
    if pass_at_1 >= 0.5:
        return Difficulty.easy
    return Difficulty.medium if pass_at_1 >= 0.1 else Difficulty.hard


@dataclass(frozen=True, slots=True)
class Quintiles:
    """Five levels of difficulty with a fifth of the questions each; level 1 is the easiest.

    Where many questions share a value the fifths are uneven, and where all do every question is of level 1.
    """

    edges: tuple[float, float, float, float]
    """The 20th, 40th, 60th and 80th percentile, interpolated linearly, of what was measured on the pilot."""

    @classmethod
    def of(cls, measured: Sequence[float]) -> Quintiles:
        """The levels of a pilot, of which `measured` has one number per question, larger meaning easier.

        Raises:
            BenchError: there are fewer than five questions, or one was not measured.
        """
        if len(measured) < 5 or any(math.isnan(m) for m in measured):
            raise BenchError(
                f"five levels need a number for each of at least 5 questions, and these are {list(measured)[:8]}: "
                f"measure more questions, or use absolute bins"
            )
        first, second, third, fourth = (float(q) for q in np.quantile(measured, (0.2, 0.4, 0.6, 0.8)))
        return cls((first, second, third, fourth))

    def level(self, measured: float) -> int:
        """The level of a question, 1 to 5: one more for every edge that it stays strictly under."""
        return 1 + sum(measured < edge for edge in self.edges)


def oracle_levels(correct: Sequence[Sequence[bool]]) -> list[int]:
    """Level of every question from the verdicts on its samples: quintiles of pass@1 (2048 samples in the paper)."""
    return _levels([_mean(verdicts) for verdicts in correct])


def predicted_levels(scores: Sequence[Sequence[float]]) -> list[int]:
    """Level of every question from a verifier's final score of each sample: quintiles of the mean; needs no labels."""
    return _levels([_mean(values) for values in scores])


def _levels(measured: Sequence[float]) -> list[int]:
    bins = Quintiles.of(measured)
    return [bins.level(m) for m in measured]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
