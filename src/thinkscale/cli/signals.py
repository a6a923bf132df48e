"""Interrupts: the first one ends a run with the best it has, a second one ends the program."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from types import FrameType

from thinkscale.session import Run
from thinkscale.types import Outcome

KEPT = "interrupted: what was drawn is kept; the same command goes on from every attempt that was finished"
ENDINGS = (signal.SIGINT, signal.SIGTERM)


async def until_told(asking: Coroutine[None, None, Outcome], shared: Run) -> tuple[Outcome, int]:
    """What a run comes to by itself, or by the time of the first SIGINT or SIGTERM.

    Args:
        asking: the run.
        shared: its record.

    Returns:
        The outcome and the number of the signal, 0 where there was none.

    Raises:
        KeyboardInterrupt: on a SIGINT that comes second, or before there is anything to end with.
        SystemExit: likewise on a SIGTERM.
    """
    loop, heard = asyncio.get_running_loop(), list[int]()

    def told(number: int, frame: FrameType | None) -> None:
        if heard or shared.account is None:
            if number == signal.SIGINT:
                signal.default_int_handler(number, frame)
            raise SystemExit(128 + number)
        heard.append(number)
        loop.call_soon_threadsafe(shared.cancel)

    before = {number: signal.signal(number, told) for number in ENDINGS}
    try:
        return await asking, sum(heard)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
