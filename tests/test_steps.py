"""Answers cut into steps, and the scores of steps reduced to one."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.steps import REDUCTIONS, split_steps

PIECES = st.lists(st.sampled_from(["a", "b c", "\n", "\n\n", "\n\n\n", " ", "\t", "é"])).map("".join)
PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=9)


@given(PIECES | st.text(), st.sampled_from(["\n\n", "\n", "b", "###"]))
def test_joined_steps_give_the_text_back_and_none_is_blank(text, mark):
    steps = split_steps(text, mark)
    assert "".join(steps) == text
    assert all(step.strip() for step in steps) or len(steps) == 1
    assert all(step.rstrip().endswith(mark.strip()) and mark in step for step in steps[:-1])
    assert bool(steps) == bool(text)


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", ()),
        ("one", ("one",)),
        ("one\n\ntwo", ("one\n\n", "two")),
        ("one\n\ntwo\n\n", ("one\n\n", "two\n\n")),
        ("\n\none\n\n\n\ntwo", ("\n\none\n\n\n\n", "two")),
        ("one\ntwo", ("one\ntwo",)),
        ("\n\n", ("\n\n",)),
    ],
)
def test_a_step_keeps_what_ends_it(text, steps):
    assert split_steps(text) == steps


@pytest.mark.parametrize(
    ("reduce", "expected"),
    [("last", 0.9), ("min", 0.2), ("mean", 1.6 / 3), ("prod", 0.09), ("mean-logit", 0.0)],
)
def test_the_reductions_of_a_worked_example(reduce, expected):
    # The odds are 1, 1/4 and 9; the cube root of their product 9/4 is 1.3104, and p = odds / (1 + odds).
    expected = 2.25 ** (1 / 3) / (1 + 2.25 ** (1 / 3)) if reduce == "mean-logit" else expected
    assert REDUCTIONS[reduce]([0.5, 0.2, 0.9]) == pytest.approx(expected)


@given(PROBABILITIES)
def test_every_reduction_of_probabilities_is_one(scores):
    for reduce in REDUCTIONS.values():
        assert 0 <= reduce(scores) <= 1 + 1e-12
    assert REDUCTIONS["prod"](scores) <= REDUCTIONS["min"](scores) <= REDUCTIONS["mean"](scores) + 1e-12


@given(st.floats(0.001, 0.999))
def test_one_step_is_reduced_to_its_own_score(score):
    assert all(math.isclose(reduce([score]), score) for reduce in REDUCTIONS.values())


@pytest.mark.parametrize("reduce", ["prod", "mean-logit"])
def test_what_is_no_probability_is_not_multiplied(reduce):
    with pytest.raises(ValueError, match="-3 is no probability"):
        REDUCTIONS[reduce]([0.5, -3.0])
