"""The place of a session: everything in which two sessions of one run can differ, as one frozen record."""

from __future__ import annotations

from dataclasses import dataclass, replace

from thinkscale.budget import Ledger
from thinkscale.engines.protocol import Capabilities, Capability, Engine, ThinkFormat
from thinkscale.engines.think_formats import PLAIN
from thinkscale.session.run import Run
from thinkscale.types import AnswerKind, Path, Sampling, Segment

DEFAULT_MAX_TOKENS = 512
"""Cap of one call when neither the method nor the settings name one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One engine, one account, one place in the tree of draws. Another place is `replace(place, …)`."""

    engine: Engine
    ledger: Ledger
    run: Run
    """What all sessions of the run share."""
    main: Engine | None = None
    """The main engine of the run; `engine` when not given."""
    role: str = "main"
    """The role that `engine` plays."""
    path: Path = ()
    """Prefix of the paths of all draws."""
    kind: AnswerKind = AnswerKind.auto
    """How answers are found."""
    sampling: Sampling = Sampling()
    """The sampling of calls that do not change it; log-probabilities that the engine lacks are left out."""
    before: tuple[Segment, ...] = ()
    """Text that every attempt at a problem continues."""
    final: bool = True
    """Whether an answer found here may be the result and so releases the closing reserve."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "main", self.main or self.engine)
        object.__setattr__(self, "sampling", _fit(self.sampling, self.capabilities))

    def engine_of(self, role: str) -> Engine:
        """The engine that plays a role; the main one where nobody was named for it."""
        return self.run.roles.get(role) or self.main or self.engine

    @property
    def capabilities(self) -> Capabilities:
        """What the engine can do."""
        return self.engine.capabilities

    @property
    def model(self) -> str:
        """The name of the model, as segments bear it."""
        return self.capabilities.name or self.capabilities.model

    @property
    def think(self) -> ThinkFormat:
        """How the model marks its thinking; a plain fallback for models that do not."""
        return self.capabilities.think or PLAIN

    @property
    def cap(self) -> int:
        """Tokens that one call may generate unless the method says otherwise."""
        return self.sampling.max_tokens or DEFAULT_MAX_TOKENS


def _fit(sampling: Sampling, capabilities: Capabilities) -> Sampling:
    """A sampling with a cap, and without log-probabilities that the engine does not give."""
    if sampling.logprobs is not None and Capability.logprobs not in capabilities.can:
        sampling = replace(sampling, logprobs=None)
    elif sampling.logprobs and Capability.top_logprobs not in capabilities.can:
        sampling = replace(sampling, logprobs=0)
    return sampling if sampling.max_tokens else replace(sampling, max_tokens=DEFAULT_MAX_TOKENS)
