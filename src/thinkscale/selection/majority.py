"""Plurality vote over answers (Wang et al. 2022, self-consistency)."""

from __future__ import annotations

from collections.abc import Sequence

from thinkscale.registry import spec
from thinkscale.selection.votes import attempts, elected, tally
from thinkscale.types import Ranking, Trace


@spec
class Majority:
    """The most frequent answer wins; ties go to the answer seen first.

    Confidence is the winner's share of all attempts, those without an answer included.
    """

    def __call__(self, traces: Sequence[Trace]) -> Ranking:
        """Count the votes of a pool."""
        return elected(traces, tally(traces), total=len(attempts(traces)))
