"""Stop rules: pure predicates that say "these samples are enough". They see the pool so far and never look ahead.

A rule is shown the first 1, 2, … traces in the order of their tokens, wave after wave, whatever order they finish in:
concurrency cannot change where it fires.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from thinkscale.types import Trace

StopRule = Callable[[Sequence[Trace]], bool]
"""A stop rule; a trace without an answer consumes a draw and never counts.

One that depends on how many draws there are at most has a method `within(n)`, which gives the rule for n draws.
"""
