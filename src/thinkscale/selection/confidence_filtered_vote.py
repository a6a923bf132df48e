"""A vote among the most confident attempts, weighed by confidence (Fu et al. 2025, DeepConf, offline)."""

from __future__ import annotations

import numpy as np

from thinkscale.errors import SpecError
from thinkscale.needs import Needs
from thinkscale.registry import spec
from thinkscale.selection.ballots import FloatArray, IntArray, Way
from thinkscale.selection.readings import last_score
from thinkscale.selection.voting import Voting, check_policy, not_negative
from thinkscale.types import Trace


@spec
class ConfidenceFilteredVote(Voting):
    """Attempts with an answer whose score reaches the (100 − keep)-th percentile vote with their score as weight.

    The percentile interpolates linearly, so a score reaches it exactly if it is not below the next score above it. The
    released library returns a plain majority of all attempts by default; this is the vote that the paper reports.

    Raises:
        ScorerError: a score is below 0.
    """

    keep: float = 90.0
    """Percent of the attempts with an answer; 90 is the safe choice, 10 the paper's aggressive one."""
    kind: str = ""
    """Name of the scorer that gives the confidence; the latest one when empty."""

    def __post_init__(self) -> None:
        check_policy(self)
        if not 0 < self.keep <= 100:
            raise SpecError(f"`keep={self.keep}` is not a share in percent: give a number above 0 and at most 100")

    @property
    def needs(self) -> Needs:
        """The confidence, which is summed."""
        return Needs(scores=frozenset({self.kind}), summed=True)

    @property
    def ranked(self) -> bool:
        """The percentile is one of the pool."""
        return True

    @property
    def way(self) -> Way:
        """By score, of those that are kept."""
        return Way.kept

    def read(self, trace: Trace) -> float:
        """The confidence."""
        return last_score(trace, self.kind)

    def weigh(self, scores: FloatArray, standing: IntArray, voters: IntArray) -> FloatArray:
        """The score of those that are kept."""
        return np.where(standing > self.place(voters), not_negative(scores, self), 0.0)

    def place(self, voters: IntArray) -> FloatArray:
        """How many of so many voters are left out when all scores differ."""
        return np.ceil((100.0 - self.keep) * (np.maximum(voters, 1) - 1) / 100.0)
