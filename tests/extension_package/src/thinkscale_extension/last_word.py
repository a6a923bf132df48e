"""The last attempt with an answer has the last word."""

from collections.abc import Sequence

from thinkscale.registry import spec
from thinkscale.selection.votes import tally
from thinkscale.types import Ranking, Trace


@spec
class LastWord:
    """The latest answer wins."""

    def __call__(self, traces: Sequence[Trace]) -> Ranking:
        """Rank a pool."""
        answered = [t for t in traces if t.answer is not None]
        return Ranking(best=answered[-1] if answered else None, votes=tally(traces))
