"""Limits on what a server may send: bytes, silence, shapes, and the numbers in a bill.

Data that passes is safe to use; anything else is one `EngineError`. It opens no connection and knows no dialect.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import aiohttp
import orjson

from thinkscale.engines.protocol import Request
from thinkscale.errors import EngineError
from thinkscale.types import Usage

REPLY = 32 * 2**20
"""Most bytes of a reply in one piece, decompressed."""
LISTING = 8 * 2**20
"""Most bytes of what a server says of itself, such as its list of models."""
COMPLAINT = 65536
"""Bytes of an error reply that are read."""
STREAM, PER_TOKEN = 16 * 2**20, 8192
"""Most bytes of a stream: `STREAM`, plus `PER_TOKEN` for each token that was asked for."""
DRAW = 2**19
"""Most tokens of a draw that was asked for without a cap."""
PROMPT = 32768
"""Tokens that a server may add to a prompt: templates, tools, an instruction of its own."""
PICTURES = 2**20
"""Most tokens of a prompt with images or other parts that are not text."""
WAIT = 60.0
"""Longest wait in seconds before a request is repeated."""
LOOK = 1.0
"""Seconds between two checks of a silent connection."""
_SPREAD, _SLACK = 16, 256
"""No text has more characters per token on average than `_SPREAD`, short texts of up to `_SLACK` characters aside."""
_COARSE = 8
"""Pieces with more characters than this, on average, hold several tokens each."""
ODD = (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)
"""Exceptions that reading an object of an unexpected shape raises."""
_LONE = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")
_FLOOR = -100.0
"""Smallest log-probability, in nats; single precision holds none below -103, and servers write -9999 for it."""


def loads(raw: bytes | bytearray) -> object:
    r"""Parse JSON; half a character at the end of a string (`"\ud83d"`) and the number `NaN` are accepted.

    Raises:
        ValueError: it is no JSON.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(raw.decode("utf-8", "surrogateescape"))
    except RecursionError:
        raise ValueError("it is nested too deep") from None


class Halves:
    """Joins pieces of a text that are cut in the middle of characters."""

    def __init__(self) -> None:
        self._high = ""
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def mend(self, piece: str, *, last: bool = False) -> str:
        """The piece in whole characters; half of one at its end is kept for the next piece, unless this is the `last`.

        Halves are either UTF-16 surrogates, as JSON escapes them, or raw bytes of UTF-8.
        """
        text, self._high = self._high + piece, ""
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if not last and "\ud800" <= text[-1:] <= "\udbff":
            text, self._high = text[:-1], text[-1]
        return self._bytes.decode(_LONE.sub("\ufffd", text).encode("utf-8", "surrogateescape"), last)


def writable(text: str) -> str:
    """A text whose half characters, which UTF-8 cannot encode, are replaced."""
    return text if text.isascii() else Halves().mend(text, last=True)


@contextmanager
def shaped(at: str, words: str) -> Iterator[None]:
    """Turn errors of reading an object into an `EngineError` that quotes the server's `words`."""
    try:
        yield
    except ODD as error:
        raise odd(at, words, error) from None


def odd(at: str, words: str, error: BaseException) -> EngineError:
    """The error about a reply, or a part of it, of an unexpected shape."""
    return EngineError(
        f"`{at}` sent what cannot be read ({type(error).__name__} in `{words}`): ask again, or see the server's log",
        retryable=True,
    )


def too_much(at: str, most: int) -> EngineError:
    """The error about a reply of more than `most` bytes."""
    return EngineError(
        f"`{at}` sent more than {most / 2**20:.0f} MiB in one reply, so it was given up: check that the base URL "
        "is that of an OpenAI-compatible server"
    )


class Silence:
    """Fails the reading of a reply when its server is silent for too long, or its connection is lost before the end.

    aiohttp's own timer stops at a malformed chunk, so it is not enough.

    Args:
        response: the reply that is being read.
        idle: most seconds of silence.
    """

    __slots__ = ("_handle", "_heard", "_idle", "_loop", "_response")

    def __init__(self, response: aiohttp.ClientResponse, idle: float) -> None:
        self._response, self._idle = response, idle
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._handle = self._loop.call_later(min(idle, LOOK), self._look)

    def heard(self) -> None:
        """Restart the timer: data arrived, or waiting begins now."""
        self._heard = self._loop.time()

    def end(self) -> None:
        """Stop the timer."""
        self._handle.cancel()

    def _look(self) -> None:
        content, connection = self._response.content, self._response.connection
        if content.is_eof() or content.exception() is not None:
            return
        left = self._heard + self._idle - self._loop.time()
        if left <= 0:
            content.set_exception(aiohttp.SocketTimeoutError("the server is silent"))
        elif connection is not None and connection.transport is None:
            content.set_exception(aiohttp.ClientPayloadError("the connection is gone"))
        else:
            self._handle = self._loop.call_later(min(left, LOOK), self._look)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that one request can have read and written, whatever the server's bill says.

    A token has at least one byte, so a text has at most as many tokens as bytes.
    """

    request: Request
    context: int | None = None
    """The model's context in tokens, prompt and answer together; `None` when unknown."""

    @property
    def cap(self) -> int:
        """Most tokens of each draw."""
        return self.request.sampling.max_tokens or self.context or DRAW

    @property
    def prompt(self) -> int:
        """Most tokens of the prompt."""
        if self.context:
            return self.context
        plain = all(isinstance(m.content, str) for m in self.request.messages)
        return PROMPT + size_of(self.request) if plain else PICTURES

    @property
    def stream(self) -> int:
        """Most bytes of a stream."""
        return STREAM + self.cap * PER_TOKEN * self.request.n

    def believed(self, bill: Usage, seen: int) -> Usage:
        """The bill cut to its bounds; `seen` is the most tokens that the draws together can have."""
        read = bill.input_tokens
        if read is not None and read > min(PROMPT, self.context or PROMPT):
            read = min(read, self.prompt)
        cached = bill.cached_tokens if read is None or bill.cached_tokens is None else min(bill.cached_tokens, read)
        output = min(bill.output_tokens, seen)
        thought = None if bill.reasoning_tokens is None else min(bill.reasoning_tokens, output)
        return Usage(input_tokens=read, cached_tokens=cached, output_tokens=output, reasoning_tokens=thought)


def possible(cap: int, characters: int) -> int:
    """Most tokens of a draw that was capped at `cap` and has shown so many characters."""
    return max(cap, 4 * characters)


def longest(cap: int) -> int:
    """Most characters that a text of `cap` tokens has; a longer one is over its cap."""
    return _SPREAD * cap + _SLACK


def estimated(pieces: int, characters: int) -> int:
    """Estimated tokens of a text without a bill: one per piece, or one per four characters if the pieces are long."""
    return characters // 4 if characters > _COARSE * pieces else pieces


def tokens_of(told: object) -> int | None:
    """A number of tokens; `None` for what is negative, fractional or no number."""
    if isinstance(told, float) and told.is_integer():
        told = int(told)
    return told if isinstance(told, int) and not isinstance(told, bool) and told >= 0 else None


def logprob(told: object) -> float:
    """A log-probability in nats, at most 0.

    Raises:
        ValueError, TypeError: it is no log-probability.
    """
    if type(told) is float and told <= 0.0:
        return told
    number = float(told)  # type: ignore[arg-type]
    if math.isnan(number) or isinstance(told, bool):
        raise ValueError(f"`{told}` is no log-probability")
    return min(0.0, number)


def sampled(told: object) -> float:
    """The log-probability of a sampled token; placeholders such as -9999 become the smallest value, -100 nats."""
    return max(logprob(told), _FLOOR)


def size_of(request: Request) -> int:
    """An upper bound of the tokens of a prompt: no token is shorter than a byte."""
    spoken = sum(_size(m.content) + 16 for m in request.messages)
    given = sum(len(s.text.encode()) for s in request.prefix) + len((request.continuation or "").encode())
    return spoken + given + sum(len(str(tool)) for tool in request.tools)


def _size(content: str | Sequence[Mapping[str, object]]) -> int:
    """Bytes of a message; an image counts as no fewer than 4,096."""
    if isinstance(content, str):
        return len(content.encode())
    return sum(max(len(str(part)), 4096) if "text" not in part else len(str(part["text"]).encode()) for part in content)
