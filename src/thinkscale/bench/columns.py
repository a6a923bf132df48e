"""Rules on many subsets at once, where whether an attempt is in a subset is a row of bits, one per subset.

What a class weighs is a product of two matrices, ranks are running sums of rows in order of score. It knows subsets as
columns and never as lists of attempts.

Sums are first made in single precision. Where that does not tell the leader from the next, a subset is looked at again
in double precision, in which sums of rounded weights are exact: what is found is what the rule itself finds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache

import numpy as np

from thinkscale.bench.subsets import ROWS, Chunk, CountArray, Graded, Orders, Reals, chunks, present
from thinkscale.selection.ballots import Ballots, FloatArray, IntArray, Way, from_highest, rounded
from thinkscale.selection.voting import Voting

MOST = 255
"""Attempts of a pool that are counted in one byte."""
TOGETHER = 10
"""Problems that are looked at together."""
PRODUCTS = 160_000
"""Bits that are looked at together in products of matrices, of which the results are larger."""
UNIT, FAINT = 2.0**-24, 2.0**-100
"""Half a step of single precision at 1; sums below the other may have lost digits where the largest are above 2²³."""

Kind = type[np.float32 | np.float64]
Part = tuple[list[int], slice, FloatArray]
"""Some problems, some of the sizes, and the credit on their subsets, shape [problems, sizes, resamples]."""


class _Tally:
    """How the weights of the classes of some pools are added up."""

    exact: bool
    """Whether single precision holds every sum."""
    most = PRODUCTS
    """Bits to look at together."""
    blur = 0.0
    """How far sums in single precision may be off, beside a part of themselves."""

    def __init__(self, pools: Sequence[Graded]) -> None:
        self.worth = np.zeros((max(len(pool.credits) for pool in pools), len(pools)))
        for at, pool in enumerate(pools):
            self.worth[: len(pool.credits), at] = pool.credits
        whole = bool(np.isin(self.worth, (0.0, 1.0)).all())
        self.credits = self.worth.astype(np.uint8) if whole else self.worth
        self.right = np.flatnonzero(self.worth.any(axis=1)).tolist()

    def quick(self, chunk: Chunk) -> Reals:
        """Sums in single precision times a constant of the pool, shape [classes, pools, subsets]."""
        raise NotImplementedError

    def whole(self, part: CountArray, columns: IntArray, which: IntArray) -> tuple[Reals, Reals]:
        """Sums in double precision, and votes, of some of the subsets, shape [classes, columns].

        Args:
            part: rows of bits, shape [n, subsets].
            columns: the subsets.
            which: the pool that each of them is looked at for.
        """
        raise NotImplementedError


def by_columns(rule: Voting, pools: Sequence[Graded], orders: Orders, rows: Sequence[IntArray]) -> Iterator[Part]:
    """Credit of a rule that adds up weights, on every subset."""
    tallies = _tallies(rule, pools, orders, rows)
    most = min((tally.most for _, tally in tallies), default=ROWS)
    for sizes, chunk in chunks(orders, most):
        for problems, tally in tallies:
            yield problems, sizes, _credited(tally, chunk).reshape(len(problems), -1, len(orders.orders))


def own_weights(rule: Voting, ballots: Ballots) -> FloatArray:
    """The weight of each vote where it is its own, shape [n]; with the filter, that of a vote which is kept."""
    scores = np.where(ballots.votes, ballots.scores, -np.inf)
    scores = from_highest(scores) if rule.logarithmic else scores
    every = np.full(1, MOST + 1)
    weights = rule.weigh(scores, every, np.ones(1, np.intp))
    return np.where(ballots.votes & np.isfinite(weights), rounded(weights), 0.0)


def _tallies(
    rule: Voting, pools: Sequence[Graded], orders: Orders, rows: Sequence[IntArray]
) -> list[tuple[list[int], _Tally]]:
    """Which problems are looked at together, and how."""
    loop = LOOPS.get(rule.way)
    if loop:
        return [([i], loop(rule, pool, own)) for i, (pool, own) in enumerate(zip(pools, rows, strict=True))]
    firsts = {i: found for i, pool in enumerate(pools) if rule.unique and (found := _firsts(pool, orders, rows[i]))}
    # Pools of as many classes are next to each other, since what is looked at together is as wide as its widest.
    others = sorted({*range(len(pools))} - {*firsts}, key=lambda i: len(pools[i].credits))
    groups = [others[at : at + TOGETHER] for at in range(0, len(others), TOGETHER)]
    return [
        *((some, _Products(rule, [pools[i] for i in some], [rows[i] for i in some])) for some in groups),
        *(([i], _Products(rule, [pools[i]], [rows[i]], found)) for i, found in firsts.items()),
    ]


def _firsts(pool: Graded, orders: Orders, rows: IntArray) -> dict[int, CountArray]:
    """The rows of voters that said the same as another, and in which orders each of them is the first."""
    voters = np.flatnonzero(pool.ballots.votes)
    texts = pool.ballots.texts[voters]
    found: dict[int, CountArray] = {}
    for text in np.flatnonzero(np.bincount(texts) > 1):
        alike = rows[voters[texts == text]]
        first = orders.place[alike] == orders.place[alike].min(axis=0)
        found |= dict(zip(alike.tolist(), first.view(np.uint8), strict=True))
    return found


def _scaled(weights: FloatArray, total: float) -> tuple[Reals, bool]:
    """Weights times the power of two that takes their total to 2²³ at least, and whether all sums are then exact."""
    scaled = np.ldexp(weights, 24 - math.frexp(total)[1])
    return scaled.astype(np.float32), bool((scaled == np.trunc(scaled)).all())


class _Products(_Tally):
    """Each attempt in a subset adds to every class of its pool what a matrix says."""

    def __init__(
        self,
        rule: Voting,
        pools: Sequence[Graded],
        rows: Sequence[IntArray],
        firsts: Mapping[int, CountArray] | None = None,
    ) -> None:
        """`firsts` says of rows in which orders they count, where that is not in all."""
        super().__init__(pools)
        self.firsts = firsts or {}
        shape = (*self.worth.shape, len(rows[0]))
        self.votes, self.weights = np.zeros(shape), np.zeros(shape)
        for at, (pool, own) in enumerate(zip(pools, rows, strict=True)):
            ballots, classes = pool.ballots, len(pool.credits)
            votes = (ballots.classes == np.arange(classes)[:, None]).astype(np.float64)
            self.votes[:classes, at, own] = votes
            self.weights[:classes, at, own] = votes * own_weights(rule, ballots)
        scaled = [_scaled(own, float(own.sum(axis=1).max())) for own in self.weights.swapaxes(0, 1)]
        self.scaled, self.exact = np.stack([own for own, _ in scaled], axis=1), all(exact for _, exact in scaled)

    def quick(self, chunk: Chunk) -> Reals:
        """Sums of scaled weights."""
        if self.firsts:
            return _product(self.scaled, self._heard(chunk.part, np.arange(chunk.part.shape[1])).astype(np.float32))
        return _product(self.scaled, chunk.single)

    def whole(self, part: CountArray, columns: IntArray, which: IntArray) -> tuple[Reals, Reals]:
        """Sums of weights, and votes."""
        drawn = self._heard(part, columns).astype(np.float64)
        sums, votes = (_product(own, drawn)[:, which, np.arange(len(which))] for own in (self.weights, self.votes))
        return sums, votes

    def _heard(self, part: CountArray, columns: IntArray) -> CountArray:
        drawn = part.take(columns, axis=1)
        for row, first in self.firsts.items():
            drawn[row] &= first.take(columns, mode="wrap")
        return drawn


def _product(weights: Reals, drawn: Reals) -> Reals:
    return (weights.reshape(-1, len(drawn)) @ drawn).reshape(*weights.shape[:2], -1)


class _Loop(_Tally):
    """One pool, whose attempts are looked at by rising score."""

    most = ROWS

    def __init__(self, pool: Graded, rows: IntArray) -> None:
        super().__init__([pool])
        self.pool, self.rows, self.groups = pool, rows, _ascending(pool.ballots)
        self.classes = pool.ballots.classes.tolist()

    def quick(self, chunk: Chunk) -> Reals:
        """Sums of scaled weights."""
        lines = [*chunk.part]
        return self.sums([lines[row] for row in self.rows.tolist()], np.float32, chunk)[:, None]

    def whole(self, part: CountArray, columns: IntArray, which: IntArray) -> tuple[Reals, Reals]:
        """Sums of weights, and votes."""
        drawn = [*part.take(columns, axis=1)[self.rows]]
        return self.sums(drawn, np.float64), _counts(self.pool, drawn).astype(np.float64)

    def sums(self, drawn: Sequence[CountArray], kind: Kind, chunk: Chunk | None = None) -> Reals:
        """What each class weighs, shape [classes, subsets]; in single precision, times a constant."""
        raise NotImplementedError


class _Agreeing(_Loop):
    """Each vote adds to every class what it is worth when the vote is right; only classes that were given count."""

    most = ROWS // 2

    def __init__(self, rule: Voting, pool: Graded, rows: IntArray) -> None:
        super().__init__(pool, rows)
        self.weights = rule.utilities(pool.ballots).T
        self.scaled, self.exact = _scaled(self.weights, float(len(rows)))

    def sums(self, drawn: Sequence[CountArray], kind: Kind, chunk: Chunk | None = None) -> Reals:
        """The product of what votes are worth and how many there are."""
        counts = _counts(self.pool, drawn)
        sums: Reals = (self.weights if kind is np.float64 else self.scaled) @ counts.astype(kind)
        sums *= counts > 0
        return sums


class _Kept(_Loop):
    """Each attempt whose standing is beyond a place adds its own weight to its class."""

    def __init__(self, rule: Voting, pool: Graded, rows: IntArray) -> None:
        super().__init__(pool, rows)
        self.weights = own_weights(rule, pool.ballots)
        self.scaled, self.exact = _scaled(self.weights, float(self.weights.sum()))
        self.place = rule.place(np.arange(MOST + 1)).astype(np.uint8)

    def sums(self, drawn: Sequence[CountArray], kind: Kind, chunk: Chunk | None = None) -> Reals:
        """Sums of the weights of those that are kept."""
        weights = [*(self.weights if kind is np.float64 else self.scaled)]
        place = self.place.take(present(drawn, self.pool.ballots.votes), mode="clip")
        sums = np.zeros((len(self.pool.credits), len(place)), kind)
        lines, kept, standing = [*sums], np.empty(len(place), kind), np.zeros(len(place), np.uint8)
        passed = 0
        unsure = self._unsure(chunk) if chunk else [len(place)] * (len(self.rows) + 1)
        for group in self.groups:
            passed += len(group)
            some = slice(0, unsure[passed])
            for i in group:
                standing[some] += drawn[i][some]
            reached = (standing[some] > place[some]).view(np.uint8)
            for i in group:
                np.copyto(kept, drawn[i])
                kept[some] *= reached
                kept *= weights[i]
                line = lines[self.classes[i]]
                line += kept
        return sums

    def _unsure(self, chunk: Chunk) -> list[int]:
        """After so many voters: how many subsets, by size, may not have reached the place.

        A subset of k lacks n − k attempts at most, so of the first so many voters it has all but n − k.
        """
        n = len(self.rows)
        least = np.arange(n + 1)[:, None] - (n - chunk.sizes)
        return chunk.until(least <= self.place[np.minimum(chunk.sizes, sum(map(len, self.groups)))])


class _Standing:
    """Weights that follow from standings alone, up to that of n attempts, and their running sums."""

    def __init__(self, rule: Voting, n: int) -> None:
        steps = np.arange(MOST + 1)
        weights = np.where(steps <= n, rounded(rule.weigh(steps.astype(np.float64), steps, steps)), 0.0)
        weights[0] = 0.0
        self.weights = np.stack([weights, np.cumsum(weights)])
        scaled, self.exact = _scaled(self.weights, float(weights.sum()))
        # Two neighbours are looked up at once, in a table of all pairs of bytes.
        pairs = np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2)
        self.pairs = np.ascontiguousarray(scaled[:, pairs]).view(np.complex64)[..., 0]

    def look_up(self, which: int, standing: CountArray, kind: Kind) -> Reals:
        """Weights or their running sums for an even number of standings; in single precision, times a constant."""
        found: Reals
        if kind is np.float64:
            found = self.weights[which].take(standing, mode="clip")
        else:
            found = self.pairs[which].take(standing.view(np.uint16), mode="clip").view(np.float32)
        return found


_standing = lru_cache(maxsize=4)(_Standing)


class _Ranked(_Loop):
    """Each attempt adds to its class what follows from its standing.

    Attempts of one class that are neighbours in rank have consecutive standings, so they add a difference of two
    running sums, however many they are.
    """

    def __init__(self, rule: Voting, pool: Graded, rows: IntArray) -> None:
        super().__init__(pool, rows)
        self.standing = _standing(rule, len(rows))
        self.exact, self.blur = self.standing.exact, 8.0 * len(rows)

    def sums(self, drawn: Sequence[CountArray], kind: Kind, chunk: Chunk | None = None) -> Reals:
        """Sums of differences."""
        subsets = len(drawn[0])
        sums, padded = np.zeros((len(self.pool.credits), subsets), kind), np.zeros(subsets + subsets % 2, np.uint8)
        lines, standing = [*sums], padded[:subsets]
        held, start = -1, sums[0]
        for group in [*self.groups, []]:
            if len(group) != 1 or self.classes[group[0]] != held:
                end = self.standing.look_up(1, padded, kind)[:subsets]
                if held >= 0:
                    line = lines[held]
                    line += end
                    line -= start
                held, start = (self.classes[group[0]] if len(group) == 1 else -1), end
            for i in group:
                standing += drawn[i]
            if len(group) > 1:
                equal = self.standing.look_up(0, padded, kind)[:subsets]
                for i in group:
                    lines[self.classes[i]] += equal * drawn[i]
        return sums


LOOPS: Mapping[Way, Callable[[Voting, Graded, IntArray], _Tally]] = {
    Way.agreeing: _Agreeing,
    Way.kept: _Kept,
    Way.standing: _Ranked,
}
"""How one pool is looked at for rules whose votes have no weight of their own."""


def _credited(tally: _Tally, chunk: Chunk) -> FloatArray:
    """Mean credit of the leaders of each subset, shape [pools, subsets]."""
    sums = tally.quick(chunk)
    top = np.maximum.reduce(sums, axis=0)
    leads = (sums >= (top if tally.exact else top * (1 - 4 * UNIT * len(chunk.part)) - tally.blur)).view(np.uint8)
    leaders = np.add.reduce(leads, axis=0, dtype=np.uint8)
    won = np.zeros(top.shape, tally.credits.dtype)
    for c in tally.right:
        won += leads[c] * tally.credits[c][:, None]
    if tally.exact:
        credit: FloatArray = won / np.maximum(leaders, 1)
        again = np.flatnonzero(top < 1)
    else:
        credit, again = won.astype(np.float64), np.flatnonzero((leaders != 1) | (top < FAINT))
    if again.size:
        which, columns = np.divmod(again, top.shape[1])
        credit.reshape(-1)[again] = _shared(*tally.whole(chunk.part, columns, which), tally.worth[:, which])
    return credit


def _shared(sums: Reals, votes: Reals, worth: FloatArray) -> FloatArray:
    """Mean credit of the leaders; where no vote has a weight, every vote counts 1; all of shape [classes, subsets]."""
    sums = np.where(sums.max(axis=0) > 0, sums, votes)
    leads = (sums == sums.max(axis=0)) & (sums > 0)
    won: FloatArray = (worth * leads).sum(axis=0) / np.maximum(leads.sum(axis=0), 1)
    return won


def _ascending(ballots: Ballots) -> list[list[int]]:
    """The voters by rising score, equal ones together."""
    voters = np.flatnonzero(ballots.votes)
    order = voters[np.argsort(ballots.scores[voters], kind="stable")]
    groups = np.split(order, np.flatnonzero(np.diff(ballots.scores[order]) > 0) + 1)
    return [group.tolist() for group in groups if len(group)]


def _counts(pool: Graded, drawn: Sequence[CountArray]) -> CountArray:
    """Votes of each class, shape [classes, subsets]."""
    counts = np.zeros((len(pool.credits), len(drawn[0])), np.uint8)
    lines = [*counts]
    for row, c in zip(drawn, pool.ballots.classes.tolist(), strict=True):
        if c >= 0:
            line = lines[c]
            line += row
    return counts
