"""Resampling against an imperfect verifier: what K attempts are worth (Stroebl et al. 2024, "Inference Scaling fLaws").

An attempt is drawn and checked until one is accepted or K were drawn. It knows probabilities alone, no samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from thinkscale.errors import BenchError


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskClass:
    """Tasks that are equally hard."""

    share: float
    """Part of all tasks that are of this class, in [0, 1]; the shares of all classes sum to 1."""
    correct: float
    """Probability that one attempt is correct, r, in [0, 1]."""

    def __post_init__(self) -> None:
        _check_probabilities(share=self.share, correct=self.correct)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """Who checks attempts, and what following its verdict is worth."""

    accepts_correct: float = 1.0
    """Probability that a correct attempt is accepted, c, in [0, 1]."""
    rejects_wrong: float
    """Probability that a wrong attempt is rejected, s, in [0, 1]."""
    worth_correct: float = 1.0
    """Value of an accepted correct attempt, V_c."""
    worth_wrong: float
    """Value of an accepted wrong attempt, V_f; negative when it does harm."""

    def __post_init__(self) -> None:
        _check_probabilities(accepts_correct=self.accepts_correct, rejects_wrong=self.rejects_wrong)

    def accepted(self, task: TaskClass) -> float:
        """Probability that one attempt is accepted, 1 − β = c·r + (1 − s)(1 − r)."""
        return self._right(task) + self._wrong(task)

    def accuracy(self, task: TaskClass) -> float:
        """Probability that an accepted attempt is correct, A = c·r / (1 − β): the same after any number of attempts.

        Not a number where nothing is ever accepted.
        """
        accepted = self.accepted(task)
        return self._right(task) / accepted if accepted else math.nan

    def worth(self, task: TaskClass) -> float:
        """Expected value of one attempt: c·r·V_c + (1 − s)(1 − r)·V_f."""
        return self._right(task) * self.worth_correct + self._wrong(task) * self.worth_wrong

    def _right(self, task: TaskClass) -> float:
        return self.accepts_correct * task.correct

    def _wrong(self, task: TaskClass) -> float:
        return (1 - self.rejects_wrong) * (1 - task.correct)


def expected_worth(attempts: int, tasks: Sequence[TaskClass], verifier: Verifier) -> float:
    """Expected value of up to `attempts` attempts at a task; nothing accepted is worth 0.

    E(K) = Σ_{k=1..K} Σ_t p_t β_t^{k−1} (c·r_t·V_c + (1 − s)(1 − r_t)·V_f). The authors' notebook weighs reward and
    survival by the posterior, which counts it twice: its best K is the same, its values are not.

    Raises:
        BenchError: fewer than one attempt, or shares that do not sum to 1.
    """
    _check(attempts, tasks)
    return math.fsum(t.share * verifier.worth(t) * _until(attempts, t, verifier) for t in tasks)


def best_attempts(tasks: Sequence[TaskClass], verifier: Verifier, *, most: int = 100) -> int:
    """The number of attempts from 1 to `most` that is worth most; the smallest of equals.

    Raises:
        BenchError: `most` is below 1, or the shares do not sum to 1.
    """
    _check(most, tasks)
    return max(range(1, most + 1), key=lambda k: (expected_worth(k, tasks, verifier), -k))


def overall_accuracy(attempts: float, tasks: Sequence[TaskClass], verifier: Verifier) -> float:
    """Part of the accepted answers that are correct, over all classes, after up to `attempts` (`math.inf`: any number).

    Σ_t p_t (1 − β_t^K) A_t / Σ_t p_t (1 − β_t^K): it falls with K when hard tasks are the ones that survive.

    Returns:
        Not a number when nothing is ever accepted.

    Raises:
        BenchError: fewer than one attempt, or shares that do not sum to 1.
    """
    _check(attempts, tasks)
    taken = [(t, t.share * (1 - (1 - a) ** attempts)) for t in tasks if (a := verifier.accepted(t))]
    total = math.fsum(part for _, part in taken)
    return math.fsum(part * verifier.accuracy(t) for t, part in taken) / total if total else math.nan


def _until(attempts: int, task: TaskClass, verifier: Verifier) -> float:
    """Mean number of attempts made, Σ_{k<K} β^k."""
    return math.fsum((1 - verifier.accepted(task)) ** k for k in range(attempts))


def _check(attempts: float, tasks: Sequence[TaskClass]) -> None:
    if attempts < 1:
        raise BenchError(f"the value of `{attempts}` attempts was asked for: ask for at least 1")
    if abs((total := math.fsum(t.share for t in tasks)) - 1) > 1e-9:
        raise BenchError(f"the shares of the task classes sum to `{total:g}`: make them sum to 1")


def _check_probabilities(**given: float) -> None:
    for name, value in given.items():
        if not 0 <= value <= 1:
            raise BenchError(f"`{name}={value}` is not a probability: give a number from 0 to 1")
