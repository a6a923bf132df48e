"""What is believed of a server: how much it may send, for how long it may be silent, what shape that may have, and what
a bill may say. Whatever passes here is data; what does not is one `EngineError`. It opens no connection and knows no
dialect.
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
"""Most bytes of a stream: so many, and so many more for each token that was asked for."""
DRAW = 2**19
"""Most tokens of a draw that was asked for without a cap."""
PROMPT = 32768
"""Tokens that a server may add to a prompt: templates, tools, an instruction of its own."""
PICTURES = 2**20
"""Most tokens of a prompt that is more than text."""
WAIT = 60.0
"""Most seconds that are waited before a server is asked again."""
LOOK = 1.0
"""Seconds after which a connection that is silent is looked at."""
_SPREAD, _SLACK = 16, 256
"""Characters of a token, on average, that no text has more of; and characters to spare."""
_COARSE = 8
"""Characters of a piece, on average, from which on it is more than a token."""
ODD = (TypeError, ValueError, KeyError, IndexError, AttributeError, OverflowError, RecursionError)
"""What comes of reading an object that has another shape than it should."""
_LONE = re.compile(r"[\ud800-\udc7f\udd00-\udfff]")
_FLOOR = -100.0
"""Smallest log-probability, in nats; single precision holds none below -103, and servers write -9999 for it."""


def loads(raw: bytes | bytearray) -> object:
    r"""JSON as an object, also where a text ends in half a character, as in `"\ud83d"`, and where a number is `NaN`.

    Raises:
        ValueError: it is none.
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
    """A text in pieces that may end, and begin, in the middle of a character."""

    def __init__(self) -> None:
        self._high = ""
        self._bytes = codecs.getincrementaldecoder("utf-8")("replace")

    def mend(self, piece: str, *, last: bool = False) -> str:
        """The piece with whole characters; half of one at its end is held back for the next, unless it is the `last`.

        Halves are of two kinds: those of UTF-16 that JSON writes down, and bytes of UTF-8 that came as they are.
        """
        text, self._high = self._high + piece, ""
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
        if not last and "\ud800" <= text[-1:] <= "\udbff":
            text, self._high = text[:-1], text[-1]
        return self._bytes.decode(_LONE.sub("\ufffd", text).encode("utf-8", "surrogateescape"), last)


def writable(text: str) -> str:
    """A text without halves of characters, which cannot be written down."""
    return text if text.isascii() else Halves().mend(text, last=True)


@contextmanager
def shaped(at: str, words: str) -> Iterator[None]:
    """Have an object of another shape than expected fail as the server's `words` do, and not as a bug of ours."""
    try:
        yield
    except ODD as error:
        raise odd(at, words, error) from None


def odd(at: str, words: str, error: BaseException) -> EngineError:
    """The failure of something that cannot be read as what it should be."""
    return EngineError(
        f"`{at}` sent what cannot be read ({type(error).__name__} in `{words}`): ask again, or see the server's log",
        retryable=True,
    )


def too_much(at: str, most: int) -> EngineError:
    """The failure of a reply that is larger than any should be."""
    return EngineError(
        f"`{at}` sent more than {most / 2**20:.0f} MiB in one reply, so it was given up: check that the base URL "
        "is that of an OpenAI-compatible server"
    )


class Silence:
    """Fails the reading of a reply whose server falls silent, or whose connection is gone without its end.

    aiohttp has a timer of its own, and forgets it where a chunk is malformed.

    Args:
        response: what is read.
        idle: most seconds of silence.
    """

    __slots__ = ("_handle", "_heard", "_idle", "_loop", "_response")

    def __init__(self, response: aiohttp.ClientResponse, idle: float) -> None:
        self._response, self._idle = response, idle
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        self._handle = self._loop.call_later(min(idle, LOOK), self._look)

    def heard(self) -> None:
        """Something came, or is waited for from now on."""
        self._heard = self._loop.time()

    def end(self) -> None:
        """Nothing more is read."""
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
    """What can have been produced for one request, whatever the server says of it.

    A token has at least a byte, so that a text that was seen has at most as many tokens as bytes.
    """

    request: Request
    context: int | None = None
    """Tokens of prompt and answer together, where they are known."""

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
        """The bill within its bounds, where the draws together have at most `seen` tokens."""
        read = bill.input_tokens
        if read is not None and read > min(PROMPT, self.context or PROMPT):
            read = min(read, self.prompt)
        cached = bill.cached_tokens if read is None or bill.cached_tokens is None else min(bill.cached_tokens, read)
        output = min(bill.output_tokens, seen)
        thought = None if bill.reasoning_tokens is None else min(bill.reasoning_tokens, output)
        return Usage(input_tokens=read, cached_tokens=cached, output_tokens=output, reasoning_tokens=thought)


def possible(cap: int, characters: int) -> int:
    """Most tokens of a draw with such a cap of which a text was seen."""
    return max(cap, 4 * characters)


def longest(cap: int) -> int:
    """Characters of a text above which it has more than so many tokens."""
    return _SPREAD * cap + _SLACK


def estimated(pieces: int, characters: int) -> int:
    """Tokens of a text that came in pieces and was never billed: one a piece, or one for every four characters where
    the pieces are too long for that.
    """
    return characters // 4 if characters > _COARSE * pieces else pieces


def tokens_of(told: object) -> int | None:
    """A number of tokens; what is negative, broken or no number says nothing."""
    if isinstance(told, float) and told.is_integer():
        told = int(told)
    return told if isinstance(told, int) and not isinstance(told, bool) and told >= 0 else None


def logprob(told: object) -> float:
    """A log-probability in nats, at most 0.

    Raises:
        ValueError, TypeError: it is none.
    """
    if type(told) is float and told <= 0.0:
        return told
    number = float(told)  # type: ignore[arg-type]
    if math.isnan(number) or isinstance(told, bool):
        raise ValueError(f"`{told}` is no log-probability")
    return min(0.0, number)


def sampled(told: object) -> float:
    """The log-probability of a token that was sampled, and so has one: what stands for none is the least there is."""
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
