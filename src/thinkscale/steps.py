"""An answer as a sequence of steps, and the scores of steps as one. Pure functions that know no models."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

BLANK_LINE = "\n\n"
"""What ends a step, in nearly all work on step search and process reward models."""
_LEAST = 1e-7
"""Probabilities are kept this far from 0 and 1 where their logit is taken."""


def split_steps(text: str, mark: str = BLANK_LINE) -> tuple[str, ...]:
    """The steps of a text: each but the last ends with the mark, none is blank, and joined they give the text back.

    What is blank between two marks belongs to the step before it, or to the first one; a blank text is one step, and
    the empty text has none.
    """
    pieces = text.split(mark)
    steps: list[str] = []
    for piece in [*(piece + mark for piece in pieces[:-1]), pieces[-1]]:
        if steps and (not piece.strip() or not steps[-1].strip()):
            steps[-1] += piece
        elif piece:
            steps.append(piece)
    return tuple(steps)


def _product(scores: Sequence[float]) -> float:
    return math.prod(_probabilities(scores))


def _mean(scores: Sequence[float]) -> float:
    return math.fsum(scores) / len(scores)


def _mean_logit(scores: Sequence[float]) -> float:
    """σ of the mean of log(p / (1 − p))."""
    kept = [min(max(p, _LEAST), 1 - _LEAST) for p in _probabilities(scores)]
    return 1 / (1 + math.exp(-_mean([math.log(p / (1 - p)) for p in kept])))


def _probabilities(scores: Sequence[float]) -> Sequence[float]:
    outside = next((score for score in scores if not 0 <= score <= 1), None)
    if outside is not None:
        raise ValueError(f"the step score {outside:g} is no probability")
    return scores


REDUCTIONS: dict[str, Callable[[Sequence[float]], float]] = {
    "last": lambda scores: scores[-1],
    "min": min,
    "mean": _mean,
    "prod": _product,
    "mean-logit": _mean_logit,
}
"""From the scores of at least one step to one. The last two raise `ValueError` where a score is no probability."""
