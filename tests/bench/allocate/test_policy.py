"""The compute-optimal policy: no question takes part in choosing what it is judged by."""

import math
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.bench.allocate.policy import fit_policy
from thinkscale.errors import BenchError

MEASURED = st.integers(2, 9).flatmap(
    lambda n: st.lists(st.lists(st.floats(0, 1), min_size=n, max_size=n), min_size=1, max_size=4)
)


def named(rows):
    return {f"s{i}": row for i, row in enumerate(rows)}


def test_each_bin_and_budget_has_its_own_best_strategy():
    beam, vote = "beam-search", "best-of-n"
    table = {
        "easy": {16: {vote: [1, 1, 1, 1], beam: [1, 0, 1, 0]}, 64: {vote: [1, 1, 1, 1], beam: [0, 0, 1, 0]}},
        "hard": {16: {vote: [0, 0, 0, 0], beam: [1, 0, 0, 1]}, 64: {vote: [0, 0, 0, 1], beam: [1, 1, 1, 1]}},
    }
    policy = fit_policy(table, pilot=4)
    assert (policy("easy", 16), policy("hard", 16), policy("hard", 64)) == (vote, beam, beam)
    assert policy("hard", 40) == policy("hard", 16)
    assert [(p.cost, p.accuracy) for p in policy.curve()] == [(20, 0.75), (68, 1.0)]


def test_what_is_best_on_one_half_alone_does_not_look_good_on_the_other():
    table = {1: {8: {"a": [1, 0, 1, 0], "b": [0, 1, 0, 1]}}}
    [choice] = fit_policy(table, pilot=0).choices
    assert choice.held_out == ("b", "a")
    assert choice.accuracy == 0


@given(MEASURED, st.integers(2, 3), st.data())
def test_the_own_accuracy_of_a_question_never_changes_what_it_is_judged_by(rows, folds, data):
    n = len(rows[0])
    if n < folds:
        return
    j = data.draw(st.integers(0, n - 1))
    changed = [[data.draw(st.floats(0, 1)) if i == j else x for i, x in enumerate(row)] for row in rows]
    [before] = fit_policy({1: {8: named(rows)}}, pilot=0, folds=folds).choices
    [after] = fit_policy({1: {8: named(changed)}}, pilot=0, folds=folds).choices
    assert before.held_out[j % folds] == after.held_out[j % folds]


@given(MEASURED)
def test_held_out_accuracy_is_never_above_choosing_for_each_fold_with_hindsight(rows):
    [choice] = fit_policy({1: {8: named(rows)}}, pilot=0).choices
    hindsight = sum(max(math.fsum(row[fold::2]) for row in rows) for fold in range(2)) / len(rows[0])
    assert choice.accuracy <= hindsight + 1e-9
    assert choice.strategy == max(named(rows), key=lambda name: math.fsum(named(rows)[name]))


def test_every_question_counts_once_on_the_curve_and_a_budget_that_a_bin_lacks_is_not_on_it():
    table = {1: {8: {"a": [1, 1]}, 16: {"a": [1, 1]}}, 2: {8: {"a": [0, 0, 0, 0, 0, 0]}}}
    assert [(p.cost, p.accuracy) for p in fit_policy(table, pilot=0.5).curve()] == [(8.5, 0.25)]


def test_unknown_bins_small_budgets_and_unlike_measurements_are_refused():
    policy = fit_policy({1: {8: {"a": [1, 0]}}}, pilot=0)
    with pytest.raises(BenchError, match=r"bin `1` at budget `4`: its budgets are \[8\]"):
        policy(1, 4)
    with pytest.raises(BenchError, match="bin `2`"):
        policy(2, 8)
    with pytest.raises(BenchError, match=r"measured on \[2, 3\] questions"):
        fit_policy({1: {8: {"a": [1, 0], "b": [1, 0, 1]}}}, pilot=0)
    with pytest.raises(BenchError, match=r"measured on \[1\] questions"):
        fit_policy({1: {8: {"a": [1]}}}, pilot=0)
    with pytest.raises(BenchError, match=r"measured on \[\] questions"):
        fit_policy({1: {8: {}}}, pilot=0)


def test_a_policy_cannot_be_changed():
    policy = fit_policy({1: {8: {"a": [1, 0]}}}, pilot=0)
    with pytest.raises(FrozenInstanceError):
        policy.pilot = 1
    with pytest.raises(FrozenInstanceError):
        policy.choices[0].strategy = "b"
