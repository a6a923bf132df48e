"""The gate's one promise: of what is exchangeable with its calibration it rejects at most a part alpha."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.conformal import ConformalGate, TurnGates, conformal_gate, turn_gates
from thinkscale.errors import BenchError

PERPLEXITIES = [1.2, 1.5, 1.1, 2.0, 1.7, 1.3, 1.9, 1.4, 1.6]


@pytest.mark.parametrize(("score", "percentile", "p"), [(1.25, 0.222, 0.8), (1.75, 0.778, 0.3), (2.5, 1.0, 0.1)])
def test_nine_perplexities_give_these_p_values_and_the_percentiles_of_the_released_code(score, percentile, p):
    gate = conformal_gate(PERPLEXITIES, 0.1)
    assert gate.p_value(score) == pytest.approx(p)
    below = sum(c < score for c in PERPLEXITIES) / len(PERPLEXITIES)
    assert below == pytest.approx(percentile, abs=5e-4)
    assert gate.accepts(score) == (p > 0.1)


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.0, math.inf]), min_size=2, max_size=30), st.floats(0.01, 0.99))
def test_whichever_of_exchangeable_scores_is_the_new_one_at_most_a_part_alpha_is_rejected(scores, alpha):
    if 1 / len(scores) > alpha:
        return
    gates = [(conformal_gate(scores[:i] + scores[i + 1 :], alpha), scores[i]) for i in range(len(scores))]
    assert sum(not gate.accepts(score) for gate, score in gates) / len(scores) <= alpha


@given(st.integers(1, 40), st.floats(0.02, 0.98))
def test_without_ties_exactly_the_part_of_alpha_that_ranks_allow_is_rejected(n, alpha):
    if 1 / (n + 1) > alpha:
        return
    ranks = range(n + 1)
    rejected = sum(not conformal_gate([r for r in ranks if r != new], alpha).accepts(new) for new in ranks)
    assert rejected == sum(k / (n + 1) <= alpha for k in range(1, n + 2))


@given(st.lists(st.floats(-5, 5), min_size=9, max_size=20), st.floats(-6, 6), st.floats(-6, 6))
def test_a_larger_score_is_never_accepted_where_a_smaller_one_is_not(calibration, one, other):
    gate = conformal_gate(calibration, 0.2)
    assert gate.accepts(min(one, other)) >= gate.accepts(max(one, other))


def test_what_is_not_a_number_ranks_as_the_largest():
    gate = conformal_gate(PERPLEXITIES, 0.1)
    assert gate.p_value(math.nan) == gate.p_value(math.inf) == pytest.approx(0.1)
    assert not gate.accepts(math.nan)


def test_a_gate_that_could_reject_nothing_says_how_many_scores_it_needs():
    with pytest.raises(BenchError, match="on 8 scores can reject nothing: calibrate on at least 9"):
        conformal_gate(PERPLEXITIES[:8], 0.1)
    assert not conformal_gate(PERPLEXITIES, 0.1).accepts(3.0)
    with pytest.raises(BenchError, match="between 0 and 1"):
        conformal_gate(PERPLEXITIES, 1.0)
    with pytest.raises(BenchError, match="not a number"):
        conformal_gate([*PERPLEXITIES, math.nan], 0.1)


def test_every_turn_is_judged_by_the_scores_of_its_own_turn():
    calibration = {f"q{i}": [float(i), 100.0 + i] if i % 2 else [float(i)] for i in range(9)}
    gates = turn_gates(calibration, 0.2)
    assert gates == TurnGates(
        (ConformalGate(tuple(map(float, range(9))), 0.2), ConformalGate((101.0, 103.0, 105.0, 107.0), 0.2)),
        frozenset(calibration),
    )
    assert not gates.accepts("new", 0, 102.0)
    assert gates.accepts("new", 1, 102.0)


def test_a_turn_that_too_few_drafts_reached_has_no_gate():
    gates = turn_gates({f"q{i}": [1.0, 1.0] if i < 3 else [1.0] for i in range(9)}, 0.2)
    with pytest.raises(BenchError, match="gates for 1 turns"):
        gates.accepts("new", 1, 1.0)


def test_a_question_that_calibrated_a_gate_cannot_be_tested_on_it():
    gates = turn_gates({f"q{i}": [float(i)] for i in range(9)}, 0.1)
    with pytest.raises(BenchError, match="`q3` calibrated these gates"):
        gates.accepts("q3", 0, 1.0)
    with pytest.raises(BenchError, match="on 0 scores"):
        turn_gates({}, 0.1)
