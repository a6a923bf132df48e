"""The compute-optimal policy: the best strategy for each bin of difficulty and each budget (Snell et al. 2024).

A strategy is a name, such as the spec string of a method; what it scored was measured elsewhere. What search is
best depends on the reward model that steers it (Liu et al. 2025): there a strategy is a method with its reward model.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from thinkscale.errors import BenchError

B = TypeVar("B", bound=Hashable)
Measured = Mapping[str, Sequence[float]]
"""Strategy → accuracy in [0, 1] of every question of a bin, the questions in the same order for all strategies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice(Generic[B]):
    """What is best for one bin at one budget."""

    bin: B
    budget: float
    strategy: str
    """The best on all questions of the bin: for questions that are not in the table."""
    held_out: tuple[str, ...]
    """The best without each fold, in the order of folds: for the questions of that fold."""
    accuracy: float
    """Mean over the questions, each under the strategy that was chosen without its fold; in [0, 1]."""
    questions: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """The policy at one budget, over all bins."""

    cost: float
    """Budget and pilot together, per question."""
    accuracy: float
    """Held out, each question counting once; in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(Generic[B]):
    """Which strategy to use, and what it was worth on questions that had no say in choosing it."""

    choices: tuple[Choice[B], ...]
    pilot: float
    """Cost per question of finding its bin, in the unit of the budgets."""

    def __call__(self, bin: B, budget: float) -> str:
        """The strategy for a question of this bin: that of the largest budget in the table which `budget` covers.

        Raises:
            BenchError: the bin is not in the table, or all its budgets are larger.
        """
        covered = [c for c in self.choices if c.bin == bin and c.budget <= budget]
        if not covered:
            known = sorted({c.budget for c in self.choices if c.bin == bin})
            raise BenchError(
                f"no strategy is known for bin `{bin}` at budget `{budget:g}`: its budgets are {known}; measure more"
            )
        return max(covered, key=lambda c: c.budget).strategy

    def curve(self) -> list[CurvePoint]:
        """Held-out accuracy at each budget that every bin has, by increasing cost, the pilot counted.

        The paper leaves the pilot out of its curves, and says so.
        """
        bins = {c.bin for c in self.choices}
        points = []
        for budget in sorted({c.budget for c in self.choices}):
            at = [c for c in self.choices if c.budget == budget]
            if len(at) == len(bins):
                accuracy = math.fsum(c.accuracy * c.questions for c in at) / sum(c.questions for c in at)
                points.append(CurvePoint(cost=budget + self.pilot, accuracy=accuracy))
        return points


def fit_policy(table: Mapping[B, Mapping[float, Measured]], *, pilot: float, folds: int = 2) -> Policy[B]:
    """Choose the best strategy for every bin and budget by cross-validation inside the bin.

    Question j is in fold j mod `folds`; it is evaluated under the strategy that is best without its fold, so no
    question takes part in choosing what it is judged by. Of equally good strategies the first in the table is taken.

    Args:
        table: bin → budget → strategy → accuracy per question.
        pilot: cost per question of finding its bin, in the unit of the budgets. Samples of the pilot that the
            strategy uses again are part of its budget and do not count here.
        folds: two in the paper.

    Raises:
        BenchError: a bin has fewer questions than folds, no strategy, or strategies measured on different questions.
    """
    choices = [
        _choice(bin, budget, measured, folds) for bin, budgets in table.items() for budget, measured in budgets.items()
    ]
    return Policy(choices=tuple(choices), pilot=pilot)


def _choice(bin: B, budget: float, measured: Measured, folds: int) -> Choice[B]:
    sizes = {len(accuracies) for accuracies in measured.values()}
    if len(sizes) != 1 or min(sizes) < folds or folds < 2:
        raise BenchError(
            f"bin `{bin}` at budget `{budget:g}` was measured on {sorted(sizes)} questions: give every strategy the "
            f"same ones, and at least as many as the {folds} folds, which are 2 or more"
        )
    [n] = sizes
    held_out = [_best(measured, [j for j in range(n) if j % folds != fold]) for fold in range(folds)]
    accuracy = math.fsum(measured[held_out[j % folds]][j] for j in range(n)) / n
    strategy = _best(measured, range(n))
    return Choice(bin=bin, budget=budget, strategy=strategy, held_out=tuple(held_out), accuracy=accuracy, questions=n)


def _best(measured: Measured, questions: Sequence[int]) -> str:
    return max(measured, key=lambda name: math.fsum(measured[name][j] for j in questions))
