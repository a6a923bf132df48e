"""Self-certainty (Kang et al. 2025): how far the next-token distributions are from uniform."""

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
class SelfCertainty:
    """Mean over tokens of KL(U ‖ p) = logsumexp(z) − mean(z) − log V, in nats, from raw logits z (paper's equation 4).

    Exact: the engine reduces the whole vocabulary to the two scalars, nothing is truncated to the top k. The released
    code reads the logits one position late, and of a text that it tokenised anew. In the paper's own tables the attempt
    of the highest score loses to a plain vote; votes weighed by its rank, as `borda` has them, gain on it.
    """

    needs: ClassVar = Needs(
        can=frozenset({Capability.logprobs, Capability.token_moments}), gives={"self-certainty": Sign.not_negative}
    )

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, at least 0."""
        return [Score(value=_self_certainty(t), kind="self-certainty") for t in traces]


def _self_certainty(trace: Trace) -> float:
    signals = sampled_logprobs(trace)
    if signals is None or not signals.logsumexp or not signals.vocab:
        return -math.inf
    total = math.fsum(signals.logsumexp) - math.fsum(signals.mean_logit)
    return total / len(signals.logsumexp) - math.log(signals.vocab)
