"""Selection rules that look at ranks or at all pairs of answers, on many subsets at once.

Whether attempt i is in a subset is a row of bits, one per subset. Ranks are running sums of such rows in order of
score, and the number of votes of a class is a sum of them. It knows subsets as columns and never as lists of attempts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thinkscale.bench.subsets import CountArray, Graded
from thinkscale.selection.ballots import Ballots, BoolArray, FloatArray, IntArray, from_highest, rounded
from thinkscale.selection.confidence_filtered_vote import ConfidenceFilteredVote
from thinkscale.selection.minimum_bayes_risk import MinimumBayesRisk
from thinkscale.selection.voting import Voting

CHUNK = 15_000
"""Subsets that are looked at together, so that what is computed of them stays in the processor's cache."""
MOST = 255
"""Attempts of a pool that are counted in one byte."""


def own_weights(rule: Voting, ballots: Ballots) -> FloatArray:
    """The weight of each vote where it is its own, shape [n]; with the filter, that of a vote which is kept."""
    scores = np.where(ballots.votes, ballots.scores, -np.inf)
    scores = from_highest(scores) if rule.logarithmic else scores
    every = np.full(1, MOST + 1)
    weights = rule.weigh(scores, every, np.ones(1, np.intp))
    return np.where(ballots.votes & np.isfinite(weights), rounded(weights), 0.0)


def by_columns(rule: Voting, pools: Sequence[Graded], member: CountArray, rows: Sequence[IntArray]) -> FloatArray:
    """Credit on every subset, shape [problems, subsets], for rules that need the whole subset at once."""
    groups = [_ascending(pool.ballots) for pool in pools]
    found = np.empty((len(pools), member.shape[1]))
    for chunk in _chunks(member):
        part = np.ascontiguousarray(member[:, chunk])
        for problem, pool in enumerate(pools):
            drawn = [part[row] for row in rows[problem].tolist()]
            if isinstance(rule, MinimumBayesRisk):
                sums = _risk(rule, pool, drawn)
            elif isinstance(rule, ConfidenceFilteredVote):
                sums = _filtered(rule, pool, drawn, groups[problem])
            else:
                sums = _ranked(rule, pool, drawn, groups[problem])
            found[problem, chunk] = _credited(sums, pool, drawn)
    return found


def _chunks(member: CountArray) -> list[slice]:
    whole = member.shape[1]
    return [slice(at, min(at + CHUNK, whole)) for at in range(0, whole, CHUNK)]


def _risk(rule: MinimumBayesRisk, pool: Graded, drawn: Sequence[CountArray]) -> FloatArray:
    counts = _counts(pool, drawn).astype(np.float64)
    sums: FloatArray = rule.utilities(pool.ballots).T @ counts
    sums *= counts > 0
    return sums


def _filtered(
    rule: ConfidenceFilteredVote, pool: Graded, drawn: Sequence[CountArray], groups: Sequence[Sequence[int]]
) -> FloatArray:
    weights, classes = own_weights(rule, pool.ballots).tolist(), pool.ballots.classes.tolist()
    place = rule.place(np.arange(MOST + 1)).astype(np.uint8).take(_present(drawn, pool.ballots.votes), mode="clip")
    sums, kept = np.zeros((len(pool.credits), len(place))), np.empty(len(place))
    standing = np.zeros(len(place), np.uint8)
    for group in groups:
        for i in group:
            standing += drawn[i]
        reached = (standing > place).view(np.uint8)
        for i in group:
            np.multiply(reached & drawn[i], weights[i], out=kept)
            sums[classes[i]] += kept
    return sums


def _ranked(rule: Voting, pool: Graded, drawn: Sequence[CountArray], groups: Sequence[Sequence[int]]) -> FloatArray:
    """Sums of a weight that follows from the standing alone.

    Attempts of one class that are neighbours in rank have consecutive standings, so they add a difference of two
    running sums of that weight, however many they are.
    """
    steps, classes = np.arange(MOST + 1), pool.ballots.classes.tolist()
    weights = rounded(rule.weigh(steps.astype(np.float64), steps, steps))
    weights[0] = 0.0
    running = np.cumsum(weights)
    sums, standing = np.zeros((len(pool.credits), len(drawn[0]))), np.zeros(len(drawn[0]), np.uint8)
    held, start = -1, np.zeros(len(standing))
    for group in [*groups, []]:
        if len(group) != 1 or classes[group[0]] != held:
            end = running.take(standing, mode="clip")
            if held >= 0:
                sums[held] += end
                sums[held] -= start
            held, start = (classes[group[0]] if len(group) == 1 else -1), end
        for i in group:
            standing += drawn[i]
        if len(group) > 1:
            equal = weights.take(standing, mode="clip")
            for i in group:
                sums[classes[i]] += equal * drawn[i]
    return sums


def _ascending(ballots: Ballots) -> list[list[int]]:
    """The voters by rising score, equal ones together."""
    voters = np.flatnonzero(ballots.votes)
    order = voters[np.argsort(ballots.scores[voters], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(ballots.scores[order]) > 0) + 1)
    return [group.tolist() for group in groups if len(group)]


def medians(values: Sequence[FloatArray], member: CountArray, rows: Sequence[IntArray]) -> FloatArray:
    """The median of the finite numbers in every subset, shape [problems, subsets]; NaN where there is none."""
    found = np.empty((len(values), member.shape[1]))
    for chunk in _chunks(member):
        part = np.ascontiguousarray(member[:, chunk])
        for problem, own in enumerate(values):
            found[problem, chunk] = _medians(own, [part[row] for row in rows[problem].tolist()])
    return found


def _medians(values: FloatArray, drawn: Sequence[CountArray]) -> FloatArray:
    known = np.flatnonzero(np.isfinite(values))
    if not known.size:
        return np.full(len(drawn[0]), np.nan)
    order = known[np.argsort(values[known], kind="stable")]
    count = _present(drawn, np.isfinite(values))
    first, second = (np.maximum(count, 1) - 1) // 2, count // 2
    low, high, running = (np.zeros(len(count), np.uint8) for _ in range(3))
    for i in order[:-1]:
        running += drawn[i]
        # The place of a middle number is how many numbers of the pool come before it.
        low += (running <= first).view(np.uint8)
        high += (running <= second).view(np.uint8)
    left, right = values[order].take(low, mode="clip"), values[order].take(high, mode="clip")
    return np.where(count > 0, np.where(left == right, left, left / 2 + right / 2), np.nan)


def _present(drawn: Sequence[CountArray], wanted: BoolArray) -> CountArray:
    """How many of the wanted attempts are in each subset, shape [subsets]."""
    count = np.zeros(len(drawn[0]), np.uint8)
    for i in np.flatnonzero(wanted).tolist():
        count += drawn[i]
    return count


def _counts(pool: Graded, drawn: Sequence[CountArray]) -> CountArray:
    """Votes of each class, shape [classes, subsets]."""
    counts = np.zeros((len(pool.credits), len(drawn[0])), np.uint8)
    for row, c in zip(drawn, pool.ballots.classes.tolist(), strict=True):
        if c >= 0:
            counts[c] += row
    return counts


def _credited(tallies: FloatArray, pool: Graded, drawn: Sequence[CountArray]) -> FloatArray:
    """Mean credit of the leaders of each subset; where no vote has a weight, every vote counts 1."""
    top = tallies.max(axis=0)
    leads = tallies == top
    leaders = leads.sum(axis=0, dtype=np.uint8)
    known = np.flatnonzero(pool.credits)
    if bool((pool.credits[known] == 1.0).all()):
        won: FloatArray = leads[known].sum(axis=0, dtype=np.uint8) / leaders
    else:
        won = (pool.credits @ leads) / leaders
    idle = np.flatnonzero(top == 0)
    if idle.size:
        counts = _counts(pool, [row[idle] for row in drawn])
        leads = (counts == counts.max(axis=0)) & (counts > 0)
        won[idle] = (pool.credits @ leads) / np.maximum(leads.sum(axis=0), 1)
    return won
