"""The contract between the session and whoever writes tokens. It knows nothing of methods, budgets or answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from thinkscale.types import Finish, Logprobs, Message, Sampling, Segment, Usage


class Capability(StrEnum):
    """Something an engine can do beyond plain sampling."""

    prefill = "prefill"
    """Continue a partial assistant turn exactly."""
    logprobs = "logprobs"
    """Log-probabilities of the sampled tokens."""
    top_logprobs = "top-logprobs"
    """Log-probabilities of the k likeliest tokens."""
    token_moments = "token-moments"
    """`logsumexp(z)` and `mean(z)` per token: exact self-certainty."""
    likelihood = "likelihood"
    """Teacher-forced log-probabilities of a given text."""
    logit_bias = "logit-bias"
    min_tokens = "min-tokens"
    seed = "seed"
    grammar = "grammar"
    json_schema = "json-schema"
    thinking_budget = "thinking-budget"
    """A native cap on thinking tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThinkFormat:
    """How a model family marks its thinking. Data only; the table is `engines/think_formats.py`."""

    open: str = ""
    """Text that starts the thinking; part of the chat template in some families, then empty."""
    close: str
    """Text that ends the thinking and starts the answer."""
    ends: tuple[str, ...] = ()
    """Strings by which the model says that it wants to stop thinking, besides ending its turn."""
    answer_prefix: str = ""
    """Text that forces an answer when the thinking was cut short."""

    def cut_short(self, text: str) -> str:
        """What ends a thinking that stands at `text` and was not finished: a fresh line, the end, the answer prefix."""
        fresh_line = not text or text.endswith("\n") or self.open.startswith("\n")
        return ("" if fresh_line else "\n") + self.close.strip("\n") + self.answer_prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars per million tokens."""

    input: float = 0.0
    output: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine is and can do."""

    model: str
    """Identity of the weights: equal strings mean that samples are interchangeable. Part of the cache key."""
    name: str = ""
    """How a person would name the model; `model` when empty."""
    can: frozenset[Capability] = frozenset()
    context: int | None = None
    """Tokens of prompt and answer together."""
    concurrency: int = 64
    """Draws that are worth having in flight at once."""
    exact: bool = True
    """Whether logits are the same whatever else is in the batch. If not, the recorded completion is the truth."""
    think: ThinkFormat | None = None
    """The model's thinking markers; `None` selects the plain fallback."""
    price: Price | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """n draws that share one prompt."""

    messages: tuple[Message, ...]
    prefix: tuple[Segment, ...] = ()
    """The partial assistant turn to continue: token ids where a segment has them, its text otherwise."""
    sampling: Sampling = Sampling()
    seeds: tuple[int, ...] = (0,)
    """One 63-bit seed per draw; their number is n."""
    continuation: str | None = None
    """Likelihood request: sample nothing, return the log-probabilities of this text after the prompt and prefix."""
    tools: tuple[object, ...] = ()

    @property
    def n(self) -> int:
        """How many draws are asked for."""
        return len(self.seeds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One finished draw."""

    text: str
    finish: Finish
    tokens: int
    """Tokens sampled, the one that ended the text included."""
    stop_string: str | None = None
    token_ids: tuple[int, ...] = ()
    """Ids that spell exactly `text`."""
    logprobs: Logprobs | None = None
    usage: Usage = Usage()
    """The share of the request's cost that belongs to this draw."""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """News of one draw: some more text, or its end."""

    index: int
    """Which draw of the request, from 0."""
    text: str = ""
    tokens: int = 0
    """Tokens sampled since the last chunk of this draw."""
    completion: Completion | None = None
    """Set on the last chunk of a draw."""


@dataclass(slots=True)
class Abort:
    """A wish to end draws early. Engines look at it at every step and answer with a completion `finish=aborted`.

    Unlike closing the stream, this loses nothing: the partial text and the exact token count still arrive.
    Reading is safe from another thread.
    """

    draws: set[int] = field(default_factory=set)
    everything: bool = False
    parent: Abort | None = None
    """A wider wish: when it ends everything, so does this one."""
    renumbered: tuple[int, ...] = ()
    """The parent's numbers of the draws, for a request that covers only some of them."""

    def __contains__(self, index: int) -> bool:
        if self.everything or index in self.draws:
            return True
        if self.parent is None:
            return False
        return self.renumbered[index] in self.parent if self.renumbered else self.parent.everything


class Engine(Protocol):
    """Whoever writes tokens: a model in this process, a server, a recording or a fake."""

    @property
    def capabilities(self) -> Capabilities:
        """What this engine is and can do; cheap, and constant over its life."""
        ...

    def stream(self, request: Request, abort: Abort | None = None) -> AsyncGenerator[Chunk, None]:
        """Draw `request.n` completions and yield news of them as it happens.

        Every draw ends with exactly one chunk that carries its completion. A draw that fails alone ends with
        `finish=error`; a request that fails as a whole raises `EngineError`. Closing the iterator stops the
        generation; `abort` does so too and still delivers what was generated.
        """
        ...

    def count(self, request: Request) -> int:
        """Prompt tokens of the request: exact, or an upper bound."""
        ...

    async def aclose(self) -> None:
        """Release the model or the connections. Calling it twice is harmless."""
        ...


async def complete(engine: Engine, request: Request, abort: Abort | None = None) -> list[Completion]:
    """Run a request to its end and return its completions in draw order."""
    done: dict[int, Completion] = {}
    async for chunk in engine.stream(request, abort):
        if chunk.completion is not None:
            done[chunk.index] = chunk.completion
    return [done[i] for i in sorted(done)]
