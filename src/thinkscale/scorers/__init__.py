"""Scorers: who judges a trace. They may call models through the session.

Larger is always better, and a trace that cannot be judged scores minus infinity. Injected text is never judged: the
model did not choose it. A model that judges is shown what was injected before the model's own words, which continue it,
and nothing that was injected after them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from thinkscale.budget import Cost
from thinkscale.engines.protocol import ThinkFormat
from thinkscale.session import Session
from thinkscale.types import Finish, Logprobs, Origin, Problem, Score, Segment, Trace

UNJUDGED = -math.inf
"""The score of what cannot be judged."""


class Scorer(Protocol):
    """Judges a batch of traces of one problem."""

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, in order."""
        ...


def scoring_ceiling(scorer: Scorer, cap: int) -> Cost:
    """The most that judging one trace can cost when a call may generate `cap` tokens.

    A scorer that calls models says so by a method `ceiling(cap)`, and what they need by `role_needs`, a class variable
    from the name of a role to its capabilities.
    """
    ceiling = getattr(scorer, "ceiling", None)
    cost: Cost = ceiling(cap) if ceiling else Cost()
    return cost


def shown(trace: Trace, think: ThinkFormat | None) -> Trace:
    """What a model that judges a trace is shown: its answer, as one segment; none where there is nothing to judge.

    The thinking is left out where the model marks it, as reward models were trained on answers. What was injected after
    the model's last word is left out as well; what failed or was cancelled is not judged at all.
    """
    own = [i for i, s in enumerate(trace.segments) if s.origin is Origin.sampled and s.text]
    if not own or trace.finish in (Finish.error, Finish.aborted):
        return replace(trace, segments=())
    text = "".join(s.text for s in trace.segments[: own[-1] + 1])
    answer = think.split(text)[1] if think else text
    return replace(trace, segments=(Segment(text=answer, origin=Origin.sampled),) if answer.strip() else ())


def sampled_logprobs(trace: Trace) -> Logprobs | None:
    """Signals of everything that the model itself wrote in a trace; `None` when any of it has none."""
    parts = [s.logprobs for s in trace.segments if s.origin is Origin.sampled and s.tokens]
    whole: Logprobs | None = None
    for part in parts:
        if part is None:
            return None
        whole = part if whole is None else whole + part
    return whole
