"""Stop on the probabilities of the texts themselves (Wang et al. 2024, Soft self-consistency, its adaptive form)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from thinkscale.needs import Capability, Needs
from thinkscale.registry import at_least, spec
from thinkscale.types import Trace


@spec
class SoftAdaptive:
    """Enough once the smallest token probabilities of the attempts add up to a threshold.

    Made for answers that are actions or programs, where equal answers are rare and votes say little.
    """

    threshold: float = 0.8
    """Sum of the attempts' smallest token probabilities that is enough, at least 0."""

    needs: ClassVar = Needs(can=frozenset({Capability.logprobs}))

    def __post_init__(self) -> None:
        at_least(0, threshold=self.threshold)

    def __call__(self, traces: Sequence[Trace]) -> bool:
        """Whether the sum is large enough."""
        return _Adding(self.threshold)(traces)

    def within(self, n: int) -> _Adding:
        """The rule for one run, which reads every attempt once."""
        return _Adding(self.threshold)


@dataclass(slots=True)
class _Adding:
    """The same for a pool that grows."""

    threshold: float
    least: list[float] = field(default_factory=list)

    def __call__(self, traces: Sequence[Trace]) -> bool:
        if len(traces) <= len(self.least):  # another pool
            self.least.clear()
        self.least += map(_least_likely, traces[len(self.least) :])
        return any(t.answer for t in traces) and math.fsum(self.least) >= self.threshold


def _least_likely(trace: Trace) -> float:
    """The smallest probability of a sampled token; 0 without an answer or without log-probabilities."""
    chosen = [p for s in trace.segments if s.logprobs is not None for p in s.logprobs.chosen]
    return math.exp(min(chosen)) if chosen and trace.answer is not None else 0.0
