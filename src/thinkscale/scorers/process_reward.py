"""Process reward models as scorers (Lightman et al. 2023): one number per step, reduced to one per answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from thinkscale.budget import Cost
from thinkscale.errors import SpecError
from thinkscale.needs import Capability, Feature, Needs, Sign
from thinkscale.registry import nearest, spec
from thinkscale.scorers import UNJUDGED, shown
from thinkscale.session import Session
from thinkscale.steps import BLANK_LINE, REDUCTIONS, split_steps
from thinkscale.types import Problem, Score, Trace


@spec
class ProcessReward:
    """What the model in the role `reward` gives the steps of an answer; one call per attempt.

    The last step's score is the default, as Snell et al. 2024 found best and as search-and-learn uses it. Step errors
    add up with length under `prod` and `min`: outside mathematics an outcome reward is often the better judge.
    """

    reduce: str = "last"
    """`last`, `min`, `mean`, `prod`, or `mean-logit`: σ of the mean of log(p / (1 − p))."""
    mark: str = BLANK_LINE
    """What ends a step."""

    needs: ClassVar = Needs(
        roles={"reward": frozenset({Capability.rewards})},
        gives={"process-reward": Sign.unknown},
        loses=frozenset({Feature.tools}),
    )

    def __post_init__(self) -> None:
        if self.reduce not in REDUCTIONS:
            raise SpecError(
                f"`reduce={self.reduce}` is no way to reduce step scores{nearest(self.reduce, [*REDUCTIONS])}"
            )
        if not self.mark:
            raise SpecError("`mark` must be a text: it says where a step ends")

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, with those of its steps; minus infinity where there are none."""
        parts = [shown(t, llm.capabilities.think) for t in traces]
        rewards = await llm.role("reward").rewards(parts, partial(split_steps, mark=self.mark))
        return [Score(value=self._reduced(r or (), llm), kind="process-reward", steps=r or ()) for r in rewards]

    def ceiling(self, cap: int) -> Cost:
        """Of one trace: a call that generates nothing."""
        return Cost(calls=1)

    def _reduced(self, steps: Sequence[float], llm: Session) -> float:
        try:
            return REDUCTIONS[self.reduce](steps) if steps else UNJUDGED
        except ValueError as error:
            llm.warn(f"`reduce={self.reduce}` was not applied ({error}): use `last`, `min` or `mean` with this model")
            return UNJUDGED
