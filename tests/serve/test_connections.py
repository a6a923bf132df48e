"""Clients that connect and do not ask, against real sockets."""

import asyncio
import resource
import socket
import time
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from clocks import at_best
from servers.gateway import fronting, launched
from servers.mock import Mock, serving, until
from thinkscale.serve import connections
from thinkscale.serve.connections import room

ASKED = b'{"model": "mock", "messages": [{"role": "user", "content": "2 + 2?"}]}'
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: here\r\ncontent-length: %d\r\n" % len(ASKED)
HEALTH = b"GET /health HTTP/1.1\r\nhost: here\r\n\r\n"


@pytest.fixture
def _impatient(monkeypatch):
    monkeypatch.setattr(connections, "HEADERS", 0.15)


@asynccontextmanager
async def connected(url):
    host, port = url.removeprefix("http://").removesuffix("/v1").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def closed(reader, within=60.0):
    """Seconds until the other side hangs up."""
    began = time.monotonic()
    async with asyncio.timeout(within):
        with suppress(ConnectionResetError):
            await reader.read()
    return time.monotonic() - began


async def answered(reader):
    """The body of a reply that is well."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    assert head.startswith(b"http/1.1 200")
    return await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))


async def drip(writer, text, every=0.02):
    for at in range(len(text)):
        if writer.transport.is_closing():
            return
        writer.write(text[at : at + 1])
        await asyncio.sleep(every)


@pytest.mark.usefixtures("_impatient")
@pytest.mark.parametrize("said", [b"", HEAD])
async def test_who_does_not_come_to_the_point_is_hung_up_on(front, said):
    async def off():
        async with connected(front.url) as (reader, writer), asyncio.TaskGroup() as talking:
            dripping = talking.create_task(drip(writer, said))
            took = await closed(reader)
            dripping.cancel()
        return abs(took - 0.3)

    assert await at_best(off, below=0.2) < 0.2
    assert await until(lambda: not front.server.server_state.waiting)
    assert not front.server.server_state.connections


@pytest.mark.usefixtures("_impatient")
async def test_headers_of_a_second_request_have_the_same_time(front):
    async def off():
        async with connected(front.url) as (reader, writer), asyncio.TaskGroup() as talking:
            writer.write(HEALTH)
            assert b"ok" in await answered(reader)
            await asyncio.sleep(0.3)  # an idle connection is not a slow one
            dripping = talking.create_task(drip(writer, HEAD))
            took = await closed(reader)
            dripping.cancel()
        return abs(took - 0.3)

    assert await at_best(off, below=0.2) < 0.2


@pytest.mark.usefixtures("_impatient")
async def test_a_body_and_a_run_may_take_longer_than_headers():
    async with (
        serving(Mock(delay=0.3)) as mock,
        fronting(mock.url) as front,
        connected(front.url) as (reader, writer),
    ):
        for _ in range(2):
            writer.write(HEAD + b"\r\n" + ASKED[:10])
            await asyncio.sleep(0.25)
            writer.write(ASKED[10:])
            assert b'"thinkscale"' in await answered(reader)


async def test_headers_without_end_are_not_collected(front):
    async with connected(front.url) as (reader, writer):
        writer.write(HEAD + b"".join(b"x-%d: %s\r\n" % (at, b"x" * 1000) for at in range(500)))
        await closed(reader)
    assert await until(lambda: not front.server.server_state.connections)


async def test_when_there_are_too_many_the_one_that_has_waited_longest_goes():
    mock = Mock(go=asyncio.Event())
    async with serving(mock), fronting(mock.url, most=8) as front, AsyncExitStack() as open_ones:
        reader, writer = await open_ones.enter_async_context(connected(front.url))
        writer.write(HEAD + b"\r\n" + ASKED)
        assert await until(lambda: mock.requests == 1)
        idle = [await open_ones.enter_async_context(connected(front.url)) for _ in range(12)]
        for early, _ in idle[:5]:
            await closed(early)
        assert len(front.server.server_state.connections) == 8
        mock.go.set()
        assert b'"thinkscale"' in await answered(reader)
        reader, writer = idle[-1]
        writer.write(HEALTH)
        assert b"ok" in await answered(reader)


async def test_thousands_of_silent_connections_exhaust_nothing(tmp_path):
    if room() < 4000:
        pytest.skip("this process may not open so many files")
    async with serving(Mock()) as mock, launched(mock.url, tmp_path, "--store", "none") as gateway:
        before = _memory(gateway.process.pid)
        host, port = gateway.url.removeprefix("http://").removesuffix("/v1").split(":")
        with ExitStack() as silent:
            for _ in range(2000):
                silent.enter_context(socket.create_connection((host, int(port))))
            async with (
                asyncio.timeout(60),
                aiohttp.ClientSession(gateway.url + "/") as http,
                http.post("chat/completions", data=ASKED) as reply,
            ):
                assert reply.status == 200
            grown = _memory(gateway.process.pid) - before
    assert grown < 100e6
    assert "Traceback" not in gateway.log.read_text()


def _memory(process):
    """Bytes of memory that a process has in use."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * resource.getpagesize()
