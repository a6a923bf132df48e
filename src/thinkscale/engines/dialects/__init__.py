"""The languages of OpenAI-compatible servers: pure functions from a request to JSON and from JSON to news of choices.

One file per endpoint. A dialect opens no connection and keeps no state between events; what differs from server to
server it is told through `Habits`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from thinkscale.engines.protocol import Request
from thinkscale.types import Finish, Logprobs, Usage

Json = Mapping[str, object]


class Prefill(StrEnum):
    """How a server is asked to continue a partial assistant turn."""

    no = "no"
    flag = "continue_final_message"
    """A last assistant message, with `continue_final_message` true and `add_generation_prompt` false."""
    trailing = "trailing"
    """A last assistant message is continued without being asked."""
    mark = "prefix"
    """A last assistant message that carries `"prefix": true`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How one kind of server wants to be asked for what not all servers have. Dots in a name step into objects."""

    prefill: Prefill = Prefill.no
    cap: str = "max_tokens"
    """Field of the cap on generated tokens."""
    always: Json = field(default_factory=dict)
    """Fields that bring better news, such as exact counts; a server that refuses one is asked without it."""
    tells_stop: bool = False
    """Whether a reply says which stop string fired. If not, stop strings are not sent: we cut the text ourselves."""
    later: int | None = None
    """What the field `priority` of a request that may wait has more than others; `None` leaves the field out."""
    sampling: Mapping[str, str] = field(default_factory=dict)
    """Fields for `min_tokens`, `top_k`, `min_p`, `grammar`, `thinking_budget`, `banned`, where they are understood.

    Elsewhere a grammar or a ban is refused, because a text that breaks it is wrong; the others are left out.
    """


@dataclass(slots=True)
class Piece:
    """News of one choice."""

    index: int
    text: str = ""
    thought: str = ""
    """Thinking that came in a field of its own."""
    sampled: int | None = None
    """Tokens behind this piece, where ids or log-probabilities give their number."""
    total: int | None = None
    """Tokens of the choice up to here, where the server counts along; better than `sampled` where both are known."""
    token_ids: tuple[int, ...] = ()
    logprobs: Logprobs | None = None
    """Of the tokens of this piece."""
    calls: Sequence[Json] = ()
    """Fragments of tool calls, to be merged by their `index`."""
    finish: Finish | None = None
    """Set on the last piece of a choice."""
    stop_string: str | None = None


@dataclass(slots=True)
class News:
    """What one event, or one whole reply, says."""

    pieces: Sequence[Piece] = ()
    usage: Usage | None = None
    """What the server bills, with `calls` 0.

    Without pieces it is of the whole request and comes at the end. Some servers bill on the piece that ends a choice:
    then its prompt is that of the request, and its output that of the choice alone where the server counts along.
    """
    prompt: Usage | None = None
    """What a server that counts along says of the prompt while the texts still grow, with `output_tokens` 0."""
    error: Json | None = None
    """The server's own words when it failed on the way, of whichever shape; nothing more will come."""


class Dialect(Protocol):
    """One endpoint's language."""

    path: str
    """Below the base URL, such as `chat/completions`."""
    shares: bool
    """Whether one request can ask for several choices."""

    def body(self, request: Request, model: str, n: int, habits: Habits) -> dict[str, object]:
        """The streamed request for n choices; the first of the request's seeds goes with it."""
        ...

    def news(self, event: Json) -> News:
        """What one streamed event says; unknown events say nothing."""
        ...

    def whole(self, reply: Json, request: Request) -> News:
        """What a reply to the request says that came in one piece, because it was asked for so or despite of it."""
        ...
