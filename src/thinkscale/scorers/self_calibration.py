"""Confidence as the model states it behind its own answer (Huang et al. 2025, Self-Calibration)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from thinkscale.budget import Cost
from thinkscale.needs import IN_A_QUESTION, Capability, Needs, Sign
from thinkscale.prompts import render
from thinkscale.registry import spec
from thinkscale.scorers import UNJUDGED, shares, up_to_its_last_word
from thinkscale.session import Session
from thinkscale.types import Problem, Score, Trace

YES, NO = (" Yes", "Yes"), (" No", "No")
"""Spellings of the two options, as they continue the question."""


@spec
class SelfCalibration:
    """P(Yes) / (P(Yes) + P(No)) where the answer is continued by the question whether it is correct.

    The paper tunes models for this question; others answer it overconfidently. Its code leaves P(Yes) unnormalised, and
    one of its scripts counts every word that contains `No`.
    """

    needs: ClassVar = Needs(
        can=frozenset({Capability.likelihood, Capability.prefill}),
        gives={"self-calibration": Sign.not_negative},
        loses=IN_A_QUESTION,
    )

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, in [0, 1]; minus infinity where there is nothing to judge or the budget is spent."""
        llm.require(self.needs.can)
        own = [up_to_its_last_word(t) for t in traces]
        question = render("self_calibration").rstrip()
        found = iter(await shares([t.inject(question) for t in own if t.segments], YES, NO, llm))
        return [Score(value=next(found) if t.segments else UNJUDGED, kind="self-calibration") for t in own]

    def ceiling(self, cap: int) -> Cost:
        """Of one trace: a call for each spelling, none of which generates anything."""
        return Cost(calls=len(YES) + len(NO))
