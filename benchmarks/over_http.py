"""What thinkscale adds to a request over HTTP, side by side with bare aiohttp and with others, n = 16.

    python benchmarks/over_http.py [--rounds 3] [--json]
    THINKSCALE_RIVALS=folder python benchmarks/over_http.py

All routes ask the same upstream processes in alternating rounds; medians of the rounds are shown, and in brackets the
ratio to bare aiohttp. Others are measured when the folder that `THINKSCALE_RIVALS` names has environments `its_hub`
(`pip install 'its_hub[lm]==1.2.0'`) and `optillm` (0.4.0). Measured are

- (a) the median time of one call, one caller, upstream without latency,
- (b) calls per second, 32 callers, all draws in one request,
- (c) calls per second, 32 callers, 16 requests per call, as on a server that makes one choice per request,
- (d) calls per second, 16 callers, upstream that takes 200 ms,
- (e) the time from the decision to stop until the upstream sees the client leave, median and longest of 50,
- the processor time of one call of (b) in the process that calls, which other work on the machine moves least.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import orjson
from rich.console import Console
from rich.table import Table

from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.engines.http import Http
from thinkscale.engines.protocol import Abort, Request, complete
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.stopping.fixed import Fixed
from thinkscale.types import Message, Problem, Sampling, Trace

HERE = Path(__file__).parent
N = 16
QUESTION = "What is 17 + 25?"
PROBLEM = Problem.of(QUESTION)
SAMPLING = Sampling(temperature=0.8, max_tokens=256)
BODY = {
    "model": "mock",
    "messages": [{"role": "user", "content": QUESTION}],
    "temperature": 0.8,
    "max_tokens": 256,
    "stream": True,
    "stream_options": {"include_usage": True},
}
UPSTREAMS = {
    "fast": (),
    "single": ("--most", "1"),
    "slow": ("--delay-ms", "200"),
    "uneven": ("--uneven", "--pace-ms", "2"),
}
STOPS = 50


@dataclass(frozen=True, slots=True)
class Load:
    """One thing that is measured: who asks whom how often."""

    title: str
    upstream: str
    callers: int
    calls: int
    """Calls of one round, for a route that is quick."""
    goal: float
    rate: bool = True
    """Whether calls per second count, or the median milliseconds of a call."""


LOADS = {
    "a": Load("(a) one call, ms", "fast", 1, 200, 1.5, rate=False),
    "b": Load("(b) 32 callers, calls/s", "fast", 32, 960, 800),
    "c": Load("(c) 16 requests each, calls/s", "single", 32, 192, 150),
    "d": Load("(d) 200 ms upstream, calls/s", "slow", 16, 128, 75),
}
STOP_GOAL = 100.0
"""Milliseconds."""


@dataclass(slots=True)
class Round:
    """Seconds of every call of a round, and of all together."""

    each: list[float] = field(default_factory=list)
    all: float = 0.0
    cpu: float | None = None
    """Seconds of processor time in the process that calls."""

    def figure(self, load: Load) -> float:
        return len(self.each) / self.all if load.rate else statistics.median(self.each) * 1e3


class Route:
    """A way to make one call of 16 draws."""

    name = ""
    share = 1.0
    """Share of a load's calls that one round makes: less for slow routes."""
    loads: frozenset[str] = frozenset(LOADS)

    async def call(self, load: Load, url: str) -> None:
        raise NotImplementedError

    async def round(self, load: Load, url: str) -> Round:
        """One round of a load; every caller waits for its call before it makes the next."""
        found = Round()
        count = max(1, round(load.calls * self.share / load.callers))

        async def caller() -> None:
            for _ in range(count):
                start = time.perf_counter()
                await self.call(load, url)
                found.each.append(time.perf_counter() - start)

        start, cpu = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as callers:
            for _ in range(load.callers):
                callers.create_task(caller())
        found.all, found.cpu = time.perf_counter() - start, time.process_time() - cpu
        return found

    async def stop(self, url: str) -> float | None:
        """When it was decided to stop a request that goes on; `None` when this route cannot."""
        return None

    async def aclose(self) -> None:
        """Release what is held."""


class Bare(Route):
    """aiohttp without a limit of connections: the floor."""

    name = "bare aiohttp, events read"

    def __init__(self) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=300)
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)

    async def call(self, load: Load, url: str) -> None:
        if load.upstream != "single":
            texts = await self.ask(url, N)
        else:
            async with asyncio.TaskGroup() as requests:
                asked = [requests.create_task(self.ask(url, 1)) for _ in range(N)]
            texts = [text for task in asked for text in task.result()]
        assert len(texts) == N
        assert all(text.endswith(".") for text in texts)

    async def ask(self, url: str, n: int) -> list[str]:
        texts = [""] * n
        async with self.http.post(f"{url}/chat/completions", data=orjson.dumps(BODY | {"n": n})) as reply:
            rest = b""
            async for block in reply.content.iter_any():
                *events, rest = (rest + block).split(b"\n\n")
                for event in events:
                    if event != b"data: [DONE]":
                        for choice in orjson.loads(event[6:])["choices"]:
                            texts[choice["index"]] += choice["delta"].get("content", "")
        return texts

    async def stop(self, url: str) -> float | None:
        async with self.http.post(f"{url}/chat/completions", data=orjson.dumps(BODY | {"n": N})) as reply:
            for _ in range(6):
                await reply.content.readany()
            decided = time.monotonic()
            reply.close()
        return decided

    async def aclose(self) -> None:
        await self.http.close()


class Unread(Bare):
    """The same, with the reply's bytes thrown away."""

    name = "bare aiohttp, bytes only"

    async def ask(self, url: str, n: int) -> list[str]:
        async with self.http.post(f"{url}/chat/completions", data=orjson.dumps(BODY | {"n": n})) as reply:
            raw = await reply.read()
        assert raw.endswith(b"[DONE]\n\n")
        return ["."] * n


class Engine(Route):
    """The engine alone."""

    name = "thinkscale, engine"

    def __init__(self) -> None:
        self.engines: dict[str, Http] = {}

    async def engine(self, url: str) -> Http:
        if url not in self.engines:
            self.engines[url] = Http(base_url=url)
            await self.engines[url].open()
        return self.engines[url]

    async def call(self, load: Load, url: str) -> None:
        request = Request(messages=PROBLEM.messages, sampling=SAMPLING, seeds=tuple(range(N)))
        found = await complete(await self.engine(url), request)
        assert len(found) == N
        assert all(c.text.endswith(".") for c in found)

    async def stop(self, url: str) -> float | None:
        request = Request(messages=(Message("user", QUESTION),), seeds=tuple(range(N)))
        abort, decided = Abort(), None
        async with aclosing((await self.engine(url)).stream(request, abort)) as chunks:
            async for chunk in chunks:
                if chunk.completion is not None and decided is None:
                    decided = time.monotonic()
                    abort.end()
        return decided

    async def aclose(self) -> None:
        for engine in self.engines.values():
            await engine.aclose()


class Voted(Engine):
    """The engine in a session, with answers read and a vote held."""

    name = "thinkscale, session and vote"

    async def call(self, load: Load, url: str) -> None:
        method = SelfConsistency(n=N, stop=Fixed())
        found = await solve(PROBLEM, method, await self.engine(url), budget=Budget(), sampling=SAMPLING)
        assert found.answer == "42"
        assert sum(v.count for v in found.votes) == N

    async def stop(self, url: str) -> float | None:
        decided: list[float] = []

        def enough(traces: Sequence[Trace]) -> bool:
            decided.append(time.monotonic())
            return True

        method = SelfConsistency(n=N, stop=enough)
        await solve(PROBLEM, method, await self.engine(url), budget=Budget(), sampling=SAMPLING)
        return decided[0]


class ItsHub(Route):
    """its_hub as a library, in its own environment and process."""

    name = "its_hub 1.2.0, library"
    share = 0.2

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def round(self, load: Load, url: str) -> Round:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        calls = max(load.callers, round(load.calls * self.share))
        self.process.stdin.write(f"{url} {load.callers} {calls}\n".encode())
        return Round(**json.loads(await self.process.stdout.readline()))


class OptiLLM(Route):
    """optillm's majority voting behind its gateway, one gateway per upstream."""

    name = "optillm 0.4.0, gateway"
    share = 0.1
    loads = frozenset({"a", "b", "d"})

    def __init__(self, gateways: dict[str, str]) -> None:
        self.gateways = gateways
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    async def call(self, load: Load, url: str) -> None:
        body = {"model": "majority_voting-mock", "messages": BODY["messages"], "k": N}
        headers = {"Authorization": "Bearer none"}
        async with self.http.post(f"{self.gateways[url]}/chat/completions", json=body, headers=headers) as reply:
            said = await reply.json()
            assert reply.status == 200, said
            assert "42" in said["choices"][0]["message"]["content"]

    async def aclose(self) -> None:
        await self.http.close()


@asynccontextmanager
async def process(*command: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process, for as long as the context lasts."""
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    begun = await asyncio.create_subprocess_exec(
        *command, stdin=pipe, stdout=pipe, stderr=null, env=os.environ | environment, limit=2**24
    )
    try:
        yield begun
    finally:
        if begun.returncode is None:
            begun.kill()
        await begun.communicate()


def free_port() -> int:
    """A port of the loopback address that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def gateway(stack: AsyncExitStack, python: Path, upstream: str) -> str:
    """An optillm gateway before an upstream; gives its base URL."""
    port = free_port()
    command = (str(python.with_name("optillm")), "--base-url", upstream, "--port", str(port), "--log", "error")
    await stack.enter_async_context(process(*command, OPENAI_API_KEY="none"))
    url = f"http://127.0.0.1:{port}/v1"
    async with aiohttp.ClientSession() as http, asyncio.timeout(90):
        while True:
            try:
                async with http.get(f"{url}/models"):
                    return url
            except aiohttp.ClientError:
                await asyncio.sleep(0.2)


async def rivals(stack: AsyncExitStack, urls: dict[str, str]) -> AsyncIterator[Route]:
    """The others that are installed; says which are not."""
    folder = os.environ.get("THINKSCALE_RIVALS")
    pythons = {name: Path(folder or "-", name, "bin", "python") for name in ("its_hub", "optillm")}
    for name in (name for name, python in pythons.items() if not python.exists()):
        print(f"{name} is not measured: no environment `{name}` in THINKSCALE_RIVALS={folder}", file=sys.stderr)
    if pythons["its_hub"].exists():
        runner = await stack.enter_async_context(process(str(pythons["its_hub"]), str(HERE / "its_hub_calls.py")))
        assert runner.stdout is not None
        assert await runner.stdout.readline() == b"ready\n"
        yield ItsHub(runner)
    if pythons["optillm"].exists():
        yield OptiLLM({urls[u]: await gateway(stack, pythons["optillm"], urls[u]) for u in ("fast", "slow")})


async def seen_leaving(http: aiohttp.ClientSession, url: str, stop: Callable[[], Awaitable[float | None]]) -> float:
    """Milliseconds from the decision to stop until the upstream saw the client leave."""
    decided = await stop()
    assert decided is not None
    stats = f"{url.removesuffix('/v1')}/stats"
    async with asyncio.timeout(10):
        while True:
            async with http.get(stats) as reply:
                last = (await reply.json())["served"][-1]
            if last["ended"] is not None:
                assert last["disconnected"] is not None, "the upstream wrote its whole reply"
                return float(last["disconnected"] - decided) * 1e3
            await asyncio.sleep(0.005)


async def measure(rounds: int) -> dict[str, dict[str, list[float]]]:
    """For every route, the figures of all rounds of every load, and milliseconds of stops and of processor time."""
    async with AsyncExitStack() as stack:
        urls = {}
        for name, options in UPSTREAMS.items():
            command = (sys.executable, str(HERE / "upstream.py"), *options)
            begun = await stack.enter_async_context(process(*command))
            assert begun.stdout is not None
            urls[name] = (await begun.stdout.readline()).decode().strip()
        routes: list[Route] = [Unread(), Bare(), Engine(), Voted()]
        routes += [rival async for rival in rivals(stack, urls)]
        for route in routes:
            stack.push_async_callback(route.aclose)
        found: dict[str, dict[str, list[float]]] = {route.name: {} for route in routes}
        for turn in range(rounds + 1):
            for key, load in LOADS.items():
                for route in (r for r in routes if key in r.loads):
                    played = await route.round(load, urls[load.upstream])
                    # The first turn warms up: connections, caches and what a server refuses.
                    if not turn:
                        continue
                    found[route.name].setdefault(key, []).append(played.figure(load))
                    if key == "b" and played.cpu is not None and not isinstance(route, OptiLLM):
                        found[route.name].setdefault("cpu", []).append(played.cpu / len(played.each) * 1e3)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        for _ in range(STOPS):
            for route in routes:
                if type(route).stop is not Route.stop and not isinstance(route, Unread):
                    url = urls["uneven"]
                    gone = await seen_leaving(http, url, lambda route=route, url=url: route.stop(url))
                    found[route.name].setdefault("e", []).append(gone)
        return found


def table(found: dict[str, dict[str, list[float]]]) -> Table:
    """Medians, with the ratio to the floor in brackets."""
    floor = found[Bare.name]
    titles = (load.title for load in LOADS.values())
    shown = Table(f"route; ratios are to `{Bare.name}`", *titles, "(e) stop seen, ms", "(b) CPU, ms")
    for name, figures in found.items():
        cells = []
        for key in LOADS:
            if key not in figures:
                cells.append("–")
                continue
            value = statistics.median(figures[key])
            cells.append(f"{value:,.{2 if value < 10 else 1}f} ({value / statistics.median(floor[key]):.2f})")
        gone = figures.get("e")
        cells.append(f"{statistics.median(gone):.2f}, {max(gone):.1f}" if gone else "–")
        cells.append(f"{statistics.median(figures['cpu']):.2f}" if "cpu" in figures else "–")
        shown.add_row(name, *cells)
    goals = [f"{'≥' if load.rate else '≤'} {load.goal:g}" for load in LOADS.values()]
    shown.add_section()
    shown.add_row("goal", *goals, f"≤ {STOP_GOAL:g}", "")
    return shown


Figures = dict[str, dict[str, list[float]]]


def told(about: str | None, measure: Callable[[int], Awaitable[Figures]], table: Callable[[Figures], Table]) -> None:
    """Measure as the command line says, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print one JSON object with the figures of every round")
    chosen = parser.parse_args()
    busy = os.getloadavg()[0]
    found = asyncio.run(measure(chosen.rounds))  # type: ignore[arg-type]
    if chosen.json:
        rounded = {name: {k: [round(v, 3) for v in vs] for k, vs in rows.items()} for name, rows in found.items()}
        print(json.dumps({"load": busy, "cores": os.cpu_count(), "figures": rounded}))
        return
    Console(width=170).print(table(found))
    print(f"{os.cpu_count()} cores, load {busy:.2f} before the start")


if __name__ == "__main__":
    told(__doc__, measure, table)
