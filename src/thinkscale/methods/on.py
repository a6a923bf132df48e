"""A method on the engine of a role: what a level of a cascade is, or an attempt by another model."""

from __future__ import annotations

from dataclasses import field
from typing import cast

from thinkscale.budget import Cost
from thinkscale.contracts import solve_by
from thinkscale.needs import Needs
from thinkscale.registry import parse, spec
from thinkscale.selection import Selector
from thinkscale.selection.majority import rule_of
from thinkscale.session import Method, Session
from thinkscale.types import Outcome, Problem


def _single() -> Method:
    return cast(Method, parse("single", "method"))


@spec
class On:
    """Run a method on the engine that plays a role, on the same account."""

    role: str = "main"
    """Name of the role, as in `--model small.gguf,large=…`; `main` is the model itself."""
    method: Method = field(default_factory=_single)

    @property
    def needs(self) -> Needs:
        """Somebody who plays the role."""
        return Needs(players=frozenset({self.role}))

    @property
    def select(self) -> Selector:
        """The method's own rule."""
        return rule_of(self.method)

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """The method's own outcome."""
        return await solve_by(self.method, problem, llm.role(self.role))

    def ceiling(self, cap: int) -> Cost:
        """That of the method."""
        return self.method.ceiling(cap)
