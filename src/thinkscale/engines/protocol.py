"""The contract between the session and whoever writes tokens. It knows nothing of methods, budgets or answers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

from thinkscale.errors import EngineError
from thinkscale.needs import Capability
from thinkscale.types import Finish, Logprobs, Message, Path, Sampling, Segment, Usage

__all__ = [
    "GENERATES",
    "UNMADE",
    "Abort",
    "Capabilities",
    "Capability",
    "Chunk",
    "Completion",
    "Engine",
    "Price",
    "Request",
    "ThinkFormat",
    "complete",
]

GENERATES = frozenset(Capability) - {Capability.thinking_budget, Capability.rewards}
"""All that a language model can do when nothing stands between it and us."""


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

    def unclosed(self, text: str, *, ended: bool) -> bool:
        """Whether a turn breaks off in its thinking at the end of `text`.

        Args:
            text: all of the turn that is not part of the chat template.
            ended: whether the model ended the turn. Where the template opens the thinking, the text of such a turn is
                all answer if it has no marker: the thinking was switched off, or a server keeps it to itself.
        """
        opened, closed = self.open.strip(), self.close.strip()
        if opened:
            return text.rfind(opened) > text.rfind(closed)
        return bool(self.ends) and not ended and closed not in text

    def asking(self, text: str) -> str:
        """What has a turn that stands at `text` say its answer: the end of a thinking that is not over, the prefix."""
        if self.open and not text.strip():
            return self.open + self.cut_short(self.open)
        if not self.answer_prefix or self.close.strip() not in text or self.unclosed(text, ended=False):
            return self.cut_short(text)
        return self.answer_prefix.lstrip("\n") if not text or text.endswith("\n") else self.answer_prefix

    def apart(self, text: str, nudge: str) -> str:
        """A nudge as it follows `text`: on a fresh line, unless either has space there or the nudge is empty."""
        glued = bool(text and nudge) and not (text[-1].isspace() or nudge[0].isspace())
        return f"\n{nudge}" if glued else nudge

    def split(self, text: str) -> tuple[str, str]:
        """The thinking and the answer of a text, without the markers; a text without the end marker is all answer."""
        mark = self.close.strip()
        thought, found, answer = text.rpartition(mark)
        if not found:
            return "", text
        return thought.strip().removeprefix(self.open.strip()).strip(), answer.strip()

    def joined(self, thought: str, answer: str) -> str:
        """A turn as this family writes it, from what a server delivered in two fields."""
        return f"{self.open}{thought}{self.close}{answer}" if thought else answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """US dollars per million tokens."""

    input: float = 0.0
    output: float = 0.0

    def of(self, read: float, written: float = 0.0) -> float:
        """US dollars for so many tokens; what is free costs nothing, however much it is."""
        return ((read * self.input if self.input else 0.0) + (written * self.output if self.output else 0.0)) / 1e6


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
    vocab: int = 0
    """Tokens in the vocabulary; 0 when unknown."""
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
    paths: tuple[Path, ...] = ()
    """Where each draw sits in the tree of forks, for engines that replay recordings or let further draws wait.

    Empty stands for `(0,)` and on.
    """
    continuation: str | None = None
    """Likelihood request: sample nothing, return the log-probabilities of this text after the prompt and prefix."""
    steps: tuple[str, ...] = ()
    """Reward request: sample nothing, judge these steps of an answer to the messages; one step is the whole answer."""
    tools: tuple[object, ...] = ()
    apart: bool = False
    """Whether somebody watches each draw as it grows and may abort it alone.

    An engine that can only cancel a whole request makes n of them, and log-probabilities that are asked for come with
    the chunks as well, where the engine has them so early.
    """

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
    tool_calls: tuple[Mapping[str, object], ...] = ()
    """Calls of tools that the model wants made, in OpenAI's form."""
    rewards: tuple[float, ...] = ()
    """What a reward model gives each of the request's steps."""
    error: str | None = None
    stands: int = 0
    """Where it stands in the order of tokens, if that is beyond `tokens`: it broke off there, and came back shorter."""


UNMADE = Completion(text="", finish=Finish.aborted, tokens=0)
"""A draw of which nothing was made."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """News of one draw: some more text, its end, or that it has to be asked for again."""

    index: int
    """Which draw of the request, from 0."""
    text: str = ""
    tokens: int = 0
    """Tokens sampled since the last chunk of this draw."""
    completion: Completion | None = None
    """Set on the last chunk of a draw."""
    failure: EngineError | None = None
    """Set when the draw failed alone: whoever asked decides whether to ask again; no more chunks of it follow."""
    logprobs: Logprobs | None = None
    """Of the tokens of this chunk, for a request whose draws are watched; the completion has those of all."""


@dataclass(slots=True, eq=False)
class Abort:
    """A wish to end draws early. Engines answer with a completion `finish=aborted`.

    Unlike closing the stream, this loses nothing: the partial text and the exact token count still arrive. An engine
    looks at it at every step, from any thread, or is woken through `watched`.
    """

    draws: set[int] = field(default_factory=set)
    everything: bool = False
    parent: Abort | None = None
    """A wider wish: when it ends everything, so does this one."""
    renumbered: tuple[int, ...] = ()
    """The parent's numbers of the draws, for a request that covers only some of them."""
    _wakes: list[Callable[[], object]] = field(default_factory=list)

    def end(self, index: int | None = None) -> None:
        """Wish that one draw ends, or everything, and wake those who watch."""
        if index is None:
            self.everything = True
        else:
            self.draws.add(index)
        for wake in [*self._wakes]:
            wake()

    @contextmanager
    def watched(self, wake: Callable[[], object]) -> Iterator[None]:
        """While the context lasts, call `wake` whenever something more is to end, here or in a wider wish."""
        self._wakes.append(wake)
        try:
            with self.parent.watched(wake) if self.parent else nullcontext():
                yield
        finally:
            self._wakes.remove(wake)

    @property
    def over(self) -> bool:
        """Whether everything is to end."""
        return self.everything or (self.parent is not None and self.parent.over)

    def __contains__(self, index: int) -> bool:
        if self.everything or index in self.draws:
            return True
        if self.parent is None:
            return False
        return self.renumbered[index] in self.parent if self.renumbered else self.parent.over


class Engine(Protocol):
    """Whoever writes tokens: a model in this process, a server, a recording or a fake."""

    @property
    def capabilities(self) -> Capabilities:
        """What this engine is and can do; cheap, and constant once the engine is open."""
        ...

    async def open(self) -> None:
        """Find out what the capabilities are, where that takes asking; the second time is free.

        Raises:
            EngineError: whoever writes the tokens cannot be reached or is not what was expected.
        """
        ...

    def stream(self, request: Request, abort: Abort | None = None) -> AsyncGenerator[Chunk, None]:
        """Draw `request.n` completions and yield news of them as it happens.

        Every draw ends with exactly one chunk that carries its completion, or its failure when it failed alone; a
        request that fails as a whole raises `EngineError`. Closing the iterator stops the generation; `abort` does so
        too and still delivers what was generated.
        """
        ...

    def count(self, request: Request) -> int:
        """Prompt tokens of the request: exact, or an upper bound."""
        ...

    async def aclose(self) -> None:
        """Release the model or the connections. Calling it twice is harmless."""
        ...


async def complete(engine: Engine, request: Request, abort: Abort | None = None) -> list[Completion]:
    """Run a request to its end; completions come in draw order, those of draws that failed alone as `finish=error`."""
    done: dict[int, Completion] = {}
    async for chunk in engine.stream(request, abort):
        if chunk.completion is not None:
            done[chunk.index] = chunk.completion
        elif chunk.failure is not None:
            done[chunk.index] = Completion(text="", finish=Finish.error, tokens=0, error=str(chunk.failure))
    return [done[i] for i in sorted(done)]
