"""Several engines that run the same model, as one: draws go where their prompt is cached, and past what fails.

It says what they are together and who is one of them; `routing` says who gets what, and `division` has it made. It does
not wait and ask again: whoever asked decides that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from thinkscale.engines.division import Division
from thinkscale.engines.limits import Limit
from thinkscale.engines.protocol import Abort, Capabilities, Chunk, Engine, Price, Request
from thinkscale.engines.routing import Replica, Routing
from thinkscale.errors import EngineError, SettingsError


class Pool:
    """Replicas of one model as one engine.

    It can do what all replicas can that could be opened, with the smallest of their contexts and all of their places.
    A replica that fails twice in a row is left alone for a second, then two, up to a minute, and comes back by a trial
    of one draw; so does one that cannot serve at all (status 401, 403, 404), unless it is the last. A request that
    fails before anything of it arrived goes to another replica at once. A replica that says it has too much work gets
    half of it, nothing new before the time that it asks for, and more with every success. One event loop at a time.

    Args:
        replicas: engines whose samples are interchangeable: their `model` is the same, or else their `name`. The first
            that could be opened gives the pool its identity.
        concurrency: most draws in flight at one replica; what each says of itself when absent.
        limits: those of a pool of the same servers, replica by replica, such as in another dialect: what both have in
            flight counts together, and what one is refused both send less. The replicas' own when absent.

    Raises:
        SettingsError: there are no replicas, or no places.
    """

    def __init__(
        self, replicas: Sequence[Engine] = (), *, concurrency: int | None = None, limits: Sequence[Limit] | None = None
    ) -> None:
        if not replicas:
            raise SettingsError("a pool without replicas cannot answer: give engines, as in `Pool([first, second])`")
        if concurrency is not None and concurrency < 1:
            raise SettingsError(f"`concurrency={concurrency}` leaves a replica no draw at a time: give at least 1")
        self._concurrency = concurrency
        own = [Limit(self._width(e.capabilities)) for e in replicas] if limits is None else limits
        numbered = enumerate(zip(replicas, own, strict=True))
        self._routing = Routing([Replica(engine, i, limit) for i, (engine, limit) in numbered])
        self._capabilities: Capabilities | None = None

    @property
    def capabilities(self) -> Capabilities:
        """What every replica can do; before `open`, as far as they say.

        Raises:
            SettingsError: the replicas run different models.
        """
        return self._capabilities or self._common([r.engine.capabilities for r in self._routing.replicas])

    @property
    def limits(self) -> list[Limit]:
        """How much each replica takes at once."""
        return [r.limit for r in self._routing.replicas]

    def count(self, request: Request) -> int:
        """Prompt tokens by the replica that counts most."""
        replicas = self._routing.replicas
        return max(r.engine.count(request) for r in replicas if r.opened or self._capabilities is None)

    async def open(self) -> None:
        """Open all replicas at once; one that fails is left alone for a while, like any that fails later.

        Raises:
            EngineError: none of them opens; it is the first one's error.
            SettingsError: they run different models.
        """
        if self._capabilities is not None:
            return
        replicas = self._routing.replicas
        async with asyncio.TaskGroup() as opening:
            tasks = [opening.create_task(_refusal(r.engine)) for r in replicas]
        refusals = {r: refusal for r, task in zip(replicas, tasks, strict=True) if (refusal := task.result())}
        if self._capabilities is not None:
            return
        if len(refusals) == len(replicas):
            raise refusals[replicas[0]]
        self._capabilities = self._common([r.engine.capabilities for r in replicas if r not in refusals])
        for replica in replicas:
            if replica in refusals:
                self._routing.fail(replica, refusals[replica], final=True)
            else:
                self._admitted(replica)

    def stream(self, request: Request, abort: Abort | None = None) -> AsyncGenerator[Chunk, None]:
        """Have the draws made wherever there is room for them; a replica that fails takes down only what it had."""
        return Division(self, self._routing, request, abort or Abort()).chunks()

    async def aclose(self) -> None:
        """Close every replica, also when one of them fails to close."""
        async with AsyncExitStack() as closing:
            for replica in self._routing.replicas:
                closing.push_async_callback(replica.engine.aclose)

    async def join(self, replica: Replica) -> None:
        """Open a replica that could not be opened before.

        Raises:
            EngineError: it still cannot, or it is not what the others are.
        """
        refusal = await _refusal(replica.engine)
        if refusal is not None:
            raise EngineError(str(refusal), retryable=True, retry_after=refusal.retry_after, status=refusal.status)
        here, late = self.capabilities, replica.engine.capabilities
        if not _interchangeable(here, late) or self._common([here, late]).can != here.can or _narrower(late, here):
            raise EngineError(
                f"replica {replica.number} runs `{late.name or late.model}` and can do less than the pool of"
                f" `{here.name or here.model}` that it came late to: give it the same settings as the others",
                retryable=True,
            )
        self._admitted(replica)

    def _admitted(self, replica: Replica) -> None:
        replica.opened = True
        replica.limit.widen(self._width(replica.engine.capabilities))

    def _width(self, known: Capabilities) -> int:
        return self._concurrency or max(1, known.concurrency)

    def _common(self, each: Sequence[Capabilities]) -> Capabilities:
        """What holds for all of these."""
        first = each[0]
        for other in each:
            if not _interchangeable(first, other):
                raise SettingsError(
                    f"a pool holds replicas of one model, but `{first.name or first.model}` and"
                    f" `{other.name or other.model}` are two: put them into pools of their own"
                )
        prices = [c.price for c in each if c.price is not None]
        dearest = Price(input=max(p.input for p in prices), output=max(p.output for p in prices)) if prices else None
        return replace(
            first,
            can=frozenset.intersection(*(c.can for c in each)),
            context=min((c.context for c in each if c.context is not None), default=None),
            concurrency=sum(self._width(c) for c in each),
            exact=all(c.exact for c in each),
            price=dearest,
        )


def _interchangeable(one: Capabilities, other: Capabilities) -> bool:
    return one.model == other.model or (one.name == other.name != "")


def _narrower(one: Capabilities, other: Capabilities) -> bool:
    """Whether one context is smaller than the other."""
    return one.context is not None and (other.context is None or one.context < other.context)


async def _refusal(engine: Engine) -> EngineError | None:
    """Why an engine cannot be opened."""
    try:
        await engine.open()
    except EngineError as error:
        return error
    return None
