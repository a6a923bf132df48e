import random
from heapq import heappop, heappush
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.engines.limits import FAILURES, LONGEST_REST, REST, Health, Limit
from thinkscale.errors import EngineError

GONE = EngineError("gone", retryable=True)


@given(ceiling=st.integers(1, 300), moves=st.lists(st.sampled_from(["grow", "cut", "late cut"]), max_size=200))
def test_a_limit_stays_between_one_and_its_ceiling(ceiling, moves):
    limit = Limit(ceiling)
    for move in moves:
        before = limit.places
        if move == "grow":
            limit.grow(limit.cuts)
            assert before <= limit.places <= before + 1
        else:
            done = limit.cut(limit.cuts - (move == "late cut"))
            assert limit.places == (max(1, before // 2) if move == "cut" else before)
            assert done == (move == "late cut" or before > 1)
        assert 1 <= limit.places <= ceiling


@pytest.mark.parametrize("places", [2, 5, 40])
def test_one_place_comes_back_with_as_many_successes_as_there_are_places(places):
    limit = Limit(2 * places)
    limit.cut(0)
    for _ in range(places):
        assert limit.places == places
        limit.grow(1)
    limit.grow(1)
    assert limit.places == places + 1


class Busy:
    """A server that takes `capacity` draws at once and refuses the others, asked for as many as a limit allows.

    Draws take a round each, more or less, refusals a hundredth. It goes on for as many rounds as it is told.
    """

    def __init__(self, limit, capacity):
        self.limit, self.capacity, self.now, self.running, self.ends = limit, capacity, 0.0, 0, []
        self.dice = random.Random(capacity)

    def go_on(self, rounds):
        """The share of the capacity that was used on average, and of the work that was refused."""
        until, used, began, outcomes = self.now + rounds, 0.0, self.now, []
        while self.now < until:
            while self.limit.free:
                self.limit.taken += 1
                taken = self.running < self.capacity
                self.running += taken
                lasts = self.dice.uniform(0.7, 1.3) if taken else 0.01
                heappush(self.ends, (self.now + lasts, self.dice.random(), taken, self.limit.cuts))
            before, (self.now, _, taken, cuts) = self.now, heappop(self.ends)
            used += (self.now - before) * self.running
            self.limit.taken -= 1
            self.running -= taken
            self.limit.grow(cuts) if taken else self.limit.cut(cuts)
            outcomes.append(not taken)
        return used / (self.now - began) / max(1, self.capacity), mean(outcomes)


def overloaded(capacity):
    """A server that has refused everything until its limit of 256 was down to one place, and now takes some again."""
    server = Busy(Limit(256), 0)
    while server.limit.places > 1:
        server.go_on(0.01)
    server.capacity = capacity
    return server


@pytest.mark.parametrize("capacity", [2, 3, 10, 40, 100, 200, 256])
def test_from_one_place_a_limit_finds_what_a_server_takes_within_a_few_rounds_and_stays_there(capacity):
    server, rounds = overloaded(capacity), 0
    while server.limit.places < capacity / 2:
        server.go_on(1)
        rounds += 1
    assert rounds <= 8
    server.go_on(4)
    most, least = 0, 256
    for _ in range(60):
        server.go_on(1)
        most, least = max(most, server.limit.places), min(least, server.limit.places)
    assert capacity // 2 <= least <= most <= capacity + 1
    used, refused = server.go_on(100)
    assert used > 0.7
    assert refused < 1 / capacity


def test_slow_start_ends_at_half_of_where_work_was_refused_after_a_success():
    limit = Limit(64)
    for cuts in range(3):
        assert limit.cut(cuts)
    assert limit.places == 8
    for _ in range(24):
        limit.grow(3)
    assert limit.places == 32
    limit.grow(3)
    assert limit.places == 32
    assert limit.cut(3)
    limit.grow(4)
    assert limit.places == 16


def test_a_success_of_what_was_sent_before_a_cut_starts_nothing():
    limit = Limit(64)
    for cuts in range(3):
        assert limit.cut(cuts)
    limit.grow(2)
    assert limit.places == 8
    assert limit.cut(3)
    for _ in range(28):
        limit.grow(4)
    assert limit.places == 32


def test_places_taken_beyond_a_limit_that_was_cut_are_not_free_before_they_are_returned():
    limit = Limit(8)
    limit.taken = 7
    limit.cut(0)
    assert (limit.places, limit.free, limit.load) == (4, 0, 1.75)


def test_the_rest_after_failures_doubles_up_to_its_cap_and_starts_again_after_a_success():
    health, now, rests = Health(), 0.0, []
    for _ in range(FAILURES - 1):
        assert not health.fail(GONE, now, 1)
    for event in range(9):
        assert health.fail(GONE, now, event)
        rests.append(health.due - now)
        assert health.fail(GONE, now, event)  # tried before its time
        assert health.due - now == rests[-1]
        now = health.due
    assert rests == [min(REST * 2**i, LONGEST_REST) for i in range(9)]
    health.succeed()
    assert health.up
    assert health.fail(GONE, now, 10, final=True)
    assert health.due == now + REST


def test_a_wait_that_was_asked_for_is_kept():
    health = Health()
    health.fail(EngineError("busy", retryable=True, retry_after=20.0), 100.0, 1, final=True)
    assert health.due == 120.0
