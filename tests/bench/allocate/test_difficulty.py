"""Levels of difficulty, relative and absolute."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.bench.allocate.difficulty import (
    Difficulty,
    Quintiles,
    absolute_difficulty,
    oracle_levels,
    predicted_levels,
)
from thinkscale.errors import BenchError

PASSED = [0.02, 0.08, 0.10, 0.30, 0.50, 0.55, 0.9, 1, 0, 0.45]


def test_ten_questions_fall_into_these_quintiles():
    bins = Quintiles.of(PASSED)
    assert bins.edges == pytest.approx((0.068, 0.22, 0.47, 0.62))
    assert [bins.level(p) for p in PASSED] == [5, 4, 4, 3, 2, 2, 1, 1, 5, 3]


def test_ten_questions_fall_into_these_absolute_bins():
    assert "".join(absolute_difficulty(p)[0].upper() for p in PASSED) == "HHMMEEEEHM"


def test_an_absolute_bin_holds_its_lower_edge():
    assert [absolute_difficulty(p) for p in (0.5, 0.1)] == [Difficulty.easy, Difficulty.medium]
    with pytest.raises(BenchError, match="from 0 to 1"):
        absolute_difficulty(50)


def test_oracle_levels_come_from_verdicts_and_predicted_ones_from_scores_without_labels():
    right = [0, 1, 2, 3, 4]
    assert oracle_levels([[j < n for j in range(4)] for n in right]) == [5, 4, 3, 2, 1]
    assert predicted_levels([[-n, -n - 2.0] for n in right]) == [1, 2, 3, 4, 5]


def test_a_value_on_an_edge_belongs_to_the_easier_side():
    bins = Quintiles((0.2, 0.4, 0.6, 0.8))
    assert [bins.level(p) for p in (0.2, 0.4, 0.6, 0.8)] == [4, 3, 2, 1]
    assert Quintiles.of([1.0] * 5).level(1.0) == 1


@given(st.lists(st.floats(-9, 9), min_size=5, max_size=40))
def test_an_easier_question_is_never_of_a_harder_level(measured):
    bins = Quintiles.of(measured)
    levels = [bins.level(m) for m in sorted(measured)]
    assert levels == sorted(levels, reverse=True)
    assert set(levels) <= {1, 2, 3, 4, 5}


@given(st.integers(1, 12), st.randoms())
def test_different_values_fill_all_levels_alike(fifth, shuffler):
    measured = [float(i) for i in range(5 * fifth)]
    shuffler.shuffle(measured)
    bins = Quintiles.of(measured)
    assert sorted(bins.level(m) for m in measured) == sorted([1, 2, 3, 4, 5] * fifth)


def test_too_few_questions_and_unmeasured_ones_are_refused():
    with pytest.raises(BenchError, match="at least 5 questions"):
        Quintiles.of([0.5] * 4)
    with pytest.raises(BenchError, match="a number for each"):
        oracle_levels([[True], [True], [False], [True], []])
