"""What the store costs: on the event loop, until all is safe, and on the disk, per draw.

Run: `python benchmarks/store.py [--json]`. A run of 1,000 draws is recorded as `solve` does it: every completion is
remembered and its trace recorded as it comes, and all traces once more in the end. Beside it: how long the end of a run
waits for the disk when all but its last draw is written, and how long a claim takes.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from thinkscale.engines.protocol import Completion
from thinkscale.store import RunRow, Store
from thinkscale.types import Answer, Finish, Origin, Problem, Segment, Trace, Usage

N = 1000
TEXT = "17 + 25: first 17 + 20 = 37, then 37 + 5 = 42. The answer is 42."


def completion() -> Completion:
    return Completion(text=TEXT, finish=Finish.eos, tokens=24, usage=Usage(calls=1, input_tokens=8, output_tokens=24))


def trace(problem: Problem, number: int) -> Trace:
    segment = Segment(text=TEXT, origin=Origin.sampled, tokens=24, model="toy")
    return Trace(
        prompt=problem.messages, segments=(segment,), finish=Finish.eos, path=(number,), answer=Answer("42", "42")
    )


def row(problem: Problem, name: str) -> RunRow:
    return RunRow(id=name, started=1.0, method="m", model="toy", seed=1, budget="", problem=problem)


def size_of(folder: Path) -> int:
    """Bytes on the disk."""
    return sum(file.stat().st_size for file in folder.iterdir())


async def recorded(store: Store, folder: Path, prompt: int) -> dict[str, float]:
    """One run under a prompt of so many characters: µs per draw, bytes per draw."""
    problem = Problem.of("x" * prompt)
    completions, traces = [completion() for _ in range(N)], [trace(problem, number) for number in range(N)]
    gc.collect()
    cpu, began = time.process_time(), time.perf_counter()
    store.begin(row(problem, "a"))
    for number in range(N):
        store.remember(f"{number:032x}", completions[number])
        store.record("a", traces[number], "main")
    for number in range(N):
        store.record("a", traces[number], "main", number)
    store.end("a", "done", {})
    on_loop = time.perf_counter() - began
    await store.settled()
    safe, cpu = time.perf_counter() - began, time.process_time() - cpu
    times = {"loop_us": on_loop / N * 1e6, "safe_us": safe / N * 1e6, "cpu_us": cpu / N * 1e6}
    store.close()
    return {**times, "bytes": size_of(folder) / N}


async def waits(store: Store, folder: Path, prompt: int) -> dict[str, float]:
    """Milliseconds that the end of a run waits for the disk, and that a claim of 16 draws takes."""
    ends, claims = [], []
    for number in range(100):
        store.remember(f"last {number}", completion())
        began = time.perf_counter()
        await store.settled()
        ends.append((time.perf_counter() - began) * 1e3)
        keys = [f"{number}/{draw}" for draw in range(16)]
        began = time.perf_counter()
        assert len(await store.claims.claim(keys)) == 16
        claims.append((time.perf_counter() - began) * 1e3)
        store.claims.release(keys)
        await store.settled()
    return {"end_ms": statistics.median(ends), "claim_ms": statistics.median(claims)}


def measured(
    way: Callable[[Store, Path, int], Awaitable[dict[str, float]]], prompt: int, repeats: int = 5
) -> dict[str, float]:
    """The median of each figure."""

    async def once() -> dict[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder) / "runs.db")
            try:
                return await way(store, Path(folder), prompt)
            finally:
                store.close()

    found = [asyncio.run(once()) for _ in range(repeats)]
    return {name: round(statistics.median(each[name] for each in found), 2) for name in found[0]}


def main() -> None:
    rows = {
        "a short prompt": measured(recorded, 32),
        "a prompt of 8,000 characters": measured(recorded, 8000),
        "waits": measured(waits, 32, repeats=1),
    }
    if "--json" in sys.argv:
        print(json.dumps(rows))
        return
    for name, figures in rows.items():
        print(f"{name:<30}" + "  ".join(f"{figure} {value}" for figure, value in figures.items()))


if __name__ == "__main__":
    main()
