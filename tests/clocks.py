"""Time in tests: a clock that a slow machine cannot be late for, and measurements that one busy moment cannot spoil."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from selectors import DefaultSelector, SelectorKey
from typing import ParamSpec

import pytest

P = ParamSpec("P")
TRIES = 10
"""How often something is measured before it counts as too slow."""


class _Selector(DefaultSelector):
    """Waits for nothing that has a time: that time has passed as soon as nothing else is to be done."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        found = super().select(0 if timeout else timeout)
        if timeout and not found:
            self.passed += timeout
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._waits = _Selector()
        super().__init__(self._waits)

    def time(self) -> float:
        return self._waits.passed


def on_a_clock_of_its_own(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Run a test on a clock that stands still while the test works and jumps to the next thing due while it waits.

    It is that of the event loop and `time.monotonic`. For tests that wait for nothing outside their process.
    """

    @wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        with pytest.MonkeyPatch.context() as patch, asyncio.Runner(loop_factory=_Loop) as runner:
            clock = runner.get_loop().time
            for module in [*sys.modules.values()]:
                if getattr(module, "__name__", "").startswith("thinkscale.") and hasattr(module, "monotonic"):
                    patch.setattr(module, "monotonic", clock)
            patch.setattr(time, "monotonic", clock)
            runner.run(test(*args, **kwargs))

    return run


async def at_best(measure: Callable[[], Awaitable[float]], below: float) -> float:
    """The first of several measurements that is below a limit, or else the least of all."""
    found = []
    while len(found) < TRIES and not (found and found[-1] < below):
        found.append(await measure())
    return min(found)


def busy(work: Callable[[], object], below: float) -> float:
    """Seconds of processor time that some work takes: the first of several below a limit, or else the least of all."""
    found = []
    while len(found) < TRIES and not (found and found[-1] < below):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return min(found)
