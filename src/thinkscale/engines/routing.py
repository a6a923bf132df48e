"""Which replica makes which draws: by cache, load and health, first come first served.

A request goes to the first replica in its prompt's own order (rendezvous hashing) whose load is at most `SLACK` above
that of the least loaded one: consistent hashing with bounded loads (Mirrokni et al. 2018), load being relative to what
a replica takes at once. It waits until that has room for all of it, or for as much as it takes at once, and nobody who
came later gets that room. Nothing here asks an engine.
"""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass, field

from thinkscale.engines.limits import MISFITS, Health, Limit
from thinkscale.engines.protocol import Engine
from thinkscale.errors import EngineError
from thinkscale.identity import digest

SLACK = 0.25
"""By how much of its limit the replica that has a prompt's cache may be busier than the least busy one."""

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Replica:
    """One engine of a pool and what was learnt about it."""

    engine: Engine
    number: int
    limit: Limit
    health: Health = field(default_factory=Health)
    opened: bool = False
    """Whether it said what it is, and was found to fit."""


@dataclass(slots=True, eq=False)
class Place:
    """Leave to have some draws made by one replica."""

    replica: Replica
    draws: tuple[int, ...]
    cuts: int
    """How often the replica's limit had been halved by then."""
    trial: bool
    held: int
    """Places that were not returned yet."""


@dataclass(slots=True, eq=False)
class Waiter:
    """Draws of one request that want places."""

    since: int
    """The event with which the request came."""
    order: Sequence[Replica]
    """The replicas that may have them, in the prompt's own order."""
    draws: list[int]
    failure: EngineError | None = None
    """How they failed before, if they did."""
    turn: asyncio.Future[Place | None] | None = None
    """Done when there is a place, or when no draw wants one any more."""

    def end(self) -> None:
        """No draw wants a place any more."""
        if self.turn and not self.turn.done():
            self.turn.set_result(None)


class Routing:
    """Who is next, and where.

    Args:
        replicas: all there are; limits and health change as they answer.
    """

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.replicas = replicas
        self._queue: list[Waiter] = []
        """Whom no replica has a place for at the moment, first come first."""
        self._events = 0
        self._changed = False
        """Whether something may concern those in the queue who wait for certain replicas only."""
        self._alarm: tuple[asyncio.AbstractEventLoop, float] | None = None
        """When the queue is looked at again, because a pause that a replica asked for is over then."""
        for replica in replicas:
            replica.limit.watch(self._admit)

    def event(self) -> int:
        """The number of what happens now."""
        self._events += 1
        return self._events

    def order(self, prompt: str) -> list[Replica]:
        """The replicas as a prompt prefers them."""
        return sorted(self.replicas, key=lambda r: digest(prompt, r.number))

    async def turn(self, waiter: Waiter) -> Place | None:
        """Wait until a replica takes some of the draws, which then leave the waiter; `None` when none are left.

        Raises:
            EngineError: every replica has failed these draws, or was left alone while they waited.
        """
        turn: asyncio.Future[Place | None] = asyncio.get_running_loop().create_future()
        waiter.turn = turn
        insort(self._queue, waiter, key=lambda w: w.since)
        self._admit()
        try:
            return await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and not turn.exception() and (place := turn.result()):
                self.over(place)
            raise
        finally:
            if waiter in self._queue:
                self._queue.remove(waiter)

    def heard(self, place: Place) -> None:
        """A replica began to answer: whoever is on trial is up again, and its next failure is one too many."""
        if not place.replica.health.up and place.trial:
            place.replica.health.up = True
            log.info("replica %d answers again", place.replica.number)
            self._admit()

    def ended(self, place: Place, *, well: bool) -> None:
        """One draw is over."""
        if well:
            place.replica.limit.grow(place.cuts)
        self._leave(place, 1)

    def judge(self, place: Place, failure: EngineError | None) -> bool:
        """A request is over, as a whole well or not. Returns whether another replica may do better."""
        health = place.replica.health
        current = health.up or place.trial  # what was asked before it was left alone says nothing about now
        if failure is None:
            if current:
                health.succeed()
            return False
        misfit = self._misfit(place.replica, failure)
        if current:
            if misfit:
                self.fail(place.replica, failure, final=True)
            elif not failure.retryable:
                health.succeed()
            # A trial is one draw: to refuse that is to fail, and says nothing about the limit.
            elif not (failure.overloaded and health.up and place.replica.limit.cut(place.cuts)):
                self.fail(place.replica, failure)
        self.pause(place.replica, failure)
        return failure.retryable or misfit

    def _misfit(self, replica: Replica, failure: EngineError) -> bool:
        """Whether a replica says that it cannot serve, and another may: what the last one says is told as it is."""
        others = (r for r in self.replicas if r is not replica)
        return failure.status in MISFITS and not all(r.health.unfit for r in others)

    def pause(self, replica: Replica, failure: EngineError) -> None:
        """Send a replica nothing before the time that it asked for, if it did."""
        if failure.retry_after:
            replica.limit.pause(time.monotonic() + failure.retry_after)

    def fail(self, replica: Replica, failure: EngineError, *, final: bool = False) -> None:
        """Count a failure, and leave the replica alone when it is one too many, or `final`."""
        now, level = time.monotonic(), logging.WARNING if replica.health.up else logging.INFO
        if replica.health.fail(failure, now, self.event(), final=final):
            self._changed, rest = True, replica.health.due - now
            log.log(level, "replica %d is left alone for %.0f s: %s", replica.number, rest, failure)
            asyncio.get_running_loop().call_later(rest, self._admit)

    def over(self, place: Place) -> None:
        """Nothing more comes of a place: return what it still holds."""
        if place.held:
            self._leave(place, place.held)

    def _leave(self, place: Place, places: int) -> None:
        place.held -= places
        if place.trial and not place.held:
            place.replica.health.trying = False
            self._changed = True
        place.replica.limit.leave(places)

    def _admit(self) -> None:
        """Seat whom there is room for, first come first served."""
        everybody, self._changed = self._changed, False
        claimed: set[Replica] = set()
        for waiter in [*self._queue]:
            if len(claimed) == len(self.replicas) and not everybody:
                break
            if self._seat(waiter, claimed):
                self._queue.remove(waiter)
            else:
                claimed.update(waiter.order)
        if self._queue:
            self._set_alarm()

    def _set_alarm(self) -> None:
        """See to it that those who wait are looked at when the next pause is over.

        That is done when they begin to wait, because a pause may be older than the event loop.
        """
        now = time.monotonic()
        if pauses := [r.limit.resumes for r in self.replicas if r.limit.resumes > now]:
            loop, over = asyncio.get_running_loop(), min(pauses)
            if self._alarm != (loop, over):
                self._alarm = (loop, over)
                loop.call_later(over - now, self._resume)

    def _resume(self) -> None:
        self._alarm, self._changed = None, True
        self._admit()

    def _seat(self, waiter: Waiter, claimed: set[Replica]) -> bool:
        """Answer a waiter, if that is possible now, by a replica that nobody ahead waits for."""
        turn = waiter.turn
        if turn is None or turn.done():
            return True
        now = time.monotonic()
        rooms = self._rooms(waiter, now)
        if free := {r: places for r, places in rooms.items() if r not in claimed}:
            turn.set_result(_place(waiter, free))
        elif not rooms and not any(r.health.up or r.health.trying or r.limit.resumes > now for r in waiter.order):
            turn.set_exception(self._none_left(waiter))
        return turn.done()

    def _rooms(self, waiter: Waiter, now: float) -> dict[Replica, int]:
        """Free places by replica: those of the ones that are up and have enough, and a trial draw of each that is due.

        Where none is up, the one that is due soonest is tried before its time, unless it was left alone after the
        waiter came. None has any before the time that it asked for.
        """
        wanted, up = len(waiter.draws), [r for r in waiter.order if r.health.up]
        rooms = {r: r.limit.free for r in up if r.limit.resumes <= now and r.limit.free >= min(wanted, r.limit.places)}
        if len(up) < len(waiter.order):
            down = [r for r in waiter.order if not r.health.up and r.limit.resumes <= now]
            idle = [r for r in down if not r.health.trying]
            tried = [r for r in idle if r.health.due <= now or (not up and r.health.fell <= waiter.since)]
            if not up:
                tried = sorted(tried, key=lambda r: r.health.due)[:1]
            rooms |= dict.fromkeys(tried, 1)
        return rooms

    def _none_left(self, waiter: Waiter) -> EngineError:
        fallen = max(self.replicas, key=lambda r: r.health.fell)
        cause = waiter.failure or fallen.health.last
        return EngineError(
            f"none of the pool's {len(self.replicas)} replicas could answer, the last one said: {cause}; ask later, or"
            " see to the servers",
            retryable=True,
            retry_after=cause.retry_after if cause else None,
            status=cause.status if cause else None,
        )


def _place(waiter: Waiter, rooms: dict[Replica, int]) -> Place:
    """Take places where the prompt's cache is, within the bound on load, and whole if that is possible."""
    loads = {r: r.limit.load for r in waiter.order if r in rooms}
    near = [r for r, load in loads.items() if load <= min(loads.values()) + SLACK]
    # A trial is one draw whatever the request, or the large requests of its prompts would never bring a replica back.
    replica = next((r for r in near if rooms[r] >= len(waiter.draws) or not r.health.up), near[0])
    draws = tuple(waiter.draws[: rooms[replica]])
    del waiter.draws[: len(draws)]
    replica.limit.taken += len(draws)
    trial = not replica.health.up
    replica.health.trying |= trial
    return Place(replica, draws, replica.limit.cuts, trial, held=len(draws))
