"""A lower bound of self-certainty (Kang et al. 2025) for engines that tell the k likeliest tokens only."""

from __future__ import annotations

from collections.abc import Sequence

from thinkscale.confidence import likeliest, self_certainty_bound
from thinkscale.errors import ScorerError
from thinkscale.needs import Capability, Needs, Sign
from thinkscale.registry import at_least, spec
from thinkscale.scorers import UNJUDGED, in_turns, sampled_logprobs
from thinkscale.session import Session
from thinkscale.types import Problem, Score, Trace


@spec
class SelfCertaintyTopK:
    """Mean over tokens of KL(U ‖ q), in nats, where q spreads what the k likeliest tokens leave evenly over the others.

    Never above the exact value, which no finite number of tokens bounds from above. With a large vocabulary it is close
    to −log(1 − S) for the mass S of the k likeliest, so it sees the tail's mass and not its shape.
    """

    k: int = 20
    """Likeliest tokens per position, at least 1."""
    vocab: int = 0
    """Tokens in the vocabulary, for engines that do not tell; 0 asks the engine."""

    def __post_init__(self) -> None:
        at_least(1, k=self.k)
        at_least(0, vocab=self.vocab)

    @property
    def needs(self) -> Needs:
        """The k likeliest tokens at each position."""
        can = frozenset({Capability.logprobs, Capability.top_logprobs})
        return Needs(can=can, top_logprobs=self.k, gives={"self-certainty-top-k": Sign.not_negative})

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, at least 0."""
        return await in_turns(lambda t: self._bound(t, llm), traces, "self-certainty-top-k")

    def _bound(self, trace: Trace, llm: Session) -> float:
        signals = sampled_logprobs(trace)
        if signals is None or not signals.chosen:
            return UNJUDGED
        vocab = signals.vocab or self.vocab or llm.capabilities.vocab
        try:
            if not vocab:
                raise ScorerError("the engine does not tell the size of its vocabulary: give it as `vocab=`")
            top = likeliest(signals, min(self.k, vocab))
        except ScorerError as error:
            llm.warn(f"an attempt could not be judged by `self-certainty-top-k`: {error}")
            return UNJUDGED
        return max(0.0, float(self_certainty_bound(top, vocab).mean()))
