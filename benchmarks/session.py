"""What a session adds to a draw: time and memory per draw with an engine that answers at once.

Run: `python benchmarks/session.py [--json]`. Goals: at most 30 µs per draw in one request and 100 µs in requests of its
own, at 1,000 draws, and at most 5 KiB of bookkeeping per draw, growing linearly. Four ways of drawing are timed side by
side with a bare loop over the same engine.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncGenerator
from pathlib import Path

from thinkscale.api import solve
from thinkscale.budget import Budget, Ledger
from thinkscale.engines.protocol import Abort, Capabilities, Chunk, Completion, Engine, Request, complete
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.session import Place, Run, Session
from thinkscale.stopping.fixed import Fixed
from thinkscale.store import Store
from thinkscale.types import Finish, Message, Problem, Usage

N = 1000
PROBLEM = Problem.of("What is 17 + 25?")


class Instant:
    """The leanest engine that keeps the protocol: one ready completion per draw."""

    capabilities = Capabilities(model="instant", concurrency=100_000)
    text = "17 + 25: first 17 + 20 = 37, then 37 + 5 = 42. The answer is 42."

    def count(self, request: Request) -> int:
        return 8

    async def open(self) -> None:
        """Nothing has to be found out."""

    async def stream(self, request: Request, abort: Abort | None = None) -> AsyncGenerator[Chunk, None]:
        usage = Usage(calls=1, input_tokens=8, output_tokens=24)
        for index in range(request.n):
            text = f"{self.text[:-1]}."
            yield Chunk(index, text, 24, Completion(text=text, finish=Finish.eos, tokens=24, usage=usage))

    async def aclose(self) -> None:
        pass


def session() -> Session:
    return Session(Place(engine=Instant(), ledger=Ledger(Budget(tokens=10**9)), run=Run()))


async def bare(n: int) -> object:
    messages = (Message("user", PROBLEM.question),)
    return await complete(Instant(), Request(messages=messages, seeds=tuple(range(n))))


async def one_request(n: int) -> object:
    return await session().sample(PROBLEM, n)


async def n_requests(n: int) -> object:
    llm = session()
    async with asyncio.TaskGroup() as tasks:
        drawn = [tasks.create_task(llm.sample(PROBLEM, 1)) for _ in range(n)]
    return [d.result() for d in drawn]


async def method(n: int) -> object:
    return await solve(PROBLEM, SelfConsistency(n=n, stop=Fixed()), Instant(), budget=Budget())


async def recorded(n: int) -> object:
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "runs.db")
        try:
            return await solve(PROBLEM, SelfConsistency(n=n, stop=Fixed()), Instant(), budget=Budget(), store=store)
        finally:
            store.close()


WAYS = {
    "bare engine": bare,
    "session, one request": one_request,
    "session, n requests": n_requests,
    "method and vote": method,
    "method, vote and store": recorded,
}


def microseconds(way: object, repeats: int = 7) -> float:
    """Median microseconds of processor time per draw; the loop itself is neither begun nor ended in them."""

    async def timed() -> float:
        gc.collect()
        start = time.process_time()
        await way(N)  # type: ignore[operator]
        return (time.process_time() - start) / N * 1e6

    return statistics.median(asyncio.run(timed()) for _ in range(repeats))


def kibibytes(way: object, n: int) -> float:
    """KiB per draw still held when all draws are back, their texts included."""

    async def held() -> float:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        kept = await way(n)  # type: ignore[operator]
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
        del kept
        return (after - before) / n / 1024

    asyncio.run(way(10))  # type: ignore[operator]
    tracemalloc.start()
    try:
        return asyncio.run(held())
    finally:
        tracemalloc.stop()


def main() -> None:
    engine: Engine = Instant()
    assert engine.capabilities.model == "instant"
    rows = {
        name: {
            "us_per_draw": round(microseconds(way), 1),
            "kib_per_draw_1000": round(kibibytes(way, 1000), 2),
            "kib_per_draw_4000": round(kibibytes(way, 4000), 2),
        }
        for name, way in WAYS.items()
    }
    if "--json" in sys.argv:
        print(json.dumps(rows))
        return
    print(f"{'way':<26}{'µs/draw':>10}{'KiB/draw (1,000)':>20}{'KiB/draw (4,000)':>20}")
    for name, row in rows.items():
        print(f"{name:<26}{row['us_per_draw']:>10}{row['kib_per_draw_1000']:>20}{row['kib_per_draw_4000']:>20}")


if __name__ == "__main__":
    main()
