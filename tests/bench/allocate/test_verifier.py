"""Imperfect verifiers: the closed forms are what enumerating every course of events gives."""

import math
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.bench.allocate.verifier import TaskClass, Verifier, best_attempts, expected_worth, overall_accuracy
from thinkscale.errors import BenchError

EASY, HARD = TaskClass(share=0.58, correct=0.87), TaskClass(share=0.42, correct=0.13)
PAPER = [EASY, HARD]
UNIT = st.floats(0, 1)


def verifier(worth_wrong):
    return Verifier(rejects_wrong=0.75, worth_wrong=worth_wrong)


@pytest.mark.parametrize(
    ("worth_wrong", "worths", "best"),
    [
        (-0.7, [0.48206, 0.52387, 0.52457, 0.52243, 0.52078], 3),
        (-1.0, [0.44900, 0.47238, 0.46135], 2),
        (-2.0, [0.33880, 0.30074], 1),
    ],
)
def test_the_papers_settings_give_these_values_and_best_numbers_of_attempts(worth_wrong, worths, best):
    found = [expected_worth(k, PAPER, verifier(worth_wrong)) for k in range(1, len(worths) + 1)]
    assert found == pytest.approx(worths, abs=5e-6)
    assert best_attempts(PAPER, verifier(worth_wrong)) == best


def test_a_great_harm_leaves_fifteen_attempts_worth_something_still():
    assert expected_worth(15, PAPER, verifier(-2.0)) == pytest.approx(0.14932, abs=5e-6)


def test_accuracy_given_acceptance_is_fixed_per_class_and_falls_overall():
    assert verifier(-1).accuracy(EASY) == pytest.approx(0.963989, abs=5e-7)
    assert verifier(-1).accuracy(HARD) == pytest.approx(0.374101, abs=5e-7)
    found = [overall_accuracy(k, PAPER, verifier(-1)) for k in (1, 2, 3, 5, 10, math.inf)]
    assert found == pytest.approx([0.835375, 0.789567, 0.761305, 0.734119, 0.718258, 0.716236], abs=5e-7)


def enumerated(k, tasks, check):
    """Worth, and the probabilities of accepting something and something correct, over every course of k attempts."""
    worth = accepted = correct = 0.0
    for task in tasks:
        one = {  # (correct, accepted) → probability
            (True, True): task.correct * check.accepts_correct,
            (True, False): task.correct * (1 - check.accepts_correct),
            (False, True): (1 - task.correct) * (1 - check.rejects_wrong),
            (False, False): (1 - task.correct) * check.rejects_wrong,
        }
        for course in product(one, repeat=k):
            p = task.share * math.prod(one[event] for event in course)
            taken = next((right for right, accept in course if accept), None)
            if taken is not None:
                worth += p * (check.worth_correct if taken else check.worth_wrong)
                accepted, correct = accepted + p, correct + p * taken
    return worth, accepted, correct


@given(st.integers(1, 4), UNIT, st.tuples(UNIT, UNIT), UNIT, UNIT, st.floats(-3, 0))
def test_worth_and_accuracy_are_what_every_course_of_events_gives(k, share, correct, accepts, rejects, harm):
    tasks = [TaskClass(share=share, correct=correct[0]), TaskClass(share=1 - share, correct=correct[1])]
    check = Verifier(accepts_correct=accepts, rejects_wrong=rejects, worth_wrong=harm)
    worth, accepted, right = enumerated(k, tasks, check)
    assert expected_worth(k, tasks, check) == pytest.approx(worth, abs=1e-9)
    if accepted > 1e-6:
        assert overall_accuracy(k, tasks, check) == pytest.approx(right / accepted, abs=1e-6)


def test_where_nothing_is_ever_accepted_there_is_no_accuracy_and_no_worth():
    never = Verifier(accepts_correct=0, rejects_wrong=1, worth_wrong=-1)
    assert math.isnan(never.accuracy(EASY))
    assert math.isnan(overall_accuracy(math.inf, PAPER, never))
    assert expected_worth(5, PAPER, never) == 0
    assert best_attempts(PAPER, never) == 1


def test_what_is_no_probability_and_shares_that_do_not_sum_to_one_are_refused():
    with pytest.raises(BenchError, match=r"`correct=1\.2` is not a probability"):
        TaskClass(share=1, correct=1.2)
    with pytest.raises(BenchError, match="`rejects_wrong=nan`"):
        Verifier(rejects_wrong=math.nan, worth_wrong=0)
    with pytest.raises(BenchError, match=r"sum to `0\.58`"):
        expected_worth(1, [EASY], verifier(0))
    with pytest.raises(BenchError, match="at least 1"):
        overall_accuracy(0, PAPER, verifier(0))
    with pytest.raises(BenchError, match="at least 1"):
        best_attempts(PAPER, verifier(0), most=0)
