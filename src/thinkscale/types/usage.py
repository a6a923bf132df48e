"""What was spent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What was spent. Adding two keeps `None` only where both sides did not know."""

    calls: int = 0
    """Completions asked for: a request for n draws is n calls."""
    input_tokens: int | None = None
    """Prompt tokens, summed over calls; a prefix shared by n draws counts once."""
    cached_tokens: int | None = None
    """The part of `input_tokens` that the engine served from its cache."""
    output_tokens: int = 0
    """Tokens generated on the user's behalf, in every attempt, shown or not."""
    reasoning_tokens: int | None = None
    """The part of `output_tokens` that the engine reported as thinking."""
    seconds: float = 0.0
    """Time from the first call to the last answer as the clock on the wall saw it; not additive over parallel calls."""
    usd: float | None = None

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            calls=self.calls + other.calls,
            input_tokens=_plus(self.input_tokens, other.input_tokens),
            cached_tokens=_plus(self.cached_tokens, other.cached_tokens),
            output_tokens=self.output_tokens + other.output_tokens,
            reasoning_tokens=_plus(self.reasoning_tokens, other.reasoning_tokens),
            seconds=self.seconds + other.seconds,
            usd=self.usd if other.usd is None else other.usd + (self.usd or 0.0),
        )


def _plus(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return b if a is None else a
    return a + b
