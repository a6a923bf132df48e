"""Weighted ensemble of models (Komiyama et al. 2025, Best-of-∞): several models answer, their shares are weighed."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from itertools import cycle

from thinkscale.budget import Cost
from thinkscale.contracts import rank
from thinkscale.errors import SpecError
from thinkscale.needs import Needs, Sign
from thinkscale.registry import at_least, spec
from thinkscale.selection import Selector
from thinkscale.selection.majority import Majority
from thinkscale.selection.weighted_vote import WeightedVote
from thinkscale.session import Method, Session, attempt_ceiling
from thinkscale.types import Outcome, Problem, Score


@dataclass(frozen=True, slots=True)
class _Member:
    """One attempt by the model in a role."""

    role: str
    by: Method | None
    temperature: float | None

    @property
    def needs(self) -> Needs:
        return Needs(players=frozenset({self.role}))

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        traces = await llm.role(self.role).sample(problem, 1, by=self.by, temperature=self.temperature)
        return Outcome.of(Majority()(traces), traces)

    def ceiling(self, cap: int) -> Cost:
        return attempt_ceiling(self.by, cap)


@spec
class Ensemble:
    """Answer argmax_a Σ w_i p_i(a), where p_i(a) is the part of model i's attempts that answer a.

    Models take turns, so that a budget which ends early has served all alike. One of weight 0 is not asked. An attempt
    without an answer stays in the denominator of its model. The score of a trace is its weight, and the score's note
    names the role.
    """

    models: tuple[str, ...] = ("main",)
    """Names of roles, `main` being the model itself; a role that no model plays is refused before anything is spent."""
    weights: tuple[float, ...] = ()
    """Of the models in order, not negative, any sum; all the same when empty."""
    n: int = 8
    """Attempts per model, at least 1."""
    temperature: float | None = 0.8
    select: Selector = WeightedVote(kind="ensemble")
    by: Method | None = None
    """Draw each attempt through this method instead of by one call."""

    def __post_init__(self) -> None:
        at_least(1, n=self.n)
        weights = self.weights or (1.0,) * len(self.models)
        if not self.models or len({*self.models}) < len(self.models) or len(weights) != len(self.models):
            raise SpecError(f"`models` are different roles with a weight each, not {self.models} with {self.weights}")
        if not (min(weights) >= 0 and 0 < math.fsum(weights) < math.inf):
            raise SpecError(f"`weights={self.weights}` must be at least 0 and one of them above")

    @property
    def shares(self) -> dict[str, float]:
        """The weight of every model that is asked, of sum 1."""
        weights = self.weights or (1.0,) * len(self.models)
        return {m: w / math.fsum(weights) for m, w in zip(self.models, weights, strict=True) if w}

    @property
    def needs(self) -> Needs:
        """Models to ask."""
        return Needs(players=frozenset(self.shares), gives={"ensemble": Sign.not_negative}, effort={"n": 1})

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """Draw from the models in turn, weigh, vote."""
        members = [_Member(role, self.by, self.temperature) for role in self.shares]
        traces = await llm.sample(problem, self.n * len(members), by=members)
        turns = list(zip(cycle(self.shares), traces, strict=False))
        made = Counter(role for role, _ in turns)
        scored = [
            trace.scored(Score(value=self.shares[role] / made[role], kind="ensemble", note=role))
            for role, trace in turns
        ]
        return Outcome.of(rank(self.select, scored), scored)

    def ceiling(self, cap: int) -> Cost:
        """All attempts of the models that are asked."""
        return attempt_ceiling(self.by, cap) * (self.n * len(self.shares))
