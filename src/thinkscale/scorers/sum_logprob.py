"""Log-probability of a whole attempt: what theory calls the probability of a reasoning path."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from thinkscale.needs import Capability, Needs, Sign
from thinkscale.registry import spec
from thinkscale.scorers import UNJUDGED, sampled_logprobs
from thinkscale.session import Session
from thinkscale.types import Problem, Score, Trace


@spec
class SumLogprob:
    """Sum of log p over the tokens that the model sampled, in nats, at temperature 1; it favours short attempts.

    The theory of RPC (Zhou et al. 2025) weighs by it, while their code weighs by what `mean-logprob` gives.
    """

    needs: ClassVar = Needs(can=frozenset({Capability.logprobs}), gives={"sum-logprob": Sign.not_positive})

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, at most 0."""
        return [Score(value=_sum_logprob(t), kind="sum-logprob") for t in traces]


def _sum_logprob(trace: Trace) -> float:
    signals = sampled_logprobs(trace)
    return math.fsum(signals.chosen) if signals and signals.chosen else UNJUDGED
