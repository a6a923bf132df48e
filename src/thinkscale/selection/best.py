"""The answer of the attempt with the highest score (best-of-n)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from thinkscale.registry import spec
from thinkscale.selection.votes import attempts, elected, tally
from thinkscale.types import Ranking, Trace


@spec
class Best:
    """The highest last score among the traces with an answer wins; ties go to the trace seen first.

    A trace without a score, or with one that is not a number, ranks last; where none could be judged, the most frequent
    answer wins. Confidence is the share of attempts that agree with the winner's answer: scores have no common scale.
    """

    def __call__(self, traces: Sequence[Trace]) -> Ranking:
        """Rank a pool by its last scores."""
        answered = [t for t in traces if t.answer is not None]
        if not answered:
            return elected(traces, (), total=0)
        best = max(answered, key=last_score)
        votes = tally(traces)
        if last_score(best) == -math.inf:
            return elected(traces, votes, total=len(attempts(traces)))
        agree = next(v.count for v in votes if best.answer is not None and v.key == best.answer.key)
        return Ranking(best=best, votes=votes, confidence=agree / len(attempts(traces)))


def last_score(trace: Trace) -> float:
    """The value that the latest scorer gave, minus infinity without one."""
    if not trace.scores or math.isnan(trace.scores[-1].value):
        return -math.inf
    return trace.scores[-1].value
