"""DeepConf's confidence of an attempt (Fu et al. 2025): how peaked the distributions of its tokens were, in groups."""

from __future__ import annotations

from collections.abc import Sequence

from thinkscale.confidence import check_reduction, token_confidence, trace_confidence
from thinkscale.errors import ScorerError
from thinkscale.needs import Capability, Needs, Sign
from thinkscale.registry import at_least, spec
from thinkscale.scorers import UNJUDGED, in_turns, sampled_logprobs
from thinkscale.session import Session
from thinkscale.types import Problem, Score, Trace


@spec
class GroupConfidence:
    """Token confidence is minus the mean log-probability of the k likeliest tokens; a group is a window of tokens.

    A trace that is shorter than the window is one group. Unlike the released code, exactly k tokens count at each
    position, the sampled one only where it is among them, and nothing is rounded.
    """

    reduce: str = "lowest"
    """`mean` over all tokens, `lowest` group, `bottom` tenth of the groups, or `tail`: the last group."""
    window: int = 2048
    """Tokens in a group, at least 1."""
    k: int = 20
    """Likeliest tokens per position, at least 1."""

    def __post_init__(self) -> None:
        at_least(1, window=self.window, k=self.k)
        check_reduction(self.reduce)

    @property
    def needs(self) -> Needs:
        """The k likeliest tokens at each position."""
        can = frozenset({Capability.logprobs, Capability.top_logprobs})
        return Needs(can=can, top_logprobs=self.k, gives={"group-confidence": Sign.not_negative})

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, in nats, at least 0."""
        return await in_turns(lambda t: self._confidence(t, llm), traces, "group-confidence")

    def _confidence(self, trace: Trace, llm: Session) -> float:
        signals = sampled_logprobs(trace)
        if signals is None or not signals.chosen:
            return UNJUDGED
        try:
            tokens = token_confidence(signals, self.k)
        except ScorerError as error:
            llm.warn(f"an attempt could not be judged by `group-confidence`: {error}")
            return UNJUDGED
        return trace_confidence(tokens, self.window, self.reduce)
