"""The token clock on recordings, against the law spelt out and against the one that the session drives."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.bench.clock import Attempts, Law, plurality
from thinkscale.pace import Pace, Wave, least, wave_size
from thinkscale.stopping.adaptive_consistency import AdaptiveConsistency
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.stopping.best_of_infinity import BestOfInfinity
from thinkscale.stopping.decided_majority import DecidedMajority
from thinkscale.stopping.esc import Esc
from thinkscale.stopping.fixed import Fixed
from thinkscale.stopping.majority_share import MajorityShare
from thinkscale.types import Answer, Finish, Origin, Segment, Trace

RULES = (
    AheadByK(k=2), AheadByK(k=4), AdaptiveConsistency(), AdaptiveConsistency(prior="dirichlet", threshold=0.7),
    BestOfInfinity(), MajorityShare(after=3), Esc(w=3), DecidedMajority(), Fixed(), lambda traces: len(traces) == 3,
)  # fmt: skip


def attempt(answer, tokens, *, failed=False):
    segment = Segment(text="", origin=Origin.sampled, tokens=tokens)
    said = None if answer is None or failed else Answer(answer, answer)
    return Trace(prompt=(), segments=(segment,), answer=said, finish=Finish.error if failed else Finish.eos)


ATTEMPTS = st.lists(
    st.builds(
        attempt, st.sampled_from(("a", "a", "a", "b", "c", None)), st.integers(0, 9), failed=st.sampled_from((0, 0, 1))
    ),
    min_size=1,
    max_size=14,
)


def driven(rule, traces, pace, places):
    """The same, by driving waves as a session does."""
    n, seen, needed, depth, first = len(traces), [], 0, 0, 0
    rule = rule.within(n) if hasattr(rule, "within") else rule
    while first < n:
        left = n - first
        fewest = least(rule, [traces[i] for i in seen], left)
        size = wave_size(pace, fewest, n=n, left=left, places=places)
        wave, fired = Wave(range(first, first + size)), False
        for i in wave.unfinished:
            tell = wave.failed if traces[i].finish is Finish.error else wave.ended
            tell(i, traces[i].tokens)
        first += size
        for i in wave.due():
            seen.append(i)
            if rule([traces[i] for i in seen]):
                fired = True
                break
        needed, depth = needed + wave.needed(fired=fired), depth + wave.depth(fired=fired)
        if fired:
            break
    return tuple(seen), needed, depth


@pytest.mark.parametrize("pace", list(Pace))
@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(traces=ATTEMPTS, places=st.sampled_from((None, None, 1, 2, 3)))
def test_a_recording_gives_what_the_session_counts(rule, pace, traces, places):
    run = Law(rule, n=len(traces), pace=pace, places=places).run(Attempts.of(traces))
    assert (run.voters, run.needed, run.depth) == driven(rule, traces, pace, places)


@pytest.mark.parametrize("rule", RULES[:-1], ids=repr)
@given(traces=ATTEMPTS)
def test_with_one_place_attempts_are_looked_at_in_draw_order(rule, traces):
    run = Law(rule, n=len(traces), places=1).run(Attempts.of(traces))
    told = rule.within(len(traces)) if hasattr(rule, "within") else rule
    n = next((n for n in range(1, len(traces) + 1) if told(traces[:n])), len(traces))
    assert run.voters == tuple(range(n))
    assert run.needed == run.depth == sum(t.tokens for t in traces[:n])


@given(traces=ATTEMPTS, k=st.integers(1, 4))
def test_ahead_by_k_at_the_pace_of_thrift_takes_what_draw_order_takes(traces, k):
    law, serial = Law(AheadByK(k=k), n=20, pace=Pace.thrift), Law(AheadByK(k=k), n=20, places=1)
    one, other = law.run(Attempts.of(traces)), serial.run(Attempts.of(traces))
    assert sorted(one.voters) == sorted(other.voters)
    assert one.needed == other.needed


def test_the_worked_example_of_arrival_order():
    attempts = Attempts.told("ABBABC", (5, 9, 3, 7, 4, 20))
    run = Law(AheadByK(k=2), n=6, pace=Pace.swift).run(attempts)
    assert (run.voters, run.needed, run.depth, run.sizes, run.fired) == ((2, 4), 23, 4, (6,), True)
    run = Law(AheadByK(k=2), n=6, places=1).run(attempts)
    assert (run.voters, run.needed, run.fired) == ((0, 1, 2, 3, 4, 5), 48, False)


def test_the_order_of_the_draws_and_the_most_of_them_can_be_given():
    attempts = Attempts.told(["a", None, "b"], (5, 1, 3))
    run = Law(None, n=2).run(attempts, [2, 0, 1])
    assert (run.voters, run.needed, run.depth, run.sizes) == ((2, 0), 8, 5, (2,))


def test_the_most_frequent_answers_stand_in_the_order_in_which_they_were_seen():
    assert plurality(["b", "a", None, "a", "b", "c"]) == ["b", "a"]
    assert plurality([None]) == []
