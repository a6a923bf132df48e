"""Many draws against a server that goes wrong all the time: nothing hangs, nothing is lost, nothing is billed twice."""

import asyncio
import os
import time
from contextlib import aclosing, asynccontextmanager
from itertools import count

import pytest
import stamina

from clocks import at_best
from servers.faults import FAULTS, Faults
from servers.mock import Mock, serving, until
from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.engines.http import Http
from thinkscale.engines.protocol import Abort, Request
from thinkscale.errors import EngineError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.stopping.fixed import Fixed
from thinkscale.types import Finish, Message, Problem, Sampling

DRAWS = int(os.environ.get("THINKSCALE_TEST_DRAWS", "1000"))
"""Draws of one campaign."""
N = 4
IDLE = 2.0
QUICK = 0.15
CAP = 64
PROBLEM = Problem.of("What is 40 + 1?")


class Heard:
    """An engine that counts the tokens another one reports, and knows the requests whose server kept it waiting."""

    def __init__(self, engine):
        self.engine, self.tokens, self.silent = engine, 0, set()
        self._numbers, self._streamed = count(), engine.transport.streamed
        engine.transport.streamed = self._numbered

    def __getattr__(self, name):
        return getattr(self.engine, name)

    async def stream(self, request, abort=None):
        async with aclosing(self.engine.stream(request, abort)) as chunks:
            async for chunk in chunks:
                self.tokens += chunk.tokens
                yield chunk

    @asynccontextmanager
    async def _numbered(self, path, body):
        number = next(self._numbers)
        try:
            async with self._streamed(path, {**body, "metadata": {"number": number}}) as reply:
                yield reply
        except EngineError as error:
            if "kept silent" in str(error):
                self.silent.add(number)
            raise


async def outcomes(engine, calls, width):
    """The outcomes of many calls, some of them at once."""
    places = asyncio.Semaphore(width)

    async def one():
        async with places:
            method = SelfConsistency(n=N, stop=Fixed())
            return await solve(PROBLEM, method, engine, budget=Budget(), sampling=Sampling(max_tokens=CAP))

    async with asyncio.TaskGroup() as tasks:
        begun = [tasks.create_task(one()) for _ in range(calls)]
    return [task.result() for task in begun]


def check_bill(server, engine, idle, spent):
    """What was billed is what arrived, and what arrived is what the server wrote, as far as it could be read."""
    assert spent == engine.tokens
    lossy = [_lossy(s, idle, engine.silent) for s in server.served]
    sure = sum(sum(s.written) for s, lost in zip(server.served, lossy, strict=True) if not lost)
    unsure = sum(sum(s.written) for s, lost in zip(server.served, lossy, strict=True) if lost)
    assert sure <= engine.tokens <= sure + unsure


def _lossy(served, idle, silent):
    """Whether some of a reply may not have been read."""
    if served.body["metadata"]["number"] in silent:
        # Whoever waited so long after the last words had heard them; on a busy machine they may have come too late.
        return served.disconnected is None or served.disconnected - served.said < idle
    # A healthy reply that the client left was not read to its end.
    return served.lossy or (served.disconnected is not None and not served.fault)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_campaign_of_faults_loses_no_draw_and_bills_what_arrived(host):
    async with serving(Faults(seed=7, rate=0.35)) as server:
        before = asyncio.all_tasks()
        engine = Heard(Http(base_url=server.url.replace("127.0.0.1", host), idle=IDLE))
        async with asyncio.timeout(120 * max(1, DRAWS / 1000)):
            await engine.open()
            found = await outcomes(engine, DRAWS // N, width=64)
            await engine.aclose()
        assert set(server.done) == set(FAULTS), "a fault was never played"
        for outcome in found:
            assert sorted(t.path for t in outcome.traces) == [(i,) for i in range(N)]
            assert {t.finish for t in outcome.traces} <= {Finish.eos, Finish.error}
            assert all(t.error for t in outcome.traces if t.finish is Finish.error)
            complete = sum(t.tokens for t in outcome.traces if t.finish is Finish.eos)
            assert outcome.usage.output_tokens >= complete
        drawn = [t.finish for o in found for t in o.traces]
        assert drawn.count(Finish.eos) > 0.9 * len(drawn), "retries did not help"
        check_bill(server, engine, IDLE, sum(o.usage.output_tokens for o in found))
        assert await until(lambda: server.connections == 0 and server.streams == 0)
        assert asyncio.all_tasks() <= before, "something is still running"


@pytest.fixture
def no_waits():
    with stamina.set_testing(True, attempts=5):
        yield


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_fault_alone_ends_and_is_billed(fault, no_waits):
    async with serving(Faults(seed=1, rate=0.5, only=(fault,))) as server:
        engine = Heard(Http(base_url=server.url, idle=QUICK))
        async with asyncio.timeout(60):
            found = await outcomes(engine, 4, width=4)
            await engine.aclose()
        assert [len(o.traces) for o in found] == [N] * 4
        check_bill(server, engine, QUICK, sum(o.usage.output_tokens for o in found))
        assert await until(lambda: server.connections == 0)


async def test_the_server_sees_the_client_leave_within_a_tenth_of_a_second():
    async with serving(Mock(says=lambda seed: (" on",) * 1000, pace=0.005)) as server:
        engine = Http(base_url=server.url)
        for way in ("abort", "close"):
            assert await at_best(lambda way=way: _leaving(engine, server, way), below=0.1) < 0.1
        await engine.aclose()


async def _leaving(engine, server, way):
    """Seconds from when a client wants no more to when the server sees it leave."""
    request = Request(messages=(Message("user", "Go."),), seeds=tuple(range(16)))
    abort, decided, tokens = Abort(), 0.0, 0
    async with aclosing(engine.stream(request, abort)) as chunks:
        async for chunk in chunks:
            tokens += chunk.tokens
            if tokens < 64 or decided:
                continue
            decided = time.monotonic()
            if way == "close":
                break
            abort.end()
    assert await until(lambda: server.streams == 0)
    return server.disconnects[-1] - decided
