"""Perplexity consistency: votes weighed by the probability of their text (Zhou et al. 2025, RPC without pruning)."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import ClassVar

import numpy as np

from thinkscale.needs import Capability, Needs
from thinkscale.registry import coerce, spec
from thinkscale.selection.ballots import FloatArray, IntArray
from thinkscale.selection.readings import chosen_logprobs
from thinkscale.selection.voting import Voting, check_policy
from thinkscale.types import Trace


class Probability(StrEnum):
    """Which probability a text is given."""

    sequence = "sequence"
    """p(t | x), the product over tokens: what the paper's theory is about."""
    mean_logprob = "mean-logprob"
    """The geometric mean per token: what its released code computes."""


@spec
class PerplexityConsistency(Voting):
    """The answer whose distinct texts have the highest total probability wins.

    Of equal texts only the first counts; the released code tells them apart by their probability as well, and so counts
    a text twice that was evaluated with another rounding.
    """

    probability: Probability = Probability.mean_logprob
    """`mean-logprob` as in the released code, or `sequence` as in the theory."""

    unique: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_policy(self)
        coerce(self, probability=Probability)

    @property
    def logarithmic(self) -> bool:
        """Log-probabilities are read."""
        return True

    @property
    def needs(self) -> Needs:
        """Log-probabilities of what was sampled."""
        return Needs(can=frozenset({Capability.logprobs}))

    def read(self, trace: Trace) -> float:
        """The log-probability of what was sampled, in nats."""
        chosen = chosen_logprobs(trace)
        if not chosen:
            return -math.inf
        return math.fsum(chosen) / (len(chosen) if self.probability is Probability.mean_logprob else 1)

    def weigh(self, scores: FloatArray, standing: IntArray, voters: IntArray) -> FloatArray:
        """The probability."""
        return np.exp(scores)
