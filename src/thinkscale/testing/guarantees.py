"""How a suite is kept: one guarantee after the other, the first broken one as a sentence that names the component."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass

from thinkscale.api import run
from thinkscale.component_files import line_of, shown
from thinkscale.contracts import blame, name_of, path_of
from thinkscale.errors import ThinkscaleError, first_failure

Told = Callable[[str], None]
"""Told of every guarantee that is kept."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """One thing that a component promises, in words, and the check of it."""

    says: str
    check: Callable[[], Awaitable[None]]


class Passed(Coroutine[None, None, None]):
    """What a check that has been made leaves behind: it may be awaited, and need not be."""

    def __await__(self) -> Generator[None, None, None]:
        yield from ()

    def send(self, _: None) -> None:
        """There is nothing to wait for."""
        raise StopIteration

    def throw(self, *failure: object) -> None:
        """What is thrown in comes out."""
        raise failure[0]  # type: ignore[misc]

    def close(self) -> None:
        """There is nothing to close."""


def made(check: Coroutine[None, None, None]) -> Passed:
    """Make a check now, also where an event loop is running, which waits for it: a check that is not awaited counts."""
    run(check)
    return Passed()


def made_here(check: Coroutine[None, None, None]) -> Coroutine[None, None, None]:
    """The same for what is tied to an event loop: where one is running the check is made in it, when it is awaited."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return made(check)
    return check


async def keep(component: object, guarantees: Sequence[Guarantee], told: Told | None) -> None:
    """Check guarantees in order.

    Raises:
        AssertionError: one is broken; the sentence names the component, the guarantee and, where a line of the
            component raised, that line.
    """
    for guarantee in guarantees:
        try:
            await guarantee.check()
        except Exception as error:
            why = _why(component, first_failure(error))
            if why is None:
                raise
            raise AssertionError(f"`{name_of(component)}` does not keep “{guarantee.says}”: {why}") from error
        if told is not None:
            told(guarantee.says)


def _why(component: object, error: BaseException) -> str | None:
    """What a check failed of; `None` where neither the component nor its guarantees are to blame."""
    if isinstance(error, AssertionError):
        path = path_of(component)
        line = line_of(error, path) if path else None
        return f"{error or 'an assertion failed'}{f' ({shown(path)}, line {line})' if path and line else ''}"
    if isinstance(error, ThinkscaleError):
        return str(error)
    blamed = blame(component, error)
    return str(blamed) if blamed else None
