"""The best score among answers that were given more than once (Di et al. 2025, Best-of-majority)."""

from __future__ import annotations

import math

import numpy as np

from thinkscale.needs import Needs
from thinkscale.registry import at_least, spec
from thinkscale.selection.ballots import Ballots, BoolArray, class_sums
from thinkscale.selection.picking import Picking
from thinkscale.selection.readings import last_score
from thinkscale.selection.voting import check_policy
from thinkscale.types import Trace


@spec
class BestOfMajority(Picking):
    """The highest score among the attempts whose answer has enough votes wins; among all where no answer has.

    The paper keeps the answers that are frequent enough and returns the k with the best rewards; this is k = 1. More
    attempts do not make it worse, as they do the highest score alone.
    """

    votes: int = 2
    """Votes that an answer must have, at least 1; 1 is `best`."""
    kind: str = ""
    """Name of the scorer whose values are compared; the latest one's when empty."""

    def __post_init__(self) -> None:
        check_policy(self)
        at_least(1, votes=self.votes)

    @property
    def needs(self) -> Needs:
        """The score."""
        return Needs(scores=frozenset({self.kind}))

    def read(self, trace: Trace) -> float:
        """The score."""
        return last_score(trace, self.kind)

    def leading(self, ballots: Ballots) -> BoolArray:
        """Which voters have the highest score among the frequent answers of their pool, shape [..., n]."""
        counts = class_sums(ballots, ballots.votes.astype(np.float64))
        own = np.take_along_axis(np.pad(counts, [(0, 0)] * (counts.ndim - 1) + [(0, 1)]), ballots.classes, axis=-1)
        often = ballots.votes & (own >= self.votes)
        kept = np.where(often.any(axis=-1, keepdims=True), often, ballots.votes)
        scores = np.where(kept, ballots.scores, -math.inf)
        highest = scores.max(axis=-1, keepdims=True, initial=-math.inf)
        leads: BoolArray = (scores == highest) & (scores > -math.inf)
        return leads
