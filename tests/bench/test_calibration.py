"""Confidences against verdicts: the worked values, and definitions written out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinkscale.bench.calibration import auroc, brier, ece, ece_interval, risk_coverage
from thinkscale.errors import BenchError

CONFIDENCE, CORRECT = [0.95, 0.85, 0.65, 0.62, 0.35], [1, 1, 0, 1, 0]
judged = st.lists(st.tuples(st.integers(0, 20).map(lambda i: i / 20), st.booleans()), min_size=1, max_size=25)


def slow_ece(confidence, correct, bins=10):
    total = 0.0
    for b in range(bins):
        inside = [(p, c) for p, c in zip(confidence, correct, strict=True) if b / bins < p <= (b + 1) / bins]
        if b == 0:
            inside += [(p, c) for p, c in zip(confidence, correct, strict=True) if p == 0]
        if inside:
            total += len(inside) * abs(np.mean([c for _, c in inside]) - np.mean([p for p, _ in inside]))
    return total / len(correct)


def test_ece_and_brier_have_the_worked_values():
    assert ece(CONFIDENCE, CORRECT) == pytest.approx(0.164)
    assert brier(CONFIDENCE, CORRECT) == pytest.approx(0.142880)


@given(judged)
def test_ece_is_its_definition(pairs):
    confidence, correct = zip(*pairs, strict=True)
    assert ece(confidence, correct) == pytest.approx(slow_ece(confidence, correct), abs=1e-12)


@pytest.mark.parametrize("edge", [i / 10 for i in range(11)])
def test_an_edge_belongs_to_the_bin_below(edge):
    assert ece([edge, edge - 0.01 if edge else 0.01], [1, 0]) == pytest.approx(
        abs(1 - edge - (edge - 0.01 if edge else 0.01)) / 2
    )


@given(judged)
def test_auroc_is_the_share_of_ordered_pairs(pairs):
    confidence, correct = zip(*pairs, strict=True)
    right = [p for p, c in pairs if c]
    wrong = [p for p, c in pairs if not c]
    won = [(a > b) + (a == b) / 2 for a in right for b in wrong]
    assert auroc(confidence, correct) == (pytest.approx(np.mean(won)) if won else None)


@given(judged)
def test_a_risk_is_that_of_all_answers_as_sure(pairs):
    confidence, correct = zip(*pairs, strict=True)
    curve = risk_coverage(confidence, correct)
    for threshold, coverage, risk in zip(
        sorted(set(confidence), reverse=True), curve.coverage, curve.risk, strict=True
    ):
        given_answers = [c for p, c in pairs if p >= threshold]
        assert coverage == pytest.approx(len(given_answers) / len(pairs))
        assert risk == pytest.approx(1 - np.mean(given_answers))
    assert curve.coverage[-1] == 1


def test_the_interval_of_ece_is_repeatable_and_narrows():
    rng = np.random.default_rng(1)
    p = rng.random(400)
    x = rng.random(400) < p
    few, many = ece_interval(p[:40], x[:40]), ece_interval(p, x)
    assert many == ece_interval(p, x)
    assert many.high - many.low < few.high - few.low
    assert 0 <= many.low <= ece(p, x) + 0.05


def test_the_interval_of_ece_is_that_of_resamples_taken_one_by_one():
    rng = np.random.default_rng(0)
    p, x = np.array(CONFIDENCE * 4), np.array(CORRECT * 4)
    picks = rng.integers(0, 20, (4000, 20))
    slow = np.quantile([slow_ece(p[i], x[i]) for i in picks], [0.025, 0.975])
    found = ece_interval(p, x)
    assert (found.low, found.high) == pytest.approx(tuple(slow), abs=0.02)


NAN = float("nan")


@pytest.mark.parametrize("wrong", [([1.2], [1]), ([0.5], [1, 0]), ([], []), ([NAN], [1]), ([0.5], [NAN]), ([0.5], [2])])
def test_what_is_no_confidence_is_refused(wrong):
    with pytest.raises(BenchError):
        ece(*wrong)
    with pytest.raises(BenchError):
        brier(*wrong)


def test_a_verdict_that_is_missing_is_not_left_out_in_silence():
    with pytest.raises(BenchError, match="a verdict that is not from 0 to 1"):
        auroc([0.1, 0.2, 0.3], [0, 1, float("nan")])


def test_there_is_no_error_over_no_bins():
    with pytest.raises(BenchError, match="0 bins"):
        ece([0.5], [1], bins=0)
