"""Selection rules: pure functions from a pool of traces to a ranking. They never draw, score or wait.

Every rule treats a trace without an answer alike: it never votes. The order of the pool is the order of draws, which
decides ties, so a rule gives the same result on a live pool and on a recorded one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from thinkscale.types import Ranking, Trace

Selector = Callable[[Sequence[Trace]], Ranking]
"""A selection rule; ties go to the class that was seen first."""
