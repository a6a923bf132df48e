"""What passes between the parts of the gateway. Plain records: they know neither HTTP nor how anything is decided.

Data flows one way: `request → Asked → Order → Running → Outcome → reply`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from thinkscale.budget import Budget
from thinkscale.engines.protocol import Engine
from thinkscale.session import Method
from thinkscale.types import Problem, Sampling


class Api(StrEnum):
    """The endpoint that a client uses."""

    chat = "chat"
    completions = "completions"
    responses = "responses"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A client's request, read and checked, before anything is decided."""

    api: Api
    model: str
    """As the client named it: an upstream model, a profile, or either with `+method`."""
    problem: Problem
    sampling: Sampling
    """What the client set; everything else is at its default. Unknown fields are in `extra`."""
    given: frozenset[str] = frozenset()
    """Fields of `sampling` that the client set."""
    n: int = 1
    """Choices wanted."""
    stream: bool = False
    include_usage: bool = False
    """Whether a stream ends with a usage chunk."""
    effort: str | None = None
    """`reasoning_effort`: scales the profile's budget."""
    seed: int | None = None
    method: str | None = None
    """Spec from `extra_body["thinkscale"]`."""
    budget: Budget = field(default_factory=Budget)
    """From `extra_body["thinkscale"]` and the headers."""
    trace: bool = False
    """Whether the reply is to carry every attempt."""
    store: bool = True
    background: bool = False
    """Whether the reply is to come at once, and the outcome later, when it is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What will be run: every decision has been made."""

    asked: Asked
    method: Method
    engine: Engine
    roles: Mapping[str, Engine] = field(default_factory=dict)
    sampling: Sampling
    budget: Budget
    seed: int
    profile: str = ""
    """The profile behind it; empty without one."""
