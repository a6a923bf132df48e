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
            limit.grow()
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
        limit.grow()
    limit.grow()
    assert limit.places == places + 1


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
