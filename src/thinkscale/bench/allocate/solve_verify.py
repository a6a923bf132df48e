"""When to draw more solutions and when to verify more (Singhi et al. 2025): costs, frontier, best split, power law.

A point is S solutions with V verifications each. It knows accuracies that were measured, never how.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thinkscale.errors import BenchError


def cost(solutions: int, verifications: int, ratio: float) -> float:
    """What a point costs, in solutions: C = S·(1 + λ·V); self-consistency is V = 0.

    Args:
        solutions: S.
        verifications: V, of each solution.
        ratio: λ, tokens of a verification per token of a solution: 1 for a base model, 2 for a fine-tuned verifier.
    """
    return solutions * (1 + ratio * verifications)


def flops(parameters: float, generated: float, read: float = 0) -> float:
    """Floating-point operations of a dense model: 2·P per token, generated or read.

    The paper counts generated tokens alone; every verification reads its solution again, so `read` should not be 0.
    """
    return 2 * parameters * (generated + read)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One way to split compute, and what it gave."""

    solutions: int
    """S, at least 1."""
    verifications: int
    """V of each solution; 0 is plain voting."""
    cost: float
    """In any unit, the same for all points."""
    accuracy: float
    """In [0, 1]."""


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that none dominates, by increasing cost.

    One dominates another when it costs no more and is no less accurate, and is better in one of the two; so points that
    are equal in both all stay.
    """
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost, -p.accuracy)):
        last = kept[-1] if kept else None
        if last is None or point.accuracy > last.accuracy or _level(point, last):
            kept.append(point)
    return kept


def best_split(points: Sequence[Point], budget: float) -> Point:
    """The most accurate point that costs at most `budget`; of equals the cheapest, then the one with fewest checks.

    Raises:
        BenchError: none is that cheap.
    """
    within = [p for p in points if p.cost <= budget]
    if not within:
        raise BenchError(f"none of {len(points)} points costs `{budget:g}` or less: measure cheaper ones")
    return max(within, key=lambda p: (p.accuracy, -p.cost, -p.verifications))


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerLaw:
    """y = factor · C^exponent, by least squares in log-log."""

    factor: float
    exponent: float

    def __call__(self, budget: float) -> float:
        """The value at a budget."""
        return float(self.factor * budget**self.exponent)


def fit_power_law(budgets: Sequence[float], values: Sequence[float]) -> PowerLaw:
    """Fit how a quantity, such as the best S or the best V, grows with the budget.

    The paper finds exponents of .57 for S and .39 for V (Llama-3.1-8B on MATH). A best V of 0 has no logarithm: leave
    those budgets out, and say so.

    Raises:
        BenchError: fewer than 4 different budgets, not one value for each, or a number that is not positive.
    """
    if len(budgets) != len(values):
        raise BenchError(f"a power law saw {len(budgets)} budgets and {len(values)} values: give one value per budget")
    if len(set(budgets)) < 4:
        raise BenchError(f"a power law was asked of {len(set(budgets))} budgets: measure at least 4 different ones")
    if min(*budgets, *values) <= 0 or not all(map(math.isfinite, (*budgets, *values))):
        raise BenchError("a power law was asked of numbers that are not all positive: leave those budgets out")
    slope, intercept = np.polyfit(np.log(budgets), np.log(values), 1)
    return PowerLaw(factor=math.exp(intercept), exponent=float(slope))


def _level(one: Point, other: Point) -> bool:
    return (one.cost, one.accuracy) == (other.cost, other.accuracy)
