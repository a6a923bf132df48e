"""The confidence of a trace, as rules that stop on confidence read it. Knows no scorers, only what they wrote down."""

from __future__ import annotations

import math

from thinkscale.types import Trace


def confidence(trace: Trace, kind: str) -> float | None:
    """The latest score of a kind (of any when it is empty); `None` without an answer or without a finite score."""
    if trace.answer is None:
        return None
    found = [s.value for s in trace.scores if kind in ("", s.kind)]
    return found[-1] if found and math.isfinite(found[-1]) else None
