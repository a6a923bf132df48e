"""The answer that agrees most with all others (minimum Bayes risk; Bertsch et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np

from thinkscale.errors import SpecError
from thinkscale.registry import nearest, spec
from thinkscale.selection.ballots import Ballots, FloatArray, Way, class_sums, rounded
from thinkscale.selection.likeness import LIKENESSES
from thinkscale.selection.voting import Voting, check_policy
from thinkscale.types import Ranking, Trace


@spec
class MinimumBayesRisk(Voting):
    """The answer with the highest mean utility against the answers of all attempts wins, for answers that are texts.

    With the utility `exact` it is the majority. Weights are sums of utilities, so they do not add up to the number of
    votes; confidence is the winner's mean utility over all attempts, 0 for those without an answer. An answer is worth
    1 to its own class, whatever the words.
    """

    utility: str = "token-f1"
    """`exact`, `token-f1` (of the words, case folded) or `edit` (characters that are left as they are, by Levenshtein's
    distance). The last two look at the ends of answers where all of them together are too long, as `likeness` says."""

    def __post_init__(self) -> None:
        check_policy(self)
        if self.utility not in LIKENESSES:
            raise SpecError(f"`utility={self.utility}` is not known{nearest(self.utility, [*LIKENESSES])}")

    @property
    def way(self) -> Way:
        """By what answers are worth to one another."""
        return Way.agreeing

    def tallies(self, ballots: Ballots) -> FloatArray:
        """The sum of utilities of each answer that was given, shape [..., classes]."""
        counts = class_sums(ballots, ballots.votes.astype(np.float64))
        return np.where(counts > 0, counts @ self.utilities(ballots), 0.0)

    def utilities(self, ballots: Ballots) -> FloatArray:
        """What answering the column is worth when the row is right, shape [classes, classes], between 0 and 1."""
        return _matrix(ballots.words, self.utility)

    def __call__(self, traces: Sequence[Trace]) -> Ranking:
        """Compare the answers of a pool."""
        ranking = Voting.__call__(self, traces)
        if ranking.confidence is None:
            return ranking
        share = ranking.votes[0].weight / sum(vote.weight for vote in ranking.votes)
        attempts = sum(vote.count for vote in ranking.votes) * share / ranking.confidence
        return replace(ranking, confidence=min(1.0, ranking.votes[0].weight / attempts))


@lru_cache(maxsize=4)
def _matrix(words: tuple[str, ...], utility: str) -> FloatArray:
    # Attempts that say nothing new leave the answers as they were; more is not kept, because answers may be long.
    values = rounded(LIKENESSES[utility](words))
    values.setflags(write=False)
    return values
