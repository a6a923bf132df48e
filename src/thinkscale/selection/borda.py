"""Borda voting: votes weighed by the rank of their score (Kang et al. 2025, self-certainty)."""

from __future__ import annotations

import numpy as np

from thinkscale.errors import SpecError
from thinkscale.needs import Needs
from thinkscale.registry import spec
from thinkscale.selection.ballots import FloatArray, IntArray, Way
from thinkscale.selection.readings import last_score
from thinkscale.selection.voting import Voting, check_policy
from thinkscale.types import Trace


@spec
class Borda(Voting):
    """A vote of rank r among N weighs (N − r + 1)^p, rank 1 being the highest score.

    p = 0 is the majority and a large p the highest score. The default is that of the paper's code; its tuned values are
    0.3 for N ≤ 16 and 1.2 for N ≥ 32. Equal scores share the better rank. An attempt without an answer has no rank,
    where the released code lets it hold one.
    """

    p: float = 0.5
    """From 0 to 64, where the highest score has won long since and weights still fit into a float."""
    kind: str = ""
    """Name of the scorer whose values are ranked; the latest one's when empty."""

    def __post_init__(self) -> None:
        check_policy(self)
        if not 0 <= self.p <= 64:
            raise SpecError(f"`p={self.p}` must be from 0, which is the majority, to 64, which is the highest score")

    @property
    def needs(self) -> Needs:
        """The scores that are ranked."""
        return Needs(scores=frozenset({self.kind}))

    @property
    def ranked(self) -> bool:
        """By rank and nothing else."""
        return True

    @property
    def way(self) -> Way:
        """By standing."""
        return Way.standing

    def read(self, trace: Trace) -> float:
        """The score."""
        return last_score(trace, self.kind)

    def weigh(self, scores: FloatArray, standing: IntArray, voters: IntArray) -> FloatArray:
        """A power of the standing, which is N − r + 1."""
        return np.power(standing.astype(np.float64), self.p)
