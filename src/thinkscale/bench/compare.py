"""Results as rows of a table: each method against majority vote at equal tokens, paired by question."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinkscale.bench.experiment import Result
from thinkscale.bench.majority import majority_at_k
from thinkscale.bench.stats import Interval, paired_difference, wilson

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method in the comparison; shares are in [0, 1]."""

    method: str
    questions: int
    accuracy: float
    interval: Interval
    """95 %, Wilson, by question."""
    tokens: float
    """Generated tokens per question."""
    calls: float
    seconds: float
    votes: float
    """Attempts of a majority vote that cost the same number of tokens."""
    capped: bool
    """Whether the pool of the baseline has fewer attempts than that: all of them vote then."""
    difference: float
    """Accuracy minus that of majority vote at equal tokens."""
    low: float
    """Lower end of the 95 % interval of the difference: bootstrap over questions, paired."""
    high: float
    p: float
    """Two-sided, of the difference."""


def rows(results: Sequence[tuple[str, Sequence[Result]]], baseline: Sequence[Result]) -> list[Row]:
    """One row per method.

    Args:
        results: spec and results of every method, the same questions in the same order.
        baseline: results of a majority vote over a fixed number of attempts, whose attempts are resampled: exactly,
            over all subsets of each size, equal shares split.
    """
    return [_row(method, found, baseline) for method, found in results]


def majority_at_tokens(baseline: Sequence[Result], tokens: float) -> tuple[Floats, float, bool]:
    """Per question, how often a majority vote is right that costs `tokens` per question.

    Votes are whole: between two numbers of attempts the accuracy is interpolated.

    Returns:
        The shares, shape [Q]; how many attempts that is; and whether the pool has fewer.
    """
    attempts = sum(r.votes.total for r in baseline if r.votes)
    drawn = sum(r.drawn for r in baseline)
    wanted = max(1.0, tokens * attempts / max(1, drawn))
    least = max(1, min(r.votes.total for r in baseline if r.votes))
    votes = min(wanted, float(least))
    below, part = math.floor(votes), votes - math.floor(votes)
    at = _majority(baseline, below)
    if part:
        at = (1 - part) * at + part * _majority(baseline, below + 1)
    return at, votes, wanted > least


def _majority(baseline: Sequence[Result], k: int) -> Floats:
    # A budget may have bought no attempt at some question: nobody is right there.
    return np.array([majority_at_k(r.votes, k) if r.votes.total else 0.0 for r in baseline if r.votes])


def _row(method: str, found: Sequence[Result], baseline: Sequence[Result]) -> Row:
    right = np.array([r.right for r in found], float)
    tokens = float(np.mean([r.tokens for r in found]))
    at_equal, votes, capped = majority_at_tokens(baseline, tokens)
    paired = paired_difference(right, at_equal) if len(right) > 1 else None
    return Row(
        method=method,
        questions=len(found),
        accuracy=float(right.mean()),
        interval=wilson(int(right.sum()), len(right)),
        tokens=tokens,
        calls=float(np.mean([r.calls for r in found])),
        seconds=sum(r.seconds for r in found),
        votes=votes,
        capped=capped,
        difference=float((right - at_equal).mean()),
        low=paired.low if paired else math.nan,
        high=paired.high if paired else math.nan,
        p=paired.p if paired else math.nan,
    )
