"""Selection rules: pure functions from a pool of traces to a ranking. They never draw, score or wait.

A rule says how a vote is weighed (`voting`) or what an attempt is picked by (`picking`), on arrays whose last axis is
the attempts of one pool (`ballots`); live it is called on traces, offline on many subsets at once. By default a trace
without an answer never votes and ties go to the answer that was seen first, in draw order, so a rule gives the same
result on a live pool and on a recorded one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from thinkscale.types import Ranking, Trace

Selector = Callable[[Sequence[Trace]], Ranking]
"""A selection rule; a plug-in may be any such callable under `@spec`."""
