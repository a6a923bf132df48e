"""Pick an attempt by the probabilities of its own tokens (Wang et al. 2024, soft self-consistency)."""

from __future__ import annotations

import math
from enum import StrEnum

from thinkscale.needs import Capability, Needs
from thinkscale.registry import coerce, spec
from thinkscale.selection.picking import Picking
from thinkscale.selection.readings import chosen_logprobs
from thinkscale.selection.voting import check_policy
from thinkscale.types import Trace


class Reduction(StrEnum):
    """One number from the probabilities of the tokens."""

    mean = "mean"
    min = "min"
    prod = "prod"
    """The mean log-probability: the product, normalised for length as in the released code."""


@spec
class SoftSelfConsistency(Picking):
    """The attempt with the highest mean (or least, or geometric mean) token probability wins.

    For open answers, where exact matches are rare: answers are not merged, and ties go to the attempt seen first.
    """

    reduce: Reduction = Reduction.mean
    """`mean`, `min` or `prod`."""

    def __post_init__(self) -> None:
        check_policy(self)
        coerce(self, reduce=Reduction)

    @property
    def needs(self) -> Needs:
        """Log-probabilities of what was sampled."""
        return Needs(can=frozenset({Capability.logprobs}))

    def read(self, trace: Trace) -> float:
        """The reduced probabilities of the sampled tokens."""
        chosen = chosen_logprobs(trace)
        if not chosen:
            return -math.inf
        match self.reduce:
            case Reduction.mean:
                return math.fsum(map(math.exp, chosen)) / len(chosen)
            case Reduction.min:
                return math.exp(min(chosen))
            case _:
                return math.fsum(chosen) / len(chosen)
