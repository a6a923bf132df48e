"""DeepConf, online (Fu et al. 2025): abandon an attempt once a stretch of it is less sure than the warm-up was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from thinkscale.budget import Cost
from thinkscale.confidence import GrowingGroups, known_confidence, trace_confidence, window_of
from thinkscale.contracts import rank
from thinkscale.errors import SpecError
from thinkscale.needs import Capability, Needs, Sign
from thinkscale.pace import Pace
from thinkscale.registry import at_least, coerce, spec
from thinkscale.scorers import sampled_logprobs
from thinkscale.selection import Selector
from thinkscale.selection.weighted_vote import WeightedVote
from thinkscale.session import Draws, Session
from thinkscale.types import Outcome, Path, Problem, Score, Trace

KIND = "lowest-confidence"


@spec
class DeepconfOnline:
    """Draw a warm-up in full, abort later attempts below its confidence, and let the sure ones vote by confidence.

    The confidence of an attempt is the lowest mean token confidence over a window. As in the paper, drawing ends once
    one answer has most of the weight; the released code has no such stop, and returns a plain majority by default.
    """

    n: int = 256
    """Most attempts, the warm-up included; the paper's figures are for 512."""
    warmup: int = 16
    keep: float = 90.0
    """Percent η of the warm-up that is sure enough; 90 is the safe choice, 10 the paper's aggressive one."""
    window: int | None = None
    """Tokens of a group; when `none` an eighth of a call's cap, and 2048, the paper's, at most."""
    top: int = 20
    """Likeliest tokens k behind the confidence of one."""
    consensus: float | None = 0.95
    """Share of the weight at which an answer has won; `none` makes every draw."""
    pace: Pace = Pace.steady
    temperature: float = 0.6
    top_p: float = 0.95
    select: Selector = WeightedVote(kind=KIND)

    def __post_init__(self) -> None:
        at_least(1, n=self.n, warmup=self.warmup, window=self.window, top=self.top)
        coerce(self, pace=Pace)
        for name, value, whole in (("keep", self.keep, 100), ("consensus", self.consensus, 1)):
            if value is not None and not 0 < value <= whole:
                raise SpecError(f"`{name}={value}` must be above 0 and at most {whole}")

    @property
    def needs(self) -> Needs:
        """The likeliest tokens at each position."""
        can = frozenset({Capability.logprobs, Capability.top_logprobs})
        return Needs(can=can, top_logprobs=self.top, gives={KIND: Sign.not_negative}, effort={"n": 1})

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """Warm up, set the threshold, draw on under it, vote."""
        draw = partial(llm.sample, problem, temperature=self.temperature, top_p=self.top_p)
        first = await draw(min(self.warmup, self.n))
        window = self.window or window_of(llm.cap)
        sure = {t.path: self._lowest(t, window) for t in first}
        known = [c for c in sure.values() if c > -math.inf]
        threshold = float(np.percentile(known, 100 - self.keep)) if known else -math.inf
        if not known and any(t.tokens for t in first):
            llm.warn(f"the {self.top} likeliest tokens were asked for and did not come: no attempt was judged")

        def scored(traces: Sequence[Trace]) -> list[Trace]:
            sure.update((t.path, self._lowest(t, window)) for t in traces if t.path not in sure)
            voice = {path: c if c >= threshold else -math.inf for path, c in sure.items()}
            return [t.scored(Score(value=voice[t.path], kind=KIND)) for t in llm.agreed(traces)]

        def agreed(later: Sequence[Trace]) -> bool:
            weights = [v.weight for v in rank(self.select, scored([*first, *later])).votes]
            return self.consensus is not None and bool(weights) and weights[0] >= self.consensus * sum(weights)

        left, unsure = max(0, self.n - self.warmup), _Unsure(threshold, window, self.top)
        later = await draw(left, until=unsure, enough=agreed, pace=self.pace) if left and not agreed(()) else Draws()
        ranking = rank(self.select, pool := scored([*first, *later]))
        early, needed = later.enough or (left > 0 and not later), sum(t.tokens for t in first) + (later.needed or 0)
        return Outcome.of(ranking, pool, enough=early, needed=needed)

    def ceiling(self, cap: int) -> Cost:
        """No attempt is aborted."""
        return Cost(tokens=cap, calls=1) * self.n

    def _lowest(self, trace: Trace, window: int) -> float:
        return trace_confidence(known_confidence(sampled_logprobs(trace), self.top), window, "lowest")


@dataclass(slots=True)
class _Unsure:
    """Whether some full window of a growing trace is less confident than the threshold."""

    threshold: float
    window: int
    top: int
    groups: dict[Path, GrowingGroups] = field(default_factory=dict)

    def __call__(self, trace: Trace) -> bool:
        signals, seen = trace.segments[-1].logprobs, self.groups.get(trace.path)
        if signals is None:
            return False
        if seen is None or seen.tokens > len(signals.chosen):  # the draw is new, or broke off and was begun anew
            seen = self.groups[trace.path] = GrowingGroups(self.window)
        return seen.grow(known_confidence(signals, self.top, seen.tokens)) < self.threshold
