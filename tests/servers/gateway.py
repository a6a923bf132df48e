"""The gateway before an upstream: in this event loop, or in a process of its own where signals matter."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import aiohttp
import uvicorn

from thinkscale.engines.http import Http
from thinkscale.engines.pool import Pool
from thinkscale.serve.app import Gateway, application
from thinkscale.serve.connections import Server
from thinkscale.serve.keys import Keyring
from thinkscale.serve.profiles import Menu
from thinkscale.serve.runs import Runs
from thinkscale.settings import Profile

MAIN = "from thinkscale.cli import main; main()"
STARTING = 120.0
"""Seconds that a process may take to listen on a busy machine."""


class _Unsignalled(Server):
    """A server that leaves the signals of this process alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass(slots=True, kw_only=True)
class Front:
    """A gateway that listens in this event loop."""

    gateway: Gateway
    server: Server
    engine: Pool
    url: str
    """Ends in `/v1`."""


@asynccontextmanager
async def fronting(
    upstream: str,
    *,
    runs: Runs | None = None,
    keyring: Keyring | None = None,
    profiles: Mapping[str, Profile] | None = None,
    idle: float = 300.0,
    most: int = 1024,
    **options: object,
) -> AsyncIterator[Front]:
    """Run a gateway in this event loop on the loopback address.

    Args:
        upstream: base URL of the server behind.
        runs: what admits, queues and joins; nothing is stored unless it is given.
        keyring: of keys; open to everybody unless it is given.
        profiles: by name.
        idle: seconds of silence after which the upstream is taken to be dead.
        most: connections at once.
        options: other fields of `Gateway`.
    """
    engine = Pool([Http(base_url=upstream, idle=idle)])
    await engine.open()
    keys = keyring or Keyring(":memory:")
    menu = Menu({engine.capabilities.name or "mock": engine}, profiles, max_tokens=256)
    gateway = Gateway(menu=menu, engines=(engine,), runs=runs or Runs(), keyring=keys, **options)
    config = uvicorn.Config(application(gateway), log_config=None, access_log=False, timeout_graceful_shutdown=2)
    server = _Unsignalled(config, partial(gateway.runs.drain, gateway.patience), most=most)
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            while not server.started:
                assert not serving.done(), "the gateway ended before it listened"
                await asyncio.sleep(0.002)
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
            yield Front(gateway=gateway, server=server, engine=engine, url=url)
        finally:
            server.should_exit = True
            await serving
            keys.close()


@dataclass(slots=True, kw_only=True)
class Process:
    """A gateway in a process of its own."""

    url: str
    """Ends in `/v1`."""
    process: asyncio.subprocess.Process
    log: Path

    def terminate(self) -> None:
        """Ask it to end, as a service manager does."""
        self.process.send_signal(signal.SIGTERM)


@asynccontextmanager
async def launched(upstream: str, home: Path, *flags: str, **environment: str) -> AsyncIterator[Process]:
    """Run `thinkscale serve` in a process, ready to answer.

    Args:
        upstream: base URL of the server behind.
        home: its data folder, which exists; its log is `serve.log` there.
        flags: of the command.
        environment: variables beside those of this process, of which OpenTelemetry's are left out.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    log = home / "serve.log"
    with socket.socket() as held, log.open("wb") as told:
        # As long as somebody has the port without listening, nobody but the gateway gets it.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        command = (sys.executable, "-c", MAIN, "serve", "--upstream", upstream, "--port", str(port), *flags)
        process = await asyncio.create_subprocess_exec(
            *command,
            stderr=told,
            stdin=asyncio.subprocess.DEVNULL,
            env=inherited | environment | {"THINKSCALE_HOME": str(home)},
        )
        try:
            url = f"http://127.0.0.1:{port}"
            await _ready(url, process, log)
            yield Process(url=f"{url}/v1", process=process, log=log)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _ready(url: str, process: asyncio.subprocess.Process, log: Path) -> None:
    async with aiohttp.ClientSession() as http, asyncio.timeout(STARTING):
        while True:
            assert process.returncode is None, f"the gateway ended before it listened: see {log}"
            try:
                async with http.get(f"{url}/ready") as reply:
                    if reply.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
