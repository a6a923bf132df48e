"""Accept or escalate by conformal rank (Xiong et al. 2025, ATTS): a gate that rejects what is unlike its calibration.

Pure numbers. What a gate promises is one thing: of what is exchangeable with its calibration it rejects at most a part
alpha. It says nothing of correctness.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thinkscale.errors import BenchError


@dataclass(frozen=True, slots=True)
class ConformalGate:
    """Accepts a score unless it is among the largest.

    The p-value is (1 + #{calibration ≥ x}) / (n + 1), and x is accepted iff p > α. The released code compares the
    percentile #{calibration < x} / n with a fixed .6 instead, which bounds nothing.

    Raises:
        BenchError: alpha is not between 0 and 1, a score is not a number, or there are too few ever to reject.
    """

    calibration: tuple[float, ...]
    """Scores of what should pass, such as perplexities of drafts; larger is worse."""
    alpha: float
    """Bound on the part of draft-like scores that is rejected, in (0, 1)."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise BenchError(f"a gate at `alpha={self.alpha}` was asked for: choose a number between 0 and 1")
        if any(math.isnan(score) for score in self.calibration):
            raise BenchError("a gate was calibrated on a score that is not a number: leave that one out")
        if not _enough(len(self.calibration), self.alpha):
            raise BenchError(
                f"a gate at `alpha={self.alpha:g}` on {len(self.calibration)} scores can reject nothing: calibrate on "
                f"at least {math.ceil(1 / self.alpha) - 1}"
            )

    def p_value(self, score: float) -> float:
        """In [1 / (n + 1), 1]; what is not a number ranks as the largest."""
        return (1 + sum(c >= score for c in self.calibration)) / (len(self.calibration) + 1)

    def accepts(self, score: float) -> bool:
        """Whether the score passes; otherwise escalate."""
        return self.p_value(score) > self.alpha


def conformal_gate(calibration: Sequence[float], alpha: float) -> ConformalGate:
    """A gate on the scores of a calibration set; `ConformalGate` says what it promises."""
    return ConformalGate(tuple(calibration), alpha)


@dataclass(frozen=True, slots=True)
class TurnGates:
    """One gate per turn, calibrated on other questions than those it is used on.

    Later turns are not exchangeable with the first, and neither is a question with its own calibration: the released
    code pools turn 0 of the test questions.
    """

    gates: tuple[ConformalGate, ...]
    """The gate of turn 0, 1, …, as far as there were scores enough."""
    calibrated_on: frozenset[str]
    """Ids of the questions behind the gates."""

    def accepts(self, question: str, turn: int, score: float) -> bool:
        """Whether a score of this turn passes.

        Raises:
            BenchError: the question was calibrated on, or the turn has no gate.
        """
        if question in self.calibrated_on:
            raise BenchError(f"the question `{question}` calibrated these gates: test on other questions")
        if not 0 <= turn < len(self.gates):
            raise BenchError(f"turn {turn} was never calibrated: there are gates for {len(self.gates)} turns from 0")
        return self.gates[turn].accepts(score)


def turn_gates(calibration: Mapping[str, Sequence[float]], alpha: float) -> TurnGates:
    """Gates for as many turns as there are scores enough of.

    Args:
        calibration: id of a question → the scores of its turns, in order; a draft that ended early has fewer.
        alpha: bound on the part of draft-like scores that is rejected, per turn.

    Raises:
        BenchError: as `ConformalGate`, when already turn 0 has too few scores.
    """
    longest = max(map(len, calibration.values()), default=0)
    by_turn = [tuple(scores[turn] for scores in calibration.values() if turn < len(scores)) for turn in range(longest)]
    first = ConformalGate(by_turn[0] if by_turn else (), alpha)
    enough = [scores for scores in by_turn[1:] if _enough(len(scores), alpha)]
    gates = (first, *(ConformalGate(scores, alpha) for scores in enough))
    return TurnGates(gates, frozenset(calibration))


def _enough(scores: int, alpha: float) -> bool:
    """Whether the smallest p-value, 1 / (n + 1), is within alpha."""
    return 1 / (scores + 1) <= alpha
