"""Marker words (J. Wang et al. 2025, "Think deep, think fast"): how often an attempt uses the words of a list."""

from __future__ import annotations

from collections.abc import Sequence

from thinkscale.errors import SpecError
from thinkscale.lexicons import phrases
from thinkscale.needs import Needs, Sign
from thinkscale.registry import spec
from thinkscale.scorers import UNJUDGED, in_turns, said_phrases
from thinkscale.session import Session
from thinkscale.types import Problem, Score, Trace

MOST_CHARACTERS = 1000
"""All phrases together: at every word of a text all of them may be compared to their ends."""


@spec
class Markers:
    """Minus the number of marker phrases per 1,000 sampled tokens, or plus it with `prefer="most"`.

    The paper finds correct answers of reasoning models to hedge and turn back less, and to use more discourse markers.
    Its lists are not public: these are our own, and `words` takes others.
    """

    lexicon: str = "hedging-1"
    """`hedging-1`, `thinking-1`, `discourse-1` or `verification-1`; the number is that of the list's version."""
    words: tuple[str, ...] = ()
    """Phrases to count instead, whatever their case."""
    prefer: str = "fewest"
    """`fewest` or `most`."""

    def __post_init__(self) -> None:
        phrases(self.lexicon)
        if not all(word.strip() for word in self.words):
            raise SpecError("`words` holds an empty phrase: it would be found everywhere")
        if sum(map(len, self.words)) > MOST_CHARACTERS:
            raise SpecError(f"`words` holds more than {MOST_CHARACTERS} characters: name fewer or shorter phrases")
        if self.prefer not in ("fewest", "most"):
            raise SpecError(f"`prefer={self.prefer}` must be `fewest` or `most`")

    @property
    def needs(self) -> Needs:
        """Nothing."""
        sign = Sign.not_positive if self.prefer == "fewest" else Sign.not_negative
        return Needs(gives={"markers": sign})

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, in phrases per 1,000 tokens."""
        return await in_turns(self._rate, traces, "markers")

    def _rate(self, trace: Trace) -> float:
        if not trace.tokens:
            return UNJUDGED
        found = said_phrases(trace, self.words or phrases(self.lexicon))
        return (-1 if self.prefer == "fewest" else 1) * 1000 * found / trace.tokens
