"""Plurality vote over answers (Wang et al. 2022, self-consistency)."""

from __future__ import annotations

from thinkscale.registry import spec
from thinkscale.selection.voting import Voting


@spec
class Majority(Voting):
    """The most frequent answer wins; ties go to the answer seen first.

    Confidence is the winner's share of all attempts, those without an answer included.
    """
