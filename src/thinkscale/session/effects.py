"""Work outside of any model: a user's check, tool, test or retriever, recorded and replayed like a call."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import is_dataclass
from typing import cast

from thinkscale.engines.protocol import Completion
from thinkscale.identity import digest
from thinkscale.session.place import Place
from thinkscale.types import Finish

PATIENCE = 120.0
"""Time limit of an effect in seconds, if the budget does not end earlier."""


async def run_effect(place: Place, effect: Callable[..., object], args: tuple[object, ...]) -> object:
    """The result of `effect(*args)`; `None`, with a warning, if it raises or does not end in time.

    A function that is no coroutine runs in a thread, which cannot be stopped and is abandoned at the time limit.
    """
    run, name = place.run, getattr(effect, "__qualname__", type(effect).__name__)
    key = _key(effect, args)
    if run.memory and key and (known := run.memory.recall([key]).get(key)):
        run.replayed += 1
        return json.loads(known.text)
    left = place.ledger.deadline - time.monotonic()
    if left <= 0 or run.cancelled:
        place.ledger.refused = True
        return None
    work = asyncio.ensure_future(_call(effect, args))
    run.effects.add(work)
    try:
        async with asyncio.timeout(min(left, PATIENCE)):
            found = await work
    except TimeoutError:
        place.ledger.refused |= left < PATIENCE
        run.warn(f"`{name}` did not end within {min(left, PATIENCE):.3g} s: it counts as having said nothing")
        return None
    except asyncio.CancelledError:
        if not run.cancelled:
            raise
        return None
    except Exception as error:
        run.warn(f"`{name}` failed and counts as having said nothing: {type(error).__name__}: {error}")
        return None
    finally:
        run.effects.discard(work)
    if run.memory and key and (text := _as_json(found)) is not None:
        run.memory.remember(key, Completion(text=text, finish=Finish.eos, tokens=0))
    return found


async def _call(effect: Callable[..., object], args: tuple[object, ...]) -> object:
    if inspect.iscoroutinefunction(effect) or inspect.iscoroutinefunction(getattr(effect, "__call__", None)):  # noqa: B004
        return await cast(Awaitable[object], effect(*args))
    loop, done = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    def deliver(result: object, error: BaseException | None) -> None:
        if not done.done():
            done.set_exception(error) if error else done.set_result(result)

    def work() -> None:
        result, failure = None, None
        try:
            result = effect(*args)
        except Exception as error:
            failure = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(deliver, result, failure)

    threading.Thread(target=work, daemon=True).start()
    found = await done
    return await found if inspect.isawaitable(found) else found


def _key(effect: Callable[..., object], args: tuple[object, ...]) -> str | None:
    """The key of an effect: its name, its source and its arguments.

    `None` if the arguments are not plain data; such an effect is not recorded.
    """
    try:
        given = json.dumps(args, default=_plain, sort_keys=True)
    except (TypeError, ValueError):
        return None
    try:
        source = inspect.getsource(effect)
    except (OSError, TypeError):
        source = ""
    name = getattr(effect, "__qualname__", type(effect).__name__)
    return digest("effect", str(getattr(effect, "__module__", "")), name, source, given)


def _plain(value: object) -> str:
    if is_dataclass(value):
        return repr(value)
    raise TypeError


def _as_json(value: object) -> str | None:
    """A value as JSON; `None` if reading it back would not give the value, so that it is not recorded."""
    try:
        text = json.dumps(value)
        return text if json.loads(text) == value and not (isinstance(value, float) and math.isnan(value)) else None
    except (TypeError, ValueError):
        return None
