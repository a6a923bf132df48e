"""Recorded replies with anything put in anywhere: a draw comes down or fails, and never costs what cannot be."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkscale.engines import guard
from thinkscale.engines.dialects import Habits
from thinkscale.engines.dialects.chat import Chat
from thinkscale.engines.dialects.completions import Completions
from thinkscale.engines.dialects.responses import Responses
from thinkscale.engines.http.exchange import Endpoint, Exchange
from thinkscale.engines.protocol import Abort, Request
from thinkscale.engines.think_formats import THINK_TAGS
from thinkscale.engines.transport import Transport
from thinkscale.errors import EngineError
from thinkscale.types import Message, Sampling

RECORDED = sorted((Path(__file__).parents[2] / "wire").glob("*.sse"))
CAP = 64
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.sampled_from(["", "0", "stop", "length", "\ud83d", "\ude00", "{", "x" * 3000, [], {}, [[]], [{}], {"a": 1}]),
)


class Said:
    """A reply that was recorded."""

    def __init__(self, transport, data):
        self.transport, self.data = transport, data

    async def streams(self):
        return not self.data.startswith(b"{")

    async def whole(self, most=0):
        return self.transport.decoded(self.data)

    def allow(self, most):
        self.most = most

    async def blocks(self):
        for at in range(0, len(self.data), 700):
            yield self.data[at : at + 700]

    async def finish(self):
        pass


def dialect_of(path):
    return Responses() if "responses" in path.stem else Completions() if "completion" in path.stem else Chat()


async def played(data, dialect, n):
    """What an exchange makes of a reply that always comes."""
    transport = Transport("http://127.0.0.1:1/v1")

    @asynccontextmanager
    async def streamed(path, body):
        yield Said(transport, data)

    transport.streamed = streamed
    endpoint = Endpoint(
        transport=transport, dialect=dialect, model="m", habits=Habits(), think=THINK_TAGS, most=None if n > 1 else 1
    )
    chunks = []
    request = Request(messages=(Message("user", "hi"),), sampling=Sampling(max_tokens=CAP), seeds=tuple(range(n)))
    exchange = Exchange(endpoint, request, Abort(), chunks.extend)
    with suppress(EngineError):
        async with asyncio.timeout(20):
            await exchange.run()
    return chunks


def paths(value, at=()):
    """Where something stands in a document."""
    yield at
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths(inner, (*at, key))


def replaced(value, at, new):
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = replaced(copy[at[0]], at[1:], new)
    return copy


def changed(data, draw):
    """A recorded reply with something else at some places of its events."""
    events = data.split(b"\n\n")
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(events) - 1))
        name, _, said = events[at].rpartition(b"data: ")
        try:
            event = json.loads(said)
        except ValueError:
            continue
        event = replaced(event, draw(st.sampled_from([*paths(event)])), draw(SCALARS))
        events[at] = name + b"data: " + json.dumps(event).encode()
    return b"\n\n".join(events)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_whatever_stands_anywhere_in_a_reply_is_data(path, data):
    dialect, n = dialect_of(path), data.draw(st.sampled_from([1, 2]))
    chunks = asyncio.run(played(changed(path.read_bytes(), data.draw), dialect, n))
    ended = [c for c in chunks if c.completion is not None]
    assert len({c.index for c in ended}) == len(ended)
    for chunk in ended:
        draw = chunk.completion
        assert 0 <= draw.tokens == draw.usage.output_tokens <= 2 * guard.possible(CAP, 8000)
        assert (draw.usage.input_tokens or 0) <= guard.PROMPT + 64
        assert (draw.usage.reasoning_tokens or 0) <= draw.tokens
        assert draw.text == "".join(c.text for c in chunks if c.index == chunk.index)
        json.dumps([draw.text, draw.tool_calls], ensure_ascii=False).encode()
        if draw.logprobs is not None:
            json.dumps([draw.logprobs.texts, draw.logprobs.top_texts], ensure_ascii=False).encode()
            assert all(-100 <= p <= 0 for p in draw.logprobs.chosen)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", b"data: ", b"data: {", b'data: {"choices": [', b"{"]))
def test_bytes_that_mean_nothing_are_a_failure(data, begin):
    asyncio.run(played(begin + data, Chat(), 1))
