"""math-verify at arm's length: child processes that may be killed, shared by all tasks of one event loop.

A worker knows pipes, clocks and restarts; it does not know mathematics. Of a pair that takes too long, exhausts the
child's memory or crashes it nothing is known: one hostile answer costs a second, never the run, and others go on in
another child meanwhile.

A child starts with the first pair and ends with the event loop: the loop finalises its asynchronous generators before
it closes, so a child that lives inside one needs no explicit farewell. It also ends when its input closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from heapq import heappop, heappush
from importlib.util import find_spec
from pathlib import Path
from weakref import WeakKeyDictionary

MAX_CHARACTERS = 4000
"""A longer text is never handed to the child."""
_PROGRAM = str(Path(__file__).with_name("verdicts.py"))


class Worker:
    """A `Judge` that asks math-verify in a process of its own; every pair is put to the child in the order given."""

    def __init__(self, *, seconds: float = 6.0, start_seconds: float = 60.0) -> None:
        """`seconds` bounds one pair, `start_seconds` the import of math-verify in the child.

        The child's own limits, in processor time, come first unless the machine is busy.
        """
        self._seconds = seconds
        self._start_seconds = start_seconds
        self._turn = asyncio.Lock()
        self._life: AsyncGenerator[Process, None] | None = None
        self._child: Process | None = None
        self._owed = False
        self._missing = find_spec("math_verify") is None

    @property
    def pid(self) -> int | None:
        """The child's process id while there is one."""
        return None if self._child is None else self._child.pid

    async def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[bool | None]:
        """Whether math-verify finds each (gold, answer) equal, in order, or `None`; safe from many tasks at once."""
        verdicts: list[bool | None] = []
        for gold, answer in pairs:
            if max(len(gold), len(answer)) > MAX_CHARACTERS or self._missing:
                verdicts.append(None)
                continue
            async with self._turn:
                verdicts.append(await self._ask(gold, answer))
        return verdicts

    async def aclose(self) -> None:
        """End the child and wait for it; a later question starts a new one."""
        async with self._turn:
            await self._end()

    async def _ask(self, gold: str, answer: str) -> bool | None:
        try:
            child = await self._ensure_started()
            if child is None or child.stdin is None:
                return None
            async with asyncio.timeout(self._seconds):
                child.stdin.write(json.dumps([gold, answer]).encode("ascii") + b"\n")
                self._owed = True
                await child.stdin.drain()
                reply = await _reply(child)
            self._owed = False
            return reply["equal"]
        except (TimeoutError, OSError, ValueError, KeyError):
            await self._end()
            return None

    async def _ensure_started(self) -> Process | None:
        if self._child is not None and self._owed:
            # The task that asked was cancelled; its reply must not be taken for ours.
            try:
                async with asyncio.timeout(self._seconds):
                    await _reply(self._child)
                self._owed = False
            except (TimeoutError, OSError, ValueError):
                await self._end()
        if self._child is None and not self._missing:
            await self._start()
        return self._child

    async def _start(self) -> None:
        self._life = _life()
        child = await anext(self._life)
        try:
            async with asyncio.timeout(self._start_seconds):
                ready = (await _reply(child))["ready"]
        except (TimeoutError, OSError, ValueError, KeyError):
            ready = False
        except BaseException:
            await self._end()
            raise
        if ready is True:
            self._child = child
        else:
            # What cannot start once would cost every later pair the same wait.
            self._missing = True
            await self._end()

    async def _end(self) -> None:
        life, self._life, self._child, self._owed = self._life, None, None, False
        if life is not None:
            await life.aclose()


class Workers:
    """A `Judge` of several workers: a pair goes to the first one that is free, so a slow pair holds up no other."""

    def __init__(self, count: int = 2, *, seconds: float = 6.0) -> None:
        """`count` is the most child processes; one is started when all before it are busy."""
        self._workers = [Worker(seconds=seconds) for _ in range(count)]
        self._idle = list(range(count))
        self._turns = asyncio.Semaphore(count)

    @property
    def pids(self) -> list[int]:
        """The process ids of the children that there are."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    async def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[bool | None]:
        """Whether math-verify finds each (gold, answer) equal, in order, or `None`; safe from many tasks at once."""
        if len(pairs) == 1:
            return [await self._one(pairs[0])]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._one(pair)) for pair in pairs]
        return [task.result() for task in tasks]

    async def aclose(self) -> None:
        """End the children and wait for them; a later question starts new ones."""
        for worker in self._workers:
            await worker.aclose()

    async def _one(self, pair: tuple[str, str]) -> bool | None:
        async with self._turns:
            place = heappop(self._idle)
            try:
                return (await self._workers[place]([pair]))[0]
            finally:
                heappush(self._idle, place)


async def _life() -> AsyncGenerator[Process, None]:
    # `-P` keeps this folder off the child's path, where `extract.py` could hide another module of that name.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-P", _PROGRAM, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment, limit=2**20
    )
    try:
        yield child
    finally:
        await _kill(child)


async def _kill(child: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.kill()
    if child.stdin is not None:
        child.stdin.close()
        with contextlib.suppress(OSError):
            await child.stdin.wait_closed()
    if child.stdout is not None:
        # Reading to the end lets the transport of the pipe close before the loop does.
        while await child.stdout.read(2**16):
            pass
    await child.wait()


async def _reply(child: Process) -> dict[str, bool | None]:
    line = await child.stdout.readline() if child.stdout is not None else b""
    if not line:
        raise ValueError("the math-verify process ended before it replied")
    reply = json.loads(line)
    if not isinstance(reply, dict):
        raise ValueError(f"the math-verify process replied with {line!r}")
    return reply


_shared: WeakKeyDictionary[asyncio.AbstractEventLoop, Workers] = WeakKeyDictionary()


def shared() -> Workers:
    """The workers of the running event loop, made on first use."""
    loop = asyncio.get_running_loop()
    workers = _shared.get(loop)
    if workers is None:
        workers = _shared[loop] = Workers()
    return workers
