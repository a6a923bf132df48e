"""math-verify at arm's length: a child process that may be killed, shared by all tasks of one event loop.

The worker knows pipes, clocks and restarts; it does not know mathematics. A pair that takes too long, exhausts the
child's memory or crashes it is "not equal": one hostile answer costs seconds, never the run.

The child starts with the first pair and ends with the event loop: the loop finalises its asynchronous generators before
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
from importlib.util import find_spec
from pathlib import Path
from weakref import WeakKeyDictionary

MAX_CHARACTERS = 4000
"""A longer text is never handed to the child."""
_PROGRAM = str(Path(__file__).with_name("verdicts.py"))


class Worker:
    """A `Judge` that asks math-verify in a process of its own; every pair is put to the child in the order given."""

    def __init__(self, *, seconds: float = 15.0, start_seconds: float = 60.0) -> None:
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

    async def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        """Whether math-verify finds each (gold, answer) equal, in order; safe from many tasks at once."""
        verdicts = []
        for gold, answer in pairs:
            if max(len(gold), len(answer)) > MAX_CHARACTERS or self._missing:
                verdicts.append(False)
                continue
            async with self._turn:
                verdicts.append(await self._ask(gold, answer))
        return verdicts

    async def aclose(self) -> None:
        """End the child and wait for it; a later question starts a new one."""
        async with self._turn:
            await self._end()

    async def _ask(self, gold: str, answer: str) -> bool:
        try:
            child = await self._started()
            if child is None or child.stdin is None:
                return False
            async with asyncio.timeout(self._seconds):
                child.stdin.write(json.dumps([gold, answer]).encode("ascii") + b"\n")
                self._owed = True
                await child.stdin.drain()
                reply = await _reply(child)
            self._owed = False
            return bool(reply["equal"])
        except (TimeoutError, OSError, ValueError, KeyError):
            await self._end()
            return False

    async def _started(self) -> Process | None:
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
        if ready:
            self._child = child
        else:
            # What cannot start once would cost every later pair the same wait.
            self._missing = True
            await self._end()

    async def _end(self) -> None:
        life, self._life, self._child, self._owed = self._life, None, None, False
        if life is not None:
            await life.aclose()


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


async def _reply(child: Process) -> dict[str, bool]:
    line = await child.stdout.readline() if child.stdout is not None else b""
    if not line:
        raise ValueError("the math-verify process ended before it replied")
    reply = json.loads(line)
    if not isinstance(reply, dict):
        raise ValueError(f"the math-verify process replied with {line!r}")
    return reply


_workers: WeakKeyDictionary[asyncio.AbstractEventLoop, Worker] = WeakKeyDictionary()


def shared() -> Worker:
    """The worker of the running event loop, made on first use."""
    loop = asyncio.get_running_loop()
    worker = _workers.get(loop)
    if worker is None:
        worker = _workers[loop] = Worker()
    return worker
