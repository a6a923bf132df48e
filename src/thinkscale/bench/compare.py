"""Results as rows of tables: each method against majority vote at equal tokens, and two against each other."""

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
    """Tied answers count in equal parts, as in every figure here."""
    interval: Interval
    """95 %, Wilson, by question."""
    needed: float
    """Generated tokens per question that the method needed: what it is compared at."""
    paid: float
    """Generated tokens per question that it was charged."""
    calls: float
    seconds: float | None
    """In all; `None` where some of its draws were found in the store, as their time is that of another method."""
    silent: float
    """Share of the attempts without an answer."""
    cut: float
    """Share of the attempts that ended at their cap or at the end of the budget."""
    majority: float
    """Accuracy of majority vote at equal tokens."""
    votes: float
    """Attempts of a majority vote that cost the same number of tokens."""
    capped: bool
    """Whether the pool of the baseline has fewer attempts than that: all of them vote then."""
    difference: float
    """Accuracy minus `majority`."""
    low: float
    """Lower end of the 95 % interval of the difference: bootstrap over questions, paired."""
    high: float
    p: float
    """Two-sided, of the difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One method against another, each as it is: on the same questions, paired, at the tokens that each needs."""

    method: str
    against: str
    difference: float
    """Accuracy of the first minus that of the second, in [−1, 1]."""
    low: float
    """Lower end of the 95 % interval; NaN for a single question, and so are the next two."""
    high: float
    p: float
    tokens: float
    """Tokens that the first needs, as a multiple of those of the second; infinite where the second needs none."""


def pair(one: tuple[str, Sequence[Result]], other: tuple[str, Sequence[Result]]) -> Pair:
    """One method against another.

    Args:
        one: spec and results, one result or more.
        other: the same of the method whose accuracy is subtracted, on the same questions in the same order.
    """
    right, theirs = (np.array([r.credit for r in found]) for _, found in (one, other))
    paired = paired_difference(right, theirs) if len(right) > 1 else None
    own, base = (sum(r.needed for r in found) for _, found in (one, other))
    return Pair(
        method=one[0],
        against=other[0],
        difference=float((right - theirs).mean()),
        low=paired.low if paired else math.nan,
        high=paired.high if paired else math.nan,
        p=paired.p if paired else math.nan,
        tokens=own / base if base else math.inf,
    )


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
    right = np.array([r.credit for r in found], float)
    needed = float(np.mean([r.needed for r in found]))
    at_equal, votes, capped = majority_at_tokens(baseline, needed)
    paired = paired_difference(right, at_equal) if len(right) > 1 else None
    attempts = max(1, sum(r.attempts for r in found))
    return Row(
        method=method,
        questions=len(found),
        accuracy=float(right.mean()),
        interval=wilson(float(right.sum()), len(right)),
        needed=needed,
        paid=float(np.mean([r.paid for r in found])),
        calls=float(np.mean([r.calls for r in found])),
        seconds=None if any(r.replayed for r in found) else sum(r.seconds for r in found),
        silent=sum(r.silent for r in found) / attempts,
        cut=sum(r.cut for r in found) / attempts,
        majority=float(at_equal.mean()),
        votes=votes,
        capped=capped,
        difference=float((right - at_equal).mean()),
        low=paired.low if paired else math.nan,
        high=paired.high if paired else math.nan,
        p=paired.p if paired else math.nan,
    )
