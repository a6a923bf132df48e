"""What rules read off one trace: its scores, the log-probabilities of what it sampled, the number that it answers."""

from __future__ import annotations

import math
from fractions import Fraction

from thinkscale.types import Origin, Trace


def last_score(trace: Trace, kind: str = "") -> float:
    """The value that the latest scorer of a kind gave, of any kind by default; minus infinity without one."""
    values = [s.value for s in trace.scores if not kind or s.kind == kind]
    return values[-1] if values and not math.isnan(values[-1]) else -math.inf


def chosen_logprobs(trace: Trace) -> tuple[float, ...]:
    """Log-probabilities of the tokens that the model sampled, in nats; none where any part of the trace has none."""
    parts = [s.logprobs for s in trace.segments if s.origin is Origin.sampled and s.tokens]
    if any(part is None for part in parts):
        return ()
    return tuple(value for part in parts if part is not None for value in part.chosen)


def number_of(trace: Trace) -> float | None:
    """The finite number that a trace answers: `12`, `-0.5`, `1e3` or `3/4`; `None` for any other answer."""
    for said in (trace.answer.key, trace.answer.text) if trace.answer else ():
        try:
            value = float(Fraction(said.replace(",", "").strip()))
        except (ValueError, ZeroDivisionError, OverflowError):
            continue
        if math.isfinite(value):
            return value
    return None
