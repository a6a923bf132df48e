"""The engine against a real server: llama.cpp's, over HTTP, on the embedded weights."""

import asyncio
import os
import tempfile
import time
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from clocks import TRIES, at_best
from servers.real import real_server
from thinkscale.engines.http import Http
from thinkscale.engines.protocol import Abort, Request, complete
from thinkscale.engines.weights import default_weights
from thinkscale.testing import check_engine
from thinkscale.types import Finish, Message, Origin, Sampling, Segment

pytestmark = pytest.mark.model

HOME = (
    os.environ.get("THINKSCALE_TEST_HOME")
    or os.environ.get("THINKSCALE_HOME")
    or str(Path(tempfile.gettempdir()) / "thinkscale-tests")
)
SLOTS = 4
REQUEST = Request(
    messages=(Message("user", "Tell me about the sea."),),
    sampling=Sampling(temperature=1.0, max_tokens=200),
    seeds=tuple(range(SLOTS)),
)


class Real:
    """A running server, seen from both sides."""

    def __init__(self, url, http):
        self.url, self.http = url, http
        self.engine = Http(base_url=url)

    async def busy(self):
        async with self.http.get(f"{self.url}/slots") as reply:
            return sum(slot["is_processing"] for slot in await reply.json())

    async def idle(self, seconds=60.0):
        """Seconds until no slot is at work."""
        start = time.monotonic()
        async with asyncio.timeout(seconds):
            while await self.busy():  # noqa: ASYNC110 — it is the server that has to be asked
                await asyncio.sleep(0.01)
        return time.monotonic() - start


@pytest.fixture(scope="module")
def url():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("THINKSCALE_HOME", HOME)
        with real_server(default_weights(), SLOTS) as address:
            yield address


@pytest_asyncio.fixture
async def real(url):
    async with aiohttp.ClientSession() as http:
        found = Real(url, http)
        await found.engine.open()
        yield found
        await found.engine.aclose()


async def test_it_keeps_the_protocol(real):
    await check_engine(real.engine)


async def test_draws_of_one_request_are_drawn_side_by_side_and_each_is_counted(real):
    short = replace(REQUEST, sampling=replace(REQUEST.sampling, max_tokens=24))
    most = tries = 0
    while most < SLOTS and tries < TRIES:  # whoever looks too late sees fewer
        tries += 1
        async with aclosing(real.engine.stream(short)) as chunks:
            ended = []
            async for chunk in chunks:
                if chunk.tokens and not ended:
                    most = max(most, await real.busy())
                if chunk.completion:
                    ended.append(chunk.completion)
    assert most == SLOTS
    assert len({e.text for e in ended}) == SLOTS
    assert [e.tokens for e in ended if e.finish is Finish.length] == [24] * len(ended)


async def test_more_draws_than_slots_all_come_back(real):
    many = replace(REQUEST, sampling=replace(REQUEST.sampling, max_tokens=4), seeds=tuple(range(3 * SLOTS - 1)))
    assert len(await complete(real.engine, many)) == 3 * SLOTS - 1


@pytest.mark.parametrize("way", ["abort", "close"])
async def test_stopping_frees_the_slots_and_keeps_the_count(real, way):
    # One step of the runtime may be under way, and the look itself takes its time.
    assert await at_best(lambda: _freeing(real, way), below=1.0) < 1.0


async def _freeing(real, way):
    """Seconds from when nothing more is wanted to when no slot is at work."""
    abort, tokens, ended = Abort(), 0, []
    async with aclosing(real.engine.stream(REQUEST, abort)) as chunks:
        async for chunk in chunks:
            tokens += chunk.tokens
            if chunk.completion:
                ended.append(chunk.completion)
            elif tokens >= 40 and not abort.everything:
                abort.end()
                if way == "close":
                    break
    took = await real.idle()
    if way == "abort":
        assert [e.finish for e in ended] == [Finish.aborted] * SLOTS
        assert sum(e.tokens for e in ended) == tokens < SLOTS * 200
    return took


async def test_continuing_a_turn_is_going_on(real):
    greedy = Sampling(temperature=0.0, max_tokens=16)
    whole = replace(REQUEST, sampling=greedy, seeds=(1,))
    [all_of_it] = await complete(real.engine, whole)
    [half] = await complete(real.engine, replace(whole, sampling=replace(greedy, max_tokens=8)))
    prefix = (Segment(text=half.text, origin=Origin.sampled, tokens=8),)
    rest = replace(whole, prefix=prefix, sampling=replace(greedy, max_tokens=8))
    [other_half] = await complete(real.engine, rest)
    assert half.text + other_half.text == all_of_it.text
