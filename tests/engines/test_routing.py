import asyncio
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clocks import on_a_clock_of_its_own
from thinkscale.engines.limits import Health, Limit
from thinkscale.engines.routing import SLACK, Replica, Routing, Waiter
from thinkscale.engines.scripted import Scripted
from thinkscale.errors import EngineError

GONE = EngineError("gone", retryable=True)


def routing_of(*widths):
    return Routing([Replica(Scripted(), i, Limit(w), opened=True) for i, w in enumerate(widths)])


def waiter(routing, draws=1, order=None):
    return Waiter(routing.event(), order or routing.replicas, [*range(draws)])


@given(st.lists(st.tuples(st.integers(1, 20), st.floats(0, 1)), min_size=1, max_size=6), st.integers(1, 40), st.text())
async def test_who_is_chosen_has_room_and_is_within_the_bound_and_before_all_others_that_are(loads, draws, prompt):
    routing = routing_of(*(width for width, _ in loads))
    for replica, (width, load) in zip(routing.replicas, loads, strict=True):
        replica.limit.taken = int(width * load)
    free = {r: r.limit.free for r in routing.replicas if r.limit.free >= min(draws, r.limit.places)}
    if not free:
        return
    order = routing.order(prompt)
    bound = min(r.limit.load for r in free) + SLACK
    near = [r for r in order if r in free and r.limit.load <= bound]
    place = await routing.turn(waiter(routing, draws, order))
    assert place.replica == next((r for r in near if free[r] >= draws), near[0])
    assert len(place.draws) == min(draws, free[place.replica])


@given(st.text(), st.integers(2, 8))
def test_a_replica_that_is_lost_moves_only_the_prompts_that_were_its_own(prompt, n):
    before, after = routing_of(*[4] * n).order(prompt), routing_of(*[4] * (n - 1)).order(prompt)
    assert [r.number for r in before if r.number < n - 1] == [r.number for r in after]


@on_a_clock_of_its_own
async def test_who_waits_for_one_replica_alone_hears_that_it_fell_though_others_are_up():
    routing = routing_of(1, 1)
    first, second = [await routing.turn(waiter(routing, order=[r])) for r in routing.replicas]
    waiting = asyncio.create_task(routing.turn(waiter(routing, order=[second.replica])))
    await asyncio.sleep(0)
    routing.fail(second.replica, GONE, final=True)
    routing.over(second)
    with pytest.raises(EngineError, match="gone"):
        await asyncio.wait_for(waiting, 1)
    assert first.replica.limit.taken == 1


async def test_a_request_waits_for_room_for_all_of_it_and_nobody_who_came_later_takes_that():
    routing = routing_of(4)
    held = [await routing.turn(waiter(routing)) for _ in range(2)]
    large, small = [asyncio.create_task(routing.turn(waiter(routing, draws))) for draws in (3, 1)]
    await asyncio.sleep(0)
    assert not large.done()
    assert not small.done()
    routing.over(held[0])
    assert (await large).draws == (0, 1, 2)
    assert not small.done()
    routing.over(held[1])
    assert (await small).draws == (0,)


async def test_a_place_that_nobody_ahead_can_use_goes_to_the_next_who_can():
    routing = routing_of(1, 1)
    first, second = [await routing.turn(waiter(routing, order=[r])) for r in routing.replicas]
    picky = asyncio.create_task(routing.turn(waiter(routing, order=[first.replica])))
    easy = asyncio.create_task(routing.turn(waiter(routing)))
    await asyncio.sleep(0)
    routing.over(second)
    assert (await easy).replica is second.replica
    assert not picky.done()
    routing.over(first)
    assert (await picky).replica is first.replica


async def test_who_waits_gets_a_replica_when_its_rest_is_over_though_nothing_else_ends():
    routing = routing_of(1, 1)
    _, second = [await routing.turn(waiter(routing, order=[r])) for r in routing.replicas]
    second.replica.health = Health(_rest=0.01)
    waiting = asyncio.create_task(routing.turn(waiter(routing)))
    await asyncio.sleep(0)
    routing.fail(second.replica, GONE, final=True)
    routing.over(second)
    place = await asyncio.wait_for(waiting, 30)
    assert (place.replica, place.trial) == (second.replica, True)


async def test_a_trial_that_is_refused_as_too_much_is_a_failure_and_halves_nothing():
    routing = routing_of(64)
    [replica] = routing.replicas
    routing.fail(replica, GONE, final=True)
    trial = await routing.turn(waiter(routing))
    replica.health.due = 0.0
    routing.judge(trial, EngineError("loading", retryable=True, status=503))
    routing.over(trial)
    assert replica.limit.places == 64
    assert replica.health.due > monotonic()
