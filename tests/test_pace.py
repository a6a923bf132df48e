import math
import random
import time
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.pace import Pace, Wave, least, wave_size
from thinkscale.stopping.adaptive_consistency import AdaptiveConsistency
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.stopping.best_of_infinity import BestOfInfinity
from thinkscale.stopping.decided_majority import DecidedMajority
from thinkscale.stopping.early_exit import EarlyExit
from thinkscale.stopping.esc import Esc
from thinkscale.stopping.fixed import Fixed
from thinkscale.stopping.majority_share import MajorityShare
from thinkscale.types import Answer, Trace


def trace(answer):
    return Trace(prompt=(), answer=None if answer in ("", None) else Answer(answer, answer))


def traces_of(text):
    return [trace(None if letter == "-" else letter) for letter in text]


RULES = (
    AheadByK(k=1),
    AheadByK(k=4),
    AdaptiveConsistency(),
    AdaptiveConsistency(prior="dirichlet"),
    BestOfInfinity(),
    BestOfInfinity(prior="paper", factor=100.0),
    MajorityShare(),
    MajorityShare(threshold=0.6, after=5),
    Esc(w=3),
    Esc(w=1),
    Fixed(),
)


@pytest.mark.parametrize(
    ("rule", "seen", "left", "expected"),
    [
        (AheadByK(k=4), "", 16, 4),
        (AheadByK(k=4), "aab", 13, 3),
        (AheadByK(k=4), "ab", 14, 4),
        (AheadByK(k=4), "--", 14, 4),
        (AheadByK(k=4), "aaa", 13, 1),
        (AheadByK(k=4), "ab", 2, 2),
        (AdaptiveConsistency(), "", 16, 4),
        (MajorityShare(), "ab", 14, 3),
        (Esc(w=5), "aa", 14, 3),
        (Esc(w=5), "", 14, 5),
        (Esc(w=5), "aaab", 14, 6),
        (Fixed(), "aa", 14, 14),
        (None, "aa", 14, 14),
        (EarlyExit(), "a", 15, 1),
        (DecidedMajority(n=16), "", 16, 8),
    ],
)
def test_a_rule_can_fire_first_after_so_many_further_draws(rule, seen, left, expected):
    assert least(rule, traces_of(seen), left) == expected


@given(
    seen=st.lists(st.sampled_from("abc-"), max_size=12),
    left=st.integers(1, 12),
    which=st.integers(0, len(RULES)),
)
def test_no_further_draws_make_a_rule_fire_before_least_says_so(seen, left, which):
    traces = traces_of(seen)
    rule = RULES[which] if which < len(RULES) else DecidedMajority(n=len(traces) + left)
    if traces and rule(traces):
        return
    found = least(rule, traces, left)
    fires = [m for m in range(1, left + 1) for more in "abcd" if rule(traces + traces_of(more * m))]
    assert found == min(fires, default=left)


def test_looking_ahead_takes_less_than_a_hundred_microseconds():
    traces = traces_of("aabacbaada" * 2)
    for rule in (*RULES, DecidedMajority(n=60)):
        least(rule, traces, 40)
        best = math.inf
        for _ in range(20):
            began = time.perf_counter()
            least(rule, traces, 40)
            best = min(best, time.perf_counter() - began)
        assert best < 1e-4, rule


def test_a_wave_is_as_large_as_its_pace_unless_draws_places_or_budget_are_fewer():
    assert wave_size(Pace.thrift, 4, n=16, left=16) == 4
    assert wave_size(Pace.steady, 4, n=16, left=16) == 8
    assert wave_size(Pace.steady, 4, n=17, left=17) == 9
    assert wave_size(Pace.steady, 12, n=16, left=16) == 12
    assert wave_size(Pace.swift, 4, n=16, left=16) == 16
    assert wave_size(Pace.swift, 4, n=16, left=5) == 5
    assert wave_size(Pace.swift, 4, n=16, left=16, places=3) == 3
    assert wave_size(Pace.swift, 4, n=16, left=16, places=8, fit=2) == 2
    assert wave_size(Pace.thrift, 4, n=16, left=16, fit=0) == 1


def test_an_attempt_is_due_once_no_unfinished_draw_can_come_before_it():
    wave = Wave(range(3))
    wave.ended(1, 5)
    assert list(wave.due()) == []
    wave.written(0, 5)
    wave.written(2, 4)
    assert list(wave.due()) == []
    wave.written(2, 5)
    assert list(wave.due()) == []  # draw 0 may still end at 5 tokens, and is the earlier of the two then
    wave.written(0, 6)
    assert list(wave.due()) == [1]
    wave.ended(2, 5)
    assert list(wave.due()) == [2]
    wave.failed(0)
    assert list(wave.due()) == [0]


def test_a_draw_that_has_not_begun_holds_up_all_but_empty_replies_before_it():
    wave = Wave(range(3))
    wave.ended(0, 0)
    wave.ended(2, 1)
    assert list(wave.due()) == [0]
    wave.refused(1)
    assert list(wave.due()) == [2]
    assert wave.needed(fired=False) == 1


def test_the_worked_example_of_arrival_order():
    lengths, answers = (5, 9, 3, 7, 4, 20), "ABBABC"
    wave = Wave(range(6))
    for index, tokens in enumerate(lengths):
        wave.ended(index, tokens) if tokens <= 4 else wave.written(index, 5)
    seen = []
    for index in wave.due():
        seen.append(trace(answers[index]))
        if AheadByK(k=2)(seen):
            break
    assert [t.answer.key for t in seen] == ["B", "B"]
    assert (wave.needed(fired=True), wave.depth(fired=True)) == (23, 4)
    assert wave.unfinished == [0, 1, 3, 5]


def test_a_draw_that_comes_back_shorter_than_it_had_written_stands_behind_those_that_relied_on_it():
    wave = Wave(range(3))
    wave.written(0, 100)
    wave.written(2, 100)
    wave.ended(1, 80)
    assert list(wave.due()) == [1]
    for index in (0, 2):
        wave.written(index, 0)
        wave.ended(index, 10)
    assert list(wave.due()) == [0, 2]
    assert wave.needed(fired=False) == 280
    again = Wave(range(3))  # whatever comes in first
    again.written(2, 100)
    again.ended(2, 10)
    again.written(0, 100)
    again.ended(0, 10)
    again.ended(1, 80)
    assert list(again.due()) == [1, 0, 2]


# What the law says, against draws that are made at any speed, by any number at once, in any order.


def law(rule, sizes, lengths, answers, failed):
    """Voters, tokens and depth, from the draws alone: the slow and obvious way."""
    voters, tokens, depth, first = [], 0, 0, 0
    for size in sizes:
        wave = range(first, first + size)
        first += size
        order = sorted(wave, key=lambda i: (math.inf if i in failed else lengths[i], i))
        for index in order:
            voters.append(index)
            if rule([trace(answers[i]) for i in voters]):
                end = max(lengths[i] for i in voters if i in wave)
                own = [lengths[i] if i in voters else end for i in wave]
                return voters, tokens + sum(own), depth + end
        tokens += sum(lengths[i] for i in wave)
        depth += max(lengths[i] for i in wave)
    return voters, tokens, depth


def lived(chance, rule, sizes, lengths, answers, failed):
    """The same by a run: draws at speeds of their own, few places, breaks, servers that are silent before the end."""
    voters, tokens, depth, first = [], 0, 0, 0
    for size in sizes:
        wave, waiting = Wave(range(first, first + size)), list(range(first, first + size))
        first += size
        if chance.random() < 0.5:
            chance.shuffle(waiting)
        places, silent = chance.randint(1, size), chance.random() < 0.2
        speed = {i: chance.choice((1, 1, 2, 7, 50)) for i in waiting}
        wrote = dict.fromkeys(waiting, 0)
        running, fired = [], False
        while (waiting or running) and not fired:
            while waiting and len(running) < places:
                running.append(waiting.pop(0))
            index = chance.choice(running)
            wrote[index] = min(wrote[index] + chance.randint(0, speed[index]), lengths[index])
            if chance.random() < 0.05:
                wrote[index] = 0
            if wrote[index] == lengths[index] and chance.random() < 0.8:
                running.remove(index)
                if index in failed:
                    wave.failed(index, lengths[index])
                else:
                    wave.ended(index, lengths[index])
            elif not silent:
                wave.written(index, wrote[index])
            if chance.random() < 0.3 and running:
                continue  # news is looked at late
            for due in wave.due():
                voters.append(due)
                if rule([trace(answers[i]) for i in voters]):
                    fired = True
                    break
        for due in () if fired else wave.due():
            voters.append(due)
            if rule([trace(answers[i]) for i in voters]):
                fired = True
                break
        tokens += wave.needed(fired=fired)
        depth += wave.depth(fired=fired)
        if fired:
            break
    return voters, tokens, depth


def test_who_votes_is_a_function_of_the_draws_alone():
    for seed in range(4500):
        chance = random.Random(seed)
        n = chance.randint(1, 12)
        rule = chance.choice((AheadByK(k=chance.randint(1, 4)), AdaptiveConsistency(), Esc(w=2), Fixed()))
        lengths = [chance.choice((0, 1, 3, 3, chance.randint(0, 40))) for _ in range(n)]
        answers = [chance.choice("aaabc") if chance.random() < 0.9 else None for _ in range(n)]
        failed = {i for i in range(n) if chance.random() < 0.1}
        answers = [None if i in failed else a for i, a in enumerate(answers)]
        sizes, left = [], n
        while left:
            sizes.append(chance.randint(1, left))
            left -= sizes[-1]
        expected = law(rule, sizes, lengths, answers, failed)
        assert lived(chance, rule, sizes, lengths, answers, failed) == expected, seed


def test_an_event_takes_no_longer_in_a_large_wave():
    def seconds(size):
        wave, order = Wave(range(size)), list(range(size))
        began = time.perf_counter()
        for tokens in count(1):
            if tokens * size > 40_000:
                break
            for index in order:
                wave.written(index, tokens)
                assert not any(wave.due())
        return time.perf_counter() - began

    few, many = min(seconds(10) for _ in range(3)), min(seconds(2000) for _ in range(3))
    assert many < 8 * few
