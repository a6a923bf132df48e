"""Two answers are enough."""

from collections.abc import Sequence

from thinkscale.registry import spec
from thinkscale.types import Trace


@spec
class Twice:
    """Enough once two attempts have an answer."""

    def __call__(self, traces: Sequence[Trace]) -> bool:
        """Whether two answers are in."""
        return sum(t.answer is not None for t in traces) >= 2
