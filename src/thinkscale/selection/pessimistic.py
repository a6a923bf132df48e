"""Mean score of an answer, less a penalty for having been given seldom (Montgomery et al. 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from thinkscale.needs import Needs
from thinkscale.registry import at_least, spec
from thinkscale.selection.ballots import Ballots, FloatArray, Invalid, class_sums, rounded
from thinkscale.selection.readings import last_score
from thinkscale.selection.votes import attempts, unheard
from thinkscale.selection.voting import Voting, check_policy, ordered
from thinkscale.types import Ranking, Trace


@spec
class Pessimistic(Voting):
    """The answer with the highest mean(score) − α · ln N / (votes + 1) wins, N being the number of all votes.

    The hybrid of a verifier and a vote in the authors' code: α = 0 believes the scores alone, a large α the majority.
    A vote that could not be judged counts as the lowest score of the pool; where none could be, the most frequent
    answer wins. Weights may be negative, so confidence is the share of attempts that agree with the winner.
    """

    alpha: float = 0.5
    """Weight α of the penalty, at least 0, in units of the score."""
    kind: str = ""
    """Name of the scorer that is believed; the latest one when empty."""

    def __post_init__(self) -> None:
        check_policy(self)
        at_least(0, alpha=self.alpha)

    @property
    def needs(self) -> Needs:
        """The score."""
        return Needs(scores=frozenset({self.kind}))

    def read(self, trace: Trace) -> float:
        """The score."""
        return last_score(trace, self.kind)

    def tallies(self, ballots: Ballots) -> FloatArray:
        """The penalised mean of each class, shape [..., classes]; minus infinity where it has no vote."""
        votes = ballots.votes
        judged = votes & np.isfinite(ballots.scores)
        lowest = np.where(judged, ballots.scores, np.inf).min(axis=-1, keepdims=True, initial=np.inf)
        counts = class_sums(ballots, votes.astype(np.float64))
        if not counts.shape[-1]:
            return counts
        sums = class_sums(ballots, rounded(np.where(judged, ballots.scores, np.where(votes, lowest, 0.0))))
        voters = np.maximum(votes.sum(axis=-1, keepdims=True), 1)
        with np.errstate(invalid="ignore"):
            means = sums / np.maximum(counts, 1.0) - self.alpha * np.log(voters) / (counts + 1.0)
        return np.where(counts > 0, np.where(judged.any(axis=-1, keepdims=True), means, counts), -np.inf)

    def shares(self, ballots: Ballots) -> FloatArray:
        """The part of the win that goes to each class: equal parts for the leaders."""
        tallies = self.tallies(ballots)
        leads = (tallies == tallies.max(axis=-1, keepdims=True, initial=-np.inf)) & (tallies > -np.inf)
        shares: FloatArray = leads / np.maximum(leads.sum(axis=-1, keepdims=True), 1)
        return shares

    def __call__(self, traces: Sequence[Trace]) -> Ranking:
        """Judge the answers of a pool."""
        pool = attempts(traces)
        ballots = self.ballots(pool)
        if not ballots.votes.any():
            return unheard(pool)
        ranking = ordered(self, pool, ballots, self.tallies(ballots))
        whole = len(pool) if self.invalid is Invalid.ignore else int(ballots.votes.sum())
        return replace(ranking, confidence=ranking.votes[0].count / whole)
