"""Outcome reward models as scorers (Cobbe et al. 2021): one number for a whole answer, from a trained verifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from thinkscale.budget import Cost
from thinkscale.needs import Capability, Feature, Needs, Sign
from thinkscale.registry import spec
from thinkscale.scorers import UNJUDGED, shown
from thinkscale.session import Session
from thinkscale.types import Problem, Score, Trace


@spec
class OutcomeReward:
    """What the model in the role `reward` gives the whole answer; one call per attempt.

    The scale is the model's own: a logit of any size, or a probability.
    """

    needs: ClassVar = Needs(
        roles={"reward": frozenset({Capability.rewards})},
        gives={"outcome-reward": Sign.unknown},
        loses=frozenset({Feature.tools}),
    )

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, minus infinity where there is nothing to judge or the budget is spent."""
        rewards = await llm.role("reward").rewards([shown(t, llm.capabilities.think) for t in traces])
        return [Score(value=r[-1] if r else UNJUDGED, kind="outcome-reward") for r in rewards]

    def ceiling(self, cap: int) -> Cost:
        """Of one trace: a call that generates nothing."""
        return Cost(calls=1)
