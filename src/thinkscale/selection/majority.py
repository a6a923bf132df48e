"""Plurality vote over answers (Wang et al. 2022, self-consistency)."""

from __future__ import annotations

import numpy as np

from thinkscale.registry import spec
from thinkscale.selection import Selector
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


def own_rule(method: object) -> Selector | None:
    """The rule that a method names in `select`; `None` where it has none."""
    rule: Selector | None = getattr(method, "select", None)
    return rule


def rule_of(method: object) -> Selector:
    """The rule by which a method chooses among its attempts; the majority where it names none."""
    return own_rule(method) or Majority()
