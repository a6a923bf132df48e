"""Further draws wait for the first ones of others, on servers that are known to understand it and on no other."""

import pytest
from aiohttp import web

from servers.mock import Mock, failure, serving
from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.engines.http import Http
from thinkscale.engines.http.probe import Verdict, probe, remember
from thinkscale.engines.pool import Pool
from thinkscale.registry import parse
from thinkscale.types import Message, Problem, Sampling

ALONE = "self-consistency(n=3, stop=fixed, by=single)"
TOGETHER = "self-consistency(n=3, stop=fixed)"


class Told(Mock):
    """Says of itself how it schedules, as SGLang does."""

    flags: dict

    def app(self):
        app = super().app()
        app.router.add_get("/server_info", self._info)
        return app

    async def _info(self, _):
        return web.json_response(self.flags)


class Strict(Mock):
    """Refuses priorities."""

    async def respond(self, request, served):
        if "priority" in served.body:
            return failure(400, "priority is not supported")
        return await super().respond(request, served)


def server(owner="vllm", **flags):
    told = Told(owner=owner)
    told.flags = flags
    return told


async def doctored(mock):
    """What the doctor says of priorities; an engine opened later knows it too."""
    engine = Http(base_url=mock.url)
    found = [f async for f in probe(engine)]
    remember(engine, found)
    await engine.aclose()
    mock.served.clear()
    return next(f for f in found if f.name == "priority")


async def priorities(engine, mock, method=ALONE, **extra):
    """Of the requests for a vote, in the order in which they came; a request without one has `None`."""
    mock.served.clear()
    problem = Problem(messages=(Message("user", "40 + 2?"),))
    await solve(problem, parse(method, "method"), engine, budget=Budget(), sampling=Sampling(extra=extra))
    return [served.body.get("priority") for served in mock.served]


@pytest.mark.parametrize(
    ("owner", "flags", "seen"),
    [
        ("vllm", {}, [0, 1, 1]),
        ("sglang", {"enable_priority_scheduling": True}, [0, -1, -1]),
        ("sglang", {"enable_priority_scheduling": True, "schedule_low_priority_values_first": True}, [0, 1, 1]),
        ("sglang", {"enable_priority_scheduling": False}, [None] * 3),
        ("mock", {"enable_priority_scheduling": True}, [None] * 3),
    ],
)
async def test_further_draws_have_the_later_priority_in_the_sense_of_their_server(owner, flags, seen):
    async with serving(server(owner, **flags)) as mock:
        await doctored(mock)
        engine = Http(base_url=mock.url)
        assert sorted(await priorities(engine, mock), key=str) == sorted(seen, key=str)
        await engine.aclose()


async def test_a_server_that_nobody_looked_at_is_sent_no_priority_but_the_clients():
    async with serving(server()) as mock:
        engine = Http(base_url=mock.url)
        assert await priorities(engine, mock) == [None] * 3
        assert await priorities(engine, mock, priority=5) == [5] * 3
        await engine.aclose()


async def test_the_first_draw_keeps_the_clients_priority_and_so_does_a_vote_in_one_request():
    async with serving(server()) as mock:
        assert (await doctored(mock)).verdict is Verdict.accepted
        engine = Http(base_url=mock.url)
        assert sorted(await priorities(engine, mock, priority=5)) == [5, 6, 6]
        engine.endpoint.most = None
        assert await priorities(engine, mock, TOGETHER, priority=5) == [5]
        assert await priorities(engine, mock, TOGETHER) == [0]
        await engine.aclose()


async def test_draws_that_another_replica_makes_are_further_ones():
    async with serving(server()) as one, serving(server()) as other:
        for mock in (one, other):
            await doctored(mock)
        engines = [Http(base_url=mock.url) for mock in (one, other)]
        pool = Pool(engines, concurrency=2)
        await pool.open()
        for engine in engines:
            engine.endpoint.most = None
        seen = [*await priorities(pool, one, TOGETHER), *[served.body["priority"] for served in other.served]]
        assert sorted(seen) == [0, 1]
        await pool.aclose()


async def test_a_server_that_refuses_priorities_is_not_sent_them_any_more():
    async with serving(server()) as mock:
        await doctored(mock)
        engine = Http(base_url=mock.url)
        await engine.open()
    strict = Strict(owner="vllm")
    async with serving(strict):
        moved = Http(base_url=strict.url)
        await moved.open()
        moved.endpoint.habits = engine.endpoint.habits
        assert (await priorities(moved, strict, TOGETHER)) == [0, None]
        assert (await priorities(moved, strict, TOGETHER)) == [None]
        await moved.aclose()
    await engine.aclose()


async def test_the_doctor_keeps_nothing_of_a_server_that_refuses_priorities():
    async with serving(Strict(owner="vllm")) as mock:
        assert (await doctored(mock)).verdict is Verdict.refused
        engine = Http(base_url=mock.url)
        await engine.open()
        assert engine.endpoint.habits.later is None
        await engine.aclose()
