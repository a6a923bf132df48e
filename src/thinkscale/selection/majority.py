"""Plurality vote over answers (Wang et al. 2022, self-consistency)."""

from __future__ import annotations

import numpy as np

from thinkscale.registry import spec
from thinkscale.selection.ballots import Ballots, FloatArray
from thinkscale.selection.voting import Voting


@spec
class Majority(Voting):
    """The most frequent answer wins; ties go to the answer seen first.

    Confidence is the winner's share of all attempts, those without an answer included.
    """

    def weights(self, ballots: Ballots) -> FloatArray:
        """One for every vote, shape [..., n]."""
        return ballots.votes.astype(np.float64)
