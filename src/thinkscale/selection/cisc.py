"""Confidence-informed self-consistency: votes weighed by a softmax of confidences over the pool."""

from __future__ import annotations

import numpy as np

from thinkscale.errors import SpecError
from thinkscale.needs import Needs
from thinkscale.registry import spec
from thinkscale.selection.ballots import FloatArray, IntArray
from thinkscale.selection.readings import last_score
from thinkscale.selection.voting import Voting, check_policy
from thinkscale.types import Trace


@spec
class Cisc(Voting):
    """The answer with the largest share of softmax(confidence / temperature) wins (Taubenfeld et al. 2025).

    The temperature is tuned on held-out problems in the paper: towards 0 the highest confidence wins, towards infinity
    the majority does. The same as `weighted-vote(transform=softmax)`.
    """

    temperature: float = 1.0
    """Above 0."""
    kind: str = ""
    """Name of the scorer that gives the confidence; the latest one when empty."""

    def __post_init__(self) -> None:
        check_policy(self)
        if not self.temperature > 0:
            raise SpecError(f"`temperature={self.temperature}` must be above 0")

    @property
    def needs(self) -> Needs:
        """The confidence."""
        return Needs(scores=frozenset({self.kind}))

    @property
    def logarithmic(self) -> bool:
        """A softmax is the same for shifted scores."""
        return True

    def read(self, trace: Trace) -> float:
        """The confidence over the temperature."""
        return last_score(trace, self.kind) / self.temperature

    def weigh(self, scores: FloatArray, standing: IntArray, voters: IntArray) -> FloatArray:
        """The numerator of the softmax; the share that is reported has its denominator."""
        return np.exp(scores)
