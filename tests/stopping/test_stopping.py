"""Guarantees that every stop rule keeps, and the numbers of the gambler's ruin."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.errors import SpecError
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.stopping.fixed import Fixed
from thinkscale.types import Answer, Message, Trace

PROMPT = (Message("user", "?"),)
KEYS = st.lists(st.sampled_from([None, "A", "B", "C"]), max_size=12)


def traces(keys):
    return [Trace(prompt=PROMPT, answer=None if k is None else Answer(k, k)) for k in keys]


@given(KEYS)
def test_fixed_is_never_satisfied(keys):
    assert not Fixed()(traces(keys))


@given(KEYS, st.integers(1, 5))
def test_ahead_by_k_fires_exactly_when_a_plain_count_says_so(keys, k):
    counts = sorted((sum(x == c for x in keys) for c in "ABC"), reverse=True)
    assert AheadByK(k=k)(traces(keys)) == (counts[0] - counts[1] >= k)


@given(KEYS, st.integers(1, 5), st.randoms())
def test_neither_the_order_of_the_pool_nor_the_names_of_answers_matter(keys, k, seed):
    new = {None: None, "A": "B", "B": "C", "C": "A"}
    shuffled = list(keys)
    seed.shuffle(shuffled)
    fires = AheadByK(k=k)(traces(keys))
    assert fires == AheadByK(k=k)(traces(shuffled)) == AheadByK(k=k)(traces([new[x] for x in keys]))


@given(KEYS, st.integers(1, 5))
def test_an_attempt_without_an_answer_changes_nothing(keys, k):
    assert AheadByK(k=k)(traces(keys)) == AheadByK(k=k)(traces([x for x in keys if x]))


def test_one_answer_is_enough_for_a_lead_of_one_and_none_is_not():
    assert AheadByK(k=1)(traces(["A"]))
    assert not AheadByK(k=1)(traces([None]))
    assert not AheadByK(k=1)([])


def test_a_lead_of_nothing_is_refused():
    with pytest.raises(SpecError):
        AheadByK(k=0)


def ruin(p, k):
    """Exact probability of error and expected draws, by following every state that the rule lets live."""
    rule, alive, error, length = AheadByK(k=k), {(0, 0): 1.0}, 0.0, 0.0
    while sum(alive.values()) > 1e-13:
        after = {}
        for (right, wrong), mass in alive.items():
            length += mass
            for state, chance in (((right + 1, wrong), p), ((right, wrong + 1), 1 - p)):
                if rule(traces(["A"] * state[0] + ["B"] * state[1])):
                    error += mass * chance * (state[1] > state[0])
                else:
                    lead = state[0] - state[1]
                    only_lead = (max(lead, 0), max(-lead, 0))
                    after[only_lead] = after.get(only_lead, 0.0) + mass * chance
        alive = after
    return error, length


@pytest.mark.parametrize(
    ("p", "k", "error", "draws"),
    [(0.8, 1, 0.2, 1), (0.8, 2, 0.058824, 2.941176), (0.8, 3, 0.015385, 4.846154), (0.9, 3, 0.001370, 3.739726)],
)
def test_ahead_by_k_errs_and_draws_as_the_gamblers_ruin_says(p, k, error, draws):
    assert ruin(p, k) == (pytest.approx(error, abs=1e-6), pytest.approx(draws, abs=1e-6))
    r = (1 - p) / p
    assert ruin(p, k)[0] == pytest.approx(1 / (1 + (p / (1 - p)) ** k))
    assert ruin(p, k)[1] == pytest.approx(k / (2 * p - 1) * (1 - r**k) / (1 + r**k))
