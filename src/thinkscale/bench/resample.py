"""Selection rules evaluated offline at every number of attempts, on random subsets of recorded pools.

The subsets of a problem are nested: the first 1, 2, … attempts of random orders without replacement. What is evaluated
is the rule itself: `Voting.weigh`, `Picking.judged` and `tallies` are the functions that also elect a winner in a live
run, so that what is measured here is what runs there. Leaders that tie share the credit whatever the rule's `ties`
says, which is what a random choice among them would earn on average.

How it is fast: where a vote's weight is its own, the leaders of k + 1 attempts follow from those of k and the weight of
one class, so all orders of several problems advance one attempt at a time. Where it depends on ranks, whether attempt i
is in a subset is a row of bits, and ranks are running sums of these rows in order of score. No subset is ever formed,
except for rules that are neither.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thinkscale.bench.columns import MOST, by_columns, medians, own_weights
from thinkscale.bench.subsets import CountArray, Graded, Orders, random_orders, shuffle, subsets
from thinkscale.selection.ballots import Ballots, BoolArray, FloatArray, IntArray
from thinkscale.selection.borda import Borda
from thinkscale.selection.confidence_filtered_vote import ConfidenceFilteredVote
from thinkscale.selection.mean import Mean
from thinkscale.selection.median import Median
from thinkscale.selection.minimum_bayes_risk import MinimumBayesRisk
from thinkscale.selection.numeric import Numeric
from thinkscale.selection.picking import Picking
from thinkscale.selection.rpc import Rpc
from thinkscale.selection.voting import Voting
from thinkscale.selection.weighted_vote import WeightedVote

__all__ = ["Graded", "Orders", "credits", "curves", "estimates", "random_orders", "shuffle", "singular", "subsets"]

RANGE = 600.0
"""Widest spread of log-weights, in nats, that a double holds whichever attempt of a pool is the heaviest."""
COLUMNS, TOGETHER = 4_000, 50
"""Orders, and problems, that are looked at together, so that what is worked on stays in the processor's cache."""


def curves(rule: Voting, pools: Sequence[Graded], orders: Orders, seed: int = 0) -> FloatArray:
    """Mean credit of a rule per problem and size, shape [problems, sizes].

    Args:
        rule: the rule whose `ballots` the pools hold.
        pools: one per problem, all of the size that `orders` is for.
        orders: which subsets; the same for all rules, so that their differences are paired.
        seed: of each problem's shuffle.
    """
    rows = [shuffle(orders, problem, seed) for problem in range(len(pools))]
    several = TOGETHER if _by_columns(rule) else max(1, COLUMNS // len(orders.orders))
    means = [
        credits(rule, pools[at : at + several], orders, rows[at : at + several]).mean(axis=-1)
        for at in range(0, len(pools), several)
    ]
    return np.concatenate(means) if means else np.zeros((0, len(orders.sizes)))


def credits(rule: Voting, pools: Sequence[Graded], orders: Orders, rows: Sequence[IntArray]) -> FloatArray:
    """Credit of a rule on every subset of some problems, shape [problems, sizes, resamples].

    Args:
        rule: the rule whose `ballots` the pools hold.
        pools: one per problem, of n attempts each.
        orders: which subsets.
        rows: each problem's shuffle.
    """
    shape = (len(orders.sizes), len(orders.orders))
    found = np.zeros((len(pools), *shape))
    quick: list[int] = []
    for problem, pool in enumerate(pools):
        if not pool.credits.any():
            continue
        if len(pool.ballots.classes) <= MOST and _known(rule, pool.ballots):
            quick.append(problem)
        elif not isinstance(rule, Rpc):
            found[problem] = _one_by_one(rule, pool, orders, rows[problem])
    if isinstance(rule, Rpc) and pools:
        found = _fitted(rule, pools, orders, rows)
    if quick:
        own, shuffled = [pools[i] for i in quick], [rows[i] for i in quick]
        if _by_columns(rule):
            found[quick] = by_columns(rule, own, orders.member, shuffled).reshape(-1, *shape)
        else:
            found[quick] = _Steps(own, orders, shuffled).credits(rule)
    return found


def estimates(rule: Numeric, values: Sequence[FloatArray], orders: Orders, rows: Sequence[IntArray]) -> FloatArray:
    """The centre of the numbers in every subset, shape [problems, sizes, resamples]; NaN where there is none.

    Args:
        rule: `mean` or `median`.
        values: per problem, the number that each attempt answered, minus infinity or NaN for none; shape [n].
        orders: which subsets.
        rows: each problem's shuffle.
    """
    if isinstance(rule, Median) and all(len(own) <= MOST for own in values):
        shape = (len(values), len(orders.sizes), len(orders.orders))
        return medians(values, orders.member, rows).reshape(shape)
    found = np.empty((len(values), len(orders.sizes), len(orders.orders)))
    at = [size - 1 for size in orders.sizes]
    for problem, own in enumerate(values):
        drawn = own[subsets(orders, rows[problem])]
        found[problem] = _means(drawn, at) if isinstance(rule, Mean) else _centres(rule, drawn, at)
    return found


def _means(drawn: FloatArray, at: list[int]) -> FloatArray:
    known = np.isfinite(drawn)
    means = np.where(known, drawn, 0.0).cumsum(axis=1)
    count = known.view(np.uint8).cumsum(axis=1, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        means /= count
    found: FloatArray = means.T[at]
    return found


def _centres(rule: Numeric, drawn: FloatArray, at: list[int]) -> FloatArray:
    numbers = np.where(np.isfinite(drawn), drawn, -np.inf)
    centres = [rule.centre(numbers[:, : k + 1]) for k in at]
    return np.where([np.isfinite(numbers[:, : k + 1]).any(axis=1) for k in at], centres, np.nan)


def singular(rule: Voting) -> bool:
    """Whether a rule counts votes in a way of its own, so that it has to be asked about every subset, which is slow."""
    if isinstance(rule, MinimumBayesRisk | Picking):
        return False
    return type(rule).weights is not Voting.weights or type(rule).tallies is not Voting.tallies


def _known(rule: Voting, ballots: Ballots) -> bool:
    """Whether there is a way to evaluate a rule that forms no subsets."""
    if isinstance(rule, Numeric) or singular(rule):
        return False
    if isinstance(rule, MinimumBayesRisk | Picking):
        return True
    values = ballots.scores[ballots.votes & np.isfinite(ballots.scores)]
    if rule.logarithmic and values.size and float(np.ptp(values)) > RANGE:
        return False
    return not rule.ranked or _by_columns(rule)


def _by_columns(rule: Voting) -> bool:
    return isinstance(rule, MinimumBayesRisk | Borda | ConfidenceFilteredVote) or (
        isinstance(rule, WeightedVote) and rule.ranked
    )


def _one_by_one(rule: Voting, pool: Graded, orders: Orders, rows: IntArray) -> FloatArray:
    order = subsets(orders, rows)
    return np.array([rule.shares(pool.ballots.take(order[:, :k])) @ pool.credits for k in orders.sizes])


def _fitted(rule: Rpc, pools: Sequence[Graded], orders: Orders, rows: Sequence[IntArray]) -> FloatArray:
    """Credit of a rule that fits something to every subset: all problems at once, each subset as if it were alone."""
    drawn = [pool.ballots.take(subsets(orders, own)) for pool, own in zip(pools, rows, strict=True)]
    classes, scores, texts = (np.stack([getattr(b, name) for b in drawn]) for name in ("classes", "scores", "texts"))
    blank = ("",) * max(1, *(len(pool.credits) for pool in pools))
    worth = np.array([[*pool.credits, *[0.0] * (len(blank) - len(pool.credits))] for pool in pools])
    at = [Ballots(classes[..., :k], scores[..., :k], texts[..., :k], blank, blank) for k in orders.sizes]
    return np.stack([(rule.shares(ballots) * worth[:, None]).sum(axis=-1) for ballots in at], axis=1)


class _Steps:
    """Orders of several problems that advance one attempt at a time, and who leads after each step."""

    def __init__(self, pools: Sequence[Graded], orders: Orders, rows: Sequence[IntArray]) -> None:
        self.pools, self.orders, self.rows = pools, orders, rows
        self.by_step = np.ascontiguousarray(orders.orders.T)
        self.width = max(len(pool.credits) for pool in pools) + 1
        worth = [np.append(p.credits, 0.0)[p.ballots.classes] for p in pools]
        whole = all(bool(np.isin(values, (0.0, 1.0)).all()) for values in worth)
        self.worth = self._spread([w.astype(np.uint8) for w in worth] if whole else worth)

    def credits(self, rule: Voting) -> FloatArray:
        """Shape [problems, sizes, resamples]."""
        plain = [p.ballots.votes.astype(np.float64) for p in self.pools]
        if isinstance(rule, Picking):
            weights = [_levels(np.where(p.ballots.votes, rule.judged(p.ballots), -np.inf)) for p in self.pools]
        else:
            weights = [own_weights(rule, p.ballots) for p in self.pools]
        gains = self._spread(weights)
        if rule.unique:
            self._silence_repeats(gains)
        found, idle = self._led(gains, None if isinstance(rule, Picking) else self._slots())
        if any(((w == 0) & (v > 0)).any() for w, v in zip(weights, plain, strict=True)):
            # Where no vote has a weight, every vote counts 1.
            found = np.where(idle, self._led(self._spread(plain), self._slots())[0], found)
        return found

    def _spread(self, values: Sequence[FloatArray | CountArray]) -> FloatArray | CountArray:
        """Values of attempts by step, problem and order, shape [n, problems × resamples]."""
        n, resamples = self.by_step.shape
        found = np.empty((n, len(values), resamples), values[0].dtype)
        for problem, (own, rows) in enumerate(zip(values, self.rows, strict=True)):
            found[:, problem] = own[np.argsort(rows)].take(self.by_step, mode="clip")
        return found.reshape(n, -1)

    def _slots(self) -> IntArray:
        """Where each attempt's class keeps its sum; attempts without a vote share a slot of their own."""
        n, resamples = self.by_step.shape
        found = np.empty((n, len(self.pools), resamples), np.intp)
        for problem, (pool, rows) in enumerate(zip(self.pools, self.rows, strict=True)):
            classes = np.where(pool.ballots.votes, pool.ballots.classes, self.width - 1)
            start = (problem * resamples + np.arange(resamples)) * self.width
            np.add(classes[np.argsort(rows)].take(self.by_step, mode="clip"), start, out=found[:, problem])
        return found.reshape(n, -1)

    def _silence_repeats(self, gains: FloatArray | CountArray) -> None:
        """Of voters that said the same, only the first of each order keeps its weight."""
        by_problem = gains.reshape(len(gains), len(self.pools), -1)
        order = np.arange(by_problem.shape[2])
        for problem, (pool, rows) in enumerate(zip(self.pools, self.rows, strict=True)):
            voters = np.flatnonzero(pool.ballots.votes)
            for text in np.flatnonzero(np.bincount(pool.ballots.texts[voters]) > 1):
                places = self.orders.place[rows[voters[pool.ballots.texts[voters] == text]]]
                for place in places:
                    later = place > places.min(axis=0)
                    by_problem[place[later], problem, order[later]] = 0.0

    def _led(self, gains: FloatArray | CountArray, slots: IntArray | None) -> tuple[FloatArray, BoolArray]:
        """Mean credit of the leaders at each size, and where nobody leads; shape [problems, sizes, resamples].

        Only the class of a step's vote gains, and none ever loses, so the old leaders stay unless it passes them.
        """
        n, columns = gains.shape
        sums = np.zeros(columns * self.width if slots is not None else 0)
        top, earned, leaders = np.zeros(columns), np.zeros(columns, self.worth.dtype), np.ones(columns, np.uint8)
        shape = (len(self.pools), len(self.orders.sizes), columns // len(self.pools))
        found, idle = np.empty(shape), np.empty(shape, bool)
        at = {size - 1: number for number, size in enumerate(self.orders.sizes)}
        for step in range(n):
            total = gains[step]
            if slots is not None:
                total = sums.take(slots[step], mode="clip")
                total += gains[step]
                sums[slots[step]] = total
            stay = (total <= top).view(np.uint8)
            joins = ((total >= top) & (gains[step] > 0)).view(np.uint8)
            leaders *= stay
            leaders += joins
            earned *= stay
            earned += joins * self.worth[step]
            np.maximum(top, total, out=top)
            if step in at:
                np.divide(earned.reshape(shape[0], -1), leaders.reshape(shape[0], -1), out=found[:, at[step]])
                np.equal(top.reshape(shape[0], -1), 0, out=idle[:, at[step]])
        return found, idle


def _levels(readings: FloatArray) -> FloatArray:
    """Readings as 1, 2, … in ascending order; 0 for those without one."""
    _, levels = np.unique(readings, return_inverse=True)
    return np.asarray(levels + (0.0 if np.isneginf(readings).any() else 1.0))
