"""Mean log-probability of the sampled tokens: the negative log of perplexity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from thinkscale.needs import Capability, Needs, Sign
from thinkscale.registry import spec
from thinkscale.scorers import sampled_logprobs
from thinkscale.session import Session
from thinkscale.types import Problem, Score, Trace


@spec
class MeanLogprob:
    """Mean of log p over the tokens that the model sampled, in nats, at temperature 1."""

    needs: ClassVar = Needs(can=frozenset({Capability.logprobs}), gives={"mean-logprob": Sign.not_positive})

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, at most 0."""
        return [Score(value=_mean_logprob(t), kind="mean-logprob") for t in traces]


def _mean_logprob(trace: Trace) -> float:
    signals = sampled_logprobs(trace)
    if signals is None or not signals.chosen:
        return -math.inf
    return math.fsum(signals.chosen) / len(signals.chosen)
