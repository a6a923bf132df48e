"""How undecided the model was at each token, over its whole vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from thinkscale.needs import Capability, Needs, Sign
from thinkscale.registry import spec
from thinkscale.scorers import UNJUDGED, per_token, sampled_logprobs
from thinkscale.session import Session
from thinkscale.types import Problem, Score, Trace


@spec
class Entropy:
    """Minus the mean entropy of the next-token distributions, in nats: larger is better, so entropy is negated.

    Exact: the engine reduces the whole vocabulary to one number per token. What the k likeliest tokens alone would give
    is another quantity and never stands in for it.
    """

    needs: ClassVar = Needs(
        can=frozenset({Capability.logprobs, Capability.token_entropy}), gives={"entropy": Sign.not_positive}
    )

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, at most 0."""
        return [Score(value=_minus_entropy(t), kind="entropy") for t in traces]


def _minus_entropy(trace: Trace) -> float:
    signals = sampled_logprobs(trace)
    return per_token([-h for h in signals.entropy], signals) if signals else UNJUDGED
