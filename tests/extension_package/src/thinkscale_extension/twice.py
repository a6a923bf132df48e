"""An answer that was given twice is enough."""

from collections import Counter
from collections.abc import Sequence

from thinkscale.registry import at_least, spec
from thinkscale.types import Trace


@spec
class Twice:
    """Enough once an answer was given so many times."""

    times: int = 2

    def __post_init__(self) -> None:
        at_least(1, times=self.times)

    def __call__(self, traces: Sequence[Trace]) -> bool:
        """Whether some answer was given often enough."""
        counts = Counter(t.answer.key for t in traces if t.answer is not None)
        return max(counts.values(), default=0) >= self.times
