"""Shorter is better (the length signal of Wang et al. 2025, "Think deep, think fast")."""

from __future__ import annotations

from collections.abc import Sequence

from thinkscale.errors import SpecError
from thinkscale.needs import Needs, Sign
from thinkscale.registry import spec
from thinkscale.session import Session
from thinkscale.types import Problem, Score, Trace


@spec
class Length:
    """Minus the number of sampled tokens, or plus it with `prefer="longest"`.

    On recorded samples the shortest answer beats a random one in most sets and never beats majority vote: a baseline.
    """

    prefer: str = "shortest"
    """`shortest` or `longest`."""

    def __post_init__(self) -> None:
        if self.prefer not in ("shortest", "longest"):
            raise SpecError(f"`prefer={self.prefer}` must be `shortest` or `longest`")

    @property
    def needs(self) -> Needs:
        """Nothing."""
        sign = Sign.not_positive if self.prefer == "shortest" else Sign.not_negative
        return Needs(gives={"length": sign})

    async def score(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> list[Score]:
        """One score per trace, in tokens."""
        sign = -1 if self.prefer == "shortest" else 1
        return [Score(value=float(sign * t.tokens), kind="length") for t in traces]
