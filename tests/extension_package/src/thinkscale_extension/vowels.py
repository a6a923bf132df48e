"""Judge a text by its vowels."""

from collections.abc import Sequence

from thinkscale.registry import spec
from thinkscale.session import Session
from thinkscale.types import Origin, Problem, Score, Trace


@spec
class Vowels:
    """How many vowels the model chose."""

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One count per trace."""
        said = ["".join(s.text for s in t.segments if s.origin is Origin.sampled) for t in traces]
        return [Score(value=float(sum(text.count(v) for v in "aeiou")), kind="vowels") for text in said]
