"""The answer that most often has the best score of m random attempts (Rakhsha et al. 2025, Majority of the bests)."""

from __future__ import annotations

import numpy as np

from thinkscale.needs import Needs
from thinkscale.registry import at_least, spec
from thinkscale.selection.ballots import Ballots, FloatArray, Ties, counted, standings
from thinkscale.selection.readings import last_score
from thinkscale.selection.voting import Voting, check_policy
from thinkscale.types import Trace


@spec
class MajorityOfBests(Voting):
    """The most likely winner of best-of-m over m attempts that are drawn with replacement from the N votes.

    The authors draw such samples; here their chances are summed exactly: the vote of rank r = 0, …, N − 1 by falling
    score weighs ((N − r) / N)^m − ((N − r − 1) / N)^m, and equal scores share. m = 1 is the majority, a large m the
    highest score. A vote that could not be judged ranks last. Of answers that are equally likely to win, the one with
    the better best score does.
    """

    m: int | None = None
    """Attempts of one sample, at least 1; the rounded square root of N when `none`, which is our choice."""
    kind: str = ""
    """Name of the scorer whose values are compared; the latest one's when empty."""
    ties: Ties = Ties.score

    def __post_init__(self) -> None:
        check_policy(self)
        at_least(1, m=self.m)

    @property
    def needs(self) -> Needs:
        """The score."""
        return Needs(scores=frozenset({self.kind}))

    @property
    def ranked(self) -> bool:
        """By rank and nothing else."""
        return True

    def read(self, trace: Trace) -> float:
        """The score."""
        return last_score(trace, self.kind)

    def weights(self, ballots: Ballots) -> FloatArray:
        """The chance of every vote to be the best of m, shape [..., n]."""
        votes = ballots.votes
        scores = np.where(votes, ballots.scores, np.nan)
        no_better = standings(scores)
        equal = (scores[..., None, :] == scores[..., :, None]).sum(axis=-1)
        voters = np.maximum(votes.sum(axis=-1, keepdims=True), 1)
        m = np.maximum(np.rint(np.sqrt(voters)), 1.0) if self.m is None else self.m
        chance = (no_better / voters) ** m - ((no_better - equal) / voters) ** m
        return counted(chance / np.maximum(equal, 1), votes)
