"""Attempts that hedge least (J. Wang et al. 2025), for what doubt they do not follow up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from thinkscale.lexicons import phrases
from thinkscale.needs import Needs, Sign
from thinkscale.registry import spec
from thinkscale.scorers import UNJUDGED, in_turns, said_phrases
from thinkscale.session import Session
from thinkscale.types import Problem, Score, Trace


@spec
class FewestHedges:
    """Minus hedges / (verifications + 1): doubt that is checked counts less than doubt that is left standing.

    Plain hedges per 1,000 tokens are `markers`.
    """

    hedging: str = "hedging-1"
    """List of phrases that hedge."""
    verification: str = "verification-1"
    """List of phrases that verify."""

    needs: ClassVar = Needs(gives={"fewest-hedges": Sign.not_positive})

    def __post_init__(self) -> None:
        for name in (self.hedging, self.verification):
            phrases(name)

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, at most 0."""
        return await in_turns(self._ratio, traces, "fewest-hedges")

    def _ratio(self, trace: Trace) -> float:
        if not trace.tokens:
            return UNJUDGED
        verified = said_phrases(trace, phrases(self.verification))
        return -said_phrases(trace, phrases(self.hedging)) / (verified + 1)
