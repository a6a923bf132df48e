"""Weights of an ensemble: the program against trying every weighting."""

import sys
from itertools import pairwise, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkscale.bench.allocate.ensemble import Contest, Tally, evaluate, fit, tally
from thinkscale.errors import BenchError, SettingsError

ANSWERS = st.lists(st.sampled_from(["A", "B", "C", None]), min_size=4, max_size=4)


def contests(models, most=6):
    return st.lists(st.lists(ANSWERS, min_size=models, max_size=models), min_size=1, max_size=most).map(
        lambda rows: [Contest.of(f"q{i}", "A", row) for i, row in enumerate(rows)]
    )


def lead(contest, weights):
    rivals = {a for shares in contest.shares for a in shares} - {contest.right}
    totals = {
        a: sum(w * s.get(a, 0.0) for w, s in zip(weights, contest.shares, strict=True)) for a in {*rivals, "A", ""}
    }
    return totals["A"] - max(t for a, t in totals.items() if a != "A")


def breakpoints(problems):
    """Weights of the first of two models at which some lead changes its sign."""
    found = {0.0, 1.0}
    for c in problems:
        for rival in ("B", "C", ""):
            one, two = (s.get("A", 0.0) - s.get(rival, 0.0) for s in c.shares)
            if one != two and 0 < -two / (one - two) < 1:
                found.add(-two / (one - two))
    return sorted(found)


@given(contests(2))
@settings(max_examples=40, deadline=None)
def test_two_models_win_as_often_as_the_best_of_all_weightings(problems):
    pytest.importorskip("scipy")
    at = breakpoints(problems)
    tried = [*at, *((a + b) / 2 for a, b in pairwise(at))]
    best = max(tally(problems, (w, 1 - w)).right for w in tried)
    found = fit(problems)
    assert found.fitted == tally(problems, found.weights)
    assert found.fitted.right == best
    assert found.ties_as_wins == max(sum(lead(c, (w, 1 - w)) >= -1e-9 for c in problems) for w in tried)


@given(contests(3, most=4))
@settings(max_examples=15, deadline=None)
def test_no_weighting_of_three_models_wins_more_often_or_as_often_with_a_wider_margin(problems):
    pytest.importorskip("scipy")
    found = fit(problems)
    assert sum(found.weights) == pytest.approx(1)
    assert min(found.weights) >= 0
    for i, j in product(range(17), repeat=2):
        if i + j > 16:
            continue
        weights = (i / 16, j / 16, (16 - i - j) / 16)
        there = tally(problems, weights).right
        assert there <= found.fitted.right
        if there == found.fitted.right > 0:
            leads = [x for c in problems if (x := lead(c, weights)) > 1e-9]
            assert min(leads) <= found.margin + 1e-5


def test_the_widest_margin_is_in_the_middle_of_what_attains_the_optimum():
    pytest.importorskip("scipy")
    problems = [
        Contest(id="a", right="A", shares=({"A": 0.8, "B": 0.2}, {"A": 0.2, "B": 0.8})),
        Contest(id="b", right="A", shares=({"A": 0.1, "B": 0.9}, {"A": 0.9, "B": 0.1})),
    ]
    found = fit(problems)
    # The leads are 1.2 w − .6 and .8 − 1.6 w: equal at w = .5, where both are 0.
    assert (found.fitted.right, found.ties_as_wins) == (1, 2)
    assert found.weights == (0.0, 1.0)
    assert found.margin == pytest.approx(0.8, abs=1e-5)


def test_an_optimum_that_ties_alone_attain_is_reported_as_such_and_not_taken():
    pytest.importorskip("scipy")
    even = Contest(id="a", right="A", shares=({"A": 0.5, "B": 0.5}, {"A": 0.25, "B": 0.25}))
    found = fit([even])
    assert (found.ties_as_wins, found.fitted.right, found.fitted.tied, found.margin) == (1, 0, 1, 0.0)


def test_models_that_complement_each_other_win_together_what_neither_wins_alone():
    pytest.importorskip("scipy")
    problems = [
        Contest(id="a", right="A", shares=({"A": 0.6, "B": 0.4}, {"C": 0.6, "A": 0.4})),
        Contest(id="b", right="A", shares=({"B": 0.55, "A": 0.45}, {"A": 0.6, "C": 0.4})),
    ]
    found = fit(problems)
    assert (tally(problems, (1, 0)).right, tally(problems, (0, 1)).right, found.fitted.right) == (1, 1, 2)
    assert 0 < found.weights[0] < 1


def test_what_was_fitted_is_reported_on_other_problems():
    pytest.importorskip("scipy")
    fitted, other = (Contest.of(name, "A", [["A", "B", "A"], ["B", "B", "C"]]) for name in ("a", "b"))
    found = fit([fitted])
    assert evaluate(found, [other]) == Tally(right=1, tied=0, problems=1, credit=1.0)
    with pytest.raises(BenchError, match="fitted to `a` and 0 more of these"):
        evaluate(found, [other, fitted])


def test_ties_are_counted_apart_and_credited_by_their_part():
    problems = [
        Contest.of("win", "A", [["A", "A", "B", "C"]]),
        Contest.of("tie", "A", [["A", "B", "C", None]]),
        Contest.of("loss", "A", [["B", "B", "A", "A", "B"]]),
        Contest.of("silence", "A", [[None, None]]),
    ]
    found = tally(problems, (1.0,))
    assert (found.right, found.tied, found.problems) == (1, 1, 4)
    assert found.credit == pytest.approx(4 / 3)
    assert found.accuracy == pytest.approx(1 / 3)


def test_a_sample_without_an_answer_does_not_vote_and_is_not_left_out():
    assert Contest.of("q", "A", [["A", None, None, "B"]]).shares == ({"A": 0.25, "B": 0.25},)


def test_contests_of_unlike_models_are_refused():
    with pytest.raises(BenchError, match="all of the same models"):
        fit([Contest.of("a", "A", [["A"]]), Contest.of("b", "A", [["A"], ["B"]])])
    with pytest.raises(BenchError, match="0 contests"):
        fit([])


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(SettingsError, match=r'pip install "thinkscale\[bench\]"'):
        fit([Contest.of("a", "A", [["A"]])])
