import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.confidence import (
    LEAST_TAIL,
    group_confidence,
    likeliest,
    self_certainty_bound,
    token_confidence,
    trace_confidence,
)
from thinkscale.errors import ScorerError, SpecError
from thinkscale.types import Logprobs, LogprobSpace

DIE = [0.6, 0.2, 0.1, 0.05, 0.03, 0.02]
PAIRS = [[0.9, 0.05], [0.5, 0.3], [0.8, 0.1], [0.4, 0.35], [0.95, 0.02], [0.85, 0.1]]
DISTRIBUTIONS = st.lists(st.floats(0.01, 1), min_size=2, max_size=12).map(
    lambda weights: np.sort(np.array(weights) / sum(weights))[::-1]
)


def told(*rows, vocab=0):
    """What an engine tells when these are the probabilities of the likeliest tokens at each position."""
    top = tuple(tuple((i, math.log(p) if p else -math.inf) for i, p in enumerate(row)) for row in rows)
    return Logprobs(space=LogprobSpace.raw, chosen=tuple(row[0][1] for row in top), vocab=vocab, top=top)


def exact(p):
    return -np.log(p).mean() - math.log(len(p))


def test_token_confidence_of_the_worked_example():
    found = token_confidence(told(*PAIRS), 2)
    assert found.round(6).tolist() == [1.550546, 0.948560, 1.262864, 0.983056, 1.981658, 1.232552]


@pytest.mark.parametrize(
    ("k", "expected"), [(1, 0.510826), (2, 1.060132), (3, 1.474283), (4, 1.854645), (5, 2.185028), (6, 2.472860)]
)
def test_token_confidence_counts_exactly_k_tokens(k, expected):
    assert token_confidence(told(DIE), k).item() == pytest.approx(expected, abs=1e-6)


def test_token_confidence_of_the_whole_vocabulary_is_self_certainty_and_the_log_of_its_size():
    assert token_confidence(told(DIE), 6).item() - math.log(6) == pytest.approx(0.681101, abs=1e-6)


def test_groups_of_the_worked_example():
    tokens = token_confidence(told(*PAIRS), 2)
    assert group_confidence(tokens, 3).round(6).tolist() == [1.253990, 1.064827, 1.409193, 1.399089]
    wanted = {"lowest": 1.064827, "tail": 1.399089, "mean": 1.326540, "bottom": 1.064827}
    assert {name: round(trace_confidence(tokens, 3, name), 6) for name in wanted} == wanted


def test_a_trace_shorter_than_the_window_is_one_group():
    assert group_confidence([1.0, 2.0], 3).tolist() == [1.5]
    assert {trace_confidence([1.0, 2.0], 3, name) for name in ("mean", "bottom", "lowest", "tail")} == {1.5}
    assert group_confidence([1.0, 2.0, 6.0], 3).tolist() == [3.0]


def test_an_empty_trace_has_no_groups_and_no_confidence():
    assert group_confidence([], 3).tolist() == []
    assert trace_confidence([], 3, "tail") == -math.inf


def test_the_bottom_tenth_is_at_least_one_group_and_rounds_down():
    tokens = np.arange(30.0)
    assert trace_confidence(tokens[:19], 1, "bottom") == 0.0
    assert trace_confidence(tokens[:20], 1, "bottom") == 0.5
    assert trace_confidence(tokens[::-1], 1, "bottom") == 1.0


@given(st.lists(st.floats(0, 40), max_size=60), st.integers(1, 9))
def test_groups_are_the_means_of_every_window(tokens, window):
    slow = [math.fsum(tokens[i : i + window]) / window for i in range(len(tokens) - window + 1)]
    if len(tokens) < window:
        slow = [math.fsum(tokens) / len(tokens)] if tokens else []
    assert group_confidence(tokens, window) == pytest.approx(slow, abs=1e-9)


def test_groups_of_a_long_trace_are_exact():
    tokens = np.random.default_rng(1).gamma(9.0, 0.6, 32768)
    found = group_confidence(tokens, 2048)
    assert len(found) == 32768 - 2047
    assert found[-1] == pytest.approx(math.fsum(tokens[-2048:]) / 2048, abs=1e-10)


def test_a_reduction_that_does_not_exist_is_refused():
    with pytest.raises(SpecError, match="did you mean `lowest`"):
        trace_confidence([1.0], 1, "lowst")


@pytest.mark.parametrize("rows", [[DIE[:3]], [DIE, DIE[:3]], [[1.0, 0.0, 0.0, 0.0]], []], ids=str)
def test_fewer_than_k_possible_tokens_are_not_enough(rows):
    with pytest.raises(ScorerError, match="4 likeliest tokens"):
        likeliest(told(*rows), 4)


def test_a_vocabulary_smaller_than_k_stands_for_k():
    assert likeliest(told(DIE, vocab=6), 20).shape == (1, 6)
    with pytest.raises(ScorerError, match="20 likeliest"):
        likeliest(told(DIE), 20)


@pytest.mark.parametrize(
    ("k", "expected"), [(1, 0.398152), (2, 0.558773), (3, 0.645981), (4, 0.674297), (5, 0.681101), (6, 0.681101)]
)
def test_the_bound_on_self_certainty_of_the_worked_example(k, expected):
    assert self_certainty_bound(np.log([DIE[:k]]), 6).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("k", "floor"), [(1, -1.280934), (2, -0.365424), (3, 0.096675), (4, 0.443248), (5, 0.613523)])
def test_giving_every_other_token_the_last_known_probability_would_bound_less(k, floor):
    found = -np.log([*DIE[:k], *[DIE[k - 1]] * (6 - k)]).mean() - math.log(6)
    assert found == pytest.approx(floor, abs=1e-6)
    assert found <= self_certainty_bound(np.log([DIE[:k]]), 6).item()


@given(DISTRIBUTIONS)
def test_the_bound_grows_with_k_never_passes_the_true_value_and_reaches_it(p):
    bounds = [self_certainty_bound(np.log([p[:k]]), len(p)).item() for k in range(1, len(p) + 1)]
    assert all(b >= a - 1e-9 for a, b in pairwise(bounds))
    assert max(bounds) <= exact(p) + 1e-9
    assert bounds[-2:] == pytest.approx([exact(p)] * len(bounds[-2:]), abs=1e-9)


@pytest.mark.parametrize("top", [[0.0], [1e-9], [-1e-300, -800.0]], ids=str)
def test_a_tail_that_rounding_took_away_keeps_the_bound_finite(top):
    bound = self_certainty_bound([top], 50_000).item()
    assert 0 < bound <= -math.log(LEAST_TAIL) + 1


def test_with_a_large_vocabulary_the_bound_sees_the_mass_of_the_tail_alone():
    p = np.array([0.5, 0.2, 0.1])
    assert self_certainty_bound(np.log([p]), 10**7).item() == pytest.approx(-math.log(0.2), abs=1e-4)
