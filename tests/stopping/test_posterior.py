"""The two posteriors, against closed forms, races counted exactly and values computed to 40 digits elsewhere."""

from fractions import Fraction
from functools import cache

import pytest

from thinkscale.stopping.posterior import ahead_chance, mode_chance

DIGITS = {
    (2, 1.3): 0.670108226993894306,
    (9, 1.3): 0.996411286811522469,
    (41, 1.3): 0.999999999998731265,
    (1, 0.3): 0.812252396356235523,
    (8, 0.3): 0.999544457861084177,
    (5, 1.001): 0.968695676659103984,
    (4, 2, 1.3): 0.7592373355128146,
    (6, 3, 2, 1.3): 0.8060958229296692,
    (5, 4, 1.3): 0.6228670784014992,
    (11, 6, 2, 1.3): 0.8928851877148844,
    (3, 1, 0.3): 0.8580125126222883,
    (10, 5, 1, 0.3): 0.909658176323062,
    (21, 20, 15, 2, 2, 1.3): 0.5225632052731714,
}
"""By incomplete beta functions, or quadratures over incomplete gamma functions, in arithmetic of 25 digits or more."""


@cache
def last(first, others):
    """The chance that of several Poisson processes the first is the last to reach its count: events are anybody's."""
    waiting = tuple(sorted(n for n in others if n))
    if not waiting or not first:
        return Fraction(bool(first))
    rest = [last(first, (*waiting[:i], waiting[i] - 1, *waiting[i + 1 :])) for i in range(len(waiting))]
    return (last(first - 1, waiting) + sum(rest)) / (1 + len(waiting))


@pytest.mark.parametrize(
    ("counts", "chance"),
    [
        ((1, 0), 0.75), ((2, 0), 0.875), ((3, 0), 0.9375), ((4, 0), 0.96875), ((5, 1), 0.9375), ((6, 1), 0.964844),
        ((7, 2), 0.9453125), ((8, 2), 0.967285), ((3, 1), 0.8125), ((4, 3), 0.636719),
    ],
)  # fmt: skip
def test_the_beta_form_has_the_published_values(counts, chance):
    assert ahead_chance(*counts) == pytest.approx(chance, abs=5e-7)


def test_both_forms_agree_where_two_answers_are_compared():
    for first, second in ((0, 0), (4, 0), (5, 4), (40, 38), (100, 3), (900, 850)):
        assert mode_chance((first + 1.0, second + 1.0)) == pytest.approx(ahead_chance(first, second), abs=1e-11)


@pytest.mark.parametrize("counts", [(1, 1), (3, 2, 1), (5, 5, 5), (7, 4, 4, 1), (9, 8, 3, 2, 1)], ids=str)
def test_whole_shapes_are_a_race_that_can_be_counted(counts):
    exact = last(counts[0], tuple(sorted(counts[1:])))
    assert mode_chance(tuple(map(float, counts))) == pytest.approx(float(exact), abs=1e-12)


@pytest.mark.parametrize("shapes", DIGITS, ids=str)
def test_broken_shapes_agree_with_many_digits(shapes):
    assert mode_chance(tuple(map(float, shapes))) == pytest.approx(DIGITS[shapes], abs=1e-12)


def test_equal_shares_are_equally_likely_to_be_the_largest_and_chances_add_up():
    for n in range(1, 9):
        assert mode_chance((2.5,) * n) == pytest.approx(1 / n, abs=1e-12)
    shapes = (6.0, 3.0, 2.0, 1.3)
    whole = sum(mode_chance((shapes[i], *shapes[:i], *shapes[i + 1 :])) for i in range(4))
    assert whole == pytest.approx(1, abs=1e-12)


def test_the_quadrature_holds_for_thousands_of_votes():
    assert mode_chance((2000.0,)) == pytest.approx(1, abs=1e-10)
    assert mode_chance((2000.0, 1900.0)) == pytest.approx(ahead_chance(1999, 1899), abs=1e-10)
