"""Vote across ways of decoding instead of seeds: the part of HEX (Lee et al. 2025) that any language model can do."""

from __future__ import annotations

from dataclasses import field
from functools import reduce
from itertools import cycle
from operator import add
from typing import ClassVar, cast

from thinkscale.budget import Cost
from thinkscale.contracts import rank
from thinkscale.errors import SpecError
from thinkscale.needs import Needs, Sign
from thinkscale.registry import at_least, parse, spec
from thinkscale.selection import Selector
from thinkscale.selection.majority import Majority
from thinkscale.session import Method, Session
from thinkscale.types import Outcome, Problem, Score


def _temperatures() -> tuple[Method, ...]:
    return tuple(cast(Method, parse(f"single(temperature={t})", "method")) for t in (0.2, 0.6, 1.0))


@spec
class DecodingEnsemble:
    """Answer by every declared configuration, `per_config` times in turn, and return the plurality answer.

    The paper varies the block size of a diffusion model. Here a configuration is a method: `single(temperature=0.2)`,
    `single(system="Think in French.", top_p=0.9)`, `on(role=small)`, or any other. Ties go to the answer that was
    seen first, as in the released code. Every trace has a score whose note names its configuration.
    """

    configs: tuple[Method, ...] = field(default_factory=_temperatures)
    """The configurations, at least one; three temperatures unless said otherwise."""
    per_config: int = 1
    """Attempts by each, at least 1; a greedy one says the same every time."""
    select: Selector = Majority()

    needs: ClassVar = Needs(gives={"decoding-ensemble": Sign.not_negative}, effort={"per_config": 1})

    def __post_init__(self) -> None:
        at_least(1, per_config=self.per_config)
        if not self.configs:
            raise SpecError("`configs` is empty: name at least one, as in `configs=[single(temperature=0.2)]`")

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """Draw by the configurations in turn, then vote."""
        traces = await llm.sample(problem, self.per_config * len(self.configs), by=self.configs)
        noted = [
            trace.scored(Score(value=1.0, kind="decoding-ensemble", note=repr(config)))
            for config, trace in zip(cycle(self.configs), traces, strict=False)
        ]
        return Outcome.of(rank(self.select, noted), noted)

    def ceiling(self, cap: int) -> Cost:
        """Every configuration `per_config` times."""
        return reduce(add, (config.ceiling(cap) for config in self.configs)) * self.per_config
