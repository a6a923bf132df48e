"""The answer of the attempt with the highest score (best-of-n; Stiennon et al. 2020)."""

from __future__ import annotations

from thinkscale.needs import Needs
from thinkscale.registry import spec
from thinkscale.selection.picking import Picking
from thinkscale.selection.readings import last_score
from thinkscale.types import Trace


@spec
class Best(Picking):
    """The highest score among the traces with an answer wins; ties go to the trace seen first.

    A trace without a score, or with one that is not a number, ranks last; where none could be judged, the most frequent
    answer wins.
    """

    kind: str = ""
    """Name of the scorer whose values are compared; the latest one's when empty."""

    @property
    def needs(self) -> Needs:
        """The score."""
        return Needs(scores=frozenset({self.kind}))

    def read(self, trace: Trace) -> float:
        """The score."""
        return last_score(trace, self.kind)
