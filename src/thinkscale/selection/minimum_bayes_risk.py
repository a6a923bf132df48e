"""The answer that agrees most with all others (minimum Bayes risk; Bertsch et al. 2023)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from functools import lru_cache

import numpy as np

from thinkscale.errors import SpecError
from thinkscale.registry import nearest, spec
from thinkscale.selection.ballots import Ballots, FloatArray, class_sums, rounded
from thinkscale.selection.voting import Voting, check_policy
from thinkscale.types import Ranking, Trace


@spec
class MinimumBayesRisk(Voting):
    """The answer with the highest mean utility against the answers of all attempts wins, for answers that are texts.

    With the utility `exact` it is the majority. Weights are sums of utilities, so they do not add up to the number of
    votes; confidence is the winner's mean utility over all attempts, 0 for those without an answer.
    """

    utility: str = "token-f1"
    """`exact`, `token-f1` (of the words, case folded) or `edit` (matching characters, as difflib finds them)."""

    def __post_init__(self) -> None:
        check_policy(self)
        if self.utility not in UTILITIES:
            raise SpecError(f"`utility={self.utility}` is not known{nearest(self.utility, [*UTILITIES])}")

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


def token_f1(a: str, b: str) -> float:
    """Harmonic mean of precision and recall of the words of one text among those of another, in [0, 1]."""
    left, right = a.casefold().split(), b.casefold().split()
    shared = sum((Counter(left) & Counter(right)).values())
    return 2 * shared / (len(left) + len(right)) if left and right else float(left == right)


def edit_similarity(a: str, b: str) -> float:
    """Share of characters in matching blocks, the same both ways, in [0, 1]."""
    first, second = sorted((a, b))
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


UTILITIES: dict[str, Callable[[str, str], float]] = {
    "exact": lambda a, b: float(a == b),
    "token-f1": token_f1,
    "edit": edit_similarity,
}
"""How alike two answers are. An answer is worth 1 to its own class, whatever the words."""


@lru_cache(maxsize=4096)
def _matrix(words: tuple[str, ...], utility: str) -> FloatArray:
    alike = UTILITIES[utility]
    values = np.eye(len(words))
    for i, a in enumerate(words):
        for j, b in enumerate(words[:i]):
            values[i, j] = values[j, i] = alike(a, b) if utility != "exact" else 0.0
    values = rounded(values)
    values.setflags(write=False)
    return values
