"""Votes of k draws: the worked values, and every subset or every sequence of draws counted one by one."""

import math
from collections import Counter
from itertools import combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkscale.bench.majority import Votes, expected_majority, majority_at_k, votes_of
from thinkscale.errors import BenchError

pools = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d", None]), st.booleans()), min_size=1, max_size=8)


def elected(answers, credit):
    """Credit of the winner, ties split, nobody worth 0."""
    counts = Counter(a for a in answers if a is not None)
    winners = [a for a in counts if counts[a] == max(counts.values())]
    return sum(credit[a] for a in winners) / len(winners) if winners else 0.0


@given(pools, st.data())
def test_the_vote_of_k_is_the_mean_over_all_subsets(pool, data):
    k = data.draw(st.integers(1, len(pool)))
    answers = [a for a, _ in pool]
    said = {a: [c for b, c in pool if a == b] for a in answers}
    credit = {a: sum(c) / len(c) for a, c in said.items()}
    exact = [elected(subset, credit) for subset in combinations(answers, k)]
    found = majority_at_k(votes_of(answers, [c for _, c in pool]), k)
    assert found == pytest.approx(sum(exact) / len(exact), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=2, max_size=4).filter(any), st.integers(1, 5))
def test_the_vote_of_independent_draws_is_the_mean_over_all_sequences(weights, draws):
    p = [w / sum(weights) for w in weights]
    credit = [float(i % 2) for i in range(len(p) - 1)]
    exact = 0.0
    for sequence in product(range(len(p)), repeat=draws):
        answers = [None if i == len(p) - 1 else i for i in sequence]
        exact += math.prod(p[i] for i in sequence) * elected(answers, credit)
    assert expected_majority(p[:-1], credit, draws, silent=p[-1]) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize(
    ("p", "expected"),
    [([0.5, 0.3, 0.2], [0.5, 0.5, 0.56, 0.6125, 0.698214]), ([0.3, 0.4, 0.3], [0.3, 0.3, 0.288, 0.27648, 0.255675])],
)
def test_the_expected_vote_has_the_worked_values(p, expected):
    found = [expected_majority(p, [1, 0, 0], n) for n in (1, 2, 3, 5, 9)]
    assert found == pytest.approx(expected, abs=5e-7)


def test_two_draws_vote_no_better_than_one():
    for p in ([0.5, 0.3, 0.2], [0.1, 0.9], [0.25] * 4):
        credit = [1.0, *[0.0] * (len(p) - 1)]
        assert expected_majority(p, credit, 2) == pytest.approx(expected_majority(p, credit, 1))


def test_majority_of_a_whole_pool_splits_its_ties():
    runs = [[1, 0, 1], [0, 0, 1], [1, 1, 1], [0, 0, 0]]
    assert sum(majority_at_k(votes_of(run, run), 3) for run in runs) / 4 == 0.5
    assert majority_at_k(votes_of(["x", "y", "y", "x", "z", None], [1, 0, 0, 1, 0, 0]), 6) == 0.5


def test_a_large_pool_is_exact_where_binomials_overflow():
    votes = Votes((1200, 900), (1.0, 0.0), 100)
    assert majority_at_k(votes, 1) == pytest.approx(1200 / 2200)
    assert majority_at_k(votes, 3) == pytest.approx(exact_of_three(1200, 900, 100))


def exact_of_three(right, wrong, silent):
    ways = 0.0
    for a in range(4):
        for b in range(4 - a):
            share = 1.0 if a > b else 0.5 if a == b and a else 0.0
            ways += share * math.comb(right, a) * math.comb(wrong, b) * math.comb(silent, 3 - a - b)
    return ways / math.comb(right + wrong + silent, 3)


def test_more_voters_approach_the_mode():
    assert expected_majority([0.6, 0.4], [1, 0], 200) > 0.99
    assert expected_majority([0.4, 0.35, 0.25], [0, 1, 0], 200) < 0.3


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: majority_at_k(Votes((1, 2), (1.0, 0.0)), 4),
        lambda: majority_at_k(Votes((1, 2), (1.0, 0.0)), 0),
        lambda: votes_of(["a"], [1, 0]),
        lambda: expected_majority([0.5, 0.4], [1, 0], 3),
        lambda: expected_majority([0.5, 0.5], [1, 0], 0),
        lambda: expected_majority([1.5, -0.5], [1, 0], 3),
    ],
)
def test_what_is_not_defined_is_refused(wrong):
    with pytest.raises(BenchError):
        wrong()


def test_a_pool_without_any_vote_is_worth_nothing():
    assert majority_at_k(votes_of([None, None], [0, 0]), 2) == 0
