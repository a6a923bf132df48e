"""Plurality vote over answers (Wang et al. 2022, self-consistency)."""

from __future__ import annotations

import numpy as np

from thinkscale.registry import spec
from thinkscale.selection.ballots import Ballots, FloatArray, Way
from thinkscale.selection.voting import Voting


@spec
class Majority(Voting):
    """The most frequent answer wins; ties go to the answer seen first.

    Confidence is the winner's share of all attempts, those without an answer included.
    """

    @property
    def way(self) -> Way:
        """Each vote by itself."""
        return Way.own if type(self).weights is Majority.weights else Way.alone

    def weights(self, ballots: Ballots) -> FloatArray:
        """One for every vote, shape [..., n]."""
        return ballots.votes.astype(np.float64)


def rule_of(method: object) -> Voting:
    """The rule by which a method chooses among its attempts: what it calls `select`, or the majority."""
    rule: Voting = getattr(method, "select", Majority())
    return rule
