"""What rules read off one trace: its scores, the log-probabilities of what it sampled, the number that it answers."""

from __future__ import annotations

import math
import re
import sys
from fractions import Fraction

from thinkscale.types import Origin, Trace

_VAST = re.compile(r"e[-+]?\d{4}", re.IGNORECASE)
"""Exponents that no float holds. As fractions such numbers are so long that reading one may take hours."""


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
        exact = fraction_of(said)
        if exact is not None and abs(exact) <= sys.float_info.max:
            return float(exact)
    return None


def fraction_of(said: str) -> Fraction | None:
    """The number that a text is, exactly; `None` where it is none, or one that no float holds."""
    plain = said.replace(",", "").strip()
    try:
        return None if _VAST.search(plain) else Fraction(plain)
    except (ValueError, ZeroDivisionError):
        return None
