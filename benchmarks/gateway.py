"""What a gateway adds to a call of 16 samples, side by side with others.

    python benchmarks/gateway.py [--rounds 3] [--json]
    THINKSCALE_RIVALS=folder python benchmarks/gateway.py

All routes ask the same upstream processes, directly or through a gateway in a process of its own, in alternating
rounds. Others are measured when the folder that `THINKSCALE_RIVALS` names has environments `its_hub`
(`pip install 'its_hub[iaas]==1.2.0'`) and `optillm` (0.4.0). Measured are

- (a) the median time of one call, one client, upstream without latency; what is added to the floor is behind it,
- (b) calls per second, 32 clients, all samples in one request upstream,
- (c) calls per second, 16 clients, upstream that takes 200 ms,
- the processor time of one call of (b) in the gateway's process, which other work on the machine moves least.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import orjson
from rich.table import Table

from over_http import HERE, QUESTION, Load, N, Round, Route, free_port, process, told
from over_http import gateway as optillm

MESSAGES = [{"role": "user", "content": QUESTION}]
BODY = {"model": "mock", "messages": MESSAGES, "temperature": 0.8, "max_tokens": 256}
LOADS = {
    "a": Load("(a) one call, ms", "fast", 1, 200, 1.5, rate=False),
    "b": Load("(b) 32 clients, calls/s", "fast", 32, 960, 800),
    "c": Load("(c) 200 ms upstream, calls/s", "slow", 16, 128, 75),
}
UPSTREAMS = {"fast": (), "slow": ("--delay-ms", "200")}
SERVE = "from thinkscale.cli import main; main()"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Server:
    """What is asked."""

    url: str
    pid: int | None = None


class Client(Route):
    """One way to ask for 16 samples: a server for each upstream, and a body."""

    def __init__(self, name: str, servers: dict[str, Server], body: dict[str, object], share: float = 1.0) -> None:
        self.name, self.servers, self.body, self.share = name, servers, orjson.dumps(body), share
        headers = {"Authorization": "Bearer none", "Content-Type": "application/json"}
        self.http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers)

    async def call(self, load: Load, url: str) -> None:
        async with self.http.post(f"{self.servers[load.upstream].url}/chat/completions", data=self.body) as reply:
            said = orjson.loads(await reply.read())
            assert reply.status == 200, said
            assert said["choices"][0]["message"]["content"].strip(), said

    async def round(self, load: Load, url: str) -> Round:
        pid = self.servers[load.upstream].pid
        before = busy(pid)
        found = await super().round(load, url)
        found.cpu = busy(pid) - before if pid is not None else None
        return found

    async def aclose(self) -> None:
        await self.http.close()


def busy(pid: int | None) -> float:
    """Seconds of processor time that a process has used."""
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


async def listening(url: str) -> None:
    """Wait until a server answers anything."""
    async with aiohttp.ClientSession() as http, asyncio.timeout(90):
        while True:
            try:
                async with http.get(url):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)


async def ours(stack: AsyncExitStack, upstream: str) -> Server:
    """A gateway of thinkscale before an upstream."""
    port, home = free_port(), stack.enter_context(tempfile.TemporaryDirectory())
    flags = ("--upstream", upstream, "--port", str(port), "--store", "none", "--log-level", "warning")
    begun = await stack.enter_async_context(process(sys.executable, "-c", SERVE, "serve", *flags, THINKSCALE_HOME=home))
    await listening(f"http://127.0.0.1:{port}/health")
    return Server(f"http://127.0.0.1:{port}/v1", begun.pid)


async def its_hub(stack: AsyncExitStack, python: Path, upstream: str) -> Server:
    """A gateway of its_hub before an upstream, configured to vote."""
    port = free_port()
    command = (str(python.with_name("its-iaas")), "--port", str(port), "--log-level", "ERROR")
    begun = await stack.enter_async_context(process(*command))
    await listening(f"http://127.0.0.1:{port}/")
    told = {"endpoint": upstream, "api_key": "none", "model": "mock", "alg": "self-consistency", "budget": N}
    told |= {"regex_patterns": [r"answer is (\d+)"]}
    async with aiohttp.ClientSession() as http, http.post(f"http://127.0.0.1:{port}/configure", json=told) as reply:
        assert reply.status == 200, await reply.text()
    return Server(f"http://127.0.0.1:{port}/v1", begun.pid)


def environment(name: str) -> Path | None:
    """The interpreter of somebody else's environment; says where it is not installed."""
    python = Path(os.environ.get("THINKSCALE_RIVALS", "-"), name, "bin", "python")
    if python.exists():
        return python
    print(f"{name} is not measured: `{python}` does not exist; see THINKSCALE_RIVALS", file=sys.stderr)
    return None


async def routes(stack: AsyncExitStack, urls: dict[str, str]) -> AsyncIterator[Client]:
    """The floor, thinkscale, and the others that are installed."""
    yield Client("bare upstream, n=16", {name: Server(url) for name, url in urls.items()}, BODY | {"n": N})
    servers = {name: await ours(stack, url) for name, url in urls.items()}
    yield Client("thinkscale, model as it is, n=16", servers, BODY | {"n": N})
    yield Client("thinkscale, vote of 16", servers, BODY | {"model": f"mock+self-consistency(n={N}, stop=fixed)"})
    if python := environment("its_hub"):
        servers = {name: await its_hub(stack, python, url) for name, url in urls.items()}
        yield Client("its_hub 1.2.0, vote of 16", servers, BODY | {"budget": N}, 0.2)
    if python := environment("optillm"):
        servers = {name: Server(await optillm(stack, python, url)) for name, url in urls.items()}
        yield Client("optillm 0.4.0, vote of 16", servers, BODY | {"model": "majority_voting-mock", "k": N}, 0.1)


async def measure(rounds: int) -> dict[str, dict[str, list[float]]]:
    """For every route, the figures of all rounds of every load."""
    async with AsyncExitStack() as stack:
        urls = {}
        for name, options in UPSTREAMS.items():
            begun = await stack.enter_async_context(process(sys.executable, str(HERE / "upstream.py"), *options))
            assert begun.stdout is not None
            urls[name] = (await begun.stdout.readline()).decode().strip()
        clients = [client async for client in routes(stack, urls)]
        for client in clients:
            stack.push_async_callback(client.aclose)
        found: dict[str, dict[str, list[float]]] = {client.name: {} for client in clients}
        for turn in range(rounds + 1):
            for key, load in LOADS.items():
                for client in clients:
                    played = await client.round(load, "")
                    # The first turn warms up: connections, caches and what a server refuses.
                    if not turn:
                        continue
                    found[client.name].setdefault(key, []).append(played.figure(load))
                    if key == "b" and played.cpu is not None:
                        found[client.name].setdefault("cpu", []).append(played.cpu / len(played.each) * 1e3)
        return found


def table(found: dict[str, dict[str, list[float]]]) -> Table:
    """Medians; in brackets what is added to the floor."""
    floor = statistics.median(next(iter(found.values()))["a"])
    shown = Table("route", *(load.title for load in LOADS.values()), "(b) CPU of the gateway, ms")
    for name, figures in found.items():
        cells = []
        for key in LOADS:
            value = statistics.median(figures[key])
            added = f" (+{value - floor:.2f})" if key == "a" else ""
            cells.append(f"{value:,.{2 if value < 10 else 1}f}{added}")
        cells.append(f"{statistics.median(figures['cpu']):.2f}" if "cpu" in figures else "–")
        shown.add_row(name, *cells)
    shown.add_section()
    shown.add_row("goal", *(f"{'≥' if load.rate else '≤ +'}{load.goal:g}" for load in LOADS.values()), "")
    return shown


if __name__ == "__main__":
    told(__doc__, measure, table)
