"""Reasoning pruning and perplexity consistency (Zhou et al. 2025, RPC)."""

from __future__ import annotations

import numpy as np

from thinkscale.registry import spec
from thinkscale.selection.ballots import Ballots, FloatArray, Way, class_sums, counted, first_of_kind, from_highest
from thinkscale.selection.perplexity_consistency import PerplexityConsistency
from thinkscale.selection.weibull import likely_high


@spec
class Rpc(PerplexityConsistency):
    """Perplexity consistency among the attempts whose probability is not low.

    Two Weibull distributions are fitted to the probabilities; an attempt is kept if it belongs to the one with the
    larger mean with probability ½ or more, or if its own probability is not below the mean. With fewer than 4 attempts,
    or where the fit fails, only the second counts. The fit is expectation maximisation from the start of the released
    code, within its bounds; that code uses a quasi-Newton search, which may end in another optimum.
    """

    @property
    def way(self) -> Way:
        """By a fit."""
        return Way.fitted

    def weights(self, ballots: Ballots) -> FloatArray:
        """The probability of every kept vote, shape [..., n]."""
        votes = ballots.votes & first_of_kind(ballots)
        scores = np.where(votes, ballots.scores, -np.inf)
        p = np.exp(from_highest(scores))
        kept = likely_high(p, votes & (p > 0))
        return counted(np.where(kept, p, 0.0), votes)

    def tallies(self, ballots: Ballots) -> FloatArray:
        """The kept probability of each class, shape [..., classes]."""
        return class_sums(ballots, self.weights(ballots))
