"""Any attempt: the floor under every selection rule."""

from __future__ import annotations

from thinkscale.registry import spec
from thinkscale.selection.ballots import Ties
from thinkscale.selection.picking import Picking


@spec
class Random(Picking):
    """One of the attempts with an answer, by `seed` alone; in expectation as right as an attempt that answers."""

    ties: Ties = Ties.random
    """All attempts are tied."""
