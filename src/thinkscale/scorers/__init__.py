"""Scorers: who judges a trace. They may call a model through the session; these built-in ones do not.

Larger is always better, and a trace that cannot be judged scores minus infinity. Injected text is never judged: the
model did not choose it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from thinkscale.session import Session
from thinkscale.types import Logprobs, Origin, Problem, Score, Trace


class Scorer(Protocol):
    """Judges a batch of traces of one problem."""

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, in order."""
        ...


def sampled_logprobs(trace: Trace) -> Logprobs | None:
    """Signals of everything that the model itself wrote in a trace; `None` when any of it has none."""
    parts = [s.logprobs for s in trace.segments if s.origin is Origin.sampled and s.tokens]
    whole: Logprobs | None = None
    for part in parts:
        if part is None:
            return None
        whole = part if whole is None else whole + part
    return whole
