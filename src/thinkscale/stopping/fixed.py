"""Draw everything: the rule that never stops early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from thinkscale.needs import NOTHING
from thinkscale.registry import spec
from thinkscale.types import Trace


@spec
class Fixed:
    """Never enough: all n samples are drawn."""

    needs: ClassVar = NOTHING

    def __call__(self, traces: Sequence[Trace]) -> bool:
        """Always false."""
        return False

    def soonest(self, traces: Sequence[Trace], left: int) -> int:
        """All that are left: it never fires."""
        return left
