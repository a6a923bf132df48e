"""A gateway whose store takes nothing: it answers as before, says so, and records again when that is mended."""

import asyncio
import contextlib
import resource
import sqlite3
import time
from contextlib import asynccontextmanager

import aiohttp
import pytest

from servers.gateway import launched
from servers.mock import Mock, answer, serving
from thinkscale.serve.keys import Keyring
from thinkscale.store import Store

METHOD = "self-consistency(n=4, stop=fixed)"
SOON = 0.05
"""Seconds within which a gateway says that it is alive."""


async def asked(gateway, http, question):
    """Put a question; returns the status of the reply."""
    body = {"model": "mock", "thinkscale": {"method": METHOD}, "messages": [{"role": "user", "content": question}]}
    async with http.post(f"{gateway.url}/chat/completions", json=body) as reply:
        await reply.read()
        return reply.status


@asynccontextmanager
async def recording(home, token=""):
    """A gateway in a process, asked something all the time; gives it, a session of HTTP and the statuses of replies."""
    statuses = []
    headers = {"authorization": f"Bearer {token}"} if token else {}
    async with (
        serving(Mock(says=answer)) as mock,
        launched(mock.url, home, "--store", str(home / "runs.db")) as gateway,
        aiohttp.ClientSession(headers=headers) as http,
    ):

        async def ask(client):
            for number in range(100_000):
                statuses.append(await asked(gateway, http, f"{client}, {number} + 2?"))
                await asyncio.sleep(0.02)

        asking = [asyncio.ensure_future(ask(client)) for client in range(4)]
        try:
            yield gateway, http, statuses
        finally:
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)


async def slowest(gateway, http, seconds):
    """The longest that the gateway took to say that it is alive."""
    url, until, longest = gateway.url.removesuffix("/v1"), time.monotonic() + seconds, 0.0
    while time.monotonic() < until:
        began = time.perf_counter()
        async with http.get(f"{url}/health") as reply:
            assert reply.status == 200
            await reply.read()
        longest = max(longest, time.perf_counter() - began)
        await asyncio.sleep(0.005)
    return longest


async def told(gateway, http):
    """What the gateway says of its recording: when asked whether it is ready, and in its metrics."""
    url = gateway.url.removesuffix("/v1")
    async with http.get(f"{url}/ready") as reply:
        ready = (await reply.json())["recording"]
    async with http.get(f"{url}/metrics") as reply:
        gauge = next(line for line in (await reply.text()).splitlines() if line.startswith("thinkscale_recording "))
    return {ready, bool(float(gauge.split()[1]))}


async def becomes(gateway, http, recording):
    for _ in range(600):
        if await told(gateway, http) == {recording}:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"after 30 s it does not say recording={recording}")


@contextlib.contextmanager
def locked(gateway, path):
    """The store while another process is about to change it."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        yield
        db.execute("ROLLBACK")


@contextlib.contextmanager
def full(gateway, path):
    """A disk on which the gateway's files cannot grow; Python ignores the signal that comes with it."""
    pid = gateway.process.pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("broken", [locked, full])
async def test_a_gateway_answers_while_its_store_takes_nothing_and_records_again(tmp_path, broken):
    path = tmp_path / "runs.db"
    async with recording(tmp_path) as (gateway, http, statuses):
        await slowest(gateway, http, 1.0)
        assert set(statuses) == {200}
        assert await told(gateway, http) == {True}
        with broken(gateway, path):
            assert min([await slowest(gateway, http, 2.0) for _ in range(3)]) < SOON
            await becomes(gateway, http, False)
            before = len(statuses)
            assert min([await slowest(gateway, http, 1.0) for _ in range(3)]) < SOON
            assert len(statuses) > before + 20
        await becomes(gateway, http, True)
        await slowest(gateway, http, 0.5)
        assert set(statuses) == {200}
        answered = len(statuses)
    store = Store(path)
    done = [run for run in store.runs(limit=100_000) if run.status == "done"]
    assert len(done) >= answered
    assert all(len(store.pool(run.id)) == 4 for run in done)
    store.close()


async def test_who_has_a_key_is_asked_to_come_again_while_the_accounts_are_kept_by_another(tmp_path):
    path = tmp_path / "runs.db"
    ring = Keyring(path)
    _, token = ring.add("ada")
    ring.close()
    async with recording(tmp_path, token) as (gateway, http, _):
        await slowest(gateway, http, 1.0)
        with locked(gateway, path):
            asking = asyncio.ensure_future(asked(gateway, http, "?"))
            assert min([await slowest(gateway, http, 1.5) for _ in range(3)]) < SOON
            assert await asking == 503
        await slowest(gateway, http, 1.0)
        assert await asked(gateway, http, "?") == 200
