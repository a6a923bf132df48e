"""The certificate of a majority: its worked examples, and that it errs no more often than it says."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.errors import SpecError
from thinkscale.stopping.certificate import certificate, evidence
from thinkscale.stopping.posterior import ahead_chance


@pytest.mark.parametrize(
    ("votes", "rival", "expected"),
    [(5, 0, 10.5), (6, 0, 18.1429), (7, 0, 31.875), (8, 1, 11.2556), (10, 1, 30.9318), (12, 3, 8.9065), (0, 0, 1.0)],
)
def test_evidence_is_that_of_the_worked_examples(votes, rival, expected):
    assert evidence(votes, rival) == pytest.approx(expected, abs=5e-5)


@given(votes=st.integers(0, 12), rival=st.integers(0, 12))
def test_evidence_is_the_mean_of_the_bets(votes, rival):
    steps = 4000
    bets = ((1 + (i + 0.5) / steps) ** votes * (1 - (i + 0.5) / steps) ** rival for i in range(steps))
    assert evidence(votes, rival) == pytest.approx(sum(bets) / steps, rel=1e-5)


@given(votes=st.integers(0, 30), rival=st.integers(0, 30))
def test_evidence_is_a_fair_bet_against_an_equal_rival(votes, rival):
    after = (evidence(votes + 1, rival) + evidence(votes, rival + 1)) / 2
    assert after == pytest.approx(evidence(votes, rival), rel=1e-9)


def test_ninety_five_percent_of_adaptive_consistency_is_no_error_rate():
    assert ahead_chance(4, 0) > 0.95
    assert evidence(4, 0) == pytest.approx(6.2)


def test_ten_unanimous_draws_are_certified_at_five_percent_and_nine_are_not():
    assert certificate(["a"] * 9).error > 0.05
    found = certificate(["a"] * 10)
    assert (found.answer, found.evidence) == ("a", pytest.approx(31.875))
    assert found.error == pytest.approx(1 / 31.875)


def test_the_draws_that_choose_are_not_counted_and_those_without_an_answer_count_for_no_side():
    assert certificate(["a", "a"]) is None
    assert certificate([None, None, None, "a"]) is None
    assert certificate(["b", "a", "a", *"aab", None, "c"]).evidence == pytest.approx(evidence(2, 1))
    assert certificate(["b", "a", None, *"aaa"]).answer == "b"
    assert certificate("ab", first=1).evidence == pytest.approx(0.5)
    assert certificate(["a"] * 3000).evidence > 1e300
    assert certificate(["a", *["b"] * 2000], first=1).error == 1
    with pytest.raises(SpecError):
        certificate("ab", first=0)


def test_a_wrong_answer_is_certified_no_more_often_than_the_level_says_whenever_one_looks():
    wrong = 0
    for seed in range(2000):
        chance = random.Random(seed)
        draws = chance.choices("abc", (0.4, 0.4, 0.2), k=60)  # `a` and `b` are equally likely: neither is the mode
        wrong += any(certificate(draws[:n]).error <= 0.1 for n in range(3, 61))
    assert wrong / 2000 <= 0.1
