"""Selection rules evaluated offline at every number of attempts, on random subsets of recorded pools.

The subsets of a problem are nested: the first 1, 2, … attempts of random orders without replacement. What is evaluated
is the rule itself: `Voting.weigh`, `Picking.judged` and `tallies` are the functions that also elect a winner in a live
run, so that what is measured here is what runs there. Leaders that tie share the credit whatever the rule's `ties`
says, which is what a random choice among them would earn on average.

How it is fast: where an attempt is picked, all orders of several problems advance one attempt at a time. Where weights
are added up, whether attempt i is in a subset is a row of bits, and what a class weighs follows from rows; see
`columns`. No subset is ever formed, except for rules that are neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from thinkscale.bench.columns import MOST, TOGETHER, Part, by_columns
from thinkscale.bench.medians import medians
from thinkscale.bench.subsets import CountArray, Graded, Orders, random_orders, shuffle, subsets
from thinkscale.selection.ballots import Ballots, FloatArray, IntArray, Way
from thinkscale.selection.majority import Majority
from thinkscale.selection.numeric import Centre, Numeric
from thinkscale.selection.picking import Picking
from thinkscale.selection.voting import Voting

__all__ = ["Graded", "Orders", "credits", "curves", "estimates", "random_orders", "shuffle", "singular", "subsets"]

RANGE = 600.0
"""Widest spread of log-weights, in nats, that a double holds whichever attempt of a pool is the heaviest."""
FITTED = 2_000
"""Subsets of one size that something is fitted to at once."""
Values = TypeVar("Values", FloatArray, CountArray)


def curves(rule: Voting, pools: Sequence[Graded], orders: Orders, seed: int = 0) -> FloatArray:
    """Mean credit of a rule per problem and size, shape [problems, sizes].

    Args:
        rule: the rule whose `ballots` the pools hold.
        pools: one per problem, all of the size that `orders` is for.
        orders: which subsets; the same for all rules, so that their differences are paired.
        seed: of each problem's shuffle.
    """
    rows = [shuffle(orders, problem, seed) for problem in range(len(pools))]
    means = np.zeros((len(pools), len(orders.sizes)))
    for problems, sizes, credit in _credits(rule, pools, orders, rows):
        means[problems, sizes] = credit.mean(axis=-1)
    return means


def credits(rule: Voting, pools: Sequence[Graded], orders: Orders, rows: Sequence[IntArray]) -> FloatArray:
    """Credit of a rule on every subset of some problems, shape [problems, sizes, resamples].

    Args:
        rule: the rule whose `ballots` the pools hold.
        pools: one per problem, of n attempts each.
        orders: which subsets.
        rows: each problem's shuffle.
    """
    found = np.zeros((len(pools), len(orders.sizes), len(orders.orders)))
    for problems, sizes, credit in _credits(rule, pools, orders, rows):
        found[problems, sizes] = credit
    return found


def _credits(rule: Voting, pools: Sequence[Graded], orders: Orders, rows: Sequence[IntArray]) -> Iterator[Part]:
    """The credit on all subsets of all problems, part by part; where there is no credit to be had, there is none."""
    worth = [problem for problem, pool in enumerate(pools) if pool.credits.any()]
    quick = [i for i in worth if _known(rule, pools[i].ballots)]
    some, theirs = [pools[i] for i in quick], [rows[i] for i in quick]
    parts = EVALUATIONS.get(rule.way, by_columns)(rule, some, orders, theirs)
    for problems, sizes, credit in parts:
        yield [quick[i] for i in problems], sizes, credit
    for problem in sorted({*worth} - {*quick}):
        yield [problem], slice(None), _one_by_one(rule, pools[problem], orders, rows[problem])[None]


def estimates(rule: Numeric, values: Sequence[FloatArray], orders: Orders, rows: Sequence[IntArray]) -> FloatArray:
    """The centre of the numbers in every subset, shape [problems, sizes, resamples]; NaN where there is none.

    Args:
        rule: `mean` or `median`.
        values: per problem, the number that each attempt answered, minus infinity or NaN for none; shape [n].
        orders: which subsets.
        rows: each problem's shuffle.
    """
    if rule.centred is Centre.median and all(len(own) <= MOST for own in values):
        return medians(values, orders, rows)
    at = [size - 1 for size in orders.sizes]
    if rule.centred is Centre.mean:
        return _means(values, orders, rows)
    return np.array([_centres(rule, own[subsets(orders, row)], at) for own, row in zip(values, rows, strict=True)])


def _means(values: Sequence[FloatArray], orders: Orders, rows: Sequence[IntArray]) -> FloatArray:
    found = np.empty((len(values), len(orders.sizes), len(orders.orders)))
    at = {size - 1: number for number, size in enumerate(orders.sizes)}
    for start in range(0, len(values), TOGETHER):
        some = slice(start, start + TOGETHER)
        known = [np.isfinite(own) for own in values[some]]
        numbers = _by_step(
            [np.where(k, own, 0.0) for own, k in zip(values[some], known, strict=True)], orders, rows[some]
        )
        whole = all(bool(own.all()) for own in known)
        present = None if whole else _by_step([own.view(np.uint8) for own in known], orders, rows[some])
        total, count = np.zeros_like(numbers[0]), np.zeros(numbers[0].shape, np.uint8)
        for step, number in enumerate(numbers):
            total += number
            if present is not None:
                count += present[step]
            if step in at:
                with np.errstate(invalid="ignore"):
                    np.divide(total, step + 1.0 if present is None else count, out=found[some, at[step]])
    return found


def _centres(rule: Numeric, drawn: FloatArray, at: list[int]) -> FloatArray:
    numbers = np.where(np.isfinite(drawn), drawn, -np.inf)
    centres = [rule.centre(numbers[:, : k + 1]) for k in at]
    return np.where([np.isfinite(numbers[:, : k + 1]).any(axis=1) for k in at], centres, np.nan)


def singular(rule: Voting) -> bool:
    """Whether a rule has to be asked about every subset by itself, which is slow."""
    return rule.way in (Way.alone, Way.fitted)


def _known(rule: Voting, ballots: Ballots) -> bool:
    """Whether there is a way to evaluate a rule on many subsets of a pool at once."""
    if rule.way is Way.fitted:
        return True
    if rule.way is Way.alone or len(ballots.classes) > MOST:
        return False
    values = ballots.scores[ballots.votes & np.isfinite(ballots.scores)]
    return not (rule.logarithmic and values.size and float(np.ptp(values)) > RANGE)


def _one_by_one(rule: Voting, pool: Graded, orders: Orders, rows: IntArray) -> FloatArray:
    order = subsets(orders, rows)
    return np.array([rule.shares(pool.ballots.take(order[:, :k])) @ pool.credits for k in orders.sizes])


def _fitted(rule: Voting, pools: Sequence[Graded], orders: Orders, rows: Sequence[IntArray]) -> Iterator[Part]:
    """Credit of a rule that fits something to every subset: of several problems at once, each as if it were alone."""
    several = max(1, FITTED // len(orders.orders))
    for start in range(0, len(pools), several):
        problems = [*range(start, min(start + several, len(pools)))]
        for number, credit in enumerate(_fits(rule, [pools[i] for i in problems], orders, [rows[i] for i in problems])):
            yield problems, slice(number, number + 1), credit[:, None]


def _fits(rule: Voting, pools: Sequence[Graded], orders: Orders, rows: Sequence[IntArray]) -> Iterator[FloatArray]:
    """For each size, shape [problems, resamples]."""
    drawn = [pool.ballots.take(subsets(orders, own)) for pool, own in zip(pools, rows, strict=True)]
    classes, scores, texts = (np.stack([getattr(b, name) for b in drawn]) for name in ("classes", "scores", "texts"))
    blank = ("",) * max(1, *(len(pool.credits) for pool in pools))
    worth = np.array([[*pool.credits, *[0.0] * (len(blank) - len(pool.credits))] for pool in pools])
    for k in orders.sizes:
        ballots = Ballots(classes[..., :k], scores[..., :k], texts[..., :k], blank, blank)
        yield (rule.shares(ballots) * worth[:, None]).sum(axis=-1)


def _picked(rule: Picking, pools: Sequence[Graded], orders: Orders, rows: Sequence[IntArray]) -> Iterator[Part]:
    """Mean credit of the attempts with the highest reading.

    All orders of several problems advance one attempt at a time: who leads does so until one has a higher reading.
    """
    for start in range(0, len(pools), TOGETHER):
        some = slice(start, start + TOGETHER)
        problems = [*range(len(pools))][some]
        for number, credit in enumerate(_led(rule, pools[some], orders, rows[some])):
            yield problems, slice(number, number + 1), credit[:, None]


def _led(rule: Picking, pools: Sequence[Graded], orders: Orders, rows: Sequence[IntArray]) -> Iterator[FloatArray]:
    """For each size, shape [problems, resamples]."""
    readings = [np.where(p.ballots.votes, rule.judged(p.ballots), -np.inf) for p in pools]
    earns = [np.append(p.credits, 0.0)[p.ballots.classes] for p in pools]
    whole = all(bool(np.isin(own, (0.0, 1.0)).all()) for own in earns)
    worth: FloatArray | CountArray = (
        _by_step([own.astype(np.uint8) for own in earns], orders, rows) if whole else _by_step(earns, orders, rows)
    )
    levels = _by_step([_levels(own) for own in readings], orders, rows)
    # Where no attempt has a reading, every vote counts 1.
    partly = [i for i, p in enumerate(pools) if np.isneginf(readings[i][p.ballots.votes]).any()]
    votes = credits(Majority(), [pools[i] for i in partly], orders, [rows[i] for i in partly])
    top, leaders, earned = np.zeros_like(levels[0]), np.ones_like(levels[0]), np.zeros_like(worth[0])
    at = {size - 1: number for number, size in enumerate(orders.sizes)}
    for step, (level, value) in enumerate(zip(levels, worth, strict=True)):
        stay = (level <= top).view(np.uint8)
        joins = ((level >= top) & (level > 0)).view(np.uint8)
        leaders *= stay
        leaders += joins
        earned *= stay
        earned += joins * value
        np.maximum(top, level, out=top)
        if step in at:
            credit = earned / leaders
            if partly:
                credit[partly] = np.where(top[partly] == 0, votes[:, at[step]], credit[partly])
            yield credit


EVALUATIONS: Mapping[Way, Callable[..., Iterator[Part]]] = {Way.fitted: _fitted, Way.picked: _picked}
"""How rules are evaluated that do not add up weights."""


def _by_step(values: Sequence[Values], orders: Orders, rows: Sequence[IntArray]) -> Values:
    """Values of attempts by step, problem and order, shape [n, problems, resamples]."""
    by_step = np.ascontiguousarray(orders.orders.T)
    found = np.empty((len(by_step), len(values), by_step.shape[1]), values[0].dtype)
    for problem, (own, row) in enumerate(zip(values, rows, strict=True)):
        found[:, problem] = own[np.argsort(row)].take(by_step, mode="clip")
    return found


def _levels(readings: FloatArray) -> CountArray:
    """Readings as 1, 2, … in ascending order; 0 for those without one."""
    _, levels = np.unique(readings, return_inverse=True)
    return (levels + (0 if np.isneginf(readings).any() else 1)).astype(np.uint8)
