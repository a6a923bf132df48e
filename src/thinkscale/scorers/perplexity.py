"""Perplexity of an attempt under the model that wrote it, the weakest baseline among confidences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

from thinkscale.needs import Capability, Needs, Sign
from thinkscale.registry import spec
from thinkscale.scorers import UNJUDGED, per_token, sampled_logprobs
from thinkscale.session import Session
from thinkscale.types import Problem, Score, Trace


@spec
class Perplexity:
    """Minus exp(−mean log p) of the sampled tokens, at temperature 1: larger is better, so perplexity is negated.

    It ranks as `mean-logprob` does; only the scale differs.
    """

    needs: ClassVar = Needs(can=frozenset({Capability.logprobs}), gives={"perplexity": Sign.not_positive})

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, at most −1."""
        return [Score(value=_minus_perplexity(t), kind="perplexity") for t in traces]


def _minus_perplexity(trace: Trace) -> float:
    signals = sampled_logprobs(trace)
    try:
        return -math.exp(-per_token(signals.chosen, signals)) if signals else UNJUDGED
    except OverflowError:
        return UNJUDGED
