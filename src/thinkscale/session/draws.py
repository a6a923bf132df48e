"""Draws of one prompt, and the stop rule that ends them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from thinkscale.types import Trace

LONG = 2e-4
"""Seconds of a stop rule beyond which letting others run costs nothing beside it."""


class Draws(list[Trace]):
    """Traces in draw order, and whether a stop rule ended the drawing."""

    enough: bool = False
    """Whether the stop rule was satisfied before all draws were made."""
    needed: int | None = None
    """Tokens that the rule needed; `None` where no rule was asked."""


async def fires(enough: Callable[[Sequence[Trace]], bool], traces: Sequence[Trace]) -> bool:
    """Ask a stop rule about some traces. One that is slow lets others run between two draws."""
    began = time.perf_counter()
    fired = enough(traces)
    if time.perf_counter() - began > LONG:
        await asyncio.sleep(0)
    return fired
