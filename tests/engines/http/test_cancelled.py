"""Requests that are left, aborted and cancelled at random: what was counted is right and nothing stays behind."""

import asyncio
import random
from contextlib import aclosing

import pytest

from servers.mock import Mock, serving, until
from thinkscale.engines.http import Http
from thinkscale.engines.pool import Pool
from thinkscale.engines.protocol import Abort, Request
from thinkscale.types import Message, Sampling


async def ask(engine, number, dice):
    """One request that may be aborted or left on the way; all that came of it must add up."""
    n, loop = dice.choice([1, 1, 2, 5]), asyncio.get_running_loop()
    request = Request(
        messages=(Message("user", f"question {number % 9}"),),
        seeds=tuple(range(10 * number, 10 * number + n)),
        sampling=Sampling(max_tokens=20, stop=dice.choice([(), (" 41",)])),
        apart=dice.random() < 0.3,
    )
    abort, left_after = Abort(), dice.choice([1, 3, 1000, 1000])
    if dice.random() < 0.4:
        loop.call_later(0.03 * dice.random(), abort.end, dice.choice([None, *range(n)]))
    text, tokens, ended = [""] * n, [0] * n, set()
    async with aclosing(engine.stream(request, abort)) as chunks:
        async for chunk in chunks:
            assert chunk.index not in ended
            text[chunk.index] += chunk.text
            tokens[chunk.index] += chunk.tokens
            if chunk.completion or chunk.failure:
                ended.add(chunk.index)
            if chunk.completion:
                assert (chunk.completion.text, chunk.completion.tokens) == (text[chunk.index], tokens[chunk.index])
            left_after -= 1
            if not left_after:
                return
    assert len(ended) == n


@pytest.mark.parametrize("most", [None, 1, 3])
async def test_of_requests_that_are_cancelled_at_random_no_task_connection_or_place_is_left(most):
    dice = random.Random(most)
    async with serving(Mock(pace=0.002, most=most)) as first, serving(Mock(pace=0.001)) as second:
        engines = [Http(base_url=server.url, concurrency=6) for server in (first, second)]
        pool = Pool(engines)
        await pool.open()
        before = asyncio.all_tasks()
        tasks = [asyncio.create_task(ask(pool, i, dice)) for i in range(240)]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0.002 * dice.random())
            for task in dice.sample(tasks, 4):
                if dice.random() < 0.2:
                    task.cancel()
        assert [t.exception() for t in tasks if not t.cancelled() and t.exception()] == []
        assert 0 < sum(t.cancelled() for t in tasks) < len(tasks)
        assert await until(lambda: first.streams == second.streams == 0)
        assert [r.limit.taken for r in pool._routing.replicas] == [0, 0]
        assert pool._routing._queue == []
        for engine in engines:
            [(session, _)] = engine.transport._open.values()
            assert not session.connector._acquired
        assert await until(lambda: all("RequestHandler" in repr(t) for t in asyncio.all_tasks() - before))
        await pool.aclose()
